"""Hard thresholding at 1/2: keep what is large, drop the rest."""

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
        r"The derivative above is the one almost everywhere, which is what automatic "
        r"differentiation returns. The jumps at $\pm\tfrac12$ are not in it; they give the C-map "
        r"an infinite slope at $c = 1$."
    )
    return page
