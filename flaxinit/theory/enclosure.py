"""Certified Gaussian integrals: a ball that is proven to contain E[f(√q z)].

The middle is integrated rigorously by Arb (Johansson & Petras, 2018), piece by piece between
the kinks; the two tails are bounded by the growth of f. No step is an estimate: every ball
contains the number that it stands for.

References:
    Johansson (2017), Arb: efficient arbitrary-precision midpoint-radius interval arithmetic.
    Johansson (2018), Numerical integration in arbitrary-precision ball arithmetic.
"""

import time
from collections.abc import Sequence

import sympy
from flint import acb, arb
from sympy import Expr

from flaxinit.theory import balls
from flaxinit.theory.algebra import steady
from flaxinit.theory.balls import NotCertifiable, Program
from flaxinit.theory.growth import Tail
from flaxinit.theory.pieces import Piece
from flaxinit.theory.symbols import z

DIGITS = 30  # certified digits, relative to the value
_TOLERANCE_BITS = 125  # absolute goal of the integration, about 37 digits
# Half-widths of the middle, in standard deviations. Beyond 14 the normal tail is below 1e-43.
_WIDTHS = (14, 20, 30, 60, 120, 250)
_SECONDS = 5.0  # for one enclosure; the catalogue takes a hundredth of a second
_ATTEMPTS = 3
_ZERO_BITS = 400  # a ball that still contains 0 at this many more bits is taken for zero
_EVALUATIONS = 30_000  # per piece; the catalogue needs at most a few thousand


class Diverges(ValueError):
    """The expectation is proven to be infinite."""


def enclose(pieces: Sequence[Piece], variance: object = 1) -> arb:
    """A ball that contains E[f(x)], x ~ N(0, variance), and fixes at least 30 of its digits.

    An expectation that is exactly 0 has no leading digit; its ball is narrower than 1e-100.

    Args:
        pieces: f as smooth pieces that cover the real line.
        variance: q > 0, any real number.

    Returns:
        The ball.

    Raises:
        Diverges: if the expectation is proven infinite.
        NotCertifiable: if no proof of 30 digits was found within the evaluations allowed.

    >>> from flaxinit.theory.pieces import split
    >>> enclose(split(z**2)).contains(1)
    True
    """
    deadline = time.monotonic() + _SECONDS
    extra = 0  # bits by which the value lies below 1
    for _ in range(_ATTEMPTS):
        with balls.precision(balls.PRECISION + extra):
            total = _integrate(pieces, variance, arb(2) ** -(_TOLERANCE_BITS + extra), deadline)
            if not total.is_finite():
                _explain_singularity(pieces)
                raise NotCertifiable(
                    f"E[{_describe(pieces)}] could not be certified at q = {variance}: the "
                    "integral did not settle within the time allowed"
                )
            if total.rad() <= abs(total.mid()) * arb(10) ** -DIGITS:
                return total
            if extra >= _ZERO_BITS and total.contains(0):
                break
            # A small value: aim as many bits lower as its size asks for.
            size = float(abs(total).upper().log() / arb(2).log())
            extra = _ZERO_BITS if total.contains(0) else extra - int(size) + _TOLERANCE_BITS // 2
    if total.contains(0) and total.rad() < arb(10) ** -100:
        return total  # zero, to far more digits than were asked for
    raise NotCertifiable(
        f"E[{_describe(pieces)}] could not be certified at q = {variance}: only {total} is "
        "certain. It may oscillate too fast far out; a function that settles there can be certified"
    )


def _describe(pieces: Sequence[Piece]) -> str:
    texts = [str(piece.expr) for piece in pieces]
    return "; ".join(text if len(text) < 200 else text[:197] + "..." for text in texts)


def _integrate(pieces: Sequence[Piece], variance, tolerance: arb, deadline: float) -> arb:
    spread = balls.to_ball(variance)
    left, right = _tails(pieces, spread, spread.sqrt(), tolerance)
    return _middle(pieces, spread, left, right, tolerance, deadline) + left.mass + right.mass


class _TailMass:
    """One tail: where it starts, and a ball around 0 that contains its share of the integral."""

    def __init__(self, start: Expr, mass: arb):
        self.start = start
        self.mass = mass


def _tails(pieces, spread: arb, deviation: arb, tolerance: arb) -> tuple[_TailMass, _TailMass]:
    kinks = [abs(balls.evaluate(end)) for p in pieces for end in (p.low, p.high) if end.is_finite]
    outermost = max((float(k.upper()) for k in kinks), default=0.0)
    failure: NotCertifiable | None = None
    for width in _WIDTHS:
        reach = max(width * float(deviation.upper()), outermost + 1, 1.0)
        start = sympy.Integer(int(reach) + 1)
        try:
            return (
                _tail(pieces[0].expr, Tail(-1, start), spread, tolerance),
                _tail(pieces[-1].expr, Tail(1, start), spread, tolerance),
            )
        except NotCertifiable as error:
            failure = error
    assert failure is not None
    raise failure


def _tail(expr: Expr, tail: Tail, spread: arb, tolerance: arb) -> _TailMass:
    """∫ C tⁿ e^{βt+αt²} N(t; 0, q) dt from L on, by the steepness of the integrand at L."""
    if expr == 0:
        return _TailMass(tail.start, arb(0))
    try:
        growth = tail.upper(expr)
    except NotCertifiable:
        _refuse_if_infinite(expr, tail, spread)
        raise
    rate = 1 / (2 * spread) - growth.alpha
    length = balls.evaluate(tail.start)
    # The logarithmic derivative n/t + β − 2At falls with t, so at L it is largest.
    steepness = 2 * rate * length - growth.beta - growth.n.max(arb(0)) / length
    if not (rate >= 0 and steepness > 0):
        _refuse_if_infinite(expr, tail, spread)
        raise NotCertifiable(f"the growth of {expr} could not be bounded below a Gaussian's decay")
    at_start = (growth.beta * length - rate * length**2).exp() * length**growth.n
    mass = growth.c * at_start / steepness / (2 * arb.pi() * spread).sqrt()
    if not mass < tolerance:
        raise NotCertifiable(f"the tail of {expr} beyond {tail.start} is not negligible: {mass}")
    return _TailMass(tail.start, arb(0, mass.upper()))


def _refuse_if_infinite(expr: Expr, tail: Tail, spread: arb) -> None:
    try:
        below = tail.lower(expr)
    except NotCertifiable:
        return
    if not below.c > 0:
        return
    surplus = below.alpha - 1 / (2 * spread)
    if surplus > 0 or (surplus == 0 and (below.beta > 0 or (below.beta == 0 and below.n >= -1))):
        side = "+" if tail.side > 0 else "-"
        raise Diverges(
            f"the Gaussian expectation of {expr} is infinite: towards {side}oo it outgrows the "
            f"decay of the normal density of variance {float(spread.mid()):g}"
        )


def _middle(pieces, spread: arb, left, right, tolerance: arb, deadline: float) -> arb:
    total = arb(0)
    decay = -1 / (2 * spread)
    for piece in pieces:
        if piece.expr == 0:
            continue
        low = -left.start if piece.low == -sympy.oo else piece.low
        high = right.start if piece.high == sympy.oo else piece.high
        for start, end, expr in _steady_parts(low, high, piece.expr):
            total += _integral(expr, start, end, decay, tolerance, deadline)
    return total / (2 * arb.pi() * spread).sqrt()


def _steady_parts(low: Expr, high: Expr, expr: Expr):
    """Cut at 0 where exponentials grow to one side: log(1 + e^u) is smooth on either."""
    left, right = steady(expr, -1), steady(expr, 1)
    if left == right or not low < 0 < high:
        return [(low, high, right if low >= 0 else left)]
    return [(low, sympy.Integer(0), left), (sympy.Integer(0), high, right)]


def _integral(expr, low, high, decay: arb, tolerance: arb, deadline: float) -> arb:
    program = Program(expr, (z,))

    def integrand(x: acb, analytic: bool) -> acb:
        if time.monotonic() > deadline:
            return acb("nan")
        return program(x, analytic=analytic) * (decay * x * x).exp()

    value = acb.integral(
        integrand,
        balls.evaluate(low),
        balls.evaluate(high),
        rel_tol=tolerance,
        abs_tol=tolerance,
        eval_limit=_EVALUATIONS,
    )
    if not value.imag.contains(0):
        raise NotCertifiable(f"{expr} is not real between {low} and {high}")
    return value.real


def _explain_singularity(pieces: Sequence[Piece]) -> None:
    """Tells a pole, which makes the integral infinite, from a point that defeats the method."""
    for piece in pieces:
        denominator = sympy.denom(sympy.together(piece.expr)).as_poly(z)
        inside = sympy.real_roots(denominator) if denominator is not None else []
        for point in {p for p in (piece.low, piece.high, *inside) if p.is_finite}:
            if not (bool(piece.low <= point) and bool(point <= piece.high)):
                continue
            side = "-" if point == piece.high else "+"
            residue = sympy.limit(piece.expr * (z - point), z, point, side)
            if residue.is_zero is False:
                raise Diverges(
                    f"the Gaussian expectation of {piece.expr} is infinite: "
                    f"it has a pole at {point}"
                )
            if not piece.expr.subs(z, point).is_finite:
                raise NotCertifiable(
                    f"{piece.expr} is singular at {point}, and no rigorous integral across such a "
                    "point is known here; rewrite the function so that it is smooth there"
                )
