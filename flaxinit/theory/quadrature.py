"""Gaussian expectations in floating point, for curves, fixed points and duals.

Composite Gauss–Legendre between the kinks, so that ReLU is integrated as accurately as tanh.
Certified values come from `enclosure`; this is for where thousands are needed.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import sympy
from sympy import exp, log

from flaxinit.theory.constants import NamedConstant
from flaxinit.theory.pieces import Piece
from flaxinit.theory.symbols import z

# Beyond 12 standard deviations the normal tail is below 1e-32.
REACH = 12.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def find_root(function: Callable[[float], float], low: float, high: float, rtol=1e-14) -> float:
    """Brent's root of a function that changes its sign between low and high."""
    # Half a second to import, and most derivations ask for no root.
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-300, rtol=rtol))


class Numeric:
    """Smooth pieces as a NumPy function, with the places of its kinks."""

    def __init__(self, pieces: Sequence[Piece]):
        self.ends = np.array([float(piece.high) for piece in pieces[:-1]])
        self._functions = [_lambdify(piece.expr) for piece in pieces]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, float)
        which = np.searchsorted(self.ends, x)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = [np.broadcast_to(function(x), x.shape) for function in self._functions]
        return np.choose(which, values) if len(values) > 1 else np.array(values[0])


def _lambdify(expr: sympy.Expr) -> Callable:
    constants = {c: sympy.Float(c, 20) for c in expr.atoms(NamedConstant)}
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


def rule(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss–Legendre on every panel; panels along the last axis but one."""
    half = np.diff(ends, axis=-1)[..., None] / 2
    middle = (ends[..., 1:] + ends[..., :-1])[..., None] / 2
    nodes, weights = middle + half * _NODES, half * _WEIGHTS
    return nodes.reshape(*ends.shape[:-1], -1), weights.reshape(*ends.shape[:-1], -1)


def density(x: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def expect(function: Numeric, variance: float, weight: Callable | None = None) -> float:
    """E[f(√q z) w(z)], w = 1 unless given.

    >>> from flaxinit.theory.pieces import split
    >>> round(expect(Numeric(split(sympy.Max(0, z) ** 2)), 4.0), 12)
    2.0
    """
    deviation = np.sqrt(variance)
    breaks = np.append(function.ends, 0.0) / deviation
    # An activation varies on the scale 1 in x, which is 1/√q in units of z.
    scales = np.full(breaks.shape, min(1.0, 1 / (4 * deviation)))
    x, weights = rule(panels(breaks, scales, -REACH, REACH))
    values = function(deviation * x) if weight is None else function(deviation * x) * weight(x)
    return float(np.sum(weights * density(x) * values))


def expect_pair(function: Numeric, c: float, variance: float) -> float:
    """E[f(u) f(v)] for u, v ~ N(0, q) with correlation c: an integral in an integral.

    Given u = √q x, v = √q (c x + s y) with s = √(1−c²). The inner panels are cut where v meets
    a kink; the outer ones where u does, and where the inner integral, a kink smoothed over the
    width s, changes fast.
    """
    if not -1 <= c <= 1:
        raise ValueError(f"a correlation lies in [-1, 1]; got {c}")
    deviation = np.sqrt(variance)
    s = np.sqrt((1 - c) * (1 + c))
    kinks = np.append(function.ends, 0.0) / deviation
    fine = min(1.0, 1 / (4 * deviation))
    if s == 0:
        x, weights = rule(
            panels(np.append(kinks, -kinks), np.full(2 * kinks.size, fine), -REACH, REACH)
        )
        return float(
            np.sum(weights * density(x) * function(deviation * x) * function(c * deviation * x))
        )
    smooth = kinks[np.abs(kinks) < REACH * abs(c)] / c if c != 0 else np.zeros(0)
    narrow = np.full(smooth.shape, min(fine, s))
    outer = panels(
        np.append(kinks, smooth), np.append(np.full(kinks.shape, fine), narrow), -REACH, REACH
    )
    x, weights = rule(outer)
    inner = _inner(function, x, c, s, deviation, kinks, fine)
    return float(np.sum(weights * density(x) * function(deviation * x) * inner))


def _inner(function, x, c, s, deviation, kinks, fine) -> np.ndarray:
    """E[f(√q (c x + s y))] over y, for every x."""
    grid = np.arange(-REACH, REACH + 1)
    steps = fine / s * 2.0 ** np.arange(max(0, int(np.ceil(np.log2(s / fine)))) + 1)
    offsets = np.concatenate([-steps, [0.0], steps]) if s > fine else np.zeros(1)
    cuts = ((kinks[None, :, None] - c * x[:, None, None]) / s + offsets).reshape(x.size, -1)
    ends = np.concatenate([np.broadcast_to(grid, (x.size, grid.size)), cuts], axis=1)
    ends = np.sort(np.clip(ends, -REACH, REACH), axis=1)
    y, weights = rule(ends)
    values = function(deviation * (c * x[:, None] + s * y))
    return np.sum(weights * density(y) * values, axis=1)
