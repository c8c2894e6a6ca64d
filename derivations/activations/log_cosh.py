"""log cosh x: its derivative is tanh."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import x
from derivations.trapezoid import Strip, u


def write() -> Activation:
    page = Activation(
        "log_cosh",
        "The logarithm of the hyperbolic cosine",
        ref.GREEN_1990,
        ref.TREFETHEN_2014,
        formula=sp.log(sp.cosh(x)),
        derivative=sp.tanh(x),
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    page.holds(
        r"\lvert\log\cosh(x+iy)\rvert \le \lvert x\rvert + \tfrac34 "
        r"\qquad\text{for } \lvert y\rvert \le \tfrac34",
        r"On the real line $1 \le \cosh x \le e^{\lvert x\rvert}$. From $x$ to $x+iy$ the function "
        r"changes by at most $\lvert y\rvert\,\max\lvert\tanh\rvert \le \lvert y\rvert$.",
        sp.pi / 4 > analytic.A,
    )
    strip = Strip(analytic.A, {sp.log(sp.cosh(x)): u + analytic.A, sp.tanh(x): sp.S.One})
    analytic.derive(page, strip, growth=1)
    page.say("The backward second moment is the forward second moment of [tanh](tanh.md).")
    return page
