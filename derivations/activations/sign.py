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
    page.say(
        r"The derivative above holds almost everywhere; automatic differentiation returns it. It "
        r"leaves out the jump at 0: as a distribution, $\phi'$ has a delta there, and the C-map "
        r"has an infinite slope at $c = 1$. No weight variance keeps gradients through this "
        r"function."
    )
    return page
