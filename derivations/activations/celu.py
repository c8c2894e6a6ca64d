"""CELU: ELU with a stretched exponential, which makes φ' continuous for every α."""

import sympy as sp

from derivations import exponential, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x

alpha = sp.Symbol("alpha", positive=True)


def write() -> Activation:
    page = Activation(
        "celu",
        "CELU",
        ref.BARRON_2017,
        pieces=[(alpha * (sp.exp(x / alpha) - 1), -oo, 0), (x, 0, oo)],
        at={alpha: sp.S.One},
    )
    tail = exponential.tail
    found = exponential.derive(
        page,
        rate=1 / alpha,
        mean=sp.sqrt(q / (2 * sp.pi)) + alpha * (tail(1 / alpha) - sp.S.Half),
        second=q / 2 + alpha**2 * (tail(2 / alpha) - 2 * tail(1 / alpha) + sp.S.Half),
        backward=sp.S.Half + tail(2 / alpha),
    )
    for which, claim in found.items():
        page.result(which, claim)
    page.say(r"At $\alpha = 1$ CELU is ELU. As $\alpha \to 0$ it tends to ReLU.")
    return page
