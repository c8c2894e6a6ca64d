"""Soft thresholding at 1/2: the proximal map of the absolute value."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x

HALF = sp.S.Half


def write() -> Activation:
    page = Activation(
        "softshrink",
        "Soft thresholding",
        ref.DONOHO_1995,
        pieces=[(x + HALF, -oo, -HALF), (0, -HALF, HALF), (x - HALF, HALF, oo)],
    )
    outer = 2 * (1 - Phi(HALF / sp.sqrt(q)))
    pieces.truncated(
        page,
        mean=sp.S.Zero,
        second=(q + sp.Rational(1, 4)) * outer - q * p(HALF),
        backward=outer,
    )
    page.say(r"$2(1 - \Phi(1/(2\sqrt q)))$ is the probability of $\lvert x\rvert > \tfrac12$.")
    return page
