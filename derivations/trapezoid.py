"""Certified Gaussian integrals of analytic functions: the trapezoidal rule with its proven error.

If f is analytic in a strip |Im x| ≤ a and bounded there by a polynomial in |Re x|, the sum
h Σ f(kh) g(kh) differs from the integral by at most 2M/(e^{2πa/h} - 1). Sum and bound are evaluated
in interval arithmetic (mpmath.iv), which encloses every rounding.

References: Trefethen, Weideman (2014), The Exponentially Convergent Trapezoidal Rule, SIAM
Review 56(3), theorem 5.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import mpmath
import sympy as sp
from mpmath import iv

from derivations.digits import Real, digits
from derivations.notation import latex, plain, t, x, y
from derivations.page import Page
from derivations.proof import UnprovenError, is_zero, require

_DPS = 60  # digits of the interval arithmetic
_LENGTH = 15  # the sum is cut at |x| = 15, where g(x) < 10^-49
_RESOLUTION = 16  # h = a/16, so that e^{-2πa/h} = e^{-32π} < 10^-43

u = sp.Symbol("u", nonnegative=True)
"""Stands for |Re x| in a majorant."""


@dataclass(frozen=True)
class Strip:
    """The strip |Im x| ≤ a, with a bound there for each atom, a subexpression.

    An atom's bound is a polynomial in `u` = |Re x| with nonnegative coefficients. The bound of x
    is u + a.
    """

    a: sp.Rational
    atoms: Mapping[sp.Expr, sp.Expr]

    def majorant(self, f: sp.Expr) -> sp.Expr:
        """Return a polynomial in u that bounds |f| in the strip, by the triangle inequality.

        f is a polynomial in x and the atoms. Each coefficient is replaced by its absolute value,
        and x and each atom by its bound.
        """
        bounds, symbols = {x: u + self.a}, [x]
        for atom, bound in sorted(self.atoms.items(), key=lambda item: -sp.count_ops(item[0])):
            symbol = sp.Dummy()
            f = f.subs(atom, symbol)
            bounds[symbol] = bound
            symbols.append(symbol)
        polynomial = sp.Poly(f, *symbols)
        if any(not c.is_number for c in polynomial.coeffs()):
            raise UnprovenError(
                f"{f} is not a polynomial in x and the atoms. Add its other functions to the atoms."
            )
        return sp.expand(
            sp.Add(
                *(
                    abs(c) * sp.Mul(*(bounds[s] ** n for s, n in zip(symbols, powers, strict=True)))
                    for powers, c in polynomial.terms()
                )
            )
        )


def arctan(value):
    """Enclose arctan: halve the angle four times, then sum the alternating series."""
    for _ in range(4):
        value = value / (1 + iv.sqrt(1 + value * value))
    total, power = iv.mpf(0), value
    for k in range(0, 60):  # |value| < tan(π/32) < 1/10: the tail is below 10^-120
        total += (-1) ** k * power / (2 * k + 1)
        power *= value * value
    rest = abs(power)
    return 16 * (total + iv.mpf([-rest.b, rest.b]))


def erf(value):
    """Enclose erf. The three moments of a page use the same nodes, so the values are cached."""
    return _erf(value._mpi_)


@cache
def _erf(endpoints):
    """Enclose 2/√π e^{-v²} Σ 2ⁿ v^{2n+1}/(2n+1)!!, whose terms all have one sign."""
    value = iv.make_mpf(endpoints)
    if value.a > 8:  # 1 - e^{-v²} < erf(v) < 1: a gap below 10^-27 at a weight g(v) below 10^-14
        return iv.mpf([(1 - iv.exp(-value * value)).a, 1])
    square, term = value * value, value
    total, n = term, 0
    while n < 2 * square.b or abs(term).b > mpmath.mpf(10) ** -(2 * _DPS):
        n += 1
        term = term * 2 * square / (2 * n + 1)
        total += term
    # From here on each term is less than half of the previous one.
    rest = abs(term)
    return 2 / iv.sqrt(iv.pi) * iv.exp(-square) * (total + iv.mpf([-rest.b, rest.b]))


def _tanh(value):
    decay = iv.exp(-2 * value)
    return (1 - decay) / (1 + decay)


_INTERVAL_FUNCTIONS = {
    "exp": iv.exp,
    "log": iv.log,
    "sqrt": iv.sqrt,
    "tanh": _tanh,
    "cosh": lambda v: (iv.exp(v) + iv.exp(-v)) / 2,
    "atan": arctan,
    "erf": erf,
    "mpf": iv.mpf,
    "pi": iv.pi,
}


def interval_function(f: sp.Expr):
    """Return f as a function of one mpmath interval."""
    namespace = dict(_INTERVAL_FUNCTIONS)
    return sp.lambdify(x, plain(f), modules=[namespace, "mpmath"], cse=True)


def explain(page: Page, strip: Strip) -> None:
    """State the two inequalities that every certificate of a page uses."""
    h, a = strip.a / _RESOLUTION, strip.a
    page.say(
        rf"Let $f$ be analytic in the strip $\lvert\operatorname{{Im}} x\rvert \le a = {latex(a)}$,"
        r" with $\lvert f\rvert \le B(u)$ there, where $B$ is a polynomial of degree $m$ in "
        r"$u = \lvert\operatorname{Re} x\rvert$ with nonnegative coefficients. Let "
        r"$g(x) = e^{-x^2/2}/\sqrt{2\pi}$. The integral of $fg$ is replaced by a sum with step "
        rf"$h = {latex(h)}$, cut at $L = {_LENGTH}$. Two inequalities bound the error."
    )
    page.holds(
        r"\int_{-\infty}^{\infty} \left\lvert f(t+ib)\,g(t+ib)\right\rvert dt \le M = e^{a^2/2}\,"
        r"\mathbb{E}\left[B(\lvert z\rvert)\right] \ \Rightarrow\ "
        r"\left\lvert \int f g - h\sum_{k=-\infty}^{\infty} f(kh)\,g(kh) \right\rvert \le "
        r"\frac{2M}{e^{2\pi a/h}-1}",
        r"On the line $\operatorname{Im} x = b$, $\lvert b\rvert \le a$, "
        r"$\lvert g(t+ib)\rvert = e^{b^2/2} g(t)$. The moments are "
        r"$\mathbb{E}\lvert z\rvert^{2k} = (2k-1)!!$ and "
        r"$\mathbb{E}\lvert z\rvert^{2k+1} = 2^k k!\,\sqrt{2/\pi}$. The right side is the theorem "
        r"of Trefethen and Weideman on the trapezoidal rule in a strip.",
        is_zero(sp.expand(-((x + sp.I * y) ** 2) / 2) - (-(x**2) / 2 - sp.I * x * y + y**2 / 2)),
        check="real part of the exponent",
    )
    page.holds(
        r"h\sum_{kh>L} B(kh)\,g(kh) \le \int_L^\infty B(t)\,g(t)\,dt \le "
        r"\frac{B(L)\,g(L)}{L-m/L}",
        r"Beyond $L > \sqrt m$ the product falls, so the sum is below the integral. There "
        r"$B(t) \le B(L)\,(t/L)^m \le B(L)\,e^{m(t-L)/L}$, because $\log s \le s - 1$, and "
        r"$g(t) = g(L)\,e^{-(t-L)(t+L)/2} \le g(L)\,e^{-L(t-L)}$.",
        is_zero((t**2 - x**2) / 2 - (t - x) * (t + x) / 2),
        check="algebra of the exponent",
    )


def certify(page: Page, name: str, f: sp.Expr, strip: Strip):
    """Enclose E[f(z)], z ~ N(0, 1), and write the certificate on a page.

    Args:
        page: the page that gets the certificate.
        name: LaTeX of the expectation.
        f: the integrand, a function of x.
        strip: where f is analytic, with the bounds of its atoms.

    Returns:
        The lower and the upper bound.
    """
    a = strip.a
    iv.dps = _DPS
    bound = strip.majorant(f)
    page.step(
        rf"\left\lvert {latex(f)} \right\rvert \le B(u) = {latex(bound)}",
        "The triangle inequality, with the bounds above for the factors and $u + a$ for $x$.",
        lambda: _not_refuted(f, bound, a),
    )
    polynomial = sp.Poly(bound, u)
    absolute = sp.Add(*(c * _absolute_moment(n) for (n,), c in polynomial.terms()))
    big_m = _upper(sp.exp(a**2 / 2) * absolute)
    h = a / _RESOLUTION
    n = sp.ceiling(_LENGTH / h)
    cut = n * h
    error = _upper_interval(2 * iv.mpf(big_m) / (iv.exp(2 * iv.pi * _RESOLUTION) - 1))
    degree = polynomial.degree()
    require(cut**2 > 2 * degree, "the integrand does not fall beyond the cut.")
    end = iv.mpf(cut.p) / cut.q
    at_cut = iv.mpf(_upper(bound.subs(u, cut)))
    tail = _upper_interval(
        2 * at_cut * iv.exp(-end * end / 2) / iv.sqrt(2 * iv.pi) / (end - degree / end)
    )
    lower, upper = _sum(f, h, int(n), error + tail)

    page.step(
        rf"\left\lvert {name} - h\sum_{{k=-{n}}}^{{{n}}} f(kh)\,g(kh)\right\rvert \le "
        rf"\frac{{2M}}{{e^{{2\pi a/h}}-1}} + \frac{{2\,B(L)\,g(L)}}{{L-m/L}} "
        rf"\le {_scientific(error)} + {_scientific(tail)}",
        rf"Here $m = {degree}$ and $M = {_scientific(big_m)}$. In interval arithmetic, the sum and "
        rf"these bounds give {digits(lower, upper, 36)}",
        lambda: "interval arithmetic",
    )
    return lower, upper


def _not_refuted(f: sp.Expr, bound: sp.Expr, a: sp.Rational) -> str:
    """Try the inequality at points of the strip. This can refute it; the text proves it."""
    value = sp.lambdify(x, plain(f), "mpmath")
    limit = sp.lambdify(u, bound, "mpmath")
    points = [(i / 4, float(a) * j / 4) for i in range(-24, 25) for j in range(5)]
    for real, imaginary in points:
        modulus = abs(value(mpmath.mpc(real, imaginary)))
        # In double precision the sides may differ by rounding where the bound is attained.
        require(
            modulus <= limit(abs(real)) * (1 + 1e-12),
            f"|f({real} + {imaginary}i)| = {mpmath.nstr(modulus, 8)} exceeds the bound.",
        )
    return f"triangle inequality; tried at {len(points)} points of the strip"


def _absolute_moment(n: int) -> sp.Expr:
    """Return E|z|ⁿ = 2^{n/2} Γ((n+1)/2)/√π."""
    return 2 ** sp.Rational(n, 2) * sp.gamma(sp.Rational(n + 1, 2)) / sp.sqrt(sp.pi)


def _upper(expr: sp.Expr) -> Real:
    """Round a positive closed expression up to three digits."""
    with mpmath.workdps(_DPS):
        value = mpmath.mpf(str(sp.N(expr, 30)))
    return _round_up(value * (1 + mpmath.mpf(10) ** -20))


def _upper_interval(value) -> Real:
    return _round_up(mpmath.mpf(value.b))


def _round_up(value: Real) -> Real:
    with mpmath.workdps(_DPS):
        exponent = int(mpmath.floor(mpmath.log10(value)))
        return (
            mpmath.ceil(value / mpmath.mpf(10) ** (exponent - 2))
            * (mpmath.mpf(10) ** (exponent - 2))
            * (1 + mpmath.mpf(10) ** -40)
        )


def _scientific(value: Real) -> str:
    exponent = int(mpmath.floor(mpmath.log10(value)))
    mantissa = str(mpmath.nstr(value / mpmath.mpf(10) ** exponent, 3))
    return mantissa if exponent == 0 else rf"{mantissa}\cdot 10^{{{exponent}}}"


def _sum(f: sp.Expr, h: sp.Rational, n: int, margin: Real):
    """Enclose h Σ f(kh) g(kh), widened by the margin."""
    function = interval_function(f)
    step = iv.mpf(h.p) / h.q
    total = iv.mpf(0)
    for k in range(-n, n + 1):
        node = step * k
        total += function(node) * iv.exp(-node * node / 2)
    total = total * step / iv.sqrt(2 * iv.pi) + iv.mpf([-margin, margin])
    if not total.delta < mpmath.mpf(10) ** -32:
        raise UnprovenError(f"the enclosure is {mpmath.nstr(total.delta, 3)} wide, above 1e-32.")
    return mpmath.mpf(total.a), mpmath.mpf(total.b)
