"""PReLU: a leaky ReLU with a learned slope, here at its usual initial value 1/4."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x

a = sp.Symbol("a", positive=True)


def write() -> Activation:
    page = Activation(
        "prelu",
        "PReLU at its initial slope",
        ref.HE_2015,
        pieces=[(a * x, -oo, 0), (x, 0, oo)],
        at={a: sp.Rational(1, 4)},
    )
    pieces.two_half_lines(
        page,
        mean=(1 - a) * sp.sqrt(q / (2 * sp.pi)),
        second=(1 + a**2) * q / 2,
        backward=(1 + a**2) / 2,
    )
    page.say(
        r"He et al. use $\operatorname{Var} W = 2/((1+a^2)\,\text{fan}_\text{in})$ with the "
        r"initial slope $a = \tfrac14$. Training then changes $a$ and the second moment."
    )
    return page
