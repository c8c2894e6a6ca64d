"""Rewritings that keep their size in check: expansion, tests for zero, steady logarithms."""

import math

import sympy
from sympy import Dummy, Expr, Wild, cosh, exp, log

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
    return expr == 0 or (count_terms(expr) <= MAX_TERMS and sympy.expand(expr) == 0)


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
    expanded = sympy.expand(frozen, power_exp=False, power_base=False)
    for name, value in reversed(whole.items()):  # the outermost was frozen last
        expanded = expanded.xreplace({name: value})
    return expanded


def steady(expr: Expr, side: int) -> Expr:
    """log(1 + e^u) and log cosh u with their linear part taken out, where z has the given sign.

    >>> steady(log(1 + exp(z)), 1)
    z + log(1 + exp(-z))
    """
    u = Wild("u")

    def grows(argument: Expr) -> int:
        """+1 or −1 where the argument is k·z, by its sign on this side."""
        rate = argument / z
        return 0 if rate.has(z) or not rate.is_real else (1 if rate * side > 0 else -1)

    def softplus(u: Expr) -> Expr:
        return u + log(1 + exp(-u)) if grows(u) > 0 else log(1 + exp(u))

    def log_cosh(u: Expr) -> Expr:
        size = u if grows(u) >= 0 else -u
        return size - log(2) + log(1 + exp(-2 * size)) if grows(u) else log(cosh(u))

    return expr.replace(log(1 + exp(u)), softplus).replace(log(cosh(u)), log_cosh)
