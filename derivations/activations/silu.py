"""SiLU (swish), x σ(x): its moments by certificates."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, x
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "silu",
        "SiLU",
        ref.ELFWING_2018,
        ref.RAMACHANDRAN_2017,
        ref.TREFETHEN_2014,
        formula=x * sigma(x),
        derivative=sigma(x) + x * sigma(x) * (1 - sigma(x)),
    )
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    analytic.derive(page, Strip(analytic.A, {sigma(x): sp.S.One}), growth=1)
    return page
