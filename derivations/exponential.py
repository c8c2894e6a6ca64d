"""The family of exponential pieces: α(e^x - 1) on the left half line, a straight line right."""

import sympy as sp

from derivations.activation import TARGETS, Activation
from derivations.gaussian import half_lines, s, tilt
from derivations.notation import Phi, linear, q
from derivations.page import Claim
from derivations.pieces import HEADINGS
from derivations.proof import algebra, following


def tail(rate: sp.Expr) -> sp.Expr:
    """E[e^{rx}; x<0] = e^{r²q/2} Φ(-r√q)."""
    return sp.exp(sp.sympify(rate) ** 2 * q / 2) * Phi(-rate * sp.sqrt(q))


def derive(page: Activation, *, rate: sp.Expr = sp.S.One, **results: sp.Expr) -> dict[str, Claim]:
    """Cut at 0, multiply out, insert the exponential and the half-line moments.

    Args:
        rate: r, where the left piece is a multiple of e^{rx} - 1.
        results: the closed forms of mean, second and backward, as the author states them.
    """
    page.section("Exponential moments of half a Gaussian")
    exponential = tilt(page)
    known = [exponential.at({s: rate}), exponential.at({s: 2 * rate}), *half_lines(page)]
    found = {}
    for which, result in results.items():
        page.section(HEADINGS[which])
        step = page.cut(TARGETS[which][0], "The definition, on each half line.")
        spread = linear(step.rhs)
        if spread != step.rhs:
            step = step.then(spread, r"Multiply out; $\mathbb{E}$ is linear.", algebra)
        cited = [fact for fact in known if spread.has(fact.lhs)]
        numbers = ", ".join(dict.fromkeys(str(fact) for fact in cited))
        step = step.then(result, f"Insert {numbers}; collect.", following(*cited))
        found[which] = step.box()
    return found
