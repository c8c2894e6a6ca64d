"""The range of an expression on a half-line: an interval that contains every value.

Interval arithmetic, with ends that are exact numbers or infinite. An increasing function maps ends
to ends, also at infinity: exp(−exp(z)) lies in [0, exp(−eᴸ)] for z ≥ L, so log(2 − exp(−exp(z))) is
known to be positive there.

References: Moore (1966), Interval Analysis.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import sympy
from flint import acb, arb
from sympy import Expr

from flaxinit.theory.functions.balls import Continued, Program, evaluate
from flaxinit.theory.functions.symbols import z

_INFINITE = arb("inf")


@dataclass(frozen=True)
class Range:
    """All real numbers from low to high; the ends are exact, or infinite."""

    low: arb = -_INFINITE
    high: arb = _INFINITE

    def __add__(self, other: "Range") -> "Range":
        return _between(self.low + other.low, self.high + other.high)

    def __mul__(self, other: "Range") -> "Range":
        ends = [_times(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return _hull(*ends)

    @property
    def sign(self) -> int:
        """+1 or −1 if every number is ≥ 0 or ≤ 0, else 0."""
        return 1 if self.low >= 0 else -1 if self.high <= 0 else 0

    @property
    def size(self) -> arb:
        """The largest absolute value."""
        return (-self.low).max(self.high)

    @property
    def floor(self) -> arb:
        """The least absolute value."""
        return self.low.max(-self.high).max(arb(0))

    def ball(self) -> acb:
        """Return the same numbers as a ball, which is not finite if an end is infinite."""
        return acb(self.low.union(self.high))


_ALL = Range()


def _between(low: arb, high: arb) -> Range:
    """Return the range from below one ball to above the other; nan becomes infinite."""
    low, high = low.lower(), high.upper()
    return Range(-_INFINITE if low.is_nan() else low, _INFINITE if high.is_nan() else high)


def _hull(*balls: arb) -> Range:
    if any(ball.is_nan() for ball in balls):
        return _ALL
    return _between(min(ball.lower() for ball in balls), max(ball.upper() for ball in balls))


def _times(a: arb, b: arb) -> arb:
    # The values themselves are finite, so 0 times any of them is 0.
    return arb(0) if a == 0 or b == 0 else a * b


def _monotone(method: Callable[[arb], arb], left, right) -> Callable[[Range], Range]:
    """Return the image under a monotonic function with these limits at −∞ and ∞."""
    left, right = arb(left), arb(right)
    bounds = _hull(left, right)

    def at(end: arb) -> arb:
        if not end.is_finite():
            return left if end < 0 else right
        value = method(end)
        return value if not value.is_nan() else bounds.low.union(bounds.high)

    def image(u: Range) -> Range:
        found = _hull(at(u.low), at(u.high))
        return Range(found.low.max(bounds.low), found.high.min(bounds.high))

    return image


def _on(low, high, image: Callable[[Range], Range]) -> Callable[[Range], Range]:
    """Restrict an image to the interval on which the function is real."""
    return lambda u: image(u) if u.low >= low and u.high <= high else _ALL


def _wave(method: Callable[[arb], arb]) -> Callable[[Range], Range]:
    def image(u: Range) -> Range:
        value = method(u.ball().real)
        return _between(value, value) if value.is_finite() else Range(arb(-1), arb(1))

    return image


def _even(image: Callable[[Range], Range]) -> Callable[[Range], Range]:
    return lambda u: image(Range(u.floor, u.size))


_HALF_PI = arb.pi() / 2
_IMAGES: dict[type, Callable[[Range], Range]] = {
    sympy.Abs: _even(lambda u: u),
    sympy.exp: _monotone(arb.exp, 0, _INFINITE),
    sympy.log: _on(0, _INFINITE, _monotone(arb.log, -_INFINITE, _INFINITE)),
    sympy.tanh: _monotone(arb.tanh, -1, 1),
    sympy.erf: _monotone(arb.erf, -1, 1),
    sympy.erfc: _monotone(arb.erfc, 2, 0),
    sympy.atan: _monotone(arb.atan, -_HALF_PI, _HALF_PI),
    sympy.asinh: _monotone(arb.asinh, -_INFINITE, _INFINITE),
    sympy.sinh: _monotone(arb.sinh, -_INFINITE, _INFINITE),
    sympy.cosh: _even(_monotone(arb.cosh, 1, _INFINITE)),
    sympy.sech: _even(_monotone(arb.sech, 1, 0)),
    sympy.sin: _wave(arb.sin),
    sympy.cos: _wave(arb.cos),
    sympy.asin: _on(-1, 1, _monotone(arb.asin, -_HALF_PI, _HALF_PI)),
    sympy.acos: _on(-1, 1, _monotone(arb.acos, arb.pi(), 0)),
    sympy.atanh: _on(-1, 1, _monotone(arb.atanh, -_INFINITE, _INFINITE)),
    sympy.acosh: _on(1, _INFINITE, _monotone(arb.acosh, 0, _INFINITE)),
    sympy.loggamma: _on(2, _INFINITE, _monotone(arb.lgamma, 0, _INFINITE)),
}


def value_range(expr: Expr, ranges: Mapping[Expr, Range]) -> Range:
    """Return a range that contains every finite value, for symbols in the given ranges.

    >>> value_range(1 / (1 + sympy.exp(z)), {z: Range(arb(0))}).high
    0.500000000000000
    """
    if not _symbols(expr) & ranges.keys():
        value = evaluate(expr)
        return _between(value, value)
    if expr in ranges:
        return ranges[expr]
    if isinstance(expr, Continued):
        return _continued(expr, ranges)
    if expr.is_Add:
        return _sum(expr, ranges)
    if expr.is_Mul:
        total = Range(arb(1), arb(1))
        for factor in expr.args:
            total = total * value_range(factor, ranges)
        return total
    if expr.is_Pow:
        base, exponent = expr.as_base_exp()
        if exponent.free_symbols:
            return value_range(sympy.exp(exponent * sympy.log(base)), ranges)
        return _power(value_range(base, ranges), exponent)
    if expr.func in _IMAGES:
        return _IMAGES[expr.func](value_range(expr.args[0], ranges))
    return _ALL


@functools.lru_cache(maxsize=1 << 16)
def _symbols(expr: Expr) -> set[Expr]:
    return expr.free_symbols


def _sum(expr: Expr, ranges: Mapping[Expr, Range]) -> Range:
    """Add term by term, but a polynomial as z·(z·(…) + b) + c, where fewer terms cancel."""
    coefficients: defaultdict[int, Range] = defaultdict(lambda: Range(arb(0), arb(0)))
    total = Range(arb(0), arb(0))
    for term in expr.args:
        if z in ranges and (monomial := _monomial(term)):
            factor, degree = monomial
            coefficients[degree] += value_range(factor, ranges)
        else:
            total += value_range(term, ranges)
    nested = Range(arb(0), arb(0))
    degrees = sorted(coefficients, reverse=True)
    for degree, lower in pairwise([*degrees, 0]):
        nested += coefficients[degree]
        if degree > lower:
            nested *= _power(ranges[z], sympy.Integer(degree - lower))
    return total + nested


def _monomial(term: Expr) -> tuple[Expr, int] | None:
    """Split c·zⁿ into c and n ≥ 0; None if it is something else."""
    powers = [f for f in sympy.Mul.make_args(term) if z in _symbols(f)]
    if not powers:
        return term, 0
    base, degree = powers[0].as_base_exp()
    if len(powers) > 1 or base != z or not (degree.is_Integer and degree > 0):
        return None
    return sympy.Mul(*[f for f in sympy.Mul.make_args(term) if f != powers[0]]), int(degree)


def _power(base: Range, exponent: Expr) -> Range:
    if exponent.is_negative:
        inverse = _power(base, -exponent)
        if inverse.sign == 0:
            return _ALL
        ends = (inverse.low, inverse.high)
        return _hull(*(_INFINITE * inverse.sign if end == 0 else 1 / end for end in ends))
    power = evaluate(exponent)
    if exponent.is_Integer and exponent % 2 == 0:
        base = Range(base.floor, base.size)
    elif not exponent.is_Integer and not base.low >= 0:
        return _ALL
    # An odd integer power increases everywhere, any other power on the positive numbers.
    whole = int(exponent) if exponent.is_Integer else None

    def raised(end: arb) -> arb:
        return end if end == 0 or not end.is_finite() else end ** (whole if whole else power)

    return _between(raised(base.low), raised(base.high))


def _continued(expr: Continued, ranges: Mapping[Expr, Range]) -> Range:
    """Use Taylor's formula, with the range of the derivative between z and the point."""
    _, place, point, _, mean = expr.args
    ball = value_range(place, ranges).ball().union(acb(evaluate(point)))
    if not ball.is_finite():
        return _ALL
    value = Program(mean.expr, tuple(mean.variables))(ball).real
    return _between(value, value)
