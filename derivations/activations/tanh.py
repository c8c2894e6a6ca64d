"""tanh: without a closed form, its moments come from parity, limits and certificates."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import x
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "tanh",
        "tanh, to thirty digits",
        ref.GLOROT_2010,
        ref.TREFETHEN_2014,
        formula=sp.tanh(x),
        derivative=1 - sp.tanh(x) ** 2,
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    analytic.derive(page, Strip(analytic.A, {sp.tanh(x): sp.S.One}), growth=0)
    return page
