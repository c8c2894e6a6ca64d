"""StarReLU: a squared ReLU shifted and scaled to mean 0 and second moment 1 at q = 1."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x

SCALE, SHIFT = 2 / sp.sqrt(5), -1 / sp.sqrt(5)


def write() -> Activation:
    page = Activation(
        "star_relu",
        "StarReLU keeps the forward signal with gain 1",
        ref.YU_2022,
        pieces=[(SHIFT, -oo, 0), (SCALE * x**2 + SHIFT, 0, oo)],
    )
    page.say(
        r"A squared ReLU has the mean $1/2$ and the variance $3/2 - 1/4 = 5/4$ at $q = 1$; the "
        r"shift and the scale make them 0 and 1."
    )
    pieces.truncated(
        page,
        mean=(q - 1) / sp.sqrt(5),
        second=(6 * q**2 - 2 * q + 1) / 5,
        backward=8 * q / 5,
    )
    return page
