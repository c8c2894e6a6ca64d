"""Names: the activation of a curve, the gain of a variance, and the line of code that draws it."""

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxinit.catalogue import CATALOGUE, MOMENTS

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Layer

PYTORCH = "PyTorch's default"
_ROUNDING = 1e-6  # of programs in 32 bits


def activation_of(curve: tuple[np.ndarray, np.ndarray] | None) -> str | None:
    """Return the name of the activation that makes y of u, for a curve (u, y); None if unknown.

    It is unknown if several do: where all u are small, only a slope shows.

    >>> u = np.linspace(-2, 2, 9)
    >>> [activation_of((u, y)) for y in (np.maximum(u, 0), np.tanh(u), u + 0.5)]
    ['relu', 'tanh', None]
    """
    if curve is None:
        return None
    u, y = curve
    size = np.max(np.abs(y)) or 1.0
    with np.errstate(all="ignore"):
        for name in _PLAIN:  # they are what they are at any size
            if np.all(np.abs(_function(name)(u) - y) <= _ROUNDING * size):
                return name if np.any(y) else None
        fitting = [
            name for name in CATALOGUE if np.all(np.abs(_function(name)(u) - y) <= _ROUNDING * size)
        ]
    return fitting[0] if len(fitting) == 1 else None


@cache
def _function(name: str) -> Any:
    if name in _PLAIN:
        return _PLAIN[name]
    from sympy import lambdify

    from flaxinit.theory.functions.symbols import z
    from flaxinit.theory.reading.catalogue import catalogue_expr

    return lambdify(z, catalogue_expr(name), ["scipy", "numpy"])


_PLAIN = {"linear": lambda x: x, "relu": lambda x: np.maximum(x, 0)}  # without SymPy


def ratio_of(layer: "Layer") -> tuple[float, float]:
    """Return σ_w² divided by what is wanted here, and by the activation's own at q = 1."""
    wanted = layer.sigma_w2_wanted or math.nan
    name = layer.activation
    usual = 1 / MOMENTS[name][0] if name in MOMENTS else wanted
    return layer.sigma_w2 / wanted, layer.sigma_w2 / usual


def gain_of(sigma_w2: float, error: float) -> str | None:
    """Return whose σ_w² this is, of an activation or PyTorch, up to a relative error; else None.

    >>> gain_of(1.0, 0.01), gain_of(2.0, 0.01), gain_of(123.0, 0.01)
    ('linear', 'relu', None)
    """
    for name, moment in _KNOWN.items():
        if abs(math.log(sigma_w2 * moment)) < error:
            return name
    return None


# 1/σ_w² of each, the common ones first.
_KNOWN = {PYTORCH: 3.0, "linear": 1.0, "relu": 0.5, **{k: m[0] for k, m in MOMENTS.items()}}


def he_line(name: str | None, wanted: float, more: str = "") -> str:
    """Return the line that draws a kernel with this σ_w².

    >>> he_line("relu", 2.0), he_line("linear", 1.0)
    ('kernel_init=flaxinit.he("relu")', 'kernel_init=flaxinit.lecun()')
    >>> he_line(None, 2.9)
    'kernel_init=flaxinit.variance_scaling(2.9, "fan_in", "truncated_normal")'
    """
    more = f", {more}" if more else ""
    # The gain of an activation holds at q = 1; far from it, the number is written.
    if name == "linear" and abs(math.log(wanted)) < math.log(2):
        return f"kernel_init=flaxinit.lecun({more[2:]})"
    if name in MOMENTS and abs(math.log(wanted * MOMENTS[name][0])) < math.log(2):
        return f'kernel_init=flaxinit.he("{name}"{more})'
    scale = f'{wanted:.3g}, "fan_in", "truncated_normal"'
    return f"kernel_init=flaxinit.variance_scaling({scale}{more})"


def line_for(layer: "Layer", wanted: float) -> str:
    """Return the line that draws this kernel with this σ_w², with its fan if the shape hides it."""
    return he_line(layer.activation, wanted, hidden_fan(layer))


def hidden_fan(layer: "Layer") -> str:
    """Return the argument that names the fan, if an initializer would see another; else nothing."""
    seen = layer.fan_in_seen
    if seen is None and "[" not in layer.path:  # of a part, the shape is that of the whole
        seen = math.prod(layer.shape[:-1])
    return "" if seen in (None, layer.fan_in) else f"fan_in={layer.fan_in:g}"


def usual_line(layer: "Layer") -> str:
    """Return the line that draws a kernel with the gain of the activation before it."""
    name = layer.activation
    return line_for(layer, 1 / MOMENTS[name][0] if name in MOMENTS else 1.0)


def error_of(layer: "Layer") -> float:
    """Return the standard error of log σ_w², for normal entries."""
    return math.sqrt(2 / layer.measured.entries) if layer.measured else 0.0


def is_right(layer: "Layer") -> bool:
    """Return whether a variance fits the true fan: then it was made from it, whatever the shape."""
    right = [*ratio_of(layer), *([layer.sigma_w2] if layer.activation in (None, "linear") else [])]
    error = max(_SAMPLED, ERRORS * error_of(layer))
    return any(abs(x - 1) < error for x in right)


def fan_counted(layer: "Layer") -> float | None:
    """Return the fan that the initializer seems to have counted; None if it is the true one.

    It is the one that the initializer saw, where that is known, or else the one of a finding.
    """
    if any(finding.what == WRONG_FAN for finding in layer.findings):
        found = fan_that_fits(layer)
        return found and found[0]
    seen = layer.fan_in_seen
    return None if seen in (None, layer.fan_in) or is_right(layer) else seen


WRONG_FAN = "wrong fan"
ERRORS = 4.0  # standard errors; chance passes them once in 16,000 kernels
_SAMPLED = 0.01  # of a variance that was read off a draw of 4096 entries or more


def fan_that_fits(layer: "Layer") -> tuple[float, str] | None:
    """Return the fan from which the variance is right, with its name; None if there is none."""
    for fan, name in _other_fans(layer):
        ratios = (math.log(ratio * fan / layer.fan_in) for ratio in ratio_of(layer))
        if min(map(abs, ratios)) < ERRORS * error_of(layer):
            return fan, name
    return None


def _other_fans(layer: "Layer") -> Iterator[tuple[float, str]]:
    """Yield fans that an initializer may have taken for the true one, each with its name."""
    shape, true = layer.shape, layer.fan_in
    guesses = [
        (layer.fan_in_seen, "seen by the initializer"),
        (float(math.prod(shape[:-1])), "all axes but the last"),
        (float(math.prod(shape[1:])), "all axes but the first"),
        (float(shape[-1]), "the outputs"),
        (float(shape[0]), "the first axis"),
    ]
    told: set[float] = set()
    for fan, name in guesses:
        if fan and fan != true and fan not in told:
            told.add(fan)
            yield fan, name
