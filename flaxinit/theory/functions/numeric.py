"""Smooth pieces as a NumPy function, which uses balls where floating point is not enough."""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np
import sympy
from flint import acb
from sympy import exp, log

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.constants import NamedConstant
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.symbols import z

_CLOSE = 0.5  # |x| below which to look for cancellation
_VISIBLE = 1e-14  # a relative error that would show in an integral
_PER_UNIT = 50  # parts of an expression that NumPy evaluates in a unit of work
_PRINTING = 50  # units of work to print a part of an expression as NumPy code


class Numeric:
    """Smooth pieces as a NumPy function, with the places of its kinks."""

    def __init__(self, pieces: Sequence[Piece]):
        self.ends = np.array([float(piece.high) for piece in pieces[:-1]])
        self._exprs = [piece.expr for piece in pieces]
        self._functions = [_lambdify(expr) for expr in self._exprs]
        self._cost = max(map(size, self._exprs)) / _PER_UNIT

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, float)
        spend(self._cost * x.size)
        which = np.searchsorted(self.ends, x)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = np.empty(x.shape)
            for piece in np.unique(which) if self.ends.size else [0]:
                # A smooth function needs no mask; masks would dominate a double integral's time.
                inside = which == piece if self.ends.size else ...
                chosen[inside] = self._functions[piece](x[inside])
        # An intermediate result may overflow, as in eˣ/(1 + eˣ)², or cancel, as in x − tanh x.
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
        """The |x| below which rounding shows, or 0. A small variance depends only on such x."""
        for x in _CLOSE * 0.5 ** np.arange(64):
            for piece, place in ((int(np.searchsorted(self.ends, y)), y) for y in (x, -x)):
                with np.errstate(all="ignore"):
                    value = float(np.asarray(self._functions[piece](np.array(place))))
                exact = self._exactly(piece, place)
                if abs(value - exact) > _VISIBLE * abs(exact):
                    return 2 * x
        return 0.0

    def _exactly(self, piece: int, x: float) -> float:
        """Return the value at x, in as many bits as it takes; nan if none is known."""
        value = acb("nan")
        for doublings in range(6):
            with balls.precision(balls.PRECISION << doublings):
                try:
                    value = self._programs[piece](acb(x))
                except balls.NotCertifiable:
                    return math.nan
                if value.imag.contains(0) and (real := balls.fixed(value.real)) is not None:
                    return float(real.mid())
        return math.nan

    @cached_property
    def _programs(self) -> list[balls.Program]:
        return [balls.Program(expr, (z,)) for expr in self._exprs]


def _lambdify(expr: sympy.Expr) -> Callable:
    spend(_PRINTING * size(expr))
    # NumPy holds an integer beyond 64 bits as an object, which has no exp.
    long = {n for n in expr.atoms(sympy.Integer) if abs(n) >= 2**63}
    constants = {c: sympy.Float(c, 20) for c in long | expr.atoms(NamedConstant)}
    u = sympy.Wild("u")
    softplus = sympy.Function("softplus")
    steady = expr.xreplace(constants).replace(log(1 + exp(u)), softplus(u))
    modules = [{"softplus": _softplus}, "scipy", "numpy"]
    compiled = sympy.lambdify(z, steady, modules)

    def real(x):
        """Return values that are real; nan for what passes through complex numbers."""
        y = compiled(x)
        return np.where(y.imag == 0, y.real, np.nan) if np.iscomplexobj(y) else y

    return real


def _softplus(x):
    """Return log(1 + eˣ); a constant of a formula may be complex."""
    return np.log(1 + np.exp(x)) if np.iscomplexobj(x) else np.logaddexp(0.0, x)


@cache
def numeric(pieces: tuple[Piece, ...]) -> Numeric:
    """Compile the pieces to NumPy, once."""
    return Numeric(pieces)
