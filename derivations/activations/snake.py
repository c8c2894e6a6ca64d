"""Snake: the identity plus a periodic part."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, moments, odd, trigonometry

a = sp.Symbol("a", positive=True)


def write() -> Activation:
    page = Activation(
        "snake",
        "Snake",
        ref.ZIYIN_2020,
        formula=x + sp.sin(a * x) ** 2 / a,
        derivative=1 + 2 * sp.sin(a * x) * sp.cos(a * x),
        at={a: sp.S.One},
    )
    page.section("Oscillating integrals")
    wave = gaussian.oscillation(page)
    two, four = wave.at({gaussian.s: 2 * a}), wave.at({gaussian.s: 4 * a})
    page.section("Mean")
    mean = (
        page.claim(
            E(phi(x)),
            E(x) + (1 - E(sp.cos(2 * a * x))) / (2 * a),
            r"$\sin^2 ax = \tfrac12(1 - \cos 2ax)$.",
            trigonometry,
        )
        .then((1 - E(sp.cos(2 * a * x))) / (2 * a), "$x$ is odd.", odd)
        .then((1 - sp.exp(-2 * a**2 * q)) / (2 * a), f"{wave} with $s = 2a$.", following(two))
        .box()
    )
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            E(x**2) + 2 * E(x * sp.sin(a * x) ** 2) / a + E(sp.sin(a * x) ** 4) / a**2,
            "Square the sum.",
        )
        .then(
            E(x**2) + E(sp.sin(a * x) ** 4) / a**2,
            r"$x \sin^2 ax$ is odd.",
            odd,
        )
        .then(
            E(x**2) + (3 - 4 * E(sp.cos(2 * a * x)) + E(sp.cos(4 * a * x))) / (8 * a**2),
            r"$\sin^4 w = \tfrac14(1-\cos 2w)^2$, and $\cos^2 2w = \tfrac12(1+\cos 4w)$.",
            trigonometry,
        )
        .then(
            E(x**2) + (3 - 4 * sp.exp(-2 * a**2 * q) + sp.exp(-8 * a**2 * q)) / (8 * a**2),
            f"{wave} with $s = 2a$ and $s = 4a$.",
            following(two, four),
        )
        .then(
            q + (3 - 4 * sp.exp(-2 * a**2 * q) + sp.exp(-8 * a**2 * q)) / (8 * a**2),
            r"$\mathbb{E}[x^2] = q$.",
            moments,
        )
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            1 + 2 * E(sp.sin(2 * a * x)) + (1 - E(sp.cos(4 * a * x))) / 2,
            r"Square $\phi' = 1 + \sin 2ax$, and use $\sin^2 w = \tfrac12(1 - \cos 2w)$.",
            trigonometry,
        )
        .then(sp.Rational(3, 2) - E(sp.cos(4 * a * x)) / 2, r"$\sin$ is odd.", odd)
        .then((3 - sp.exp(-8 * a**2 * q)) / 2, f"{wave} with $s = 4a$.", following(four))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
