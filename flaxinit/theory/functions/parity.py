"""The even part of a function, which decides its expectation under a symmetric density.

E[f(z)] = E[(f(z) + f(−z))/2]. Identities bring f(−z) back to functions of z: 1/(1 + eᵘ) =
1 − 1/(1 + e⁻ᵘ) and log(1 + eᵘ) = u + log(1 + e⁻ᵘ), and SymPy knows that erf and tanh are odd. For
example, the even part of x² sin²(π σ(x)/2) is just x²/2.
"""

from collections.abc import Sequence

import sympy
from sympy import Expr, cos, erf, exp, log, sin

from flaxinit.theory.functions.algebra import (
    MAX_TERMS,
    count_terms,
    expand_numerators,
    has_large_multiple,
    polynomial,
    vanishes,
)
from flaxinit.theory.functions.effort import spend, weight
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.symbols import z

# Up to so many operations, SymPy's `cancel` finds a common denominator in milliseconds.
_SMALL = 40
_LARGE = 1000  # the largest `weight` to multiply out, which takes a fifth of a second
_MIRRORING = 200  # units of work to multiply out, by the `weight` of the expression


def is_odd(pieces: Sequence[Piece]) -> bool:
    """Tell whether f(−z) = −f(z)."""
    return _is_symmetric(pieces) and all(
        vanishes(p.expr + m.expr.subs(z, -z)) for p, m in zip(pieces, reversed(pieces), strict=True)
    )


def even_part(pieces: Sequence[Piece]) -> tuple[Piece, ...] | None:
    """Return (f(z) + f(−z))/2 if it contains fewer functions than f, else None.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> even_part(split((1 + sympy.tanh(z)) * z**2))
    (Piece(low=-oo, high=oo, expr=z**2),)
    """
    if not _is_symmetric(pieces) or all(map(_is_known, pieces)):
        return None
    work = sum(weight(piece.expr) for piece in pieces)
    if work > _LARGE:
        return None
    spend(_MIRRORING * work)
    halves = [_even(p.expr, m.expr) for p, m in zip(pieces, reversed(pieces), strict=True)]
    even = tuple(
        Piece(p.low, p.high, half)
        for p, half in zip(pieces, halves, strict=True)
        if half is not None
    )
    if len(even) < len(pieces) or _functions(even) >= _functions(pieces):
        return None
    return even


def _is_symmetric(pieces: Sequence[Piece]) -> bool:
    return all(p.low == -m.high for p, m in zip(pieces, reversed(pieces), strict=True))


def _is_known(piece: Piece) -> bool:
    """Tell whether all its functions are of polynomials; their terms show their own parity."""
    parts = piece.expr.atoms(sympy.Function, sympy.Pow)
    return all(part.is_polynomial(z) or _of_polynomial(part) for part in parts)


def _of_polynomial(part: Expr) -> bool:
    known = part.is_Pow or isinstance(part, exp | erf | sin | cos)
    return known and all(arg.is_polynomial(z) for arg in part.args)


def _functions(pieces: Sequence[Piece]) -> int:
    """Count the different functions of z, and powers that are not polynomials."""
    parts = {part for p in pieces for part in p.expr.atoms(sympy.Function, sympy.Pow)}
    polynomial = {part for part in parts if part.is_polynomial(z)}
    return len(parts - polynomial)


def _even(expr: Expr, other: Expr) -> Expr | None:
    """Return (f(z) + g(−z))/2, multiplied out; None if that is too long."""
    mirrored = _in_falling(other.subs(z, -z))
    total = _halved_angles(_in_falling(expr)) / 2 + _halved_angles(mirrored) / 2
    if count_terms(total) > MAX_TERMS:
        return None
    even = expand_numerators(total)
    functions = expr.atoms(sympy.Function)
    exponentials = functions and all(isinstance(f, exp) for f in functions)
    if (
        exponentials
        and even.has(exp)
        and expr.count_ops() <= _SMALL
        and not has_large_multiple(expr)
    ):
        return sympy.cancel((expr + other.subs(z, -z)) / 2)
    return even


def _in_falling(expr: Expr) -> Expr:
    """Write logistic functions and softplus with exponentials that fall with z."""

    def rises(total: Expr) -> bool:
        """Tell whether it is 1 + c·e^{kz} with k > 0."""
        one, power = total.as_coeff_Add()
        factor, rest = power.as_independent(z, as_Add=False)
        if one != 1 or not (isinstance(rest, exp) and factor.is_positive):
            return False
        slope = polynomial(rest.exp)
        return slope is not None and slope.degree() == 1 and slope.LC().is_positive

    def mirrored(total: Expr) -> Expr:
        return 1 + 1 / (total - 1)

    def logistic(power: Expr) -> Expr:
        return (1 - 1 / mirrored(power.base)) ** -power.exp

    def softplus(call: Expr) -> Expr:
        (total,) = call.args
        return sympy.expand_log(log(total - 1)) + log(mirrored(total))

    def of_power(call: Expr) -> Expr:
        base, exponent = call.args[0].as_base_exp()
        return exponent * log(base)

    return (
        expr.replace(
            lambda e: isinstance(e, log) and e.args[0].is_Pow and e.args[0].base.is_positive,
            of_power,
        )
        .replace(
            lambda e: e.is_Pow and e.exp.is_Integer and e.exp.is_negative and rises(e.base),
            logistic,
        )
        .replace(lambda e: isinstance(e, log) and rises(e.args[0]), softplus)
    )


def _halved_angles(expr: Expr) -> Expr:
    """Replace sin²u by (1 − cos 2u)/2 and cos²u by (1 + cos 2u)/2, and multiply out the angle."""

    def square(power: Expr) -> Expr:
        angle = expand_numerators(2 * power.base.args[0])
        sign = -1 if isinstance(power.base, sin) else 1
        return (1 + sign * cos(angle)) / 2

    return expr.replace(lambda e: e.is_Pow and e.exp == 2 and isinstance(e.base, sin | cos), square)
