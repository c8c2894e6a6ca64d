"""All real roots of a smooth expression, as formulas if possible, otherwise isolated.

A root without a formula is proven to be the only one in an interval, and known to any precision.
Outside these intervals, balls or the growth of the expression exclude roots.
"""

import contextlib
import math
from fractions import Fraction

import sympy
from flint import acb, arb, fmpq
from sympy import Dummy, Expr, Poly, Symbol, exp, log, oo

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import (
    differentiated,
    has_large_multiple,
    is_zero,
    polynomial,
    simplified,
    steady,
)
from flaxinit.theory.functions.balls import Continued, IsolatedRoot, NotCertifiable, Program
from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.growth import Tail
from flaxinit.theory.functions.order import compare
from flaxinit.theory.functions.symbols import z

_REACHES = (5, 15, 50)  # |z| beyond which the growth of the expression may exclude roots
_CELLS = 5000
_LARGE = 300  # an expression of more parts is not solved in formulas
_REWRITING = 200  # units of work for each part of an expression that is
_MAX_ORDER = 8
_MAX_DEGREE = 500  # of a polynomial in exponentials; SymPy stores its zeros too

# Increasing functions with their inverses, and the open interval of their values.
_INVERSES = {
    exp: (log, 0, oo),
    log: (exp, -oo, oo),
    sympy.tanh: (lambda y: log((1 + y) / (1 - y)) / 2, -1, 1),
    sympy.atan: (sympy.tan, -sympy.pi / 2, sympy.pi / 2),
    sympy.sinh: (sympy.asinh, -oo, oo),
    sympy.asinh: (sympy.sinh, -oo, oo),
    sympy.erf: (None, -1, 1),  # no inverse that balls can evaluate, but that of 0 is 0
}


def roots(expr: Expr) -> list[Expr]:
    """Return all real roots of a smooth expression, as formulas or as isolated roots.

    Raises:
        ValueError: if they cannot be found, or there may be infinitely many.

    >>> roots(z**2 - 2), roots(z - sympy.cos(z))
    ([-sqrt(2), sqrt(2)], [root(z - cos(z), 0.739085)])
    """
    poly = polynomial(expr)
    if poly is not None:
        return _polynomial_roots(poly)
    if (parts := size(expr)) > _LARGE:
        return _isolated(expr)
    spend(_REWRITING * parts)
    numerator = sympy.numer(sympy.together(expr))
    if numerator.is_polynomial(z):
        return _polynomial_roots(sympy.Poly(numerator, z))
    if numerator.is_positive or numerator.is_negative:
        return []
    if numerator.is_Mul or numerator.is_Pow:
        factors = sympy.Mul.make_args(numerator)
        bases = [factor.as_base_exp()[0] if factor.is_Pow else factor for factor in factors]
        if len(bases) > 1 or bases[0] != numerator:
            return [root for base in bases if base.has(z) for root in roots(base)]
    peeled = _peel(numerator)
    if peeled is not None:
        return [] if peeled is sympy.S.EmptySet else roots(peeled)
    exponential = _exponential_roots(numerator)
    if exponential is not None:
        return exponential
    return _isolated(numerator)


def _peel(expr: Expr):
    """Turn a·f(u) + b, f increasing, into u − f⁻¹(−b/a), or the empty set if f is never −b/a."""
    constant, rest = expr.as_independent(z, as_Add=True)
    factor, function = rest.as_independent(z, as_Add=False)
    if type(function) not in _INVERSES:
        return None
    inverse, low, high = _INVERSES[type(function)]
    target = simplified(-constant / factor)
    if compare(target, sympy.sympify(low)) <= 0 or compare(target, sympy.sympify(high)) >= 0:
        return sympy.S.EmptySet
    if inverse is None:
        return function.args[0] if target == 0 else None
    return function.args[0] - inverse(target)


def _exponential_roots(expr: Expr) -> list[Expr] | None:
    """Return the roots of a polynomial in u = e^{kz}: hyperbolic and logistic functions."""
    u = Symbol("u", positive=True)
    hyperbolic = [part for part in expr.atoms(sympy.tanh, sympy.sinh, sympy.cosh) if part.has(z)]
    rewritten = expr.xreplace({part: part.rewrite(exp, deep=False) for part in hyperbolic})
    numerator = sympy.numer(sympy.together(rewritten))
    exponents = {power: polynomial(power.exp) for power in numerator.atoms(exp) if power.has(z)}
    if not exponents or any(e is None or e.degree() != 1 for e in exponents.values()):
        return None
    powers = {power: Dummy() for power in exponents}
    if not numerator.xreplace(powers).is_polynomial(*powers.values()):
        return None  # tan(tanh z), for example, is not a polynomial in u
    rates = {power: e.coeff_monomial(z) for power, e in exponents.items()}
    if not all(rate.is_Rational for rate in rates.values()):
        return None
    unit = abs(sympy.gcd_list(list(rates.values())))
    lowest = min(0, *rates.values())
    if max(0, *rates.values()) - lowest > _MAX_DEGREE * unit:
        return None
    substitutes = {
        power: u ** ((rate - lowest) / unit) * exp(exponents[power].coeff_monomial(1))
        for power, rate in rates.items()
    }
    # Multiplying by e^{-lowest z} makes every power of u a natural number.
    terms = sympy.Add.make_args(sympy.expand(numerator))
    lifted = [
        term.subs(substitutes) if term.has(z) else term * u ** (-lowest / unit) for term in terms
    ]
    poly = sympy.Add(*lifted).as_poly(u)
    if poly is None or poly.has(z):
        return None
    return [log(root) / unit for root in _polynomial_roots(poly) if root.is_positive]


def _polynomial_roots(poly: Poly) -> list[Expr]:
    if poly.degree() == 0:
        return []
    if poly.degree() == 1:
        slope, offset = poly.all_coeffs()
        root = -offset / slope
        return [root if root.is_Rational else simplified(root)]
    if poly.domain.is_QQ or poly.domain.is_ZZ:
        with_radicals = sympy.real_roots(poly)
        return list(dict.fromkeys(with_radicals))
    numeric = not poly.as_expr().free_symbols - {z}
    # Radicals are long, if they exist.
    if numeric and poly.degree() > 2 and len(poly.terms()) > 2:
        return _isolated(sympy.sqf_part(poly).as_expr())
    if numeric and has_large_multiple(poly.as_expr()):  # to SymPy e^{n/m} is a power of e^{1/m}
        return _isolated(poly.as_expr())
    found = sympy.roots(poly)
    if sum(found.values()) < poly.degree() or any(root.is_real is None for root in found):
        raise ValueError(
            f"The kinks of the activation lie where {short(poly.as_expr())} = 0, whose real roots "
            "depend on the open parameters. Give the parameters numbers."
        )
    return [root for root in found if root.is_real]


def _isolated(expr: Expr) -> list[Expr]:
    """Isolate the roots of an expression in z by bisection, into cells with one root or none."""
    try:
        if expr.free_symbols != {z}:
            raise NotCertifiable("It has open parameters.")
        with balls.precision():
            return _bisected(expr)
    except NotCertifiable as error:
        raise ValueError(
            f"The kinks of the activation lie where {short(expr)} = 0, which cannot be solved. "
            f"{error} Write the condition as a polynomial in x, such as jnp.where(x > 1, ...)."
        ) from None


def _bisected(expr: Expr) -> list[Expr]:
    if expr.could_extract_minus_sign():
        expr = -expr  # so that f − g and g − f have the same roots
    # f vanishes where f/z^k does, and at 0. Dividing removes the multiple root at 0, a common one.
    order = order_of_zero(expr, sympy.Integer(0)) or 0
    slope = z * differentiated(expr) - order * expr
    value = Program(lowered(expr, 0, order), (z,))
    slope = Program(lowered(slope, 0, order + 1) if order else differentiated(expr), (z,))
    found: list[Expr] = [sympy.Integer(0)] if order else []
    reach = fmpq(_reach(expr))
    cells = [(-reach, reach)]
    for _ in range(_CELLS):
        if not cells:
            return found
        low, high = cells.pop()
        cell = acb(arb(low).union(arb(high)))
        inside = value(cell, analytic=True)  # finite only where f is smooth
        if _sign(inside):
            continue
        if inside.is_finite() and _sign(slope(cell)) and not (order and low < 0 < high):
            ends = {_sign(value(acb(end))) for end in (low, high)}
            if 0 not in ends:
                if len(ends) == 2:
                    found.append(
                        IsolatedRoot(expr, *(Fraction(int(e.p), int(e.q)) for e in (low, high)))
                    )
                continue
        # Cut beside the middle, because roots are often simple numbers.
        cut = low + (high - low) * fmpq(5, 11)
        cells += [(cut, high), (low, cut)]
    raise NotCertifiable("Its roots could not be separated.")


def _sign(value: acb) -> int:
    return 1 if value.real > 0 else -1 if value.real < 0 else 0


def _reach(expr: Expr) -> int:
    """Return a number beyond which, on either side, the expression is proven to have no root."""
    for reach in _REACHES:
        with contextlib.suppress(NotCertifiable):
            tails = (Tail(side, sympy.Integer(reach)) for side in (-1, 1))
            if all(tail.lower(steady(expr, tail.side, far=True)).c > 0 for tail in tails):
                return reach
    raise NotCertifiable("It may have infinitely many roots.")


def lowered(expr: Expr, point, order: int) -> Expr:
    """Return expr/(z − p)^k, continued over p, where expr vanishes at least to order k."""
    if order == 0:
        return expr
    poly = expr.as_poly(z) if expr.is_polynomial(z) else None
    if poly is not None:
        terms = [
            simplified(sympy.diff(expr, z, n).subs(z, point)) / math.factorial(n)
            for n in range(order, poly.degree() + 1)
        ]
        return sympy.Add(*[term * (z - point) ** n for n, term in enumerate(terms)])
    variable = Symbol("w", real=True)
    coefficient = sympy.Lambda(
        variable, sympy.diff(expr, z, order).subs(z, variable) / math.factorial(order)
    )
    return Continued(expr, z, sympy.sympify(point), sympy.Integer(order), coefficient)


def order_of_zero(expr: Expr, point: Expr) -> int | None:
    """Return the order of a zero, up to a limit; None if the expression is not finite there."""
    for order in range(_MAX_ORDER):
        value = expr.subs(z, point)
        # SymPy leaves erf(zoo) as it is, and takes its sine to be finite.
        if not value.is_finite or value.has(sympy.zoo, sympy.nan):
            return None
        if not is_zero(value):
            return order
        expr = differentiated(expr)
    return _MAX_ORDER
