"""Any form of activation -> its two Gaussian second moments -> its gain."""

import math
from collections.abc import Callable
from typing import Any

from flaxinit.aliases import catalogue_name
from flaxinit.gains import MOMENTS
from flaxinit.initializers.scaling import Mode
from flaxinit.scales import moments_of, scales as scales_of

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
        ValueError: an unknown name, or parameters left open.

    >>> moments("relu")
    (0.5, 0.5)
    """
    if isinstance(activation, str) and (name := catalogue_name(activation)):
        return MOMENTS[name]
    if hasattr(activation, "second_moment") and hasattr(activation, "derivative_second_moment"):
        derivation: Any = activation
    else:
        from flaxinit.theory import derive  # loads SymPy

        derivation = derive(activation)
    if parameters := derivation.second_moment.parameters:
        numbers = ", ".join(f"{parameter}=0.1" for parameter in parameters)
        raise ValueError(
            f"{activation!r} has open parameters, and so no one gain: write numbers for them, or "
            f"pass flaxinit.derive(...).subs({numbers}) instead"
        )
    return moments_of(derivation)


def scales(activation: Activation, mode: Mode) -> tuple[float, float]:
    """``(1/E[φ²], 1/E[φ'²])``, as `flaxinit.scales.scales` of an activation's moments.

    Args:
        activation: any form that `moments` takes.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.

    Returns:
        The forward and the backward factor, finite and positive.

    Raises:
        ValueError: an unknown activation or mode, or a moment that is zero or infinite.

    >>> scales("step", "fan_in")
    (2.0, 2.0)
    """
    return scales_of(repr(activation), moments(activation), mode)


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
