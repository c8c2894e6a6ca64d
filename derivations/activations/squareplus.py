"""Squareplus: x√(x²+4) is odd, so the second moment is (q+2)/2."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, odd, variance

root = sp.sqrt(x**2 + 4)


def write() -> Activation:
    page = Activation(
        "squareplus",
        "Squareplus",
        ref.BARRON_2021,
        ref.ABRAMOWITZ_1964,
        formula=(x + root) / 2,
        derivative=(1 + x / root) / 2,
    )
    page.section("Mean")
    length = gaussian.bessel(page, 2)
    mean = (
        page.claim(E(phi(x)), E(x) / 2 + E(root) / 2, "The definition.")
        .then(E(root) / 2, "$x$ is odd.", odd)
        .then(length.rhs / 2, f"Insert {length}.", following(length))
        .box()
    )
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            E(x**2) / 2 + 1 + E(x * root) / 2,
            r"Square: $\tfrac14(x^2 + 2x\sqrt{x^2+4} + x^2 + 4)$.",
        )
        .then(E(x**2) / 2 + 1, r"$x\sqrt{x^2+4}$ is odd.", odd)
        .then((q + 2) / 2, r"$\mathbb{E}[x^2] = q$.", variance)
        .box()
    )
    page.section("Backward second moment")
    one, value = gaussian.resolvent(page, sp.Integer(4))
    backward = (
        page.claim(
            E(slope(x) ** 2),
            sp.Rational(1, 4) + E(x / root) / 2 + E(x**2 / (x**2 + 4)) / 4,
            "Square the derivative.",
        )
        .then(sp.Rational(1, 4) + E(x**2 / (x**2 + 4)) / 4, r"$x/\sqrt{x^2+4}$ is odd.", odd)
        .then(sp.S.Half - one.lhs, "$x^2 = (x^2+4) - 4$.")
        .then(sp.S.Half - value, f"Insert {one}.", following(one))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
