"""The sign: its second moment is 1 for every variance."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo


def write() -> Activation:
    page = Activation(
        "sign",
        "The sign forgets the variance",
        ref.CHO_2009,
        pieces=[(-1, -oo, 0), (1, 0, oo)],
    )
    pieces.two_half_lines(page, mean=sp.S.Zero, second=sp.S.One, backward=sp.S.Zero)
    page.say(pieces.JUMP_AT_0)
    return page
