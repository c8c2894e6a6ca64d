"""LeCun's 1/n with SELU: an attracting fixed point."""

import sympy as sp

from derivations import exponential, references as ref
from derivations.activations.selu import ALPHA, LAMBDA
from derivations.notation import g, plain, q
from derivations.page import Page
from derivations.proof import algebra


def write() -> Page:
    page = Page(
        "lecun", "LeCun's variance and SELU's fixed point", ref.LECUN_1998, ref.KLAMBAUER_2017
    )
    tail = exponential.tail
    page.say(
        r"With $\operatorname{Var} W = 1/\text{fan}_\text{in}$ a layer maps $q$ to "
        r"$Q(q) = \mathbb{E}[\phi(x)^2]$, $x \sim N(0, q)$. SELU's constants are chosen to give "
        r"$Q(1) = 1$ and $\mathbb{E}[\phi] = 0$ ([selu](selu.md)). This page shows that $q = 1$ "
        r"attracts."
    )
    lam, alpha = sp.symbols("lambda alpha", positive=True)
    second = lam**2 * (q / 2 + alpha**2 * (tail(2) - 2 * tail(1) + sp.S.Half))
    rate = lam**2 * (
        sp.S.Half
        + alpha**2
        * (
            2 * tail(2)
            - tail(1)
            - g(2 * sp.sqrt(q)) * sp.exp(2 * q) / sp.sqrt(q)
            + g(sp.sqrt(q)) * sp.exp(q / 2) / sp.sqrt(q)
        )
    )
    page.claim(
        sp.Derivative(second, q),
        rate,
        r"Differentiate SELU's second moment. $\frac{d}{dq}e^{r^2q/2}\Phi(-r\sqrt q) = "
        r"\frac{r^2}{2}e^{r^2q/2}\Phi(-r\sqrt q) - \frac{r}{2\sqrt q}\,e^{r^2q/2}g(r\sqrt q)$, "
        r"with $r = 2$ and, twice subtracted, $r = 1$.",
    )
    reduced = lam**2 * (sp.S.Half + alpha**2 * (2 * tail(2) - tail(1)))
    step = page.claim(
        rate,
        reduced,
        r"$e^{r^2q/2}g(r\sqrt q) = 1/\sqrt{2\pi}$ for every $r$, so the two densities cancel.",
        algebra,
    ).box()
    value = plain(step.rhs).subs(q, 1).subs({lam: LAMBDA, alpha: ALPHA})
    page.holds(
        r"0 < Q'(1) < 1",
        "Insert SELU's constants at $q = 1$; the digits are below. To first order, every layer "
        "shrinks a deviation of $q$ from 1 by this factor.",
        sp.N(value, 30) > 0,
        sp.N(value, 30) < 1,
        check="30 digits",
    )
    page.section("Numbers")
    page.table(
        ("quantity", "value"),
        page.value(r"$\alpha_{01}$", ALPHA),
        page.value(r"$\lambda_{01}$", LAMBDA),
        page.value("$Q'(1)$", value),
    )
    return page
