"""Leaky ReLU: two half lines with different slopes."""

import sympy as sp

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x

a = sp.Symbol("a", positive=True)


def write() -> Activation:
    page = Activation(
        "leaky_relu",
        "Leaky ReLU: two half lines",
        ref.MAAS_2013,
        ref.HE_2015,
        pieces=[(a * x, -oo, 0), (x, 0, oo)],
        at={a: sp.Rational(1, 100)},
    )
    pieces.two_half_lines(
        page,
        mean=(1 - a) * sp.sqrt(q / (2 * sp.pi)),
        second=(1 + a**2) * q / 2,
        backward=(1 + a**2) / 2,
    )
    page.say(
        "Both moments have the same factor, so one variance, "
        r"$\operatorname{Var} W = 2/((1+a^2)\,\text{fan}_\text{in})$, keeps both signal and "
        "gradients. $a = 1$ is the linear layer, $a = 0$ is ReLU."
    )
    return page
