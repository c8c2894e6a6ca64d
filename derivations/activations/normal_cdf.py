"""Φ(x): the normal distribution function of a normal variable."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, Phi, g, phi, slope, x
from derivations.proof import following, symmetry


def write() -> Activation:
    page = Activation(
        "normal_cdf",
        "The normal distribution function",
        ref.OWEN_1980,
        formula=Phi(x),
        derivative=g(x),
    )
    known = gaussian.normal_products(page)
    page.section("Mean")
    mean = page.claim(
        E(phi(x)),
        sp.S.Half,
        r"$\Phi(x) + \Phi(-x) = 1$, and $x$ and $-x$ have the same distribution.",
        symmetry,
    ).box()
    page.section("Second moment")
    pp, gg = known["pp"], known["gg"]
    second = page.claim(E(phi(x) ** 2), pp.rhs, f"Equation {pp}.", following(pp)).box()
    page.at_one(second, sp.Rational(1, 3), r"$\arcsin\tfrac12 = \pi/6$.").box()
    page.section("Backward second moment")
    backward = page.claim(E(slope(x) ** 2), gg.rhs, f"Equation {gg}.", following(gg)).box()
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
