"""Expansion that leaves denominators and roots whole."""

import sympy
from sympy import Dummy, Expr


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
