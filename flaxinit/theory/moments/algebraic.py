"""Gaussian expectations with an algebraic factor (z + β)^ν or (z² + β)^ν.

Squareplus, ISRU, the bent identity and softsign need these. For each family, integration by parts
gives a recursion in ν, which starts from two base integrals.

References: Goodwin, Staton (1948), Table of ∫ e^{-u²}/(u+x) du; Abramowitz, Stegun (1964), 9.6.24
and 13.2.5 (K and U integrals).
"""

from dataclasses import dataclass

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

from flaxinit.theory.functions.symbols import z
from flaxinit.theory.moments.record import Expectation, Work, unevaluated_sum
from flaxinit.theory.moments.terms import NoClosedForm, Term

HALF = Rational(1, 2)


@dataclass(frozen=True)
class _Line:
    """Expectations under N(0, s) on an interval, of functions with the offset β.

    The steps show them as expectations of the original term: with its factor e^{az²}, and so
    multiplied by its mass.
    """

    s: Expr
    beta: Expr
    low: Expr
    high: Expr
    factor: Expr
    mass: Expr
    work: Work

    @property
    def density(self) -> Expr:
        """The normal density at 0."""
        return 1 / sqrt(2 * pi * self.s)

    def note(self, reason: str, integrand: Expr, value: Expr, parts=(), rest=0):
        """Note the step E[integrand] = Σ coefficient · E[part] + rest = value."""
        value = self.mass * value
        if not parts:
            self.work.note(reason, self._expectation(integrand), value)
            return
        terms = [(coefficient, self._expectation(part)) for coefficient, part in parts]
        right = unevaluated_sum([*terms, (Integer(1), self.mass * rest)])
        self.work.note(reason, self._expectation(integrand), right, value)

    def _expectation(self, integrand: Expr) -> Expectation:
        return Expectation(self.factor * integrand, self.low, self.high)


def algebraic_expectation(
    term: Term, s: Expr, mass: Expr, low: Expr, high: Expr, work: Work
) -> Expr:
    """Return E[zⁿ e^{az²} (z^d + β)^ν 1(low < z < high)], mass · E[zⁿ (z^d + β)^ν …] under N(0, s).

    Raises:
        NoClosedForm: if the interval is neither the line nor its right half, if there is an error
            function or a linear exponent, if β ≤ 0, or if 2ν is not an integer.
    """
    algebraic = term.algebraic
    everywhere, right_half = (low, high) == (-oo, oo), (low, high) == (0, oo)
    known = (everywhere and algebraic.degree == 2) or right_half
    if term.erfs or term.b != 0 or term.logs or not known or not algebraic.offset.is_positive:
        raise NoClosedForm(f"No closed form of {term.expr} on ({low}, {high}) is known.")
    if not (term.n.is_integer and term.n.is_nonnegative and (2 * algebraic.power).is_integer):
        raise NoClosedForm(
            f"{term.expr} has a power of z that is not an integer, or another fractional power."
        )
    n, beta, nu = int(term.n), algebraic.offset, algebraic.power
    line = _Line(s, beta, low, high, exp(term.a * z**2), mass, work)
    if algebraic.degree == 1:
        if not nu.is_integer:
            raise NoClosedForm(f"{term.expr} has a fractional power of z + {beta}.")
        power, base, bracket = n, lambda k: _linear(-int(nu) - k, line), z + beta
        share, left = Integer(1), Integer(1)
    else:
        power, odd = divmod(n, 2)
        if odd and everywhere:
            return Integer(0)
        moment = _odd_half if odd else _even
        base, bracket = lambda k: moment(nu + k, line), z**2 + beta
        share, left = HALF if right_half and not odd else Integer(1), z**odd
    parts = [(binomial(power, k) * (-beta) ** (power - k), k) for k in range(power + 1)]
    value = share * sum(factor * base(k) for factor, k in parts)
    if power:
        line.note(
            "Write the power of $z$ in powers of the bracket minus its offset",
            z**n * bracket**nu,
            value,
            [(factor, left * bracket ** (nu + k)) for factor, k in parts],
        )
    return mass * value


def _linear(k: int, line: _Line) -> Expr:
    """Return G_k = E[(z+β)^{-k} 1(z>0)]; for k ≤ 0 it is the moment of a polynomial."""
    s, beta, at_zero = line.s, line.beta, line.density
    if k == 0:
        return HALF
    if k < 0:  # E[(z+β)^j 1(z>0)], with E[z^{i+1} 1] = s·(i E[z^{i−1} 1] + [i = 0] N(0))
        moments = [HALF, s * at_zero]
        for i in range(2, -k + 1):
            moments.append(s * (i - 1) * moments[i - 2])
        return sum(binomial(-k, i) * beta ** (-k - i) * moments[i] for i in range(-k + 1))
    ratio = beta**2 / (2 * s)
    g = [HALF, at_zero * exp(-ratio) * (pi * erfi(beta / sqrt(2 * s)) - Ei(ratio)) / 2]
    line.note("The Goodwin-Staton integral", 1 / (z + beta), g[1])
    for j in range(1, k):
        # 0 = β^{-j} N(0) − j G_{j+1} − (G_{j−1} − β G_j)/s
        g.append((beta**-j * at_zero - (g[j - 1] - beta * g[j]) / s) / j)
        line.note(
            r"Integrate $\frac{d}{dz}\left[(z+\beta)^{-j} \mathcal{N}\right]$ over $z > 0$, "
            rf"$j = {j}$",
            (z + beta) ** (-j - 1),
            g[j + 1],
            [(beta / (s * j), (z + beta) ** -j), (-1 / (s * j), (z + beta) ** (1 - j))],
            beta**-j * at_zero / j,
        )
    return g[k]


def _even(nu: Expr, line: _Line) -> Expr:
    """Return H_ν = E[(z²+β)^ν], by H_{ν+1} = (β + s(1+2ν)) H_ν − 2νsβ H_{ν−1}."""
    s, beta = line.s, line.beta
    x, bracket = beta / (4 * s), z**2 + beta
    half = HALF if line.low == 0 else Integer(1)  # H_ν is that of the whole line
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
        line.note(reason, bracket**base, half * known[base])
    if nu == -HALF:
        line.note(reason, bracket**nu, half * known[nu])
    by_parts = (
        r"Integrate by parts: $H_{\nu+1} = (\beta + (2\nu+1)s) H_\nu - 2\nu s \beta H_{\nu-1}$ "
        r"for the powers $\nu$ of the bracket"
    )
    top, bottom = max(known), min(known)
    while top < nu:
        one, two = beta + s * (1 + 2 * top), -2 * top * s * beta
        known[top + 1] = one * known[top] + two * known[top - 1]
        if not nu.is_integer:  # for a polynomial the step would explain nothing
            parts = [(one, bracket**top), (two, bracket ** (top - 1))]
            line.note(by_parts, bracket ** (top + 1), half * known[top + 1], parts)
        top += 1
    while bottom > nu:
        scale = 2 * bottom * s * beta
        one, two = (beta + s * (1 + 2 * bottom)) / scale, -1 / scale
        known[bottom - 1] = one * known[bottom] + two * known[bottom + 1]
        parts = [(one, bracket**bottom), (two, bracket ** (bottom + 1))]
        line.note(by_parts, bracket ** (bottom - 1), half * known[bottom - 1], parts)
        bottom -= 1
    return known[nu]


def _odd_half(nu: Expr, line: _Line) -> Expr:
    """Return O_ν = E[z (z²+β)^ν 1(z>0)], by O_ν = s β^ν N(0) + 2νs O_{ν−1}."""
    s, beta, at_zero = line.s, line.beta, line.density
    x, bracket = beta / (2 * s), z**2 + beta
    if nu.is_integer:
        if nu >= 0:
            value, start = s * at_zero, Integer(0)
        else:
            value, start = at_zero * exp(x) * expint(1, x) / 2, Integer(-1)
    else:
        value, start = at_zero * sqrt(2 * s) / 2 * sqrt(pi) * exp(x) * erfc(sqrt(x)), -HALF
    line.note(
        "Substitute $t = z^2 + \\beta$: an incomplete Gamma integral", z * bracket**start, value
    )
    by_parts = (
        r"Integrate by parts: $\mathbb{E}[z (z^2+\beta)^\nu] = s \beta^\nu \mathcal{N}(0) + "
        r"2 \nu s\, \mathbb{E}[z (z^2+\beta)^{\nu-1}]$ over $z > 0$"
    )
    while start < nu:
        start += 1
        rest = s * beta**start * at_zero
        value = rest + 2 * start * s * value
        parts = [(2 * start * s, z * bracket ** (start - 1))]
        line.note(by_parts, z * bracket**start, value, parts, rest)
    while start > nu:
        scale = 2 * start * s
        rest = -(beta**start) * s * at_zero / scale
        value = value / scale + rest
        line.note(
            by_parts, z * bracket ** (start - 1), value, [(1 / scale, z * bracket**start)], rest
        )
        start -= 1
    return value
