"""Lemmas about the Gaussian that several pages use, each proven on the page that uses it."""

import sympy as sp

from derivations.notation import E, Phi, g, linear, plain, q, t, x
from derivations.page import Claim, Page
from derivations.proof import (
    Warrant,
    following,
    heat,
    moments,
    primitive,
    require,
    require_zero,
    starting,
    stein,
)

s = sp.Symbol("s", positive=True)


def bell(page: Page) -> Claim:
    """E[e^{-t x²}] = 1/√(1 + 2qt)."""
    width = sp.sqrt(1 + 2 * q * t)
    return page.claim(
        E(sp.exp(-t * x**2)),
        1 / width,
        r"$e^{-tx^2}p(x)$ is again a Gaussian bell, of variance $q/(1+2qt)$; a primitive is "
        r"$\Phi\left(x\sqrt{(1+2qt)/q}\right)/\sqrt{1+2qt}$.",
        primitive(Phi(x * width / sp.sqrt(q)) / width),
    )


def bell_at(value: sp.Expr, f: sp.Expr) -> Warrant:
    """f is a multiple of e^{-t x²} at the given t, and the claim is that multiple of the bell."""

    def warrant(lhs, rhs):
        factor = sp.simplify(plain(f) * sp.exp(value * x**2))
        require(not factor.has(x), "the integrand is no multiple of the bell")
        require_zero(linear(lhs - E(f)), "the integrand")
        require_zero(factor / sp.sqrt(1 + 2 * q * value) - rhs, "the Gaussian integral")
        return "Gaussian integral"

    return warrant


def tilt(page: Page) -> Claim:
    """E[e^{sx}; x<0] = e^{s²q/2} Φ(-s√q)."""
    return page.claim(
        E(sp.exp(s * x), -sp.oo, 0),
        sp.exp(s**2 * q / 2) * Phi(-s * sp.sqrt(q)),
        r"Complete the square: $sx - x^2/2q = s^2q/2 - (x-sq)^2/2q$. A primitive of "
        r"$e^{sx}p(x)$ is $e^{s^2q/2}\,\Phi((x-sq)/\sqrt q)$.",
        primitive(sp.exp(s**2 * q / 2) * Phi((x - s * q) / sp.sqrt(q))),
    )


def half_lines(page: Page, *powers: int) -> list[Claim]:
    """E[xⁿ; x>0], and for n = 0 also E[1; x<0]."""
    reasons = {
        0: "Half of the probability lies on each side.",
        1: r"$-q\,p(x)$ is a primitive of $x\,p(x)$, and $p(0) = 1/\sqrt{2\pi q}$.",
        2: "Half of the variance lies on each side.",
    }
    values = {0: sp.S.Half, 1: sp.sqrt(q / (2 * sp.pi)), 2: q / 2}
    return [
        page.claim(
            E(sp.S.One, -sp.oo, 0) if n == 0 else E(x**n, 0, sp.oo), values[n], reasons[n], moments
        )
        for n in powers
    ]


def normal_products(page: Page) -> dict[str, Claim]:
    """E[g²], E[xΦg], E[Φ²], for the standard normal density g and distribution function Φ."""
    page.section("Products of $\\Phi$ and $g$")
    page.say(
        r"$g(x) = e^{-x^2/2}/\sqrt{2\pi}$ is the standard normal density and $\Phi$ its "
        r"distribution function: $\Phi' = g$ and $g' = -x\,g$. *Stein's lemma*,"
        r" $\mathbb{E}[x f(x)] = q\,\mathbb{E}[f'(x)]$, is integration by parts with "
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
        rf"$(1+q)^2 - q^2 = 1+2q$: it is {grows}.",
        starting(sp.Rational(1, 4), rate=rate),
    )
    return {"gg": gg, "xpg": xpg, "pp": pp}
