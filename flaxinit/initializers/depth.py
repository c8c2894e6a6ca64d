"""Factors on the standard deviation that keep deep residual networks steady."""

import math
from typing import Any, Literal, NamedTuple

from flaxinit.initializers.checks import checked_choice, checked_count, checked_number
from flaxinit.initializers.constants import Constant


def residual_factor(layers: int, branches: int = 1) -> float:
    """Return ``1/√(branches · layers)``, so the stream's variance at most doubles over the depth.

    Each of the ``branches · layers`` additions to the stream then contributes an equal share of
    variance. A transformer block adds two (attention and MLP), so its output
    projections take ``1/√(2L)``, as GPT-2's do.

    The premise: without the factor each branch would add as much variance as the stream starts
    with. A branch that reads the stream through a norm adds what its gains make, so the stream
    must start at that: at 1, with an `embedding`, if its kernels keep the signal. Attention gives
    less than it gets, which `attention_gain` makes up for. `tune` needs no premise.

    Args:
        layers: number L of residual blocks.
        branches: additions to the stream in each.

    Returns:
        The factor, for `Initializer.times`.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> residual_factor(8, branches=2)
    0.25

    References: Radford et al. (2019).
    """
    return 1 / math.sqrt(checked_count("layers", layers) * checked_count("branches", branches))


def fixup_factor(layers: int, depth: int = 2) -> float:
    """Return ``L^(-1/(2m-2))`` for all but the last of m layers in a branch; the last is zero.

    Updates of the L branches then add up to a change of the order of the learning rate. A branch
    of one layer only starts at zero and needs no factor.

    Args:
        layers: number L of residual branches.
        depth: number m of layers in each, at least 2.

    Returns:
        The factor, for `Initializer.times`.

    Raises:
        ValueError: a number out of range.

    >>> fixup_factor(16, depth=3)
    0.5

    References: Zhang, Dauphin, Ma (2019), Fixup initialization.
    """
    if checked_count("depth", depth) < 2:
        raise ValueError("Fixup scales the layers before a branch's last: depth must be 2 or more.")
    return checked_count("layers", layers) ** (-1 / (2 * depth - 2))


class DeepNorm(NamedTuple):
    """DeepNorm's pair: the stream is multiplied by `stream`, the branch's weights by `weights`."""

    stream: float
    weights: float


def deepnorm_factors(
    layers: int,
    part: Literal["alone", "encoder", "decoder"] = "alone",
    *,
    decoder_layers: int | None = None,
) -> DeepNorm:
    """Return α for the stream and β for the branch's weights in ``LayerNorm(α x + branch(x))``.

    ::

        an encoder or a decoder alone, L layers    (2L)^(1/4)            (8L)^(-1/4)
        a decoder that attends to an encoder       (3L)^(1/4)            (12L)^(-1/4)
        the encoder of a decoder of M layers       0.81 (L⁴ M)^(1/16)    0.87 (L⁴ M)^(-1/16)

    β multiplies the weights of the MLP and of the value and output projections, which are drawn
    with Glorot's variance. The paper prints 0.81 and 0.87; this library uses ``3^(-3/16)`` and
    ``3^(3/16)/√2``, which agree to both digits. It takes them from two equations that all of the
    paper's pairs satisfy: ``α β = 1/√2`` and, summed over the sublayers, ``Σ 2 β²/α² = 1``. The
    encoder's sum is multiplied by ``M β_d²/α_d``, the factor by which its change reaches the
    decoder.

    Args:
        layers: number L of layers of that part.
        part: ``"alone"``, or which part of an encoder-decoder.
        decoder_layers: number M of the decoder's layers; needed for ``"encoder"`` only.

    Returns:
        α and β.

    Raises:
        ValueError: a number that is not a positive integer, an unknown part, ``decoder_layers``
            missing for an encoder or given for another part.

    >>> deepnorm_factors(32).weights
    0.25

    References: Wang et al. (2022), DeepNet.
    """
    checked_count("layers", layers)
    checked_choice("part", part, ("alone", "encoder", "decoder"))
    if (part == "encoder") != (decoder_layers is not None):
        raise ValueError(
            'decoder_layers goes with part="encoder", and only with it; got '
            f"part={part!r}, decoder_layers={decoder_layers!r}."
        )
    if decoder_layers is not None:
        fourth_power = layers * (checked_count("decoder_layers", decoder_layers) / 27) ** 0.25
    else:
        fourth_power = (3 if part == "decoder" else 2) * layers
    return DeepNorm(fourth_power**0.25, (4 * fourth_power) ** -0.25)


def tfixup_factor(layers: int, part: Literal["encoder", "decoder"] = "encoder") -> float:
    """Return T-Fixup's ``0.67 L^(-1/4)`` for an encoder or ``(9L)^(-1/4)`` for a decoder.

    In a transformer without layer normalization and warm-up, it multiplies the weights of the MLP
    and of the value and output projections, which are drawn with Glorot's variance. The embeddings
    of both parts, drawn with standard deviation ``width^(-1/2)``, take the decoder's factor.

    Args:
        layers: number L of layers of that part.
        part: ``"encoder"`` or ``"decoder"``.

    Returns:
        The factor, for `Initializer.times`.

    Raises:
        ValueError: a number that is not a positive integer, or an unknown part.

    >>> tfixup_factor(16)
    0.335

    References: Huang, Perez, Ba, Volkovs (2020), also for the number 0.67.
    """
    checked_count("layers", layers)
    checked_choice("part", part, ("encoder", "decoder"))
    return 0.67 * layers**-0.25 if part == "encoder" else (9 * layers) ** -0.25


def residual_gamma(value: float = 0.0, *, dtype: Any = None) -> Constant:
    """Make an initializer of the multiplier γ in ``x + γ branch(x)``; its variance is 0.

    If γ is 0, each block starts as the identity, and so does the network, at any depth. γ is then
    the only weight of the branch with a gradient; the others get theirs a step later. Over L
    blocks whose branches have unit variance, the variance of the stream grows by ``L γ²``. Use it
    as ``scale_init`` of the branch's last normalization, or for a scalar parameter if the branch
    has none.

    Args:
        value: γ, finite; 1 for an ordinary block.
        dtype: default dtype if the call gives none.

    Returns:
        The initializer.

    Raises:
        ValueError: a value that is not finite.

    >>> residual_gamma()(None, (2,)).tolist()
    [0.0, 0.0]

    References: Goyal et al. (2017), for the last normalization; De, Smith (2020), SkipInit, and
    Bachlechner et al. (2021), ReZero, for the scalar.
    """
    return Constant(checked_number("value", value), dtype)
