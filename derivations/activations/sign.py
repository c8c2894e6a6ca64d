"""The sign: second moment 1 whatever the variance."""

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
    page.say(
        r"The derivative above is the one almost everywhere, which is what automatic "
        r"differentiation returns. The jump at 0 is not in it: as a distribution $\phi'$ holds a "
        r"delta there, and the C-map meets $c = 1$ with infinite slope. No weight variance keeps "
        r"gradients through this function."
    )
    return page
