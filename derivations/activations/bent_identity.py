"""The bent identity: Bessel functions from √(1+x²)."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, q, slope, x
from derivations.proof import following, odd, variance

root = sp.sqrt(x**2 + 1)


def write() -> Activation:
    page = Activation(
        "bent_identity",
        "The bent identity",
        ref.ABRAMOWITZ_1964,
        formula=(root - 1) / 2 + x,
        derivative=1 + x / (2 * root),
    )
    page.section("Mean")
    length = gaussian.bessel(page, 1)
    mean = (
        page.claim(E(phi(x)), E(x) + (E(root) - 1) / 2, "The definition.")
        .then((E(root) - 1) / 2, "$x$ is odd.", odd)
        .then((length.rhs - 1) / 2, f"Insert {length}.", following(length))
        .box()
    )
    page.section("Second moment")
    second = (
        page.claim(
            E(phi(x) ** 2),
            sp.Rational(5, 4) * E(x**2) + sp.S.Half - E(root) / 2 + E(x * root) - E(x),
            r"Square: $\tfrac14(x^2 + 2 - 2\sqrt{x^2+1}) + x(\sqrt{x^2+1} - 1) + x^2$.",
        )
        .then(
            sp.Rational(5, 4) * E(x**2) + sp.S.Half - E(root) / 2,
            r"$x\sqrt{x^2+1}$ and $x$ are odd.",
            odd,
        )
        .then(sp.Rational(5, 4) * q + sp.S.Half - E(root) / 2, r"$\mathbb{E}[x^2] = q$.", variance)
        .then(
            sp.Rational(5, 4) * q + sp.S.Half - length.rhs / 2,
            f"Insert {length}.",
            following(length),
        )
        .box()
    )
    page.section("Backward second moment")
    one, value = gaussian.resolvent(page)
    backward = (
        page.claim(
            E(slope(x) ** 2),
            1 + E(x / root) + E(x**2 / (x**2 + 1)) / 4,
            "Square the derivative.",
        )
        .then(1 + E(x**2 / (x**2 + 1)) / 4, r"$x/\sqrt{x^2+1}$ is odd.", odd)
        .then(sp.Rational(5, 4) - one.lhs / 4, "$x^2 = (x^2+1) - 1$.")
        .then(sp.Rational(5, 4) - value / 4, f"Insert {one}.", following(one))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
