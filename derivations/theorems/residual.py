"""Residual branches must shrink as one over the square root of the depth."""

import sympy as sp

from derivations import references as ref
from derivations.notation import Mean
from derivations.page import Page
from derivations.proof import independence, require, require_zero, tends

x, f, q, beta, depth = sp.symbols("x f q beta L", positive=True)
layers = sp.Symbol("l", integer=True, positive=True)


def write() -> Page:
    page = Page("residual", "Depth scaling of residual networks", ref.HAYOU_2021, ref.ZHANG_2019)
    page.say(
        r"A residual block adds a branch to its input, $x \mapsto x + \beta f$. The branch keeps "
        r"the second moment, $\mathbb{E}[f^2] = \mathbb{E}[x^2] = q$. Its last weights have mean 0 "
        r"and are independent of $x$, so $\mathbb{E}[xf] = 0$."
    )
    page.claim(
        Mean((x + beta * f) ** 2),
        (1 + beta**2) * q,
        r"Multiply out; the mixed term $2\beta\,\mathbb{E}[xf]$ vanishes.",
        independence({x: (0, q), f: (0, q)}),
    )

    def recursion() -> str:
        solution = q * (1 + beta**2) ** depth
        ratio = sp.powsimp(solution.subs(depth, depth + 1) / solution)
        require_zero(ratio - 1 - beta**2, "one block")
        return "recursion"

    page.step(
        r"q_L = q_0\,(1 + \beta^2)^L",
        "Each block multiplies $q$ by the same factor.",
        recursion,
    )
    page.claim(
        ((1 + beta**2) ** depth).subs({beta: 1, depth: 20}),
        sp.Integer(2**20),
        r"Without scaling, $\beta = 1$, twenty blocks multiply $q$ by a million.",
        shown=r"(1 + 1)^{20}",
    )
    page.claim(
        sp.Limit((1 + 1 / depth) ** depth, depth, sp.oo),
        sp.E,
        r"With $\beta = 1/\sqrt L$ the factor of the whole network tends to $e$.",
        tends,
    )

    def bounded() -> str:
        # (1 + 1/L)^L = Σ_k C(L,k)/L^k, and L(L-1)...(L-k+1) ≤ L^k.
        for k in range(1, 6):
            terms = sp.expand(depth**k - sp.Mul(*(depth - i for i in range(k))))
            shifted = sp.Poly(sp.expand(terms.subs(depth, depth + k)), depth)
            require(all(c >= 0 for c in shifted.coeffs()), f"the bound on term {k} fails.")
        return "binomial terms 1 to 5"

    page.step(
        r"\boxed{\beta = \frac{1}{\sqrt L}: \qquad 1 \le \frac{q_L}{q_0} = "
        r"\left(1 + \frac1L\right)^L \le \sum_k \frac{1}{k!} = e}",
        r"By the binomial theorem the term of order $k$ is "
        r"$\frac{L(L-1)\cdots(L-k+1)}{L^k\,k!} \le \frac{1}{k!}$. The bound holds at every depth.",
        bounded,
    )
    page.say(
        r"The gradient passes through the same blocks backward, $\delta \mapsto \delta + \beta "
        r"(\partial f/\partial x)^T\delta$. If the branch keeps the gradient's second moment, the "
        r"gradient's second moment grows by the same factor."
    )
    return page
