"""The sine: its moments by the characteristic function of a Gaussian."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, odd, trigonometry


def write() -> Activation:
    page = Activation(
        "sin",
        "The sine",
        ref.SITZMANN_2020,
        formula=sp.sin(x),
        derivative=sp.cos(x),
    )
    page.section("Oscillating integrals")
    wave = gaussian.oscillation(page)
    two = wave.at({gaussian.s: 2})
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.S.Zero, r"$\sin$ is odd and the density even.", odd).box()
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            sp.S.Half - E(sp.cos(2 * x)) / 2,
            r"$\sin^2 x = \tfrac12(1 - \cos 2x)$.",
            trigonometry,
        )
        .then((1 - sp.exp(-2 * q)) / 2, f"{wave} with $s = 2$.", following(two))
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            sp.S.Half + E(sp.cos(2 * x)) / 2,
            r"$\cos^2 x = \tfrac12(1 + \cos 2x)$.",
            trigonometry,
        )
        .then((1 + sp.exp(-2 * q)) / 2, f"{wave} with $s = 2$.", following(two))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    page.say(
        r"The two second moments add up to 1, because $\sin^2 + \cos^2 = 1$. For large $q$ both "
        r"tend to $\tfrac12$: the phase becomes uniform."
    )
    return page
