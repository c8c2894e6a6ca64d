"""Gaussian expectations in floating point, for curves, fixed points and duals.

Composite Gauss–Legendre quadrature between the kinks integrates ReLU as accurately as tanh. Its
panels are halved until the integral no longer changes. Certified values come from `enclosure`;
this module serves where thousands of values are needed.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from flaxinit.theory.functions.numeric import Numeric

# Beyond 12 standard deviations the normal tail is below 1e-32. A growing function may need more.
_REACHES = (12.0, 24.0, 36.0)
_NEGLIGIBLE = 1e-18  # at the ends, relative to the integral
_ROUNDING = 16 * np.finfo(float).eps  # of the sum over a panel, relative to the integral
_PANELS, _HALVINGS = 20_000, 60  # where the quadrature gives up
_CHUNK = 2**16  # nodes of a double integral at once: their arrays stay in a processor's cache
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


class Unresolved(ValueError):
    """A function changes too fast, in too many places, for a quadrature in floating point."""


def panels(breaks: np.ndarray, scales: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the ends of panels on [low, high], at most 1 wide and graded towards each break.

    Args:
        breaks: places where the integrand is not smooth, or changes fast.
        scales: for each break, the width of the narrowest panel beside it.
        low: the left end.
        high: the right end.
    """
    ends = [np.arange(low, high), [high]]
    for place, scale in zip(breaks, scales, strict=True):
        steps = scale * 2.0 ** np.arange(max(0, int(np.ceil(-np.log2(scale)))) + 1)
        ends += [place - steps, [place], place + steps]
    joined = np.unique(np.concatenate(ends))
    return joined[(joined >= low) & (joined <= high)]


def rule(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of Gauss–Legendre, one row for each panel."""
    half = (high - low)[:, None] / 2
    return (high + low)[:, None] / 2 + half * _NODES, half * _WEIGHTS


def density(x: np.ndarray) -> np.ndarray:
    """Return the standard normal density."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


class Integral(NamedTuple):
    """An integral, that of the absolute value, and the ends of the panels that were used."""

    value: float
    size: float
    ends: np.ndarray


def resolve(function: Callable[[np.ndarray], np.ndarray], ends: np.ndarray) -> Integral:
    """Integrate over the panels between `ends`, each halved until the integral stays the same.

    Raises:
        Unresolved: if it takes too many panels, or the function is not finite.

    >>> round(resolve(lambda x: 1 / (1e-12 + x**2), np.array([-1.0, 0.0, 1.0])).value * 1e-6, 5)
    3.14159
    """
    low, high = ends[:-1], ends[1:]
    whole, size = _on_panels(function, low, high)
    value, settled, cuts, total = 0.0, 0.0, [ends], float(size.sum())
    while low.size:
        middle = (low + high) / 2
        halves = [_on_panels(function, low, middle), _on_panels(function, middle, high)]
        finer, size = sum(h[0] for h in halves), sum(h[1] for h in halves)
        total = max(total, settled + float(size.sum()))
        if not math.isfinite(total):
            raise Unresolved("The integrand is not finite everywhere.")
        rough = np.abs(finer - whole) > _ROUNDING * total
        value, settled = value + float(finer[~rough].sum()), settled + float(size[~rough].sum())
        cuts.append(middle[rough])
        whole = np.concatenate([h[0][rough] for h in halves])
        low, high = np.append(low[rough], middle[rough]), np.append(middle[rough], high[rough])
        if low.size > _PANELS or len(cuts) > _HALVINGS:
            raise Unresolved("The integrand changes too fast, in too many places.")
    return Integral(value, settled, np.unique(np.concatenate(cuts)))


def _on_panels(function, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integrals of a function and of its absolute value over each panel."""
    nodes, weights = rule(low, high)
    values = weights * function(nodes)
    return values.sum(axis=1), np.abs(values).sum(axis=1)


def expect(function: Numeric, variance: float, weight: Callable | None = None) -> Integral:
    """Return E[f(√q z) w(z)], with w = 1 by default.

    >>> import sympy
    >>> from flaxinit.theory.functions.piecewise import split
    >>> from flaxinit.theory.functions.symbols import z
    >>> round(expect(Numeric(split(sympy.Max(0, z) ** 2)), 4.0).value, 12)
    2.0
    """
    deviation = np.sqrt(variance)

    def integrand(x):
        values = density(x) * function(deviation * x)
        return values if weight is None else values * weight(x)

    breaks = np.append(function.ends, 0.0) / deviation
    # An activation varies on the scale 1 in x, which is 1/√q in z. If it varies faster, `resolve`
    # halves the panels.
    scales = np.full(breaks.shape, min(1.0, 1 / (4 * deviation)))
    for reach in _REACHES:
        found = resolve(integrand, panels(breaks, scales, -reach, reach))
        if np.all(np.abs(integrand(np.array([-reach, reach]))) <= _NEGLIGIBLE * found.size):
            return found
    raise Unresolved("The integrand grows too fast.")


@lru_cache(256)
def _square(function: Numeric, variance: float) -> Integral:
    """Return E[f(√q z)²], and the panels that resolve f."""
    return expect(function, variance, lambda x: function(np.sqrt(variance) * x))


def _product(one, other, x, y):
    return one * other


def expect_pair(function: Numeric, c: float, variance: float, kernel: Callable = _product) -> float:
    """Return E[f(u) f(v)] for u, v ~ N(0, q) with correlation c, by an integral in an integral.

    Write u = √q x and v = √q (c x + s y) with s = √(1−c²). For |c| < 1, a kernel
    k(f(u), f(v), x, y) may replace the product. The panels that resolve f are those of x, and their
    images are those of y. At the image of a kink the inner integral is the kink smoothed over the
    width s, so the outer panels are graded towards it.
    """
    if not -1 <= c <= 1:
        raise ValueError(f"c, a correlation, must lie in [-1, 1], got {c}.")
    deviation = np.sqrt(variance)
    s = np.sqrt((1 - c) * (1 + c))
    ends = _square(function, variance).ends
    if s == 0:
        return resolve(
            lambda x: density(x) * function(deviation * x) * function(c * deviation * x),
            np.union1d(ends, c * ends),
        ).value
    reach = ends[-1]
    kinks = function.ends / deviation
    smooth = kinks[np.abs(kinks) < reach * abs(c)] / c if c != 0 else np.zeros(0)
    graded = panels(smooth, np.full(smooth.shape, min(1.0, s)), -reach, reach)
    cuts = np.union1d(ends, graded)
    x, weights = map(np.ravel, rule(cuts[:-1], cuts[1:]))
    rows = max(1, _CHUNK // (_NODES.size * (ends.size + int(2 * reach))))
    inner = [
        _inner(function, part, c, s, deviation, ends, kernel)
        for part in np.split(x, range(rows, x.size, rows))
    ]
    total = float(np.sum(weights * density(x) * np.concatenate(inner)))
    if not math.isfinite(total):
        raise Unresolved("The integrand is not finite everywhere.")
    return total


def _inner(
    function: Numeric, x: np.ndarray, c: float, s: float, deviation, ends, kernel
) -> np.ndarray:
    """Return E[k(f(u), f(v), x, y)] over y, for every x, with the panel ends that resolve f."""
    reach = ends[-1]
    # The images of panels at most 1 wide are at most 1/s wide, and 24 nodes resolve a density on 2.
    grid = np.array([-reach, reach]) if s >= 0.5 else np.arange(-reach, reach + 1)
    size, images = x.size, (ends - c * x[:, None]) / s
    cuts = np.concatenate([np.broadcast_to(grid, (x.size, grid.size)), images], axis=1)
    cuts = np.sort(np.clip(cuts, -reach, reach), axis=1)
    low, high = cuts[:, :-1], cuts[:, 1:]
    of = np.nonzero(low < high)
    y, weights = rule(low[of], high[of])
    one, x = function(deviation * x)[of[0], None], x[of[0], None]
    values = kernel(one, function(deviation * (c * x + s * y)), x, y)
    return np.bincount(of[0], (weights * density(y) * values).sum(axis=1), size)
