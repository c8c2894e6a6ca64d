"""The forward and backward variance of a linear layer."""

import sympy as sp

from derivations import references as ref
from derivations.notation import Mean
from derivations.page import Page
from derivations.proof import independence

v, q, d, b2 = sp.symbols("v q d sigma_b^2", positive=True)
TERMS = 3  # written out on the page; the count is checked for 1 to 6 terms


def _layer(n: int):
    """Return weights, inputs and moments: only the weights are random, with mean 0."""
    weights, inputs = sp.symbols(f"W_1:{n + 1}"), sp.symbols(f"x_1:{n + 1}")
    return weights, inputs, dict.fromkeys(weights, (0, v))


def write() -> Page:
    page = Page(
        "linear_layer",
        "What a linear layer does to the second moment",
        ref.LECUN_1998,
        ref.GLOROT_2010,
    )
    page.say(
        r"Let $y = \sum_{j=1}^{n} W_j x_j$ be one output of a layer with $n = "
        r"\text{fan}_\text{in}$ inputs. The weights have mean 0 and variance $v$ and are "
        r"independent of each other and of the inputs. Only the inputs' mean square "
        r"$q = \frac1n\sum_j x_j^2$ matters; the inputs may depend on each other."
    )
    page.section("Forward")
    weights, inputs, table = _layer(TERMS)
    y = sp.Add(*(w * x for w, x in zip(weights, inputs, strict=True)))
    page.claim(
        Mean(y**2),
        v * sp.Add(*(x**2 for x in inputs)),
        r"Here $n = 3$. Multiply out: each of the three squares has $\mathbb{E}[W_j^2] = v$, and "
        r"each mixed term has $\mathbb{E}[W_jW_k] = \mathbb{E}[W_j]\,\mathbb{E}[W_k] = 0$.",
        independence(table),
    )

    def counted() -> str:
        for n in range(1, 7):
            weights, inputs, table = _layer(n)
            y = sp.Add(*(w * x for w, x in zip(weights, inputs, strict=True)))
            independence(table)(Mean(y**2), v * sp.Add(*(x**2 for x in inputs)))
        return "independence, for 1 to 6 inputs"

    page.step(
        r"\boxed{\mathbb{E}[y^2] = \text{fan}_\text{in}\,v\,q}",
        r"For $n$ inputs, too, the $n$ squares stay and the $n(n-1)$ mixed terms vanish, and "
        r"$\sum_j x_j^2 = nq$.",
        counted,
    )
    bias = sp.Symbol("b")
    page.claim(
        Mean((y + bias) ** 2),
        v * sp.Add(*(x**2 for x in inputs)) + b2,
        r"A bias of mean 0 and variance $\sigma_b^2$, independent of the weights, adds its "
        "variance.",
        independence(table | {bias: (0, b2)}),
    )
    page.section("Backward")
    deltas = sp.symbols(f"delta_1:{TERMS + 1}")
    back = sp.Add(*(w * e for w, e in zip(weights, deltas, strict=True)))
    page.claim(
        Mean(back**2),
        v * sp.Add(*(e**2 for e in deltas)),
        r"The gradient at one input is $\sum_i W_i\delta_i$ over the layer's "
        r"$\text{fan}_\text{out}$ outputs: the same sum with another number of terms. (The "
        r"weights that carry $\delta$ back also influenced it. To treat the two as independent is "
        "the usual assumption, exact in the limit of wide layers.)",
        independence(table),
    )
    page.step(
        r"\boxed{\mathbb{E}[\delta_\text{in}^2] = "
        r"\text{fan}_\text{out}\,v\,\mathbb{E}[\delta_\text{out}^2]}",
        "As in the second step, with outputs in place of inputs.",
        counted,
    )
    page.say(
        r"$v = 1/\text{fan}_\text{in}$ keeps the signal; $v = 1/\text{fan}_\text{out}$ keeps the "
        r"gradient. With an activation before the layer, $q$ is $\mathbb{E}[\phi^2]$, and the "
        r"gradient's second moment is also multiplied by $\mathbb{E}[\phi'^2]$."
    )
    return page
