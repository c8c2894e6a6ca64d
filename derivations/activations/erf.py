"""erf: its second moment is an arcsine, by the heat equation."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, t, x
from derivations.proof import following, heat, odd, starting, stein


def write() -> Activation:
    page = Activation(
        "erf",
        "The error function",
        ref.WILLIAMS_1997,
        formula=sp.erf(x),
        derivative=2 / sp.sqrt(sp.pi) * sp.exp(-(x**2)),
    )
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.S.Zero, r"$\phi$ is odd and the density even.", odd).box()
    page.section("Backward second moment")
    bell = gaussian.bell(page)
    two = bell.at({t: 2})
    backward = (
        page.claim(E(slope(x) ** 2), 4 / sp.pi * E(sp.exp(-2 * x**2)), "Square the derivative.")
        .then(4 / (sp.pi * sp.sqrt(1 + 4 * q)), f"{bell} with $t = 2$.", following(two))
        .box()
    )
    page.section("Second moment")
    w = sp.exp(-(x**2)) * sp.erf(x)
    parts = page.claim(
        E(x * w),
        q * E(2 / sp.sqrt(sp.pi) * sp.exp(-2 * x**2) - 2 * x * w),
        r"Stein's lemma, $\mathbb{E}[x f] = q\,\mathbb{E}[f']$, with "
        r"$f = e^{-x^2}\operatorname{erf} x$.",
        stein,
    )
    solved = page.claim(
        E(x * w),
        2 * q / (sp.sqrt(sp.pi) * (1 + 2 * q)) * E(sp.exp(-2 * x**2)),
        f"Solve {parts} for its left side.",
        following(parts),
    )
    rate = 4 / (sp.pi * (1 + 2 * q) * sp.sqrt(1 + 4 * q))
    grows = page.claim(
        sp.Derivative(E(sp.erf(x) ** 2), q),
        4 / sp.pi * E(sp.exp(-2 * x**2)) - 4 / sp.sqrt(sp.pi) * E(x * w),
        r"Heat equation of the Gaussian, $\frac{d}{dq}\mathbb{E}[f(x)] = "
        r"\tfrac12\mathbb{E}[f''(x)]$, with $f = \operatorname{erf}^2$.",
        heat(sp.erf(x) ** 2),
    ).then(
        rate,
        f"Insert {solved}, and {bell} with $t = 2$: $1 - 2q/(1+2q) = 1/(1+2q)$.",
        following(solved, two),
    )
    second = page.claim(
        E(phi(x) ** 2),
        2 / sp.pi * sp.asin(2 * q / (1 + 2 * q)),
        r"Both sides are 0 at $q = 0$. The derivative of the right side is "
        r"$\frac{2}{\pi}\cdot\frac{2}{(1+2q)^2}\big/\sqrt{1-4q^2/(1+2q)^2}$, and "
        rf"$(1+2q)^2 - 4q^2 = 1+4q$. This is {grows}.",
        starting(sp.S.Zero, rate=rate),
    ).box()
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
