"""x cos x: Stein's lemma takes the powers of x out of the oscillation."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, moments, odd, stein, trigonometry


def write() -> Activation:
    page = Activation(
        "x_cos",
        "x cos x",
        ref.NOEL_2021,
        formula=x * sp.cos(x),
        derivative=sp.cos(x) - x * sp.sin(x),
    )
    page.section("Oscillating integrals")
    wave = gaussian.oscillation(page)
    two = wave.at({gaussian.s: 2})
    odd_part = page.claim(
        E(x * sp.sin(2 * x)),
        2 * q * E(sp.cos(2 * x)),
        r"Stein's lemma, $\mathbb{E}[x f] = q\,\mathbb{E}[f']$, with $f = \sin 2x$.",
        stein,
    )
    even_part = page.claim(
        E(x**2 * sp.cos(2 * x)),
        q * E(sp.cos(2 * x) - 2 * x * sp.sin(2 * x)),
        r"Stein's lemma with $f = x\cos 2x$.",
        stein,
    ).then(q * (1 - 4 * q) * E(sp.cos(2 * x)), f"Insert {odd_part}.", following(odd_part))
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.S.Zero, r"$\phi$ is odd and the density even.", odd).box()
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            E(x**2) / 2 + E(x**2 * sp.cos(2 * x)) / 2,
            r"$\cos^2 x = \tfrac12(1 + \cos 2x)$.",
            trigonometry,
        )
        .then(
            E(x**2) / 2 + q * (1 - 4 * q) * sp.exp(-2 * q) / 2,
            f"Insert {even_part}, and {wave} with $s = 2$.",
            following(even_part, two),
        )
        .then(q / 2 + q * (1 - 4 * q) * sp.exp(-2 * q) / 2, r"$\mathbb{E}[x^2] = q$.", moments)
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E(sp.cos(x) ** 2) - E(x * sp.sin(2 * x)) + E(x**2 * sp.sin(x) ** 2),
            r"Square $\phi' = \cos x - x\sin x$; $2\sin x\cos x = \sin 2x$.",
            trigonometry,
        )
        .then(
            sp.S.Half
            + E(sp.cos(2 * x)) / 2
            - E(x * sp.sin(2 * x))
            + E(x**2) / 2
            - E(x**2 * sp.cos(2 * x)) / 2,
            r"$\cos^2 x = \tfrac12(1 + \cos 2x)$ and $\sin^2 x = \tfrac12(1 - \cos 2x)$.",
            trigonometry,
        )
        .then(
            sp.S.Half + E(x**2) / 2 + (1 - 5 * q + 4 * q**2) * sp.exp(-2 * q) / 2,
            f"Insert {odd_part}, {even_part}, and {wave} with $s = 2$: "
            r"$\tfrac12 - 2q - \tfrac12 q(1-4q)$ times $e^{-2q}$.",
            following(even_part, odd_part, two),
        )
        .then(
            (1 + q + (1 - 5 * q + 4 * q**2) * sp.exp(-2 * q)) / 2,
            r"$\mathbb{E}[x^2] = q$.",
            moments,
        )
        .box()
    )
    page.section("At $q = 1$")
    page.at_one(backward, sp.S.One, "$1 - 5 + 4 = 0$: the exponential drops out.").box()
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
