"""Exponential units: α(e^x - 1) on the left half line, a straight line on the right."""

import sympy as sp

from derivations.activation import TARGETS, Activation
from derivations.gaussian import half_lines, s, tilt
from derivations.notation import Phi, linear, q
from derivations.page import Claim
from derivations.pieces import HEADINGS
from derivations.proof import algebra, following


def tail(rate: sp.Expr) -> sp.Expr:
    """Return E[e^{rx}; x<0] = e^{r²q/2} Φ(-r√q)."""
    return sp.exp(sp.sympify(rate) ** 2 * q / 2) * Phi(-rate * sp.sqrt(q))


def derive(page: Activation, *, rate: sp.Expr = sp.S.One, **results: sp.Expr) -> dict[str, Claim]:
    """Derive the moments: cut at 0, multiply out, insert the moments of each half line.

    Args:
        page: the activation's page.
        rate: r in the left piece, which is a multiple of e^{rx} - 1.
        **results: the author's closed forms of `mean`, `second` and `backward`.

    Returns:
        The boxed claim of each result.
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
