"""Hard swish: x times the hard sigmoid, a parabola between -3 and 3."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "hard_swish",
        "Hard swish",
        ref.HOWARD_2019,
        pieces=[(0, -oo, -3), (x * (x + 3) / 6, -3, 3), (x, 3, oo)],
    )
    inner = 2 * Phi(3 / sp.sqrt(q)) - 1
    pieces.truncated(
        page,
        mean=q * inner / 6,
        second=(q**2 / 12 + q / 4) * inner + q * (1 - inner) / 2 - q**2 * p(3) / 2,
        backward=(4 * q + 9) * inner / 36 - 2 * q * p(3) / 3 + (1 - inner) / 2,
    )
    return page
