"""x - tanh x: it is cubic at the origin, so small signals die out."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import x
from derivations.trapezoid import Strip


def write() -> Activation:
    page = Activation(
        "tanhshrink",
        "Tanhshrink",
        ref.DONOHO_1995,
        ref.TREFETHEN_2014,
        formula=x - sp.tanh(x),
        derivative=sp.tanh(x) ** 2,
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    analytic.derive(page, Strip(analytic.A, {sp.tanh(x): sp.S.One}), growth=1)
    page.say(
        r"$\phi'(0) = 0$, so the second moment is of third order in $q$ near 0. A signal that is "
        "too small dies out, even if the weights keep $q = 1$."
    )
    return page
