"""tanh: no closed form, so parity, limits and a certificate from a strip of the complex plane."""

import sympy as sp

from derivations import analytic
from derivations.activation import Activation
from derivations.notation import x
from derivations.trapezoid import REFERENCE, Strip


def write() -> Activation:
    page = Activation(
        "tanh",
        "tanh, to thirty digits",
        "X. Glorot, Y. Bengio (2010). Understanding the difficulty of training deep feedforward "
        "neural networks. AISTATS.",
        REFERENCE,
        formula=sp.tanh(x),
        derivative=1 - sp.tanh(x) ** 2,
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    analytic.derive(page, Strip(analytic.A, {sp.tanh(x): sp.S.One}), growth=0)
    return page
