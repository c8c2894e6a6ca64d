"""Hard thresholding at 1/2: keep large values, drop the others."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x

HALF = sp.S.Half


def write() -> Activation:
    page = Activation(
        "hardshrink",
        "Hard thresholding",
        ref.DONOHO_1994,
        pieces=[(x, -oo, -HALF), (0, -HALF, HALF), (x, HALF, oo)],
    )
    outer = 2 * (1 - Phi(HALF / sp.sqrt(q)))
    pieces.truncated(page, mean=sp.S.Zero, second=q * outer + q * p(HALF), backward=outer)
    page.say(
        r"The derivative above holds almost everywhere; automatic differentiation returns it. It "
        r"leaves out the jumps at $\pm\tfrac12$, which give the C-map an infinite slope at "
        r"$c = 1$."
    )
    return page
