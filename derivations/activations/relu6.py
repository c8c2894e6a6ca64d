"""ReLU6: a ReLU clipped at 6, which a unit Gaussian almost never reaches."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "relu6",
        "ReLU6 is ReLU clipped at six",
        ref.KRIZHEVSKY_2010,
        pieces=[(0, -oo, 0), (x, 0, 6), (6, 6, oo)],
    )
    end = Phi(6 / sp.sqrt(q))
    pieces.truncated(
        page,
        mean=q * (p(0) - p(6)) + 6 * (1 - end),
        second=q * (end - sp.S.Half) - 6 * q * p(6) + 36 * (1 - end),
        backward=end - sp.S.Half,
    )
    return page
