"""Second moments to the factors on a variance that make up for them."""

import math

from flaxinit.initializers.contract import checked_choice
from flaxinit.initializers.scaling import MODES, Mode


def scales(activation: object, moments: tuple[float, float], mode: Mode) -> tuple[float, float]:
    """``(1/E[φ²], 1/E[φ'²])``, the forward and the backward factor, finite and positive.

    A moment that the mode does not use may be zero (a step function has no gradient) or infinite;
    its factor is then the other one's.

    Args:
        activation: how to call it in an error.
        moments: ``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1).
        mode: ``"fan_in"`` uses the first, ``"fan_out"`` the second, the means use both.

    Returns:
        Both factors.

    Raises:
        ValueError: an unknown mode, or a moment that it uses is zero or infinite.

    >>> scales("step", (0.5, 0.0), "fan_in")
    (2.0, 2.0)
    """
    checked_choice("mode", mode, MODES)
    forward, backward = moments
    used = {"fan_in": (forward,), "fan_out": (backward,)}.get(mode, (forward, backward))
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
