"""The cosine: the sine's second moments, exchanged."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, trigonometry


def write() -> Activation:
    page = Activation(
        "cos",
        "The cosine",
        ref.RAHIMI_2007,
        formula=sp.cos(x),
        derivative=-sp.sin(x),
    )
    page.section("Oscillating integrals")
    wave = gaussian.oscillation(page)
    one, two = wave.at({gaussian.s: 1}), wave.at({gaussian.s: 2})
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.exp(-q / 2), f"{wave} with $s = 1$.", following(one)).box()
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            sp.S.Half + E(sp.cos(2 * x)) / 2,
            r"$\cos^2 x = \tfrac12(1 + \cos 2x)$.",
            trigonometry,
        )
        .then((1 + sp.exp(-2 * q)) / 2, f"{wave} with $s = 2$.", following(two))
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            sp.S.Half - E(sp.cos(2 * x)) / 2,
            r"$\sin^2 x = \tfrac12(1 - \cos 2x)$.",
            trigonometry,
        )
        .then((1 - sp.exp(-2 * q)) / 2, f"{wave} with $s = 2$.", following(two))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
