"""ISRLU: x/√(1+x²) left of 0, the identity right of 0."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, Phi, oo, phi, q, slope, x
from derivations.proof import even, following, mirror, moments, primitive, variance


def write() -> Activation:
    page = Activation(
        "isrlu",
        "The inverse square root linear unit",
        ref.CARLILE_2017,
        pieces=[(x / sp.sqrt(1 + x**2), -oo, 0), (x, 0, oo)],
    )
    page.section("Powers of $1/(1+x^2)$")
    powers = gaussian.resolvent_powers(page)
    one, two, three = powers.values()
    page.section("Mean")
    value = sp.exp(1 / (2 * q)) * Phi(-1 / sp.sqrt(q))
    left = page.claim(
        E(x / sp.sqrt(1 + x**2), 0, oo),
        value,
        r"With $w = \sqrt{1+x^2}$, $w\,dw = x\,dx$ and $e^{-x^2/2q} = e^{1/2q}e^{-w^2/2q}$. A "
        r"primitive is $e^{1/2q}\,\Phi(w/\sqrt q)$.",
        primitive(sp.exp(1 / (2 * q)) * Phi(sp.sqrt((1 + x**2) / q))),
    )
    right = page.claim(
        E(x, 0, oo),
        sp.sqrt(q / (2 * sp.pi)),
        r"$-q\,p(x)$ is a primitive of $x\,p(x)$.",
        moments,
    )
    mean = (
        page.cut(E(phi(x)), "The definition, on each half line.")
        .then(right.lhs - left.lhs, "Reflect the left half line onto the right.", mirror)
        .then(right.rhs - left.rhs, f"Insert {right} and {left}.", following(right, left))
        .box()
    )
    page.section("Second moment")
    second = (
        page.cut(E(phi(x) ** 2), "The definition, on each half line.")
        .then(
            E(x**2) / 2 + E(x**2 / (1 + x**2)) / 2,
            "Both integrands are even: half of the expectation over the line each.",
            even,
        )
        .then(q / 2 + E(x**2 / (1 + x**2)) / 2, r"$\mathbb{E}[x^2] = q$.", variance)
        .then((q + 1 - one.lhs) / 2, "$x^2 = (1+x^2) - 1$.")
        .then((q + 1 - one.rhs) / 2, f"Insert {one}.", following(one))
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E(sp.S.One, 0, oo) + E((1 + x**2) ** -3, -oo, 0),
            r"On the left $\phi' = (1+x^2)^{-3/2}$.",
            page.split,
        )
        .then(
            (1 + three.lhs) / 2,
            "Both integrands are even: half of the expectation over the line each.",
            even,
        )
        .then(
            (1 + three.rhs.subs(two.lhs, two.rhs)) / 2,
            f"Insert {three}, and {two} into it.",
            following(three, two),
        )
        .then(
            (1 + three.rhs.subs(two.lhs, two.rhs).subs(one.lhs, one.rhs)) / 2,
            f"Insert {one}.",
            following(one),
        )
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
