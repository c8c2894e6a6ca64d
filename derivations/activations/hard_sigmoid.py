"""Hard sigmoid: a line from (-3, 0) to (3, 1), clipped."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "hard_sigmoid",
        "Hard sigmoid",
        ref.HOWARD_2019,
        pieces=[(0, -oo, -3), ((x + 3) / 6, -3, 3), (1, 3, oo)],
    )
    inner = 2 * Phi(3 / sp.sqrt(q)) - 1
    pieces.truncated(
        page,
        mean=sp.S.Half,
        second=(q + 9) * inner / 36 - q * p(3) / 6 + (1 - inner) / 2,
        backward=inner / 36,
    )
    page.say(r"$2\Phi(3/\sqrt q) - 1$ is the probability of $\lvert x\rvert < 3$.")
    return page
