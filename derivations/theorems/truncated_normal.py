"""The variance that a normal distribution loses when it is truncated."""

import sympy as sp

from derivations import references as ref
from derivations.notation import E, Phi, g, p, q, x
from derivations.page import Page
from derivations.proof import algebra, primitive

c = sp.Symbol("c", positive=True)


def write() -> Page:
    page = Page("truncated_normal", "The truncated normal, corrected", ref.JOHNSON_1994)
    page.say(
        r"Draw $x \sim N(0, q)$ until $\lvert x\rvert < c$. The value that is kept has the density "
        r"$p$ on $(-c, c)$, divided by the probability of that interval."
    )
    mass = page.claim(
        E(sp.S.One, -c, c),
        2 * Phi(c / sp.sqrt(q)) - 1,
        r"$\Phi(x/\sqrt q)$ is a primitive of $p$, and $\Phi(-s) = 1 - \Phi(s)$.",
        primitive(Phi(x / sp.sqrt(q))),
    )
    square = page.claim(
        E(x**2, -c, c),
        q * (2 * Phi(c / sp.sqrt(q)) - 1) - 2 * q * c * p(c),
        r"A primitive of $x^2p$ is $q\,\Phi(x/\sqrt q) - q\,x\,p(x)$, because $p' = -(x/q)\,p$.",
        primitive(q * Phi(x / sp.sqrt(q)) - q * x * p(x)),
    )
    page.claim(
        square.rhs / mass.rhs,
        q - 2 * q * c * p(c) / (2 * Phi(c / sp.sqrt(q)) - 1),
        rf"The variance of the kept value is {square} divided by {mass}.",
        algebra,
    ).box()
    page.section("Cut at two standard deviations")
    kept = 1 - 4 * g(2) / (2 * Phi(2) - 1)
    page.claim(
        (square.rhs / mass.rhs).subs(c, 2 * sp.sqrt(q)),
        q * kept,
        r"$c = 2\sqrt q$, and $p(2\sqrt q) = g(2)/\sqrt q$.",
        algebra,
    )
    page.say(
        "A parent distribution of standard deviation 1 gives values with the first standard "
        "deviation below. For values of standard deviation 1, the parent must be wider by the "
        "second factor below."
    )
    from derivations.notation import plain

    page.section("Numbers")
    page.table(
        ("quantity", "value"),
        page.value("standard deviation kept", sp.sqrt(plain(kept))),
        page.value("correction of the parent", 1 / sp.sqrt(plain(kept))),
        page.value("share of draws kept", plain(2 * Phi(2) - 1)),
    )
    return page
