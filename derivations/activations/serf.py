"""SERF: x erf(softplus x)."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, softplus, x, y
from derivations.proof import is_zero
from derivations.trapezoid import Strip

A = sp.S.Half
BELL = sp.exp(-(softplus(x) ** 2))


def write() -> Activation:
    page = Activation(
        "serf",
        "SERF",
        ref.NAG_2023,
        ref.TREFETHEN_2014,
        formula=x * sp.erf(softplus(x)),
        derivative=sp.erf(softplus(x)) + 2 * x * BELL * sigma(x) / sp.sqrt(sp.pi),
    )
    page.say(r"$s(x) = \log(1 + e^x)$, $s' = \sigma$.")
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    page.holds(
        r"\lvert\operatorname{Im} s(x+iy)\rvert \le \lvert y\rvert \le \tfrac12",
        r"$s(x)$ is real and $\lvert s'\rvert = \lvert\sigma\rvert \le 1$ on the way from $x$ to "
        r"$x+iy$. Here the strip $\lvert y\rvert \le \tfrac12$ is enough.",
        sp.pi / 2 > A,
    )
    page.holds(
        r"\left\lvert e^{-s^2}\right\rvert \le e^{1/4}, \qquad "
        r"\lvert\operatorname{erf} s\rvert \le 1 + \frac{e^{1/4}}{\sqrt\pi}",
        r"$\lvert e^{-(\alpha+i\beta)^2}\rvert = e^{\beta^2-\alpha^2} \le e^{1/4}$ for "
        r"$\lvert\beta\rvert \le \tfrac12$. On the way from $\alpha$ to $\alpha+i\beta$ erf "
        r"changes by at most $\tfrac12 \cdot \tfrac{2}{\sqrt\pi}\,e^{1/4}$, and "
        r"$\lvert\operatorname{erf}\alpha\rvert \le 1$.",
        is_zero(sp.re(sp.expand(-((x + sp.I * y) ** 2))) - (y**2 - x**2)),
    )
    bound = sp.exp(sp.Rational(1, 4))
    atoms = {
        sp.erf(softplus(x)): 1 + bound / sp.sqrt(sp.pi),
        BELL: bound,
        sigma(x): sp.S.One,
    }
    analytic.derive(page, Strip(A, atoms), growth=1)
    return page
