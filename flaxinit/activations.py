"""Any form of activation -> its two Gaussian second moments -> its gain."""

import math
from collections.abc import Callable
from typing import Any

from flaxinit.aliases import ALIASES
from flaxinit.gains import MOMENTS
from flaxinit.initializers.contract import checked_choice, did_you_mean
from flaxinit.initializers.scaling import MODES, Mode

# A catalogue name, a formula, a JAX callable, a SymPy expression or a Derivation.
Activation = str | Callable[..., Any] | Any


def moments(activation: Activation) -> tuple[float, float]:
    """``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1).

    A catalogue name is looked up; every other form is derived, which loads SymPy.

    Args:
        activation: a catalogue name (``"gelu"``), a formula in one symbol
            (``"x * tanh(softplus(x))"``), a JAX callable, a SymPy expression, or what
            `flaxinit.derive` returned.

    Returns:
        Both second moments.

    Raises:
        ValueError: an unknown name.

    >>> moments("relu")
    (0.5, 0.5)
    """
    name = ALIASES.get(activation, activation) if isinstance(activation, str) else None
    if name in MOMENTS:
        return MOMENTS[name]
    if isinstance(activation, str) and activation.isidentifier():
        hint = did_you_mean(activation.lower(), [*MOMENTS, *ALIASES], most=3)
        raise ValueError(
            f"{activation!r} is not in the catalogue of activations.{hint} "
            f"The names are {', '.join(MOMENTS)}. A JAX function, a SymPy expression or a "
            'formula such as "x * sigmoid(1.7 * x)" is taken too.'
        )
    if hasattr(activation, "second_moment") and hasattr(activation, "derivative_second_moment"):
        derivation: Any = activation
    else:
        from flaxinit.theory import derive  # loads SymPy

        derivation = derive(activation)
    return (
        float(derivation.second_moment.value),
        float(derivation.derivative_second_moment.value),
    )


def scales(activation: Activation, mode: Mode) -> tuple[float, float]:
    """``(1/E[φ²], 1/E[φ'²])``: the factors on the variance that make up for an activation.

    A moment that the mode does not use may be zero (a step function has no gradient); its factor
    is then the other one's.

    Args:
        activation: any form that `moments` takes.
        mode: ``"fan_in"`` uses the first, ``"fan_out"`` the second, the means use both.

    Returns:
        The forward and the backward factor, finite and positive.

    Raises:
        ValueError: an unknown activation or mode, or a moment that is zero or infinite.

    >>> scales("step", "fan_in")
    (2.0, 2.0)
    """
    checked_choice("mode", mode, MODES)
    forward, backward = moments(activation)
    used = {"fan_in": (forward,), "fan_out": (backward,)}.get(mode, (forward, backward))
    if not all(map(_usable, used)):
        raise ValueError(
            f"mode={mode!r} needs a weight variance that makes up for {activation!r}, but "
            f"E[φ(z)²] = {forward:g} and E[φ'(z)²] = {backward:g} for z ~ N(0, 1): no finite one "
            "does. Choose another mode, or pass a scale of your own to flaxinit.variance_scaling."
        )
    if not _usable(forward):
        forward = backward
    if not _usable(backward):
        backward = forward
    return 1 / forward, 1 / backward


def _usable(moment: float) -> bool:
    return math.isfinite(moment) and moment > 0


def gain(activation: Activation, mode: Mode = "fan_in") -> float:
    """The factor on the standard deviation that makes up for an activation.

    ``fan_in``: ``1/√E[φ²]``, for the forward signal. ``fan_out``: ``1/√E[φ'²]``, for the
    gradients. ``fan_avg`` and ``fan_geo_avg`` are their means for a square kernel:
    ``√(2/(E[φ²] + E[φ'²]))`` and ``(E[φ²] E[φ'²])^(-1/4)``.

    Args:
        activation: any form that `flaxinit.he` takes.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.

    Returns:
        The gain, so that ``std(W) = gain / √fan``.

    Raises:
        ValueError: an unknown activation or mode.

    >>> gain("relu")
    1.4142135623730951

    References: He, Zhang, Ren, Sun (2015).
    """
    forward, backward = scales(activation, mode)
    scale = {
        "fan_in": forward,
        "fan_out": backward,
        "fan_avg": 2 / (1 / forward + 1 / backward),
        "fan_geo_avg": math.sqrt(forward * backward),
    }[mode]
    return math.sqrt(scale)
