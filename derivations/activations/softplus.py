"""Softplus: its derivative is the logistic function."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, softplus, x
from derivations.trapezoid import Strip, u


def write() -> Activation:
    page = Activation(
        "softplus",
        "Softplus",
        ref.DUGAS_2001,
        ref.TREFETHEN_2014,
        formula=softplus(x),
        derivative=sigma(x),
    )
    page.say(r"$s(x) = \log(1 + e^x)$.")
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    analytic.softplus_bound(page)
    strip = Strip(analytic.A, {softplus(x): u + analytic.A + sp.log(2), sigma(x): sp.S.One})
    analytic.derive(page, strip, growth=1)
    page.say(
        "The backward second moment is the forward second moment of the "
        "[logistic function](sigmoid.md)."
    )
    return page
