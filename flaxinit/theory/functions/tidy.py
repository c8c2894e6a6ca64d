"""Bring a closed form into the shape a paper would print, quickly and predictably.

SymPy's ``simplify`` tries everything and takes seconds. This module only groups the sum by its
transcendental factors, and factors the coefficient of each group, a rational function.
"""

import sympy
from sympy import Expr, I, Integer, Rational, cos, erf, erfc, exp, sin

from flaxinit.theory.functions.algebra import expand_numerators
from flaxinit.theory.functions.constants import kept_whole
from flaxinit.theory.functions.effort import size, spend

_FACTORING = 50  # units of work for each part of what is factored


def tidy(expr: Expr) -> Expr:
    """Group and factor an expression.

    >>> from sympy import sqrt
    >>> from flaxinit.theory.functions.symbols import q
    >>> tidy(q / sqrt(1 + 2 * q) + 2 * q**2 / sqrt(1 + 2 * q))
    q*sqrt(2*q + 1)
    """
    names = kept_whole(expr)
    tidied = _tidied(expr.xreplace(names))
    return tidied.xreplace({name: power for power, name in names.items()})


def _is_constant(expr: Expr) -> bool:
    """Tell whether it has no symbol: to group by, not to factor."""
    return not expr.free_symbols


def _tidied(expr: Expr) -> Expr:
    if expr.has(I):
        expr = sympy.expand(expand_numerators(expr).replace(_is_rotation, _rotation))
    groups: dict[Expr, Expr] = {}
    for addend in sympy.Add.make_args(expand_numerators(expr)):
        kind, coefficient = _separate(addend)
        groups[kind] = groups.get(kind, Integer(0)) + coefficient
    spend(_FACTORING * sum(map(size, groups.values())))
    factored = {kind: sympy.factor(c) for kind, c in groups.items()}
    return sympy.Add(*[_rationalized(c, kind) for kind, c in _complement(factored).items()])


def _rationalized(coefficient: Expr, kind: Expr) -> Expr:
    """Write b/√b as √b, if b divides the coefficient's numerator."""
    for factor in sympy.Mul.make_args(kind):
        base, power = factor.as_base_exp()
        if power == Rational(-1, 2) and base.is_Add:
            numerator, denominator = sympy.fraction(coefficient)
            quotient, remainder = sympy.div(numerator, base, *sorted(base.free_symbols, key=str))
            if remainder == 0:
                coefficient = sympy.factor(quotient) / denominator
                kind = kind * base
    return coefficient * kind


def _is_rotation(expr: Expr) -> bool:
    return isinstance(expr, exp) and expr.exp.has(I)


def _rotation(power: Expr) -> Expr:
    """Write e^{r+iθ} as e^r (cos θ + i sin θ)."""
    real, imaginary = sympy.expand(power.exp).as_real_imag()
    return exp(real) * (cos(imaginary) + I * sin(imaginary))


def _separate(addend: Expr) -> tuple[Expr, Expr]:
    """Split an addend into (transcendental and root factors, rational coefficient)."""
    kind, coefficient = Integer(1), Integer(1)
    for factor in sympy.Mul.make_args(addend):
        for base, power in _prime_powers(factor):
            if _is_constant(base) and not base.is_Rational:
                kind *= base**power
            elif power.is_Rational and power.q == 2:
                # b^{k−1/2} = b^k / √b, so all half-integer powers of a base share a factor.
                coefficient *= base ** (power + Rational(1, 2))
                kind *= base ** Rational(-1, 2)
            elif power.is_Integer and base.is_rational_function():
                coefficient *= base**power
            else:
                kind *= base**power
    # Two roots of one base, √b·√b, have become rational.
    rest, rational = Integer(1), Integer(1)
    for factor in sympy.Mul.make_args(kind):
        if factor.is_Rational or (not _is_constant(factor) and factor.is_rational_function()):
            rational *= factor
        else:
            rest *= factor
    return rest, coefficient * rational


def _prime_powers(factor: Expr):
    """Yield a factor as powers of irreducible bases, if every base stays positive."""
    base, power = factor.as_base_exp()
    if _is_constant(factor):
        yield base, power
    elif isinstance(factor, sympy.Function):
        arguments = [sympy.factor(a) if a.is_rational_function() else a for a in factor.args]
        yield factor.func(*arguments), Integer(1)
    elif power.is_Rational and base.free_symbols and base.is_rational_function():
        parts = [part.as_base_exp() for part in sympy.Mul.make_args(sympy.factor(base))]
        if power.is_Integer or all(part.is_positive for part, _ in parts):
            yield from ((part, exponent * power) for part, exponent in parts)
        else:
            yield base, power
    else:
        yield base, power


def _complement(groups: dict[Expr, Expr]) -> dict[Expr, Expr]:
    """Write c·k − c·k·erf(u) as c·k·erfc(u)."""
    groups = dict(groups)
    for kind in list(groups):
        for factor in sympy.Mul.make_args(kind):
            rest = kind / factor
            # Keep 1/2 − erf/2 as it is: its 1/2 adds to other constants.
            if isinstance(factor, erf) and rest.has(exp) and rest in groups:
                if sympy.expand(groups[rest] + groups[kind]) == 0:
                    groups[rest * erfc(factor.args[0])] = groups.pop(rest)
                    del groups[kind]
                break
    return groups
