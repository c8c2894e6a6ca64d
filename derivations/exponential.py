"""The family of exponential pieces: α(e^x - 1) on the left half line, a straight line right."""

import sympy as sp

from derivations.activation import TARGETS, Activation
from derivations.gaussian import half_lines, s, tilt
from derivations.notation import Phi, linear, q
from derivations.page import Claim
from derivations.pieces import HEADINGS
from derivations.proof import algebra, following, moments


def tail(n: int) -> sp.Expr:
    """E[e^{nx}; x<0] = e^{n²q/2} Φ(-n√q)."""
    return sp.exp(sp.Rational(n**2, 2) * q) * Phi(-n * sp.sqrt(q))


def derive(page: Activation, **results: sp.Expr) -> dict[str, Claim]:
    """Cut at 0, multiply out, insert the exponential and the half-line moments."""
    page.section("Exponential moments of half a Gaussian")
    exponential = tilt(page)
    known = [exponential.at({s: 1}), exponential.at({s: 2}), *half_lines(page, 0, 1, 2)]
    one = page.claim(known[2].lhs.func(sp.S.One, 0, sp.oo), sp.S.Half, "The other half.", moments)
    known.append(one)
    found = {}
    for which, result in results.items():
        page.section(HEADINGS[which])
        step = page.cut(TARGETS[which][0], "The definition, on each half line.")
        spread = linear(step.rhs)
        if spread != step.rhs:
            step = step.then(spread, r"Multiply out; $\mathbb{E}$ is linear.", algebra)
        cited = [fact for fact in known if spread.has(fact.lhs)]
        numbers = ", ".join(dict.fromkeys(str(fact) for fact in cited))
        found[which] = step.then(result, f"Insert {numbers}; collect.", following(*cited)).box()
    return found
