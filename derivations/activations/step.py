"""Heaviside's step: its second moment is 1/2 for every variance."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo


def write() -> Activation:
    page = Activation(
        "step",
        "The step forgets the variance",
        ref.CHO_2009,
        pieces=[(0, -oo, 0), (1, 0, oo)],
    )
    pieces.two_half_lines(page, mean=sp.S.Half, second=sp.S.Half, backward=sp.S.Zero)
    page.say(pieces.JUMP_AT_0)
    return page
