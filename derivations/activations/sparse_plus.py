"""Sparse plus: a parabola joins 0 to the identity between -1 and 1."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "sparse_plus",
        "Sparse plus",
        ref.MARTINS_2016,
        pieces=[(0, -oo, -1), ((x + 1) ** 2 / 4, -1, 1), (x, 1, oo)],
    )
    inner = 2 * Phi(1 / sp.sqrt(q)) - 1
    pieces.truncated(
        page,
        mean=(q + 1) * inner / 4 + q * p(1) / 2,
        second=(3 * q**2 + 6 * q + 1) * inner / 16
        + q * (1 - inner) / 2
        + q * (1 - 3 * q) * p(1) / 8,
        backward=(q + 1) * inner / 4 - q * p(1) / 2 + (1 - inner) / 2,
    )
    page.say(
        "The derivative is the sparse sigmoid, so the backward second moment is the second moment "
        "of the [sparse sigmoid](sparse_sigmoid.md)."
    )
    return page
