"""|x|: it keeps the whole second moment."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x


def write() -> Activation:
    page = Activation(
        "abs",
        "The absolute value keeps the whole second moment",
        ref.BRADSHAW_2017,
        pieces=[(-x, -oo, 0), (x, 0, oo)],
    )
    pieces.two_half_lines(page, mean=sp.sqrt(2 * q / sp.pi), second=q, backward=sp.S.One)
    return page
