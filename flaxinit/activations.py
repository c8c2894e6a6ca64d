"""Any form of activation -> its two Gaussian second moments -> its gain."""

import difflib
import math
from collections.abc import Callable
from typing import Any

from flaxinit.gains import MOMENTS
from flaxinit.initializers.contract import checked_choice
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
        Both second moments, finite and positive.

    Raises:
        ValueError: an unknown name, or a moment that is zero or infinite.

    >>> moments("relu")
    (0.5, 0.5)
    """
    if isinstance(activation, str) and activation in MOMENTS:
        return MOMENTS[activation]
    if isinstance(activation, str) and activation.isidentifier():
        close = difflib.get_close_matches(activation.lower(), MOMENTS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(
            f"{activation!r} is not in the catalogue of activations. {hint}"
            f"The names are {', '.join(MOMENTS)}. A JAX function, a SymPy expression or a "
            'formula such as "x * sigmoid(1.7 * x)" is taken too.'
        )
    if hasattr(activation, "second_moment") and hasattr(activation, "derivative_second_moment"):
        derivation: Any = activation
    else:
        from flaxinit.theory import derive  # loads SymPy

        derivation = derive(activation)
    found = {
        "E[φ(z)²]": float(derivation.second_moment.value),
        "E[φ'(z)²]": float(derivation.derivative_second_moment.value),
    }
    for name, value in found.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"{activation!r} has {name} = {value} for z ~ N(0, 1): no finite weight variance "
                "keeps a signal through it. Pass a variance of your own to "
                "flaxinit.variance_scaling."
            )
    forward, backward = found.values()
    return forward, backward


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
    checked_choice("mode", mode, MODES)
    forward, backward = moments(activation)
    moment = {
        "fan_in": forward,
        "fan_out": backward,
        "fan_avg": (forward + backward) / 2,
        "fan_geo_avg": math.sqrt(forward * backward),
    }[mode]
    return math.sqrt(1 / moment)
