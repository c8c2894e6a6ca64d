"""Gaussian expectations with an algebraic factor (z + β)^ν or (z² + β)^ν.

Squareplus, ISRU, the bent identity and softsign need these. Each family has a recursion in ν
from integration by parts, and two base integrals.

References:
    Goodwin & Staton (1948); Abramowitz & Stegun (1964), 9.6.24 and 13.2.5 (K and U integrals).
"""

from sympy import (
    Ei,
    Expr,
    Integer,
    Rational,
    besselk,
    binomial,
    erfc,
    erfi,
    exp,
    expint,
    oo,
    pi,
    sqrt,
)

from flaxinit.theory.steps import Expectation, Work
from flaxinit.theory.symbols import z
from flaxinit.theory.terms import NoClosedForm, Term

HALF = Rational(1, 2)


def algebraic_expectation(term: Term, s: Expr, low: Expr, high: Expr, work: Work) -> Expr:
    """E[zⁿ (z^d + β)^ν 1(low < z < high)] for z ~ N(0, s), on the line or its right half.

    Raises:
        NoClosedForm: off these two intervals, with an error function or a linear exponent,
            for β ≤ 0, or where ν is neither whole nor half-whole.
    """
    factor = term.algebraic
    everywhere, right_half = (low, high) == (-oo, oo), (low, high) == (0, oo)
    known = (everywhere and factor.degree == 2) or right_half
    if term.erfs or term.b != 0 or not known or not factor.offset.is_positive:
        raise NoClosedForm(f"{term.expr} on ({low}, {high})")
    if not (term.n.is_integer and term.n.is_nonnegative and (2 * factor.power).is_integer):
        raise NoClosedForm(f"{term.expr}: only whole powers of z and half-whole powers of the rest")
    n, beta, nu = int(term.n), factor.offset, factor.power
    if factor.degree == 1:
        if not nu.is_integer:
            raise NoClosedForm(f"{term.expr}: a fractional power of z + {beta}")
        # zⁿ = ((z + β) − β)ⁿ
        value = sum(
            binomial(n, k) * (-beta) ** (n - k) * _linear(-int(nu) - k, beta, s, work)
            for k in range(n + 1)
        )
    else:
        odd = n % 2
        if odd and everywhere:
            return Integer(0)
        base = _odd_half if odd else _even
        share = HALF if right_half and not odd else Integer(1)
        value = share * sum(
            binomial(n // 2, k) * (-beta) ** (n // 2 - k) * base(nu + k, beta, s, work)
            for k in range(n // 2 + 1)
        )
    return value


def _linear(k: int, beta: Expr, s: Expr, work: Work) -> Expr:
    """G_k = E[(z+β)^{-k} 1(z>0)]; for k ≤ 0 a polynomial's half-line moment."""
    at_zero = 1 / sqrt(2 * pi * s)
    if k == 0:
        return HALF
    if k < 0:  # E[(z+β)^j 1(z>0)], with E[z^{i+1} 1] = s·(i E[z^{i−1} 1] + [i = 0] N(0))
        moments = [HALF, s * at_zero]
        for i in range(2, -k + 1):
            moments.append(s * (i - 1) * moments[i - 2])
        return sum(binomial(-k, i) * beta ** (-k - i) * moments[i] for i in range(-k + 1))
    ratio = beta**2 / (2 * s)
    g = [HALF, at_zero * exp(-ratio) * (pi * erfi(beta / sqrt(2 * s)) - Ei(ratio)) / 2]
    work.note(
        "The Goodwin-Staton integral",
        Expectation(1 / (z + beta), Integer(0), oo),
        g[1],
    )
    for j in range(1, k):
        # 0 = β^{-j} N(0) − j G_{j+1} − (G_{j−1} − β G_j)/s
        g.append((beta**-j * at_zero - (g[j - 1] - beta * g[j]) / s) / j)
    return g[k]


def _even(nu: Expr, beta: Expr, s: Expr, work: Work) -> Expr:
    """H_ν = E[(z²+β)^ν], by H_{ν+1} = (β + s(1+2ν)) H_ν − 2νsβ H_{ν−1}."""
    x = beta / (4 * s)
    if nu.is_integer:
        known = {
            Integer(0): Integer(1),
            Integer(-1): sqrt(pi / (2 * s * beta)) * exp(2 * x) * erfc(sqrt(2 * x)),
        }
        base, reason = (
            Integer(-1),
            "Substitute $1/(z^2+\\beta) = \\int_0^\\infty e^{-t(z^2+\\beta)} dt$",
        )
    else:
        known = {
            -HALF: exp(x) * besselk(0, x) / sqrt(2 * pi * s),
            HALF: beta / 2 * exp(x) * (besselk(0, x) + besselk(1, x)) / sqrt(2 * pi * s),
        }
        base, reason = HALF, "An integral for the Bessel functions $K_0$ and $K_1$"
    if nu < 0 or not nu.is_integer:
        work.note(reason, Expectation((z**2 + beta) ** base, -oo, oo), known[base])
    top, bottom = max(known), min(known)
    while top < nu:
        known[top + 1] = (beta + s * (1 + 2 * top)) * known[top] - 2 * top * s * beta * known[
            top - 1
        ]
        top += 1
    while bottom > nu:
        known[bottom - 1] = ((beta + s * (1 + 2 * bottom)) * known[bottom] - known[bottom + 1]) / (
            2 * bottom * s * beta
        )
        bottom -= 1
    return known[nu]


def _odd_half(nu: Expr, beta: Expr, s: Expr, work: Work) -> Expr:
    """O_ν = E[z (z²+β)^ν 1(z>0)], by O_ν = s β^ν N(0) + 2νs O_{ν−1}."""
    at_zero = 1 / sqrt(2 * pi * s)
    x = beta / (2 * s)
    if nu.is_integer:
        if nu >= 0:
            value, start = s * at_zero, Integer(0)
        else:
            value, start = at_zero * exp(x) * expint(1, x) / 2, Integer(-1)
    else:
        value, start = at_zero * sqrt(2 * s) / 2 * sqrt(pi) * exp(x) * erfc(sqrt(x)), -HALF
    work.note(
        "Substitute $t = z^2 + \\beta$: an incomplete Gamma integral",
        Expectation(z * (z**2 + beta) ** start, Integer(0), oo),
        value,
    )
    while start < nu:
        start += 1
        value = s * beta**start * at_zero + 2 * start * s * value
    while start > nu:
        value = (value - s * beta**start * at_zero) / (2 * start * s)
        start -= 1
    return value
