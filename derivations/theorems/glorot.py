"""Glorot's compromise between the signal and the gradient."""

import sympy as sp

from derivations import references as ref
from derivations.page import Page
from derivations.proof import require_zero

a, b, v, f, g = sp.symbols("n_in n_out v s s'", positive=True)


def write() -> Page:
    page = Page("glorot", "Glorot's compromise", ref.GLOROT_2010)
    page.say(
        r"A linear layer multiplies the signal's second moment by $n_\text{in}v$ and the "
        r"gradient's by $n_\text{out}v$ ([linear layer](linear_layer.md)). Both are 1 only in a "
        "square layer. Instead, let one exceed 1 by as much as the other falls short of it."
    )
    compromise = 2 / (a + b)

    def solved() -> str:
        require_zero(sp.solve(sp.Eq(a * v - 1, 1 - b * v), v)[0] - compromise, "the solution")
        return "solution of a linear equation"

    page.step(
        r"\boxed{v = \frac{2}{n_\text{in} + n_\text{out}}}",
        r"Solve $n_\text{in}v - 1 = 1 - n_\text{out}v$.",
        solved,
    )
    page.claim(
        1 / compromise,
        (a + b) / 2,
        r"$1/v$ is the mean of the fans, so $v$ is the harmonic mean of $1/n_\text{in}$ and "
        r"$1/n_\text{out}$.",
        shown=r"\frac1v",
    )
    page.claim(
        a * compromise * b * compromise,
        1 - (a - b) ** 2 / (a + b) ** 2,
        "A layer multiplies signal and gradient together by this factor. It is at most 1, and 1 "
        "only in a square layer. Use $4ab = (a+b)^2 - (a-b)^2$.",
    )
    page.section("With an activation")
    general = 2 / (a * f + b * g)

    def balanced() -> str:
        require_zero(sp.solve(sp.Eq(a * f * v - 1, 1 - b * g * v), v)[0] - general, "the solution")
        require_zero(general.subs({f: 1, g: 1}) - compromise, "the linear case")
        return "solution of a linear equation"

    page.step(
        r"\boxed{\operatorname{Var} W = \frac{2}{n_\text{in}\,\mathbb{E}[\phi^2] + "
        r"n_\text{out}\,\mathbb{E}[\phi'^2]}}",
        r"The factors are now $n_\text{in}\mathbb{E}[\phi^2]v$ and "
        r"$n_\text{out}\mathbb{E}[\phi'^2]v$, balanced in the same way. For linear $\phi$ this is "
        r"the formula above.",
        balanced,
    )
    return page
