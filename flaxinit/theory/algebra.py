"""Rewritings that keep their size in check: expansion, tests for zero, steady logarithms."""

import math

import sympy
from flint import acb
from sympy import Dummy, Expr, cosh, exp, expand, log, sinh

from flaxinit.theory import balls
from flaxinit.theory.symbols import z

MAX_TERMS = 2000


def count_terms(expr: Expr) -> int:
    """A bound on the number of terms after expansion, without expanding."""
    if not expr.has(z):
        return 1
    if expr.is_Add:
        return sum(map(count_terms, expr.args))
    if expr.is_Mul:
        return math.prod(map(count_terms, expr.args))
    if expr.is_Pow and expr.exp.is_Integer and expr.exp.is_positive:
        inner, power = count_terms(expr.base), int(expr.exp)
        return math.comb(min(inner, MAX_TERMS) + power - 1, power)
    return 1


def vanishes(expr: Expr) -> bool:
    """Whether the expression is 0 once multiplied out (False where that would be too long)."""
    if expr == 0:
        return True
    # Multiplying out a nested function takes minutes; one point shows that most are not 0.
    return not _differs_from_zero(expr) and count_terms(expr) <= MAX_TERMS and expand(expr) == 0


def _differs_from_zero(expr: Expr) -> bool:
    """Whether a ball proves it, at one arbitrary point of z and the parameters."""
    symbols = sorted(expr.free_symbols, key=str)
    values = {s: sympy.Rational(n + 3, n + 2) for n, s in enumerate(symbols)}
    try:
        with balls.precision():
            ball = balls.Program(expr, tuple(values))(
                *map(acb, map(balls.to_ball, values.values()))
            )
    except balls.NotCertifiable:
        return False
    return ball.is_finite() and not ball.contains(0)


def expand_numerators(expr: Expr) -> Expr:
    """Multiplies out sums, but keeps powers such as (1 + q)^(-2) and √(1 + q) as they are.

    >>> from sympy.abc import x
    >>> expand_numerators(x * (1 + x) / (2 + x) ** 2)
    x**2/(x + 2)**2 + x/(x + 2)**2
    """
    whole: dict[Dummy, Expr] = {}
    names: dict[Expr, Dummy] = {}

    def freeze(power: Expr) -> Expr:
        base, exponent = power.as_base_exp()
        unit = sympy.Rational(1, exponent.q) if exponent.q > 1 else sympy.Integer(-1)
        if base**unit not in names:
            names[base**unit] = Dummy(positive=True)
            whole[names[base**unit]] = base**unit
        return names[base**unit] ** (exponent / unit)

    frozen = expr.replace(
        lambda e: (
            e.is_Pow
            and e.base.is_Add
            and e.exp.is_Rational
            and not (e.exp.is_Integer and e.exp.is_positive)
        ),
        freeze,
    )
    expanded = expand(frozen, power_exp=False, power_base=False)
    for name, value in reversed(whole.items()):  # the outermost was frozen last
        expanded = expanded.xreplace({name: value})
    return expanded


def steady(expr: Expr, side: int) -> Expr:
    """The same function without exponentials that grow, as far as sums and logarithms allow.

    In balls 1/(1 + e^u) is 1/0 over a wide range of u, and log(1 + e^u) loses its digits; e^u
    taken out of the sum, both are tame. `side` is the sign of z where the function is used.

    >>> steady(log(1 + exp(z)), 1)
    z + log(1 + exp(-z))
    >>> steady(exp(2 * z) / (1 + exp(z)) ** 2, 1)
    (1 + exp(-z))**(-2)
    """

    def rate(term: Expr) -> Expr:
        """k of the factor e^{kz + c}."""
        exponents = [f.exp for f in sympy.Mul.make_args(term) if isinstance(f, exp)]
        poly = exponents[0].as_poly(z) if exponents and exponents[0].is_polynomial(z) else None
        return poly.coeff_monomial(z) if poly and poly.degree() == 1 else sympy.Integer(0)

    def taken_out(total: Expr) -> Expr:
        fastest = max(map(rate, total.args), key=lambda k: side * k)
        return exp(fastest * z) * sympy.Add(*[term * exp(-fastest * z) for term in total.args])

    def logarithm(power: Expr) -> Expr:
        growth = rate(power.args[0]) * z
        return growth + log(power.args[0] * exp(-growth))

    return (
        expr.replace(lambda e: isinstance(e, sinh | cosh), lambda e: e.rewrite(exp))
        .replace(lambda e: e.is_Add and any(side * rate(t) > 0 for t in e.args), taken_out)
        .replace(lambda e: isinstance(e, log), logarithm)
    )
