"""The exponential: moments of a log-normal."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.activation import Activation
from derivations.notation import E, Phi, phi, q, slope, x
from derivations.proof import following, primitive


def write() -> Activation:
    page = Activation(
        "exp",
        "The exponential",
        ref.JOHNSON_1994,
        formula=sp.exp(x),
    )
    page.section("The exponential moment")
    s = gaussian.s
    moment = page.claim(
        E(sp.exp(s * x)),
        sp.exp(s**2 * q / 2),
        r"Complete the square: $sx - x^2/2q = s^2q/2 - (x-sq)^2/2q$. A primitive of "
        r"$e^{sx}p(x)$ is $e^{s^2q/2}\,\Phi((x-sq)/\sqrt q)$, which grows from 0 to $e^{s^2q/2}$.",
        primitive(sp.exp(s**2 * q / 2) * Phi((x - s * q) / sp.sqrt(q))),
    )
    page.section("The three moments")
    one, two = moment.at({s: 1}), moment.at({s: 2})
    known = f"{moment} with $s = "
    mean = page.claim(E(phi(x)), sp.exp(q / 2), known + "1$.", following(one)).box()
    second = page.claim(E(phi(x) ** 2), sp.exp(2 * q), known + "2$.", following(two)).box()
    backward = page.claim(E(slope(x) ** 2), sp.exp(2 * q), r"$\phi' = \phi$.", following(two)).box()
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
