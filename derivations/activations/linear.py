"""The identity: every gain is 1."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import q, x


def write() -> Activation:
    page = Activation(
        "linear",
        "The linear layer",
        ref.GLOROT_2010,
        formula=x,
    )
    pieces.whole_line(page, mean=sp.S.Zero, second=q, backward=sp.S.One)
    return page
