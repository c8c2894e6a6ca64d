"""Squared ReLU: with second moment 3q²/2, no single variance keeps every q."""

from derivations import pieces, references as ref
from derivations.activation import Activation
from derivations.notation import oo, q, x


def write() -> Activation:
    page = Activation(
        "relu_squared",
        "Squared ReLU has no linear Q-map",
        ref.SO_2021,
        pieces=[(0, -oo, 0), (x**2, 0, oo)],
    )
    pieces.two_half_lines(page, mean=q / 2, second=3 * q**2 / 2, backward=2 * q)
    page.say(
        r"The second moment grows as $q^2$: with "
        r"$\operatorname{Var} W = 2/(3\,\text{fan}_\text{in})$, $q = 1$ is a repelling fixed "
        r"point. A $q$ below 1 vanishes; a $q$ above 1 explodes."
    )
    return page
