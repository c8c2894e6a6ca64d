"""The sigmoid approximation of GELU, x σ(1.702 x)."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, x
from derivations.trapezoid import Strip

RATE = sp.Rational(1702, 1000)


def write() -> Activation:
    page = Activation(
        "quick_gelu",
        "Quick GELU",
        ref.HENDRYCKS_2016,
        ref.TREFETHEN_2014,
        formula=x * sigma(RATE * x),
        derivative=sigma(RATE * x) + RATE * x * sigma(RATE * x) * (1 - sigma(RATE * x)),
    )
    page.say(r"$\tfrac{851}{500} = 1.702$, chosen so that $\sigma(1.702\,x) \approx \Phi(x)$.")
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    page.holds(
        r"\left\lvert\sigma(\tfrac{851}{500}(x+iy))\right\rvert \le 1 "
        r"\qquad\text{for } \lvert y\rvert \le \tfrac34",
        r"The argument's imaginary part is at most $1.702 \cdot \tfrac34 < \tfrac{\pi}{2}$.",
        sp.pi / 2 > RATE * analytic.A,
    )
    analytic.derive(page, Strip(analytic.A, {sigma(RATE * x): sp.S.One}), growth=1)
    return page
