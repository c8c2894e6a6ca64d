"""Rewrite expressions without letting them grow: expansion, tests for zero, steady logarithms."""

import math

import sympy
from flint import acb, arb, fmpq, fmpq_poly
from sympy import (
    Abs,
    Add,
    Dummy,
    Expr,
    Integer,
    atan,
    cosh,
    erf,
    erfc,
    exp,
    expand,
    log,
    sinh,
    tanh,
)

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.effort import remembered, size, spend, weight
from flaxinit.theory.functions.ranges import Range, value_range
from flaxinit.theory.functions.symbols import z

MAX_TERMS = 2000
_HALF = sympy.Rational(1, 2)
_REWRITING = 20  # units of work for each part of an expression
_EXPANDING = 300  # and for each term that is multiplied out
_RANGING = 3  # for each part of each part, where the range of each is asked for

_SIMPLIFYING = 500  # units of work for each part of what SymPy simplifies
_MULTIPLE = 100  # the largest n of a tanh(nu) that SymPy may write in powers of tanh u
_SLOPE = 10  # units of work for each part of a derivative


def count_terms(expr: Expr) -> int:
    """Return a bound on the number of terms after expansion, without expanding."""
    if expr.is_Add:
        return sum(map(count_terms, expr.args))
    if expr.is_Mul:
        return math.prod(map(count_terms, expr.args))
    if expr.is_Pow and expr.exp.is_Integer and expr.exp.is_positive:
        inner, power = count_terms(expr.base), int(expr.exp)
        return math.comb(min(inner, MAX_TERMS) + power - 1, power)
    return 1


def is_zero(number: Expr) -> bool:
    """Tell whether a constant is 0: a ball may exclude it, otherwise SymPy decides."""
    if number.is_Rational:
        return number == 0
    if _differs_from_zero(number):
        return False
    return simplified(number) == 0


def simplified(expr: Expr) -> Expr:
    """Simplify with SymPy, unless a function has a large multiple in its argument.

    SymPy writes tanh(nu) in powers of tanh u, and e^{n/m} as a power of e^{1/m}.
    """
    spend(_SIMPLIFYING * size(expr))
    return expr if has_large_multiple(expr) else sympy.simplify(expr)


def has_large_multiple(expr: Expr) -> bool:
    """Whether SymPy may take high powers: its gcd of such ends the process, in GMP."""
    arguments = (u for f in expr.atoms(sympy.Function) for u in f.args if isinstance(u, Expr))
    addends = (a for u in arguments for a in Add.make_args(u))
    exponents = (power.exp for power in expr.atoms(sympy.Pow) if not power.exp.is_Integer)
    multiples = [*(addend.as_coeff_Mul()[0] for addend in addends), *exponents]
    return any(max(abs(n.p), n.q) > _MULTIPLE for n in multiples if n.is_Rational)


def vanishes(expr: Expr) -> bool:
    """Tell whether the expression is 0 once multiplied out; False if that would be too long."""
    if expr == 0:
        return True
    # Multiplying out a nested function takes minutes. One point shows that most are not 0.
    return not _differs_from_zero(expr) and count_terms(expr) <= MAX_TERMS and expand(expr) == 0


def _differs_from_zero(expr: Expr) -> bool:
    """Tell whether a ball proves it, at one arbitrary point of z and the parameters."""
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


def polynomial(expr: Expr) -> sympy.Poly | None:
    """Return the expression as a polynomial in z, or None.

    SymPy's `as_poly` multiplies out nested functions before it tests for a polynomial; the test
    alone is cheap.
    """
    if not expr.is_polynomial(z):
        return None
    spend(_REWRITING * size(expr))
    rational = _rational_coefficients(expr)
    if rational is None:
        return _multiplied_out(expr)
    coefficients = [sympy.Rational(int(c.p), int(c.q)) for c in rational.coeffs()] or [Integer(0)]
    return sympy.Poly.from_list(coefficients[::-1], z)


def _rational_coefficients(expr: Expr) -> fmpq_poly | None:
    """Multiply out with FLINT, in a hundredth of SymPy's time; None if a number is irrational."""
    if expr.is_Rational:
        return fmpq_poly([fmpq(int(expr.p), int(expr.q))])
    if expr == z:
        return fmpq_poly([0, 1])
    if expr.is_Pow:
        base = _rational_coefficients(expr.base)
        return None if base is None or not expr.exp.is_Integer else base ** int(expr.exp)
    if not (expr.is_Add or expr.is_Mul):
        return None
    total = fmpq_poly([0 if expr.is_Add else 1])
    for part in expr.args:
        if (poly := _rational_coefficients(part)) is None:
            return None
        total = total + poly if expr.is_Add else total * poly
    spend(max(total.degree(), 0))
    return total


def _multiplied_out(expr: Expr) -> sympy.Poly:
    """Multiply out factor by factor. SymPy's `as_poly` writes n sums out into 2ⁿ products."""
    if expr.is_Add and (nested := [part for part in expr.args if part.has(sympy.Add)]):
        rest = sympy.Add(*[part for part in expr.args if part not in nested])
        poly = sum(map(_multiplied_out, nested), start=sympy.Poly(rest, z))
    elif expr.is_Mul:
        poly = math.prod(map(_multiplied_out, expr.args), start=sympy.Poly(1, z))
    elif expr.is_Pow and expr.exp.is_Integer and expr.has(z):
        poly = _multiplied_out(expr.base) ** int(expr.exp)
    else:
        poly = sympy.Poly(expr, z)
    spend(poly.degree() ** 2 if poly else 0)
    return poly


def collected(expr: Expr) -> Expr:
    """Collect the addends that are polynomials into one polynomial, if that is shorter.

    >>> collected(sympy.exp(z) + (z + 1) * (z + 2) + (z - 1) * (3 - z))
    7*z + exp(z) - 1
    """
    if not expr.is_Add:
        return expr
    addends = expr.args
    powers = [addend for addend in addends if addend.is_polynomial(z)]
    others = [addend for addend in addends if not addend.is_polynomial(z)]
    poly = polynomial(sympy.Add(*powers))
    assert poly is not None
    shorter = sympy.Add(poly.as_expr(), *others)
    return shorter if size(shorter) < size(expr) else expr


@remembered
def differentiated(expr: Expr) -> Expr:
    """Return dφ/dz. A sum is differentiated term by term, because pieces share most terms."""
    if expr.is_Add:
        return sympy.Add(*map(differentiated, expr.args))
    spend(_SLOPE * _size_of_slope(expr))
    return sympy.diff(expr, z)


def _size_of_slope(expr: Expr) -> int:
    """Estimate how many parts the derivative has: each term keeps all factors of a product."""
    if not expr.has(z):
        return 0
    grown = sum(map(_size_of_slope, expr.args))
    return 1 + grown + (0 if expr.is_Add else size(expr) * len(expr.args))


def expand_numerators(expr: Expr) -> Expr:
    """Multiply out sums, but keep powers such as (1 + q)^(-2) and √(1 + q) as they are.

    >>> from sympy.abc import x
    >>> expand_numerators(x * (1 + x) / (2 + x) ** 2)
    x**2/(x + 2)**2 + x/(x + 2)**2
    """
    spend(_EXPANDING * count_terms(expr) + _REWRITING * size(expr))
    whole: dict[Dummy, Expr] = {}
    names: dict[Expr, Dummy] = {}

    def freeze(power: Expr) -> Expr:
        base, exponent = power.as_base_exp()
        unit = sympy.Rational(1, exponent.q) if exponent.q > 1 else Integer(-1)
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


@remembered
def steady(expr: Expr, side: int, *, far: bool = False) -> Expr:
    """Rewrite the function without growing exponentials, as far as sums and logarithms allow.

    In balls, 1/(1 + e^u) is 1/0 over a wide range of u, and log(1 + e^u) loses its digits. Taking
    e^u out of the sum avoids both. In the same way, 1 + erf(u) is written as the distance of erf
    from its limit, and √(z² + 1) − z as 1/(√(z² + 1) + z). `side` is the sign of z where the
    function is used; with `far`, it is used only for large |z|.

    >>> steady(log(1 + exp(z)), 1)
    z + log(1 + exp(-z))
    >>> steady(exp(2 * z) / (1 + exp(z)) ** 2, 1)
    (1 + exp(-z))**(-2)
    >>> steady(1 + erf(z), -1)
    erfc(-z)
    """
    if expr.is_polynomial(z):
        return expr
    spend(_REWRITING * size(expr) + _RANGING * weight(expr))

    def taken_out(total: Expr) -> Expr:
        parts = [_exponential(term) for term in total.args]
        fastest = _fastest({exponent for exponent, _ in parts}, side)
        if not fastest:
            return total
        return exp(fastest) * sympy.Add(*[rest * exp(u - fastest) for u, rest in parts])

    def joined(product: Expr) -> Expr:
        """Exponentials as one, if their exponents cancel."""
        growth, rest = _exponential(product)
        apart = sum(size(f.exp) for f in product.args if isinstance(f, exp))
        return exp(growth) * rest if size(growth) < apart else product

    def logarithm(power: Expr) -> Expr:
        growth, rest = _exponential(power.args[0])
        return growth + log(rest)

    def signed(size: Expr) -> Expr:
        """Replace |u|, which came from √u², by the sign of u on this side."""
        (u,) = size.args
        with balls.precision():
            sign = value_range(u, {z: _half_line(side)}).sign
        return sign * u if sign else size

    def shared(power: Expr) -> Expr:
        """Give each positive factor e^u its part of the power."""
        growth, rest = _exponential(power.base)
        return exp(growth * power.exp) * rest**power.exp

    form = expr
    if form.has(sinh, cosh):
        form = form.replace(
            lambda e: isinstance(e, sinh | cosh), lambda e: e.rewrite(exp, deep=False)
        )
    form = form.replace(
        lambda e: e.is_Add, lambda e: _from_limits(_conjugate(e, side, far), side, far)
    )
    if form.has(exp):
        form = form.replace(lambda e: e.is_Add and e.has(exp), taken_out)
        form = form.replace(lambda e: isinstance(e, log), logarithm)
    form = form.replace(lambda e: isinstance(e, Abs), signed)
    form = form.replace(lambda e: e.is_Mul and sum(isinstance(f, exp) for f in e.args) > 1, joined)
    form = expr if form.has(Abs) else form
    if far:
        form = (
            form.replace(lambda e: isinstance(e, log), lambda e: _small_logarithm(e, side))
            .replace(lambda e: e.is_Pow and e.base.is_Mul and e.base.has(exp), shared)
            .replace(lambda e: e.is_Mul, _bounded_logistic)
            .replace(lambda e: e.is_Mul and sum(isinstance(f, exp) for f in e.args) > 1, joined)
        )
    return form


def _exponential(term: Expr) -> tuple[Expr, Expr]:
    """Split a product into e^u, where u has no constant, and the rest."""
    powers = [f for f in sympy.Mul.make_args(term) if isinstance(f, exp)]
    if not powers:
        return Integer(0), term
    rest = [f for f in sympy.Mul.make_args(term) if not isinstance(f, exp)]
    total = sympy.Add(*[power.exp for power in powers])
    constant, u = sympy.Add(*map(_distributed, Add.make_args(total))).as_independent(z, as_Add=True)
    return u, sympy.Mul(*rest, exp(constant))


def _distributed(addend: Expr) -> Expr:
    """Multiply a product out, so that differences cancel; keep what is divided by a sum."""
    spend(_EXPANDING * count_terms(addend))
    divided = any(p.base.is_Add and p.exp.is_negative for p in addend.atoms(sympy.Pow))
    return addend if divided or count_terms(addend) > MAX_TERMS else sympy.expand_mul(addend)


def _fastest(exponents: set[Expr], side: int) -> Expr | None:
    """Return the exponent that exceeds all others for large |z|, or on all of the half-line."""
    for u in exponents:
        if all(_final_sign(u - v, side) > 0 for v in exponents if v != u):
            return u
    return None


def _final_sign(expr: Expr, side: int) -> int:
    """Return the sign for large |z|, by degree or by range; 0 if neither tells it."""
    if (poly := polynomial(expr)) is None:
        return _sign_by_range(expr, side)
    return int(sympy.sign(poly.LC())) * side ** poly.degree() if poly.LC().is_number else 0


def _sign_by_range(expr: Expr, side: int) -> int:
    """Return the sign on a half-line, from its range or from where it starts and how it moves."""
    with balls.precision():
        values = {z: _half_line(side)}
        if (sign := value_range(expr, values).sign) or expr.free_symbols != {z}:
            return sign
        moves = side * value_range(differentiated(expr), values).sign
        starts = value_range(expr, {z: Range(arb(0), arb(0))})
        return moves if moves and starts.sign == moves else 0


def _small_logarithm(logarithm: Expr, side: int) -> Expr:
    """Write log(1 + w) as w · log(1 + w)/w if w falls like an exponential, which shows how."""
    (argument,) = logarithm.args
    w = argument - 1
    growth, factor = _exponential(w)
    if not growth or factor.has(z) or _final_sign(growth, side) >= 0:
        return logarithm
    u = sympy.Symbol("w", real=True)
    slope = sympy.Lambda(u, 1 / (1 + u))
    small = factor * exp(-Abs(growth))  # the same as w, and seen to be small
    return w * balls.Continued(log(1 + small), small, Integer(0), Integer(1), slope)


def _bounded_logistic(product: Expr) -> Expr:
    """Write eᵘ/(1 + eᵘ) as 1/(1 + e⁻ᵘ), whose values are known to lie between 0 and 1."""
    for factor in product.args:
        if isinstance(factor, exp) and (below := (1 + factor) ** -1) in product.args:
            return product / (factor * below) / (1 + exp(-factor.exp))
    return product


def _half_line(side: int) -> Range:
    return Range(arb(0)) if side > 0 else Range(high=arb(0))


def _conjugate(total: Expr, side: int, far: bool) -> Expr:
    """Rewrite algebraic terms that cancel for large |z|, such as a + √b as (a² − b)/(a − √b)."""

    def is_root(term: Expr) -> bool:
        powers = [f for f in sympy.Mul.make_args(term) if f.is_Pow and abs(f.exp) == _HALF]
        return any(f.base.is_polynomial(z) and f.base.has(z) for f in powers)

    def degree(fraction: Expr) -> int:
        above, below = (sympy.degree(part, z) for part in sympy.fraction(sympy.together(fraction)))
        return above - below

    if total.is_rational_function(z) and not total.is_polynomial(z):
        whole = sympy.cancel(total)
        return whole if far or degree(whole) < max(map(degree, total.args)) else total
    roots = [term for term in total.args if is_root(term)]
    if len(roots) != 1:
        return total
    (b,) = roots
    a = total - b
    if not (a.is_rational_function(z) and (b**2).is_rational_function(z)):
        return total
    spend(_EXPANDING * count_terms(a) ** 2)
    squares = sympy.cancel(sympy.expand(a**2 - b**2))
    with balls.precision():
        apart = value_range(a - b, {z: _half_line(side)}).floor > 0
    return squares / (a - b) if apart and degree(squares) < 2 * degree(a) else total


def _from_limits(total: Expr, side: int, far: bool) -> Expr:
    """Write a sum by the distances of its terms from their limits, if the limits cancel."""
    if not total.is_Add:
        return total
    moved = [_from_limit(term, side, far) for term in total.args]
    limit, distance = map(sum, zip(*moved, strict=True))
    return distance if sympy.expand(limit) == 0 else total


def _from_limit(term: Expr, side: int, far: bool) -> tuple[Expr, Expr]:
    """Split k·f(u) into (k·limit, k·(f(u) − limit)), for erf, tanh, tanh², atan and logistic."""
    factor, function = term.as_independent(z, as_Add=False)
    square = function.is_Pow and function.exp == 2 and isinstance(function.base, tanh)
    if square:
        (u,) = function.base.args
    elif isinstance(function, erf | tanh) or (far and isinstance(function, atan)):
        (u,) = function.args
    elif function.is_Pow and function.exp == -1 and isinstance(function.base - 1, exp):
        u = -(function.base - 1).exp
    else:
        return (Integer(0), term) if term.has(z) else (term, Integer(0))
    sign = _final_sign(u, side)
    if not sign:
        return Integer(0), term
    if isinstance(function, erf):
        # SymPy would write erfc(−z) as 2 − erfc(z), which loses all digits if z is large.
        return factor * sign, -factor * sign * erfc(sign * u, evaluate=False)
    small = exp(-2 * sign * u)
    if square:
        return factor, -4 * factor * small / (1 + small) ** 2
    if isinstance(function, tanh):
        return factor * sign, -2 * factor * sign * small / (1 + small)
    if isinstance(function, atan):
        return factor * sign * sympy.pi / 2, -factor * atan(1 / u)
    return (factor, -factor * exp(-u) / (1 + exp(-u))) if sign > 0 else (Integer(0), term)
