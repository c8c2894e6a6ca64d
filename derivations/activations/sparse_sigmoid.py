"""Sparse sigmoid: a line from (-1, 0) to (1, 1), clipped."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "sparse_sigmoid",
        "Sparse sigmoid",
        ref.MARTINS_2016,
        pieces=[(0, -oo, -1), ((x + 1) / 2, -1, 1), (1, 1, oo)],
    )
    inner = 2 * Phi(1 / sp.sqrt(q)) - 1
    pieces.truncated(
        page,
        mean=sp.S.Half,
        second=(q + 1) * inner / 4 - q * p(1) / 2 + (1 - inner) / 2,
        backward=inner / 4,
    )
    return page
