"""x e^{-x²}: Stein's lemma lowers the powers in front of the bell."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, t, x
from derivations.proof import algebra, following, odd, stein


def write() -> Activation:
    page = Activation(
        "x_gaussian",
        "x times the bell",
        ref.STEIN_1981,
        formula=x * sp.exp(-(x**2)),
        derivative=(1 - 2 * x**2) * sp.exp(-(x**2)),
    )
    page.section("Powers in front of the bell")
    bell = gaussian.bell(page)
    two = bell.at({t: 2})
    weight = sp.exp(-2 * x**2)
    square, fourth = E(x**2 * weight), E(x**4 * weight)
    parts2 = page.claim(
        square,
        q * E((1 - 4 * x**2) * weight),
        r"Stein's lemma, $\mathbb{E}[x f] = q\,\mathbb{E}[f']$, with $f = x\,e^{-2x^2}$.",
        stein,
    )
    solved2 = page.claim(
        square,
        q / (1 + 4 * q) * E(weight),
        f"Solve {parts2} for its left side.",
        following(parts2),
    )
    parts4 = page.claim(
        fourth,
        q * E((3 * x**2 - 4 * x**4) * weight),
        r"Stein's lemma with $f = x^3e^{-2x^2}$.",
        stein,
    )
    solved4 = page.claim(
        fourth,
        3 * q / (1 + 4 * q) * square,
        f"Solve {parts4} for its left side.",
        following(parts4),
    )
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.S.Zero, r"$\phi$ is odd and the density even.", odd).box()
    page.section("Second moment")
    second = (
        page.claim(E(phi(x) ** 2), square, "The definition.", algebra)
        .then(
            q / (1 + 4 * q) ** sp.Rational(3, 2),
            f"{solved2}, and {bell} with $t = 2$.",
            following(solved2, two),
        )
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E(weight) - 4 * square + 4 * fourth,
            r"Square $\phi' = (1-2x^2)e^{-x^2}$.",
            algebra,
        )
        .then(
            (1 + 4 * q + 12 * q**2) / (1 + 4 * q) ** sp.Rational(5, 2),
            f"Insert {solved4}, {solved2} and {bell} with $t = 2$; over the common denominator "
            "the numerator is $(1+4q)^2 - 4q(1+4q) + 12q^2$.",
            following(solved4, solved2, two),
        )
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
