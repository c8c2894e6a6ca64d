"""The tanh approximation of GELU, with a strip that the cubic inside allows."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import x, y
from derivations.trapezoid import Strip

BETA = sp.sqrt(2 / sp.pi)
C = sp.Rational(44715, 10**6)
T = sp.tanh(BETA * (x + C * x**3))


def write() -> Activation:
    page = Activation(
        "gelu_tanh",
        "GELU, tanh form",
        ref.HENDRYCKS_2016,
        ref.TREFETHEN_2014,
        formula=x / 2 * (1 + T),
        derivative=(1 + T) / 2 + x / 2 * (1 - T**2) * BETA * (1 + 3 * C * x**2),
    )
    page.say(
        r"Write $w(x) = \beta(x + cx^3)$ with $\beta = \sqrt{2/\pi}$ and $c = 0.044715$. The strip "
        r"is $\lvert y\rvert \le \tfrac12$."
    )
    page.section("In the complex plane")
    analytic.tanh_bound(page)
    c, beta = sp.Symbol("c", positive=True), sp.Symbol("beta", positive=True)
    point = x + sp.I * y
    page.claim(
        beta * (point + c * point**3),
        beta * x * (1 + c * x**2 - 3 * c * y**2) + sp.I * beta * y * (1 + 3 * c * x**2 - c * y**2),
        "Multiply out and separate the real and imaginary parts.",
    )
    a = sp.S.Half
    inner = BETA * a * (1 + 3 * C * 4)
    page.holds(
        r"\lvert\operatorname{Im} w\rvert \le \tfrac{\beta}{2}(1 + 12c) < \tfrac{\pi}{4}, "
        r"\quad \lvert\tanh w\rvert \le 1 \qquad\text{for } \lvert x\rvert \le 2",
        r"Each term at its largest: $\lvert y\rvert = \tfrac12$, $x^2 = 4$.",
        sp.pi / 4 > inner,
    )
    far = 2 * BETA * (1 - sp.Rational(3, 4) * C)
    page.holds(
        r"\lvert\operatorname{Re} w\rvert \ge 2\beta(1 - \tfrac34 c) > 1.54, \quad "
        r"\lvert\tanh w\rvert \le \coth 1.54 < \tfrac{11}{10} "
        r"\qquad\text{for } \lvert x\rvert \ge 2",
        r"In the formula for $\lvert\tanh\rvert^2$ the cosine is at least $-1$, so "
        r"$\lvert\tanh(\xi+i\eta)\rvert^2 \le (\cosh 2\xi+1)/(\cosh 2\xi-1) = \coth^2\xi$.",
        far > sp.Rational(154, 100),
        sp.coth(sp.Rational(154, 100)) < sp.Rational(11, 10),
    )
    analytic.derive(page, Strip(a, {T: sp.Rational(11, 10)}), growth=1)
    return page
