"""x/√(1+x²): Stein's lemma climbs the powers of 1/(1+x²)."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, slope, x
from derivations.proof import following, odd


def write() -> Activation:
    page = Activation(
        "isru",
        "The inverse square root unit",
        ref.CARLILE_2017,
        formula=x / sp.sqrt(1 + x**2),
        derivative=(1 + x**2) ** sp.Rational(-3, 2),
    )
    page.section("Powers of $1/(1+x^2)$")
    powers = gaussian.resolvent_powers(page)
    one, two, three = powers.values()
    page.section("Mean")
    mean = page.claim(E(phi(x)), sp.S.Zero, r"$\phi$ is odd and the density even.", odd).box()
    page.section("Second moment")
    second = (
        page.claim(E(phi(x) ** 2), 1 - one.lhs, r"$x^2/(1+x^2) = 1 - 1/(1+x^2)$.")
        .then(1 - one.rhs, f"Insert {one}.", following(one))
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(E(slope(x) ** 2), three.lhs, "The definition.")
        .then(
            three.rhs.subs(two.lhs, two.rhs),
            f"Insert {three}, and {two} into it.",
            following(three, two),
        )
        .then(
            three.rhs.subs(two.lhs, two.rhs).subs(one.lhs, one.rhs),
            f"Insert {one}.",
            following(one),
        )
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
