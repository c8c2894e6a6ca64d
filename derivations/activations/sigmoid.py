"""The logistic function: σ(x) - 1/2 is odd, so the mean is 1/2 for every q."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import E, phi, sigma, x
from derivations.proof import symmetry
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "sigmoid",
        "The logistic function",
        ref.GLOROT_2010,
        ref.TREFETHEN_2014,
        formula=sigma(x),
        derivative=sigma(x) * (1 - sigma(x)),
    )
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    page.section("Mean")
    mean = page.claim(
        E(phi(x)),
        sp.S.Half,
        r"$\sigma(x) + \sigma(-x) = 1$, and $x$ and $-x$ have the same distribution.",
        symmetry,
    ).box()
    strip = Strip(analytic.A, {sigma(x): sp.S.One})
    analytic.derive(page, strip, growth=0, closed={"mean": mean})
    return page
