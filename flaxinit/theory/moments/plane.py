"""Certified Gaussian integrals of smooth functions of two variables that do not separate.

Arb takes one integral inside another. For a thin ball of u, the inner integral has the digits that
are needed. For a wide ball, which only bounds the function, it is rough. Beyond a square, a
polynomial in |u| and |v| bounds the function. Its Gaussian tail is an incomplete Gamma function.

A moment takes about a million evaluations, that is 2 to 20 seconds.
"""

import sympy
from flint import acb, arb
from sympy import Expr

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.balls import NotCertifiable, Program, fixed
from flaxinit.theory.functions.piecewise import KINKED
from flaxinit.theory.functions.ranges import Range, value_range
from flaxinit.theory.functions.symbols import gate, z

_WIDTH = 14  # half-width of the square in standard deviations; the weight beyond is below 1e-43
_BITS = 112  # of the integral, absolute: 33 digits
_WIDE = arb(2) ** -60  # a wider ball of u only bounds the function
_ROUGH = arb(2) ** -8
_EVALUATIONS = 2_000_000  # of the function, for one integral
_LINE = 10_000  # on one line


def enclose_plane(expr: Expr, variance: object = 1) -> arb:
    """Return a ball that contains E[f(u, v)], u, v ~ N(0, variance) independent, to 30 digits.

    Args:
        expr: f in z and `gate`, smooth.
        variance: q > 0.

    Raises:
        NotCertifiable: if f has kinks, is not known to grow like a polynomial, or needs more
            evaluations than are allowed.
    """
    if expr.has(*KINKED):
        raise NotCertifiable(
            f"E[{expr}] is not certified: {expr} has kinks, and is not a sum of products "
            "φ(u)·ψ(v), nor of functions of one a·u + b·v. Write it as such a sum, or without "
            "kinks."
        )
    with balls.precision():
        deviation = balls.to_ball(variance).sqrt()
        tame = _tame(expr)
        beyond = _beyond(_majorant(tame), deviation)
        square = _square(Program(tame, (z, gate)), deviation)
        total = (square + arb(0, beyond.upper())) / (2 * arb.pi())
    if (found := fixed(total)) is None:
        raise NotCertifiable(
            f"E[{expr}] could not be certified at q = {variance}: only {total} is certain after "
            f"{_EVALUATIONS} evaluations. Use a smoother function."
        )
    return found


def _tame(expr: Expr) -> Expr:
    """Write 1/(1 + e^w) as (1 − tanh(w/2))/2, which is bounded even over wide balls of w."""

    def is_logistic(part: Expr) -> bool:
        return part.is_Pow and part.exp.is_negative and isinstance(part.base - 1, sympy.exp)

    powers = {p.base - 1 for p in expr.atoms(sympy.Pow) if is_logistic(p)}
    for power in powers:
        share = sympy.Dummy("s", positive=True)
        expr = expr.xreplace(
            {p: share**-p.exp for p in expr.atoms(sympy.Pow) if p.base == 1 + power}
        )
        multiples = [e for e in expr.atoms(sympy.exp) if (e.exp / power.exp).is_Integer]
        expr = expr.xreplace({e: ((1 - share) / share) ** (e.exp / power.exp) for e in multiples})
        expr = expr.xreplace({share: (1 - sympy.tanh(power.exp / 2)) / 2})
    return expr


def _square(function: Program, deviation: arb) -> arb:
    """Return ∫∫ f(du, dv) e^{−(u²+v²)/2} over the square, with the deviation d."""
    spent, tolerance = 0, arb(2) ** -_BITS

    def outer(u: acb, smooth: bool) -> acb:
        if spent > _EVALUATIONS:
            return acb("nan")
        wide = u.real.rad() > _WIDE or u.imag.rad() > _WIDE
        goal = _ROUGH if wide else tolerance

        def inner(v: acb, also: bool) -> acb:
            nonlocal spent
            spent += 1
            if spent > _EVALUATIONS:
                return acb("nan")
            value = function(deviation * u, deviation * v, analytic=smooth or also)
            return value * (-v * v / 2).exp()

        inside = balls.integral(inner, -_WIDTH, _WIDTH, goal, _LINE)
        return inside * (-u * u / 2).exp()

    return balls.integral(outer, -_WIDTH, _WIDTH, tolerance, _LINE).real


def _majorant(expr: Expr) -> Expr:
    """Return a polynomial in u, v ≥ 0 with positive coefficients that is above |f(±u, ±v)|."""
    everywhere = {z: Range(), gate: Range()}
    size = value_range(expr, everywhere).size
    if size.is_finite():
        return _whole(size)
    if expr in everywhere:
        return expr
    if expr.is_Add:
        return sympy.Add(*map(_majorant, expr.args))
    if expr.is_Mul:
        return sympy.Mul(*map(_majorant, expr.args))
    if expr.is_Pow and expr.exp.is_positive:
        base = _majorant(expr.base)
        if expr.exp.is_Integer:
            return base**expr.exp
        if expr.exp < 1:
            return 1 + base  # xᵖ ≤ 1 + x
    if isinstance(expr, sympy.log) and value_range(expr.args[0], everywhere).low >= 1:
        terms = [t.as_independent(sympy.exp) for t in sympy.Add.make_args(expr.args[0])]
        if all(c.is_positive and (e == 1 or isinstance(e, sympy.exp)) for c, e in terms):
            # 0 ≤ log Σ cᵢ e^{wᵢ} ≤ log Σ cᵢ + Σ |wᵢ|, and log x ≤ x.
            return sympy.Add(*[c + (_majorant(e.args[0]) if e != 1 else 0) for c, e in terms])
    raise NotCertifiable(
        f"No bound on the growth of {expr} in two variables is known here. Write it with other "
        "functions."
    )


def _whole(size: arb) -> Expr:
    return sympy.Integer(int(float(size.upper())) + 1)


def _beyond(majorant: Expr, deviation: arb) -> arb:
    """Return ∫∫ of a polynomial times the Gaussian weight outside the square."""
    total = arb(0)
    edge = arb(_WIDTH) ** 2 / 2
    for (i, j), coefficient in sympy.Poly(majorant, z, gate).terms():
        inside = [2 * _moment(n, arb(0)) for n in (i, j)]
        outside = [2 * _moment(n, edge) for n in (i, j)]
        weight = outside[0] * inside[1] + inside[0] * outside[1]
        total += balls.evaluate(coefficient) * deviation ** (i + j) * weight
    return total


def _moment(n: int, edge: arb) -> arb:
    """Return ∫ xⁿ e^{−x²/2} from x = √(2·edge) to ∞, an incomplete Gamma function."""
    power = arb(n + 1) / 2
    return arb(2) ** (power - 1) * (edge.gamma_upper(power) if edge > 0 else power.gamma())
