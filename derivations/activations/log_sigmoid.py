"""log σ(x) = -s(-x): softplus, rotated by half a turn."""

import sympy as sp

from derivations import analytic, references as ref
from derivations.activation import Activation
from derivations.notation import sigma, softplus, x
from derivations.trapezoid import Strip, u


def write() -> Activation:
    page = Activation(
        "log_sigmoid",
        "The logarithm of the logistic function",
        ref.DUGAS_2001,
        ref.TREFETHEN_2014,
        formula=-softplus(-x),
        derivative=sigma(-x),
    )
    page.say(
        r"$\log\sigma(x) = -\log(1 + e^{-x}) = -s(-x)$, with $s(x) = \log(1 + e^x)$. Because $x$ "
        r"and $-x$ have the same distribution, the mean is minus that of [softplus](softplus.md), "
        "and both second moments are those of softplus."
    )
    page.section("In the complex plane")
    analytic.sigma_bound(page)
    analytic.softplus_bound(page)
    strip = Strip(analytic.A, {softplus(-x): u + analytic.A + sp.log(2), sigma(-x): sp.S.One})
    analytic.derive(page, strip, growth=1)
    return page
