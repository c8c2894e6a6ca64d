"""LiSHT: x tanh x, an even function."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import x
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "lisht",
        "LiSHT",
        ref.ROY_2019,
        ref.TREFETHEN_2014,
        formula=x * sp.tanh(x),
        derivative=sp.tanh(x) + x * (1 - sp.tanh(x) ** 2),
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    analytic.derive(page, Strip(analytic.A, {sp.tanh(x): sp.S.One}), growth=1)
    return page
