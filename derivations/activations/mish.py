"""Mish: x tanh(softplus x), where softplus stays in the strip."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, softplus, x
from derivations.trapezoid import Strip

T = sp.tanh(softplus(x))


def write() -> Activation:
    page = Activation(
        "mish",
        "Mish",
        ref.MISRA_2020,
        ref.TREFETHEN_2014,
        formula=x * T,
        derivative=T + x * (1 - T**2) * sigma(x),
    )
    page.say(r"$s(x) = \log(1 + e^x)$, $s' = \sigma$.")
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    page.holds(
        r"\lvert\tanh(s(x+iy))\rvert \le 1 \qquad\text{for } \lvert y\rvert \le \tfrac34",
        r"$s(x)$ is real and $\lvert s'\rvert = \lvert\sigma\rvert \le 1$ on the way from $x$ to "
        r"$x+iy$, so $\lvert\operatorname{Im} s\rvert \le \lvert y\rvert < \tfrac{\pi}{4}$: "
        r"softplus stays in the strip where $\lvert\tanh\rvert \le 1$.",
        sp.pi / 4 > analytic.A,
    )
    strip = Strip(analytic.A, {T: sp.S.One, sigma(x): sp.S.One})
    analytic.derive(page, strip, growth=1)
    return page
