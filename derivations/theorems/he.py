"""He's factor 2, and what a network loses without it."""

import sympy as sp

from derivations import references as ref
from derivations.notation import E, oo, q as variance, x
from derivations.page import Page
from derivations.proof import even, moments, require_zero

n, v, q0, layers, second = sp.symbols("n v q_0 L s", positive=True)


def write() -> Page:
    page = Page("he", "He initialization: one over the second moment", ref.HE_2015)
    page.say(
        r"Let a layer have $n = \text{fan}_\text{in}$ inputs $\phi(x_j)$, $x_j \sim N(0, q)$, and "
        r"weights of variance $v$. It maps the variance $q$ to $n\,v\,\mathbb{E}[\phi(x)^2]$ "
        r"([linear layer](linear_layer.md))."
    )
    page.section("ReLU")
    half = page.claim(
        E(x**2, 0, oo),
        E(x**2) / 2,
        r"$\max(x, 0)^2$ is $x^2$ on the right half line, and $x^2$ is even.",
        even,
    ).then(variance / 2, r"$\mathbb{E}[x^2] = q$.", moments)
    page.claim(
        (n * v * half.rhs / variance).subs(v, 2 / n),
        sp.S.One,
        rf"Insert $v = 2/n$ and {half} into a layer's ratio $n\,v\,\mathbb{{E}}[\phi^2]/q$.",
        shown=r"\frac{n v}{q} \cdot \frac{q}{2}\,\Big|_{v = 2/n}",
    )
    page.section("Depth")
    ratio = n * v / 2
    solution = q0 * ratio**layers

    def recursion() -> str:
        require_zero(sp.powsimp(solution.subs(layers, layers + 1) / solution) - ratio, "one layer")
        require_zero(solution.subs(layers, 0) - q0, "the start")
        return "recursion and start"

    page.step(
        r"q_L = q_0 \left(\frac{n v}{2}\right)^L",
        "Every layer multiplies $q$ by the same ratio.",
        recursion,
    )
    page.claim(
        (solution / q0).subs(v, 1 / n).subs(layers, 20),
        sp.Rational(1, 2**20),
        r"With $v = 1/n$, which is right for a linear network, twenty ReLU layers leave a "
        r"millionth of $q$.",
        shown=r"\left(\tfrac12\right)^{20}",
    )
    page.section("Any activation")

    def kept() -> str:
        require_zero(sp.solve(sp.Eq(n * v * second, 1), v)[0] - 1 / (n * second), "the solution")
        return "solution of a linear equation"

    page.step(
        r"\boxed{\operatorname{Var} W = \frac{1}{\text{fan}_\text{in}\,\mathbb{E}[\phi(z)^2]}}",
        r"With $s = \mathbb{E}[\phi(z)^2]$ at $q = 1$, a layer keeps $q = 1$ if $nvs = 1$. "
        r"(ReLU is homogeneous: $\mathbb{E}[\phi^2] = sq$, and every $q$ is kept.)",
        kept,
    )
    return page
