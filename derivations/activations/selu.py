"""SELU: the two constants that make mean 0 and second moment 1 a fixed point."""

import sympy as sp

from derivations import exponential, references as ref
from derivations.activation import Activation
from derivations.notation import Phi, oo, q, x
from derivations.proof import algebra

alpha = sp.Symbol("alpha", positive=True)
lamda = sp.Symbol("lambda", positive=True)

# Klambauer et al. 2017, equation (14), solved below.
_e, _w = sp.erfc(1 / sp.sqrt(2)) * sp.exp(sp.S.Half), sp.erfc(sp.sqrt(2)) * sp.exp(2)
ALPHA = -sp.sqrt(2 / sp.pi) / (_e - 1)
LAMBDA = (
    (1 - _e)
    * sp.sqrt(2 * sp.pi)
    / sp.sqrt(2 * _w + sp.pi * _e**2 - 2 * (2 + sp.pi) * _e + sp.pi + 2)
)


def write() -> Activation:
    page = Activation(
        "selu",
        "SELU's fixed point: mean 0 and second moment 1",
        ref.KLAMBAUER_2017,
        pieces=[(lamda * alpha * (sp.exp(x) - 1), -oo, 0), (lamda * x, 0, oo)],
        at={alpha: ALPHA, lamda: LAMBDA},
    )
    tail = exponential.tail
    found = exponential.derive(
        page,
        mean=lamda * (sp.sqrt(q / (2 * sp.pi)) + alpha * (tail(1) - sp.S.Half)),
        second=lamda**2 * (q / 2 + alpha**2 * (tail(2) - 2 * tail(1) + sp.S.Half)),
        backward=lamda**2 * (sp.S.Half + alpha**2 * tail(2)),
    )
    page.section("The constants")
    page.say(
        r"Require $\mathbb{E}[\phi] = 0$ and $\mathbb{E}[\phi^2] = 1$ at $q = 1$. The first "
        r"equation determines $\alpha$; the second then gives $\lambda$."
    )
    half = sp.exp(sp.S.Half) * Phi(-1)
    solved = 1 / sp.sqrt(2 * sp.pi) / (sp.S.Half - half)
    page.claim(
        found["mean"].rhs.subs(q, 1).subs(alpha, solved),
        sp.S.Zero,
        r"Mean 0 at $\alpha = \frac{1}{\sqrt{2\pi}}\big/\left(\tfrac12 - e^{1/2}\Phi(-1)\right)$: "
        r"insert it, and all terms cancel.",
        algebra,
    )
    page.claim(
        solved,
        ALPHA,
        r"$\Phi(-1) = \tfrac12\operatorname{erfc}(1/\sqrt2)$. Multiply numerator and denominator "
        r"by 2. This is Klambauer's $\alpha_{01}$.",
        algebra,
    ).box()
    bracket = sp.S.Half + alpha**2 * (sp.exp(2) * Phi(-2) - 2 * half + sp.S.Half)
    page.claim(
        1 / bracket.subs(alpha, solved),
        LAMBDA**2,
        r"$\lambda^2 = 1/\left(\tfrac12 + \alpha^2\left(e^2\Phi(-2) - 2e^{1/2}\Phi(-1) + "
        r"\tfrac12\right)\right)$. Multiply numerator and denominator by "
        r"$2\pi\,(1 - e^{1/2}\operatorname{erfc}(1/\sqrt2))^2$. With "
        r"$\Phi(-2) = \tfrac12\operatorname{erfc}(\sqrt2)$ this is the square of Klambauer's "
        r"$\lambda_{01}$.",
        algebra,
    ).box()
    insert = r"Insert both constants: $\alpha_{01}$ makes the bracket 0."
    zero = page.at_one(found["mean"], sp.S.Zero, insert).box()
    insert = r"Insert both constants: $\lambda_{01}^2$ is the inverse of the bracket."
    one = page.at_one(found["second"], sp.S.One, insert).box()
    page.result("mean", found["mean"], zero)
    page.result("second", found["second"], one)
    page.result("backward", found["backward"])
    return page
