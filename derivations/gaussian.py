"""Lemmas about the Gaussian that several pages use; each is proven on the page that uses it."""

import sympy as sp

from derivations.notation import E, Phi, g, latex, linear, plain, q, t, x
from derivations.page import Claim, Page
from derivations.proof import (
    Warrant,
    following,
    heat,
    moments,
    primitive,
    quadrature,
    require,
    require_zero,
    starting,
    stein,
    substitution,
)

s = sp.Symbol("s", positive=True)


def bell(page: Page) -> Claim:
    """Prove E[e^{-t x²}] = 1/√(1 + 2qt)."""
    width = sp.sqrt(1 + 2 * q * t)
    return page.claim(
        E(sp.exp(-t * x**2)),
        1 / width,
        r"$e^{-tx^2}p(x)$ is again a Gaussian bell, of variance $q/(1+2qt)$. A primitive is "
        r"$\Phi\left(x\sqrt{(1+2qt)/q}\right)/\sqrt{1+2qt}$.",
        primitive(Phi(x * width / sp.sqrt(q)) / width),
    )


def bell_at(value: sp.Expr, f: sp.Expr) -> Warrant:
    """Return the warrant for E[f] where f is a multiple of e^{-t x²}, by the formula of `bell`.

    Args:
        value: t.
        f: the integrand.
    """

    def warrant(lhs, rhs):
        factor = sp.simplify(plain(f) * sp.exp(value * x**2))
        require(not factor.has(x), "the integrand is not a multiple of the bell.")
        require_zero(linear(lhs - E(f)), "the integrand")
        require_zero(factor / sp.sqrt(1 + 2 * q * value) - rhs, "the Gaussian integral")
        return "Gaussian integral"

    return warrant


def tilt(page: Page) -> Claim:
    """Prove E[e^{sx}; x<0] = e^{s²q/2} Φ(-s√q)."""
    return page.claim(
        E(sp.exp(s * x), -sp.oo, 0),
        sp.exp(s**2 * q / 2) * Phi(-s * sp.sqrt(q)),
        r"Complete the square: $sx - x^2/2q = s^2q/2 - (x-sq)^2/2q$. A primitive of "
        r"$e^{sx}p(x)$ is $e^{s^2q/2}\,\Phi((x-sq)/\sqrt q)$.",
        primitive(sp.exp(s**2 * q / 2) * Phi((x - s * q) / sp.sqrt(q))),
    )


def half_lines(page: Page) -> list[Claim]:
    """Derive E[1; x<0], E[1; x>0], E[x; x>0] and E[x²; x>0]."""
    right = (0, sp.oo)
    return [
        page.claim(lhs, rhs, because, moments)
        for lhs, rhs, because in (
            (E(sp.S.One, -sp.oo, 0), sp.S.Half, "Half of the probability lies on each side."),
            (E(sp.S.One, *right), sp.S.Half, "The other half."),
            (
                E(x, *right),
                sp.sqrt(q / (2 * sp.pi)),
                r"$-q\,p(x)$ is a primitive of $x\,p(x)$, and $p(0) = 1/\sqrt{2\pi q}$.",
            ),
            (E(x**2, *right), q / 2, "Half of the variance lies on each side."),
        )
    ]


def oscillation(page: Page) -> Claim:
    """Prove E[cos(sx)] = e^{-s²q/2}."""
    rate = page.claim(
        sp.Derivative(E(sp.cos(s * x)), q),
        -(s**2) / 2 * E(sp.cos(s * x)),
        r"Heat equation of the Gaussian, $\frac{d}{dq}\mathbb{E}[f(x)] = "
        r"\tfrac12\mathbb{E}[f''(x)]$, with $f = \cos(sx)$, $f'' = -s^2 f$.",
        heat(sp.cos(s * x)),
    )
    result = sp.exp(-(s**2) * q / 2)
    return page.claim(
        E(sp.cos(s * x)),
        result,
        f"The solution of {rate} with the value $\\cos 0 = 1$ at $q = 0$.",
        starting(sp.S.One, rate=-(s**2) / 2 * result),
    )


def resolvent(page: Page, k: sp.Expr = sp.S.One) -> tuple[Claim, sp.Expr]:
    """Prove E[1/(x² + k)] = e^{k/2q} √(2π/(qk)) Φ(-√(k/q)); return the claim and its right side."""
    scale = sp.exp(k / (2 * q)) * sp.sqrt(2 * sp.pi / (q * k))
    value = scale * Phi(-sp.sqrt(k / q))
    integral = bell(page)
    density = sp.exp(-k * t) / sp.sqrt(1 + 2 * q * t)
    by_time = page.claim(
        E(1 / (x**2 + k)),
        sp.Integral(density, (t, 0, sp.oo)),
        rf"$\frac{{1}}{{x^2+{latex(k)}}} = \int_0^\infty e^{{-({latex(k)}+x^2)t}}\,dt$. The "
        rf"integrand is positive, so expectation and integral may be exchanged, and {integral} "
        "gives the inner expectation.",
        _laplace(k, integral),
    )
    F = -scale * Phi(-sp.sqrt(k * (1 + 2 * q * t) / q))
    return by_time.then(
        value,
        rf"Put $s = \sqrt{{{latex(k * (1 + 2 * q * t))}}}/\sqrt q$: the integrand becomes a "
        rf"multiple of $g(s)$, and a primitive is ${latex(F)}$.",
        primitive(F),
    ), value


def resolvent_powers(page: Page) -> dict[int, Claim]:
    """Derive E[(1+x²)^{-n}]: for n = 1 in closed form, for n = 2 and 3 from the powers below."""
    r = {n: E(1 / (1 + x**2) ** n) for n in (1, 2, 3)}
    one, _ = resolvent(page)
    parts = page.claim(
        E(x**2 / (1 + x**2)),
        q * (2 * r[2] - r[1]),
        r"Stein's lemma, $\mathbb{E}[x f] = q\,\mathbb{E}[f']$, with $f = x/(1+x^2)$: "
        r"$f' = (1-x^2)/(1+x^2)^2$, and $1 - x^2 = 2 - (1+x^2)$.",
        stein,
    )
    whole = page.claim(E(x**2 / (1 + x**2)), 1 - r[1], "$x^2 = (1+x^2) - 1$.")
    two = page.claim(
        r[2],
        (1 - (1 - q) * r[1]) / (2 * q),
        f"Equate {parts} and {whole}, and solve.",
        following(parts, whole),
    )
    parts3 = page.claim(
        E(x**2 / (1 + x**2) ** 2),
        q * (4 * r[3] - 3 * r[2]),
        r"Stein's lemma with $f = x/(1+x^2)^2$: $f' = (1-3x^2)/(1+x^2)^3$, and "
        r"$1 - 3x^2 = 4 - 3(1+x^2)$.",
        stein,
    )
    whole3 = page.claim(E(x**2 / (1 + x**2) ** 2), r[1] - r[2], "$x^2 = (1+x^2) - 1$.")
    three = page.claim(
        r[3],
        (r[1] - (1 - 3 * q) * r[2]) / (4 * q),
        f"Equate {parts3} and {whole3}, and solve.",
        following(parts3, whole3),
    )
    return {1: one, 2: two, 3: three}


def bessel(page: Page, k: int) -> Claim:
    """Derive E[√(x² + k²)] in modified Bessel functions."""
    v = sp.Symbol("v", positive=True)
    front = k**2 / sp.sqrt(2 * sp.pi * q)
    return (
        page.claim(
            E(sp.sqrt(x**2 + k**2)),
            2
            * front
            * sp.Integral(
                sp.cosh(t) ** 2 * sp.exp(-(k**2) * sp.sinh(t) ** 2 / (2 * q)), (t, 0, sp.oo)
            ),
            rf"The integrand is even. Put $x = {latex(k * sp.sinh(t))}$: the root becomes "
            rf"${latex(k * sp.cosh(t))}$, and $dx = {latex(k * sp.cosh(t))}\,dt$.",
            substitution(k * sp.sinh(t), t),
        )
        .then(
            front
            / 2
            * sp.exp(sp.Rational(k**2, 4) / q)
            * sp.Integral((1 + sp.cosh(v)) * sp.exp(-(k**2) * sp.cosh(v) / (4 * q)), (v, 0, sp.oo)),
            r"Put $v = 2t$: $\cosh^2 t = \tfrac12(\cosh v + 1)$ and "
            r"$\sinh^2 t = \tfrac12(\cosh v - 1)$.",
            substitution(v / 2, v),
        )
        .then(
            front
            / 2
            * sp.exp(sp.Rational(k**2, 4) / q)
            * (sp.besselk(0, k**2 / (4 * q)) + sp.besselk(1, k**2 / (4 * q))),
            r"The modified Bessel functions are "
            r"$K_\nu(z) = \int_0^\infty e^{-z\cosh v}\cosh(\nu v)\,dv$.",
            quadrature,
        )
    )


def _laplace(k: sp.Expr, integral: Claim) -> Warrant:
    """Return the warrant for E[1/(x²+k)] as the integral over t of e^{-kt} E[e^{-tx²}]."""

    def warrant(lhs, rhs):
        inner = sp.exp(-k * t) * integral.rhs
        time = sp.Symbol("s", positive=True)
        square = sp.Symbol("X", nonnegative=True)
        whole = sp.integrate(sp.exp(-(k + square) * time), (time, 0, sp.oo))
        require_zero(whole - 1 / (k + square), "the time integral")
        require_zero(inner - rhs.function, "the integrand")
        return "Laplace transform"

    return warrant


def normal_products(page: Page) -> dict[str, Claim]:
    """Derive E[g²], E[xΦg] and E[Φ²] for the standard normal density g and its integral Φ."""
    page.section("Products of $\\Phi$ and $g$")
    page.say(
        r"$g(x) = e^{-x^2/2}/\sqrt{2\pi}$ is the standard normal density and $\Phi$ its "
        r"distribution function: $\Phi' = g$ and $g' = -x\,g$. *Stein's lemma*, "
        r"$\mathbb{E}[x f(x)] = q\,\mathbb{E}[f'(x)]$, is integration by parts with "
        r"$x\,p = -q\,p'$."
    )
    integral = bell(page)
    gg = page.claim(
        E(g(x) ** 2),
        1 / (2 * sp.pi * sp.sqrt(1 + 2 * q)),
        rf"$g^2 = e^{{-x^2}}/2\pi$; equation {integral} with $t = 1$.",
        bell_at(sp.S.One, g(x) ** 2),
    )
    parts = page.claim(
        E(x * Phi(x) * g(x)),
        q * E(g(x) ** 2 - x * Phi(x) * g(x)),
        r"Stein's lemma with $f = \Phi g$, $f' = g^2 - x\,\Phi g$.",
        stein,
    )
    xpg = page.claim(
        E(x * Phi(x) * g(x)),
        q / (1 + q) * E(g(x) ** 2),
        f"Solve {parts} for its left side.",
        following(parts),
    )
    rate = 1 / (2 * sp.pi * (1 + q) * sp.sqrt(1 + 2 * q))
    grows = page.claim(
        sp.Derivative(E(Phi(x) ** 2), q),
        E(g(x) ** 2) - E(x * Phi(x) * g(x)),
        r"Heat equation of the Gaussian, $\frac{d}{dq}\mathbb{E}[f(x)] = "
        r"\tfrac12\mathbb{E}[f''(x)]$, with $f = \Phi^2$: $f' = 2\Phi g$, "
        r"$f'' = 2g^2 - 2x\,\Phi g$.",
        heat(Phi(x) ** 2),
    ).then(rate, f"Insert {xpg} and {gg}: $1 - q/(1+q) = 1/(1+q)$.", following(xpg, gg))
    pp = page.claim(
        E(Phi(x) ** 2),
        sp.Rational(1, 4) + sp.asin(q / (1 + q)) / (2 * sp.pi),
        rf"At $q = 0$ both sides are $\Phi(0)^2 = 1/4$. The derivative of the right side is "
        r"$\frac{1}{2\pi}\cdot\frac{1}{(1+q)^2}\big/\sqrt{1-q^2/(1+q)^2}$, and "
        rf"$(1+q)^2 - q^2 = 1+2q$. This is {grows}.",
        starting(sp.Rational(1, 4), rate=rate),
    )
    return {"gg": gg, "xpg": xpg, "pp": pp}
