"""The half-width of a uniform distribution of given variance."""

import sympy as sp

from derivations import references as ref
from derivations.notation import t
from derivations.page import Page
from derivations.proof import algebra, primitive

a, v = sp.symbols("a v", positive=True)


def write() -> Page:
    page = Page("uniform", "The uniform distribution's half-width", ref.GLOROT_2010)
    page.say(r"The uniform distribution on $(-a, a)$ has the density $1/(2a)$ and mean 0.")
    square = page.claim(
        sp.Integral(t**2 / (2 * a), (t, -a, a)),
        a**2 / 3,
        r"$t^3/(6a)$ is a primitive of $t^2/(2a)$; it grows from $-a^2/6$ to $a^2/6$.",
        primitive(t**3 / (6 * a)),
    )
    page.claim(
        square.rhs.subs(a, sp.sqrt(3 * v)),
        v,
        rf"For variance $v$ take $a = \sqrt{{3v}}$ in {square}.",
        algebra,
        shown=r"\frac{a^2}{3}\,\Big|_{a = \sqrt{3v}}",
    ).box()
    fourth = page.claim(
        sp.Integral(t**4 / (2 * a), (t, -a, a)),
        a**4 / 5,
        "$t^5/(10a)$ is a primitive of $t^4/(2a)$.",
        primitive(t**5 / (10 * a)),
    )
    page.claim(
        fourth.rhs / square.rhs**2,
        sp.Rational(9, 5),
        r"This is the kurtosis, which sets the spread of sample variances. A normal "
        "distribution's is 3.",
        shown=r"\frac{a^4/5}{(a^2/3)^2}",
    )
    return page
