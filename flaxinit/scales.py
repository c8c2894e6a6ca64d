"""Second moments to the factors on a variance that make up for them."""

import math
from typing import Any

from flaxinit.initializers.checks import checked_choice
from flaxinit.initializers.scaling import MODES, Mode


def moments_of(derivation: Any) -> tuple[float, float]:
    """``(E[φ²], E[φ'²])`` of a derivation; nan for a gradient that JAX does not have."""
    backward = derivation.derivative_second_moment
    return derivation.second_moment.value, backward.value if backward.exists else math.nan


def scales(activation: object, moments: tuple[float, float], mode: Mode) -> tuple[float, float]:
    """``(1/E[φ²], 1/E[φ'²])``, the forward and the backward factor, finite and positive.

    A moment that the mode does not use may be zero (a step function has no gradient), infinite,
    or nan (of a gradient that JAX does not have); its factor is then the other one's.

    Args:
        activation: how to call it in an error.
        moments: ``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1).
        mode: ``"fan_in"`` uses the first, ``"fan_out"`` the second, the means use both.

    Returns:
        Both factors.

    Raises:
        ValueError: an unknown mode, or a moment that it uses is zero, infinite or nan.

    >>> scales("step", (0.5, 0.0), "fan_in")
    (2.0, 2.0)
    """
    checked_choice("mode", mode, MODES)
    forward, backward = moments
    used = {"fan_in": (forward,), "fan_out": (backward,)}.get(mode, (forward, backward))
    if any(map(math.isnan, used)):
        raise ValueError(
            f"mode={mode!r} needs the gradient of {activation}, which JAX cannot differentiate: "
            "mode='fan_in' keeps the forward signal. A loop of fixed length (lax.fori_loop, "
            "lax.scan) has a gradient, lax.while_loop has none."
        )
    if not all(map(_usable, used)):
        raise ValueError(
            f"mode={mode!r} needs a weight variance that makes up for {activation}, but "
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
