"""GELU, x Φ(x): a closed form by Stein's lemma and the heat equation."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, Phi, g, phi, q, slope, x
from derivations.proof import algebra, following, stein


def write() -> Activation:
    page = Activation(
        "gelu",
        "GELU in closed form",
        ref.HENDRYCKS_2016,
        ref.STEIN_1981,
        formula=x * Phi(x),
        derivative=Phi(x) + x * g(x),
    )
    known = gaussian.normal_products(page)
    gg, xpg, pp = known["gg"], known["xpg"], known["pp"]

    page.section("Mean")
    bell = page.claim(
        E(g(x)),
        1 / sp.sqrt(2 * sp.pi * (1 + q)),
        r"$g = e^{-x^2/2}/\sqrt{2\pi}$: the Gaussian integral above with $t = 1/2$.",
        gaussian.bell_at(sp.S.Half, g(x)),
    )
    mean = (
        page.claim(E(phi(x)), E(x * Phi(x)), "The definition.")
        .then(q * E(g(x)), r"Stein's lemma with $f = \Phi$.", stein)
        .then(q / sp.sqrt(2 * sp.pi * (1 + q)), f"Insert {bell}.", following(bell))
        .box()
    )

    page.section("Second moment")
    second = (
        page.claim(E(phi(x) ** 2), E(x**2 * Phi(x) ** 2), "The definition.")
        .then(
            q * E(Phi(x) ** 2) + 2 * q * E(x * Phi(x) * g(x)),
            r"Stein's lemma with $f = x\,\Phi^2$, $f' = \Phi^2 + 2x\,\Phi g$.",
            stein,
        )
        .then(
            q / 4
            + q / (2 * sp.pi) * sp.asin(q / (1 + q))
            + q**2 / (sp.pi * (1 + q) * sp.sqrt(1 + 2 * q)),
            f"Insert {pp}, {xpg} and {gg}.",
            following(pp, xpg, gg),
        )
        .box()
    )

    page.section("Backward second moment")
    parts = page.claim(
        E(x**2 * g(x) ** 2),
        q * E(g(x) ** 2 - 2 * x**2 * g(x) ** 2),
        r"Stein's lemma with $f = x\,g^2$, $f' = g^2 - 2x^2 g^2$.",
        stein,
    )
    xxgg = page.claim(
        E(x**2 * g(x) ** 2),
        q / (1 + 2 * q) * E(g(x) ** 2),
        f"Solve {parts} for its left side.",
        following(parts),
    )
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E(Phi(x) ** 2) + 2 * E(x * Phi(x) * g(x)) + E(x**2 * g(x) ** 2),
            r"Square $\phi' = \Phi + x\,g$.",
            algebra,
        )
        .then(
            sp.Rational(1, 4)
            + sp.asin(q / (1 + q)) / (2 * sp.pi)
            + q / (sp.pi * (1 + q) * sp.sqrt(1 + 2 * q))
            + q / (2 * sp.pi * (1 + 2 * q) ** sp.Rational(3, 2)),
            f"Insert {pp}, {xpg}, {xxgg} and {gg}.",
            following(pp, xpg, xxgg, gg),
        )
        .box()
    )
    page.section("At $q = 1$")
    page.at_one(
        second, sp.Rational(1, 3) + 1 / (2 * sp.pi * sp.sqrt(3)), r"$\arcsin\tfrac12 = \pi/6$."
    ).box()
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
