"""The Gaussian bell e^{-x²}: three Gaussian integrals."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, t, x
from derivations.proof import algebra, following, stein


def write() -> Activation:
    page = Activation(
        "gaussian",
        "The bell",
        ref.BROOMHEAD_1988,
        formula=sp.exp(-(x**2)),
        derivative=-2 * x * sp.exp(-(x**2)),
    )
    page.section("The Gaussian integral")
    bell = gaussian.bell(page)
    page.section("Mean and second moment")
    mean = page.claim(
        E(phi(x)), 1 / sp.sqrt(1 + 2 * q), f"{bell} with $t = 1$.", following(bell.at({t: 1}))
    ).box()
    two = bell.at({t: 2})
    second = page.claim(
        E(phi(x) ** 2), 1 / sp.sqrt(1 + 4 * q), f"{bell} with $t = 2$.", following(two)
    ).box()
    page.section("Backward second moment")
    square = E(x**2 * sp.exp(-2 * x**2))
    parts = page.claim(
        square,
        q * E((1 - 4 * x**2) * sp.exp(-2 * x**2)),
        r"Stein's lemma, $\mathbb{E}[x f] = q\,\mathbb{E}[f']$, with $f = x\,e^{-2x^2}$.",
        stein,
    )
    solved = page.claim(
        square,
        q / (1 + 4 * q) * E(sp.exp(-2 * x**2)),
        f"Solve {parts} for its left side.",
        following(parts),
    )
    backward = (
        page.claim(E(slope(x) ** 2), 4 * square, r"$\phi'^2 = 4x^2e^{-2x^2}$.", algebra)
        .then(
            4 * q / (1 + 4 * q) ** sp.Rational(3, 2),
            f"Insert {solved} and {bell} with $t = 2$.",
            following(solved, two),
        )
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
