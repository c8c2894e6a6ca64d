"""Certified Gaussian integrals: a ball that is proven to contain E[f(√q z)].

Arb integrates the middle rigorously, piece by piece between the kinks. The growth of f bounds the
two tails. No step is an estimate: every ball contains the number that it stands for.

References: Johansson (2017), Arb: efficient arbitrary-precision midpoint-radius interval
arithmetic; Johansson (2018), Numerical integration in arbitrary-precision ball arithmetic.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import sympy
from flint import acb, arb
from sympy import Expr

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import steady
from flaxinit.theory.functions.balls import LEAST_BITS, NotCertifiable, Program, fixed
from flaxinit.theory.functions.brief import short, short_list
from flaxinit.theory.functions.effort import OverBudget, limited, spend
from flaxinit.theory.functions.growth import Growth, Tail
from flaxinit.theory.functions.order import compare, within
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.singularities import continued, factored, singularities
from flaxinit.theory.functions.symbols import z

_TOLERANCE_BITS = 125  # absolute goal of the integration, about 37 digits
# Half-widths of the middle, in standard deviations. Beyond 14 the normal tail is below 1e-43.
_WIDTHS = (14, 20, 30, 60, 120, 250)
# The same for a singular point that is moved to infinity, where the integrand falls like e^{-ct}.
_LENGTHS = (100, 400, 1600, 6400)
_SECONDS = 5.0  # of work for one enclosure; the catalogue takes a hundredth of a second
_ATTEMPTS = 3
_ZERO_BITS = 400  # an expectation below 2⁻⁴⁰⁰ counts as 0 if more bits do not settle
_SPARE_BITS = 60  # beyond those that the size of a value needs
_EVALUATIONS = 30_000  # per piece; the catalogue needs at most a few thousand


class Diverges(ValueError):
    """The expectation is proven to be infinite."""


def enclose(pieces: Sequence[Piece], variance: object = 1, *, zero_bits: int = LEAST_BITS) -> arb:
    """Return a ball that contains E[f(x)], x ~ N(0, variance), and fixes at least 30 digits.

    A ball with its middle at 0 has no digits: the expectation is below 2^-zero_bits, or it is below
    2^-400 and more could not be proven.

    Args:
        pieces: f as smooth pieces that cover the real line.
        variance: q > 0, any real number.
        zero_bits: how small an expectation may count as 0; by default, if a float rounds it to 0.

    Returns:
        The ball.

    Raises:
        Diverges: if the expectation is proven infinite.
        NotCertifiable: if the allowed evaluations do not prove 30 digits.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> enclose(split(z**2)).contains(1)
    True
    """
    try:
        with limited(_SECONDS):
            found = _enclosed(pieces, variance, min(zero_bits, _ZERO_BITS))
            if found.mid() != 0 or zero_bits <= _ZERO_BITS:
                return found
            # A mean of 0 may not settle to more bits. A second moment of 0 is refused later.
            with contextlib.suppress(NotCertifiable, OverBudget), limited(_SECONDS / 5):
                return _enclosed(pieces, variance, zero_bits)
            return found
    except OverBudget:
        spend(0)  # raises again if the limit was the caller's
        raise _unsettled(pieces, variance, f"the work of {_SECONDS:g} seconds") from None


def _enclosed(pieces: Sequence[Piece], variance: object, zero_bits: int) -> arb:
    extra = 0  # bits by which the value lies below 1
    for _ in range(_ATTEMPTS):
        with balls.precision(balls.PRECISION + extra):
            total = _integrate(pieces, variance, arb(2) ** -(_TOLERANCE_BITS + extra))
            if not total.is_finite():
                raise _unsettled(pieces, variance, f"{_EVALUATIONS} evaluations a piece")
            if (found := fixed(total, zero_bits)) is not None:
                return found
            # The value is small: aim lower by the bits of its size, or by `zero_bits`.
            size = abs(total).upper().log() / arb(2).log()
            small = zero_bits if total.contains(0) else -int(float(size))
            extra = max(extra, small) + _SPARE_BITS
    raise NotCertifiable(
        f"E[{_describe(pieces)}] could not be certified at q = {variance}: only {total} is "
        "certain. Use a function that does not oscillate ever faster."
    )


def _unsettled(pieces: Sequence[Piece], variance: object, effort: str) -> NotCertifiable:
    return NotCertifiable(
        f"E[{_describe(pieces)}] could not be certified at q = {variance}: the integral did not "
        f"settle within {effort}. Use a smoother function, or one that oscillates less."
    )


def _describe(pieces: Sequence[Piece]) -> str:
    return short_list(piece.expr for piece in pieces)


def _integrate(pieces: Sequence[Piece], variance, tolerance: arb) -> arb:
    spread = balls.to_ball(variance)
    decay, deviation = 1 / (2 * spread), spread.sqrt()
    tolerance = tolerance * deviation.lower()  # of the integral, before it is divided by √(2πq)
    left, right = _tails(pieces, decay, deviation, tolerance)
    middle = _middle(pieces, decay, left, right, tolerance)
    return (middle + left.mass + right.mass) / ((2 * arb.pi()).sqrt() * deviation)


@dataclass(frozen=True)
class _TailMass:
    """One tail: where it starts, and a ball around 0 that contains its share of the integral."""

    start: Expr
    mass: arb


def _tails(pieces, decay: arb, deviation: arb, tolerance: arb) -> tuple[_TailMass, _TailMass]:
    kinks = [abs(balls.evaluate(end)) for p in pieces for end in (p.low, p.high) if end.is_finite]
    outermost = max((float(k.upper()) for k in kinks), default=0.0)
    failure: NotCertifiable | None = None
    for width in _WIDTHS:
        reach = max(width * float(deviation.upper()), outermost + 1, 1.0)
        start = sympy.Integer(int(reach) + 1)
        try:
            return (
                _tail(pieces[0].expr, Tail(-1, start), decay, tolerance),
                _tail(pieces[-1].expr, Tail(1, start), decay, tolerance),
            )
        except NotCertifiable as error:
            failure = error
    assert failure is not None
    raise failure


def _tail(expr: Expr, tail: Tail, decay: arb, tolerance: arb) -> _TailMass:
    """Bound the integral over a tail: by the range of the values if that is enough."""
    size = tail.range(expr).size
    if size == 0:
        return _TailMass(tail.start, arb(0))
    if size.is_finite() and (mass := _mass(Growth(c=size), tail, decay)) < tolerance:
        return _TailMass(tail.start, arb(0, mass.upper()))
    try:
        growth = tail.upper(steady(expr, tail.side, far=True))
    except NotCertifiable:
        _refuse_if_infinite(expr, tail, decay)
        raise
    mass = _mass(growth, tail, decay)
    if not mass.is_finite():
        _refuse_if_infinite(expr, tail, decay)
        raise NotCertifiable(
            f"{short(expr)} could not be proven to grow more slowly than the normal density "
            "decays. Use a function that grows more slowly."
        )
    if not mass < tolerance:
        raise NotCertifiable(
            f"The tail of {short(expr)} beyond {tail.start} is not negligible: {mass}. Use a "
            "function that grows more slowly."
        )
    return _TailMass(tail.start, arb(0, mass.upper()))


def _mass(growth: Growth, tail: Tail, decay: arb) -> arb:
    """Bound ∫ C tⁿ e^{βt+αt²} e^{−decay·t²} dt from L on, by the integrand's steepness at L."""
    rate = decay - growth.alpha
    length = balls.evaluate(tail.start)
    # The logarithmic derivative n/t + β − 2At falls with t, so at L it is largest.
    steepness = 2 * rate * length - growth.beta - growth.n.max(arb(0)) / length
    if not (rate >= 0 and steepness > 0):
        return arb("inf")
    at_start = (growth.beta * length - rate * length**2).exp() * length**growth.n
    return growth.c * at_start / steepness


def _refuse_if_infinite(expr: Expr, tail: Tail, decay: arb) -> None:
    try:
        below = tail.lower(expr)
    except NotCertifiable:
        return
    if not below.c > 0:
        return
    surplus = below.alpha - decay
    if surplus > 0 or (surplus == 0 and (below.beta > 0 or (below.beta == 0 and below.n >= -1))):
        side = "+" if tail.side > 0 else "-"
        raise Diverges(
            f"The Gaussian expectation of {short(expr)} is infinite: towards {side}oo it grows "
            f"faster than the normal density of variance {float(1 / (2 * decay)):g} decays."
        )


def _middle(pieces, decay: arb, left, right, tolerance: arb) -> arb:
    total = arb(0)

    def density(x: acb) -> acb:
        return (-decay * x * x).exp()

    for piece in pieces:
        if piece.expr == 0:
            continue
        low = -left.start if piece.low == -sympy.oo else piece.low
        high = right.start if piece.high == sympy.oo else piece.high
        singular = [p for p in singularities(piece) if within(p, low, high)]
        cuts = [low, *[p for p in singular if p not in (low, high)], high]
        for a, b in pairwise(cuts):
            width = sympy.Min(1, (b - a) / 2) if singular else 0
            start, end = a, b
            if a in singular:
                start = a + width
                total += _beside(piece.expr, a, 1, width, density, tolerance)
            if b in singular:
                end = b - width
                total += _beside(piece.expr, b, -1, width, density, tolerance)
            total += _between(piece.expr, start, end, density, tolerance)
    return total


def _between(expr: Expr, low: Expr, high: Expr, density, tolerance: arb) -> arb:
    """Integrate from low to high, with a cut at 0 if exponentials grow to one side.

    On each side of the cut, `steady` writes log(1 + e^u), for example, in the form that is smooth.
    """
    zero = sympy.Integer(0)
    if compare(low, zero) >= 0:
        return _integral(steady(expr, 1), low, high, density, tolerance)
    left = steady(expr, -1)
    if compare(high, zero) <= 0 or left == (right := steady(expr, 1)):
        return _integral(left, low, high, density, tolerance)
    return _integral(left, low, zero, density, tolerance) + _integral(
        right, zero, high, density, tolerance
    )


def _beside(expr: Expr, point: Expr, side: int, width: Expr, density, tolerance: arb) -> arb:
    """Integrate up to a singular point p: f's continuation, or f(p ± e^z) e^z for z → −∞."""
    smooth = continued(expr, point)
    if smooth is not None:
        low, high = sorted((point, point + side * width))
        return _between(smooth, low, high, density, tolerance)
    distance = sympy.exp(z)
    moved = steady(factored(expr, point).subs(z, point + side * distance), -1) * distance
    failure: NotCertifiable | None = None
    for length in _LENGTHS:
        try:
            tail = _tail(moved, Tail(-1, sympy.Integer(length)), arb(0), tolerance)
            break
        except Diverges:
            raise _pole(expr, point) from None
        except NotCertifiable as error:
            failure = error
    else:
        raise NotCertifiable(
            f"{short(expr)} is singular at {point}, and neither a continuation nor a bound of its "
            "integral is known here. Write it as a formula that is smooth there."
        ) from failure
    center = balls.evaluate(point)
    return tail.mass + _integral(
        moved,
        -tail.start,
        sympy.log(width),
        lambda x: density(center + side * x.exp()),
        tolerance,
    )


def _pole(expr: Expr, point: Expr) -> Diverges:
    return Diverges(
        f"The Gaussian expectation of {short(expr)} is infinite: it has a pole at {point}."
    )


def _integral(
    expr: Expr,
    low: Expr,
    high: Expr,
    density: Callable[[acb], acb],
    tolerance: arb,
) -> arb:
    program = Program(expr, (z,))

    def integrand(x: acb, analytic: bool) -> acb:
        return program(x, analytic=analytic) * density(x)

    ends = balls.evaluate(low), balls.evaluate(high)
    value = balls.integral(integrand, *ends, tolerance, _EVALUATIONS)
    if not value.imag.contains(0):
        raise NotCertifiable(
            f"{short(expr)} is not real between {low} and {high}. An activation must be real "
            "everywhere."
        )
    return value.real
