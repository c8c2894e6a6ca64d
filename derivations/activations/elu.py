"""ELU: an exponential left of 0, the identity right of 0."""

import sympy as sp

from derivations import exponential, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x

alpha = sp.Symbol("alpha", positive=True)


def write() -> Activation:
    page = Activation(
        "elu",
        "ELU",
        ref.CLEVERT_2016,
        pieces=[(alpha * (sp.exp(x) - 1), -oo, 0), (x, 0, oo)],
        at={alpha: sp.S.One},
    )
    tail = exponential.tail
    found = exponential.derive(
        page,
        mean=sp.sqrt(q / (2 * sp.pi)) + alpha * (tail(1) - sp.S.Half),
        second=q / 2 + alpha**2 * (tail(2) - 2 * tail(1) + sp.S.Half),
        backward=sp.S.Half + alpha**2 * tail(2),
    )
    for which, claim in found.items():
        page.result(which, claim)
    return page
