"""GELU's critical point, from a quadratic equation."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.notation import E, Phi, g, q, x
from derivations.page import Page
from derivations.proof import following, heat, require_zero, stein

SECOND = (
    q / 4 + q / (2 * sp.pi) * sp.asin(q / (1 + q)) + q**2 / (sp.pi * (1 + q) * sp.sqrt(1 + 2 * q))
)
BACKWARD = (
    sp.Rational(1, 4)
    + sp.asin(q / (1 + q)) / (2 * sp.pi)
    + q / (sp.pi * (1 + q) * sp.sqrt(1 + 2 * q))
    + q / (2 * sp.pi * (1 + 2 * q) ** sp.Rational(3, 2))
)


def write() -> Page:
    page = Page("gelu_criticality", "GELU's critical point", ref.ROBERTS_2022, ref.HENDRYCKS_2016)
    page.say(
        r"A signal can change in two directions. A small change along the signal changes $q$; a "
        r"layer multiplies it by $\chi_\parallel = \sigma_w^2\frac{d}{dq}\mathbb{E}[\phi^2]$. A "
        r"small change across the signal changes the correlation; a layer multiplies it by "
        r"$\chi_\perp = \sigma_w^2\,\mathbb{E}[\phi'^2]$ ([edge of chaos](edge_of_chaos.md)). At a "
        r"critical point both are 1. Here $\phi = x\,\Phi(x)$; its moments are on the page "
        "[gelu](gelu.md)."
    )
    f = x * Phi(x)
    df, ddf = Phi(x) + x * g(x), (2 - x**2) * g(x)
    known = gaussian.normal_products(page)
    gg, xpg = known["gg"], known["xpg"]
    page.section("The condition")
    page.claim(sp.Derivative(df, x), ddf, r"$\phi' = \Phi + xg$ and $g' = -xg$.")
    grows = page.claim(
        sp.Derivative(E(f**2), q),
        E(df**2) + E(f * ddf),
        r"The heat equation of the Gaussian with $f = \phi^2$: $\tfrac12(\phi^2)'' = \phi'^2 + "
        r"\phi\phi''$.",
        heat(f**2),
    )
    page.say(
        rf"By {grows}, $\chi_\parallel - \chi_\perp = \sigma_w^2\,\mathbb{{E}}[\phi\phi'']$. So "
        r"both can be 1 only where $\mathbb{E}[\phi\phi''] = 0$, whatever $\sigma_w$ is."
    )
    page.section("The equation for $q$")
    xxgg_parts = page.claim(
        E(x**2 * g(x) ** 2),
        q * E(g(x) ** 2 - 2 * x**2 * g(x) ** 2),
        r"Stein's lemma with $f = x\,g^2$.",
        stein,
    )
    xxgg = page.claim(
        E(x**2 * g(x) ** 2),
        q / (1 + 2 * q) * E(g(x) ** 2),
        f"Solve {xxgg_parts}.",
        following(xxgg_parts),
    )
    cubic_parts = page.claim(
        E(x**3 * Phi(x) * g(x)),
        q * E(2 * x * Phi(x) * g(x) + x**2 * g(x) ** 2 - x**3 * Phi(x) * g(x)),
        r"Stein's lemma with $f = x^2\Phi g$.",
        stein,
    )
    cubic = page.claim(
        E(x**3 * Phi(x) * g(x)),
        q / (1 + q) * (2 * q / (1 + q) + q / (1 + 2 * q)) * E(g(x) ** 2),
        f"Solve {cubic_parts} and insert {xpg} and {xxgg}.",
        following(cubic_parts, xpg, xxgg),
    )
    final = page.claim(
        E(f * ddf),
        -q * (q**2 - 3 * q - 2) / ((1 + q) ** 2 * (1 + 2 * q)) * E(g(x) ** 2),
        rf"$\phi\phi'' = 2x\,\Phi g - x^3\Phi g$. Insert {xpg} and {cubic}. Over the common "
        r"denominator, $2(1+q)(1+2q) - 2q(1+2q) - q(1+q) = 2 + 3q - q^2$.",
        following(xpg, cubic),
    )
    star = (3 + sp.sqrt(17)) / 2

    def root() -> str:
        require_zero(sp.expand(star**2 - 3 * star - 2), "the root")
        return "insertion into the quadratic"

    page.step(
        r"\boxed{q^* = \frac{3 + \sqrt{17}}{2}}",
        rf"This is the only positive root of $q^2 - 3q - 2$ in {final}, and {gg} is positive.",
        root,
    )
    page.section("The variances")
    weight, bias = 1 / BACKWARD.subs(q, star), star - (SECOND / BACKWARD).subs(q, star)

    def critical() -> str:
        require_zero(sp.diff(SECOND, q) - BACKWARD - final.rhs.subs(gg.lhs, gg.rhs), "the moments")
        return "against the closed forms of the page gelu"

    page.step(
        r"\boxed{\sigma_w^2 = \frac{1}{\mathbb{E}[\phi'^2]}, \qquad \sigma_b^2 = q^* - "
        r"\sigma_w^2\,\mathbb{E}[\phi^2] \qquad\text{at } q = q^*}",
        r"$\chi_\perp = 1$ gives $\sigma_w^2$. The fixed point $q^*$ then gives $\sigma_b^2$.",
        critical,
    )
    page.section("Numbers")
    page.table(
        ("quantity", "value"),
        page.value("$q^*$", star),
        page.value(r"$\sigma_w^2$", weight),
        page.value(r"$\sigma_b^2$", bias),
    )
    return page
