"""Roots of a function that is expensive to evaluate and may be unknown in places.

The functions are made of Gaussian moments. E[f(√q z)] is analytic in log q on the strip
|Im log q| < π/2, where the density stays integrable. Its Chebyshev interpolants on an interval of
half-width h therefore converge like ρ⁻ⁿ with ρ = r + √(r² + 1), r = π/2h; quotients of moments
converge on a narrower interval. Between two neighbors among its turning points and ends, an
interpolant has at most one root. So all roots are found, even close ones, down to rounding.

NaN stands for "not known"; `values` explains it.

References: Trefethen (2013), Approximation Theory and Approximation Practice, chapters 8 and 18.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.polynomial import chebyshev

_JUMP = 1e-6  # a function that is larger than this at a sign change has jumped over 0
_DEGREE = 16  # ρ⁻¹⁶ is 1e-12 on half a decade of q; a power law is resolved on more
_WIDEST, _NARROWEST = 6.0, 0.15  # widths of an interval, in log q; a decade is 2.3
_NODES = chebyshev.chebpts2(_DEGREE + 1)
_TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(_NODES, _DEGREE))
_ONE_PLACE = 1e-3  # relative; zeros that lie closer together are one root


def find_root(function: Callable[[float], float], low: float, high: float, rtol=1e-14) -> float:
    """Return the root of a function that changes its sign between low and high."""
    # The import takes half a second, and most derivations need no root.
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-300, rtol=rtol))


def find_roots(
    function: Callable[[float], float], low: float, high: float, rounding: float
) -> list[float]:
    """Return all roots between two positive numbers: crossings, touchings and isolated zeros.

    An interval on which the function vanishes does not count as a root. Next to nan, no root is
    found. Where the function is not analytic, roots that are closer than its samples are missed.

    Args:
        function: of order 1, or larger.
        low: the lower end.
        high: the upper end.
        rounding: the error of the function; a smaller value counts as 0.

    >>> cubic = lambda x: (x - 3) * (x - 5) ** 2 / x**3
    >>> [round(x, 5) for x in find_roots(cubic, 1, 1000, 1e-14)]
    [3.0, 5.0]
    """

    @functools.cache
    def certain(x: float) -> float:
        return 0.0 if abs(value := function(x)) < rounding else value

    knots = sorted({low, high, *_knots(certain, math.log(low), math.log(high), rounding)})
    runs = [
        (kind, list(run)) for kind, run in itertools.groupby(knots, lambda x: _kind(certain(x)))
    ]
    roots = []
    for i, (kind, run) in enumerate(runs):
        if kind == "zero" and 0 < i < len(runs) - 1:
            known = "unknown" not in (runs[i - 1][0], runs[i + 1][0])
            if known and run[-1] - run[0] <= _ONE_PLACE * run[0]:
                roots.append(run[len(run) // 2])
        elif i and {kind, runs[i - 1][0]} == {"positive", "negative"}:
            roots += _crossing(function, runs[i - 1][1][-1], run[0])
    return roots


def _kind(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    return "zero" if value == 0 else "positive" if value > 0 else "negative"


def _crossing(function: Callable[[float], float], low: float, high: float) -> list[float]:
    def known(x: float) -> float:
        if math.isnan(value := function(x)):
            raise _NotKnown
        return value

    try:
        root = find_root(known, low, high)
    except _NotKnown:
        return []
    return [root] if abs(known(root)) < _JUMP else []


class _NotKnown(Exception):
    """The function is not known at a point that the search for a root needs."""


def _knots(function, low: float, high: float, rounding: float) -> Iterator[float]:
    """Yield places between which the function is monotonic; low and high are logarithms."""
    middle, half = (low + high) / 2, (high - low) / 2
    if half <= _WIDEST / 2:
        places = np.exp(middle + half * _NODES)
        values = np.array([function(float(x)) for x in places])
        coefficients, size = _TO_COEFFICIENTS @ values, max(1, np.max(np.abs(values)))
        if np.all(np.isnan(values)):  # if only some are nan, the comparison below is false
            yield float(places[0])
            return
        if np.max(np.abs(coefficients[-2:])) <= rounding * size:
            yield float(places[0])
            turning = chebyshev.chebroots(chebyshev.chebder(coefficients))
            real = turning[np.abs(turning.imag) < 1e-6].real
            yield from np.exp(middle + half * real[np.abs(real) <= 1]).tolist()
            return
        if 2 * half < _NARROWEST:
            yield from places.tolist()
            return
    yield from _knots(function, low, middle, rounding)
    yield from _knots(function, middle, high, rounding)
