"""Hard tanh: the identity, clipped at ±1."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, p, q, x


def write() -> Activation:
    page = Activation(
        "hard_tanh",
        "Hard tanh",
        ref.COLLOBERT_2004,
        pieces=[(-1, -oo, -1), (x, -1, 1), (1, 1, oo)],
    )
    inner = 2 * Phi(1 / sp.sqrt(q)) - 1
    pieces.truncated(
        page,
        mean=sp.S.Zero,
        second=q * inner - 2 * q * p(1) + 1 - inner,
        backward=inner,
    )
    page.say(r"$2\Phi(1/\sqrt q) - 1$ is the probability of $\lvert x\rvert < 1$.")
    return page
