"""Gaussian expectations in floating point, for curves, fixed points and duals.

Composite Gauss–Legendre between the kinks, so that ReLU is integrated as accurately as tanh, with
panels that are halved until the integral no longer changes. Certified values come from
`enclosure`; this is for where thousands are needed.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import sympy
from flint import acb
from sympy import exp, log

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.constants import NamedConstant
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.symbols import z

# Beyond 12 standard deviations the normal tail is below 1e-32; what grows may need more.
_REACHES = (12.0, 24.0, 36.0)
_NEGLIGIBLE = 1e-18  # at the ends, relative to the integral
_ROUNDING = 16 * np.finfo(float).eps  # of the sum over a panel, relative to the integral
_CLOSE = 0.5  # where cancellation is looked for
_VISIBLE = 1e-14  # a relative error that would show in an integral
_PANELS, _HALVINGS = 20_000, 60  # where the quadrature gives up
_PRINTING = 50  # units of work to print a part of an expression as NumPy code
_CHUNK = 4_000_000  # nodes of a double integral in memory at once
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


class Unresolved(ValueError):
    """A function changes too fast, in too many places, for a quadrature in floating point."""


class Numeric:
    """Smooth pieces as a NumPy function, with the places of its kinks."""

    def __init__(self, pieces: Sequence[Piece]):
        self.ends = np.array([float(piece.high) for piece in pieces[:-1]])
        self._exprs = [piece.expr for piece in pieces]
        self._functions = [_lambdify(expr) for expr in self._exprs]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, float)
        which = np.searchsorted(self.ends, x)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = np.empty(x.shape)
            for piece in np.unique(which):
                chosen[which == piece] = self._functions[piece](x[which == piece])
        # An intermediate result overflowed, as eˣ/(1 + eˣ)² does, or cancelled, as x − tanh x does.
        doubtful = ~np.isfinite(chosen)
        if np.any(np.abs(x) < _CLOSE):
            doubtful |= np.abs(x) < self._cancels_below
        for place in zip(*np.nonzero(doubtful), strict=True):
            exact = self._exactly(int(which[place]), float(x[place]))
            if not math.isnan(exact) or not math.isfinite(chosen[place]):
                chosen[place] = exact
        return chosen

    @cached_property
    def _cancels_below(self) -> float:
        """Below which |x| rounding shows, 0 for nowhere: a small variance sees nothing else."""
        for x in _CLOSE * 0.5 ** np.arange(64):
            for piece, place in ((int(np.searchsorted(self.ends, y)), y) for y in (x, -x)):
                with np.errstate(all="ignore"):
                    value = float(np.asarray(self._functions[piece](np.array(place))))
                exact = self._exactly(piece, place)
                if abs(value - exact) > _VISIBLE * abs(exact):
                    return 2 * x
        return 0.0

    def _exactly(self, piece: int, x: float) -> float:
        """The value at x, in as many bits as it takes; nan where there is none."""
        value = acb("nan")
        for doublings in range(6):
            with balls.precision(balls.PRECISION << doublings):
                try:
                    value = self._programs[piece](acb(x))
                except balls.NotCertifiable:
                    return math.nan
                if value.real.rel_accuracy_bits() > 60 or value.real == 0:
                    break
        real = value.is_finite() and value.imag.contains(0)
        return float(value.real.mid()) if real else math.nan

    @cached_property
    def _programs(self) -> list[balls.Program]:
        return [balls.Program(expr, (z,)) for expr in self._exprs]


def _lambdify(expr: sympy.Expr) -> Callable:
    spend(_PRINTING * size(expr))
    # A whole number beyond 64 bits is an object to NumPy, which has no exp.
    long = {n for n in expr.atoms(sympy.Integer) if abs(n) >= 2**63}
    constants = {c: sympy.Float(c, 20) for c in long | expr.atoms(NamedConstant)}
    u = sympy.Wild("u")
    softplus = sympy.Function("softplus")
    steady = expr.xreplace(constants).replace(log(1 + exp(u)), softplus(u))
    modules = [{"softplus": lambda x: np.logaddexp(0.0, x)}, "scipy", "numpy"]
    return sympy.lambdify(z, steady, modules)


@cache
def numeric(pieces: tuple[Piece, ...]) -> Numeric:
    """The pieces compiled to NumPy, once."""
    return Numeric(pieces)


def panels(breaks: np.ndarray, scales: np.ndarray, low: float, high: float) -> np.ndarray:
    """Panel ends on [low, high]: at most 1 wide, and graded towards each break.

    Args:
        breaks: places where the integrand is not smooth, or changes fast.
        scales: how fast, per break: the width of the narrowest panel beside it.
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
    """Nodes and weights of Gauss–Legendre on every panel, a row each."""
    half = (high - low)[:, None] / 2
    return (high + low)[:, None] / 2 + half * _NODES, half * _WEIGHTS


def density(x: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


class Integral(NamedTuple):
    """An integral, that of the absolute value, and the ends of the panels that it took."""

    value: float
    size: float
    ends: np.ndarray


def resolve(function: Callable[[np.ndarray], np.ndarray], ends: np.ndarray) -> Integral:
    """The integral over the panels between `ends`, each halved until that changes nothing more.

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
            raise Unresolved("it is not finite everywhere")
        rough = np.abs(finer - whole) > _ROUNDING * total
        value, settled = value + float(finer[~rough].sum()), settled + float(size[~rough].sum())
        cuts.append(middle[rough])
        whole = np.concatenate([h[0][rough] for h in halves])
        low, high = np.append(low[rough], middle[rough]), np.append(middle[rough], high[rough])
        if low.size > _PANELS or len(cuts) > _HALVINGS:
            raise Unresolved("it changes too fast, in too many places")
    return Integral(value, settled, np.unique(np.concatenate(cuts)))


def _on_panels(function, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integrals of a function and of its absolute value over each panel."""
    nodes, weights = rule(low, high)
    values = weights * function(nodes)
    return values.sum(axis=1), np.abs(values).sum(axis=1)


def expect(function: Numeric, variance: float, weight: Callable | None = None) -> Integral:
    """E[f(√q z) w(z)], w = 1 unless given.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> round(expect(Numeric(split(sympy.Max(0, z) ** 2)), 4.0).value, 12)
    2.0
    """
    deviation = np.sqrt(variance)

    def integrand(x):
        values = density(x) * function(deviation * x)
        return values if weight is None else values * weight(x)

    breaks = np.append(function.ends, 0.0) / deviation
    # An activation varies on the scale 1 in x, which is 1/√q in units of z, or is halved further.
    scales = np.full(breaks.shape, min(1.0, 1 / (4 * deviation)))
    for reach in _REACHES:
        found = resolve(integrand, panels(breaks, scales, -reach, reach))
        if np.all(np.abs(integrand(np.array([-reach, reach]))) <= _NEGLIGIBLE * found.size):
            return found
    raise Unresolved("it grows too fast")


@lru_cache(256)
def _square(function: Numeric, variance: float) -> Integral:
    """E[f(√q z)²], and the panels that resolve f."""
    return expect(function, variance, lambda x: function(np.sqrt(variance) * x))


def _product(one, other, x, y):
    return one * other


def expect_pair(function: Numeric, c: float, variance: float, kernel: Callable = _product) -> float:
    """E[f(u) f(v)] for u, v ~ N(0, q) with correlation c: an integral in an integral.

    Given u = √q x, v = √q (c x + s y) with s = √(1−c²). For |c| < 1 a kernel k(f(u), f(v), x, y)
    may stand in place of the product. The panels that resolve f are those of
    x, and their images those of y. At the image of a kink, where the inner integral is the kink
    smoothed over the width s, the outer panels are graded towards it.
    """
    if not -1 <= c <= 1:
        raise ValueError(f"a correlation lies in [-1, 1]; got {c}")
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
        raise Unresolved("it is not finite everywhere")
    return total


def _inner(
    function: Numeric, x: np.ndarray, c: float, s: float, deviation, ends, kernel
) -> np.ndarray:
    """E[k(f(u), f(v), x, y)] over y, for every x; `ends` are those of panels that resolve f."""
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
