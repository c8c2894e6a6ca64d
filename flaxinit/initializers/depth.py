"""Factors on the standard deviation that keep deep residual networks steady."""

import math
from typing import Literal, NamedTuple


def _depth(name: str, value: int) -> int:
    if not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return value


def residual_factor(layers: int, branches: int = 1) -> float:
    """``1/√(branches · layers)``: the stream's variance then at most doubles over the depth.

    Each of the ``branches · layers`` additions to the stream contributes that share of
    variance. A transformer block adds two (attention and MLP), so its output
    projections take ``1/√(2L)``, as GPT-2's do.

    Args:
        layers: number L of residual blocks.
        branches: additions to the stream in each.

    Returns:
        The factor, for `VarianceScaling.times`.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> residual_factor(8, branches=2)
    0.25

    References: Radford et al. (2019).
    """
    return 1 / math.sqrt(_depth("layers", layers) * _depth("branches", branches))


def fixup_factor(layers: int, depth: int = 2) -> float:
    """``L^(-1/(2m-2))`` for the layers inside a branch of m; its last layer starts at zero.

    Updates of the L branches then add up to one of the learning rate's order. A branch of one
    layer is only zeroed.

    Args:
        layers: number L of residual branches.
        depth: number m of layers in each, at least 2.

    Returns:
        The factor, for `VarianceScaling.times`.

    Raises:
        ValueError: a number out of range.

    >>> fixup_factor(16, depth=3)
    0.5

    References: Zhang, Dauphin, Ma (2019), Fixup initialization.
    """
    if _depth("depth", depth) < 2:
        raise ValueError("Fixup scales the layers before a branch's last: depth must be 2 or more.")
    return _depth("layers", layers) ** (-1 / (2 * depth - 2))


class DeepNorm(NamedTuple):
    """DeepNorm's pair: the stream is multiplied by `stream`, the branch's weights by `weights`."""

    stream: float
    weights: float


def deepnorm_factors(layers: int) -> DeepNorm:
    """``α = (2L)^(1/4)`` for the stream and ``β = (8L)^(-1/4)`` for the branch's weights.

    For encoders or decoders alone, in ``LayerNorm(α x + branch(x))``; β goes on the MLP's and the
    value and output projections, drawn with Glorot's variance.

    Args:
        layers: number L of layers.

    Returns:
        α and β.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> deepnorm_factors(32).weights
    0.25

    References: Wang et al. (2022), DeepNet, table 2.
    """
    return DeepNorm((2 * _depth("layers", layers)) ** 0.25, (8 * layers) ** -0.25)


def tfixup_factor(layers: int, part: Literal["encoder", "decoder"] = "encoder") -> float:
    """T-Fixup: ``0.67 L^(-1/4)`` in an encoder, ``(9L)^(-1/4)`` in a decoder.

    For the MLP's and the value and output projections of a transformer without layer
    normalization and warm-up, drawn with Glorot's variance, and for its embeddings, drawn with
    standard deviation ``width^(-1/2)``.

    Args:
        layers: number L of layers of that part.
        part: ``"encoder"`` or ``"decoder"``.

    Returns:
        The factor, for `VarianceScaling.times`.

    Raises:
        ValueError: a number that is not a positive integer, or an unknown part.

    >>> tfixup_factor(16)
    0.335

    References: Huang, Perez, Ba, Volkovs (2020), section 3.2 (0.67 is theirs, for encoders).
    """
    _depth("layers", layers)
    if part not in ("encoder", "decoder"):
        raise ValueError(f'part must be "encoder" or "decoder", got {part!r}.')
    return 0.67 * layers**-0.25 if part == "encoder" else (9 * layers) ** -0.25
