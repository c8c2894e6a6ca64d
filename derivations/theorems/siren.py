"""SIREN's variance and its actual fixed point."""

import sympy as sp

from derivations import gaussian, references as ref
from derivations.notation import E, q, t, x
from derivations.page import Page
from derivations.proof import algebra, following, primitive, require, require_zero, trigonometry

n = sp.Symbol("n", positive=True)


def write() -> Page:
    page = Page("siren", "SIREN: sine networks", ref.SITZMANN_2020)
    page.say(
        r"Sitzmann et al. draw the weights of a sine layer uniformly from "
        r"$(-\sqrt{6/n}, \sqrt{6/n})$, $n = \text{fan}_\text{in}$."
    )
    page.section("The argument")
    page.claim(
        (sp.sqrt(6 / n)) ** 2 / 3,
        2 / n,
        "The variance of a [uniform distribution](uniform.md) is a third of its squared "
        "half-width.",
        algebra,
        shown=r"\operatorname{Var} W = \frac13\left(\sqrt{6/n}\right)^2",
    )
    theta = t
    page.claim(
        sp.Integral(sp.sin(theta) ** 2 / (2 * sp.pi), (theta, 0, 2 * sp.pi)),
        sp.S.Half,
        r"If the phase is uniform on the circle, the sine has the arcsine distribution. A "
        r"primitive of $\sin^2 t$ is $\tfrac12(t - \sin t\cos t)$.",
        primitive((theta - sp.sin(theta) * sp.cos(theta)) / (4 * sp.pi)),
    )
    page.say(
        r"Then $n\cdot\frac{2}{n}\cdot\frac12 = 1$, so the next pre-activation has variance 1. "
        r"This is the paper's argument. But a pre-activation of variance 1 does not spread the "
        r"phase evenly, and the second moment of the sine is less than $\tfrac12$."
    )
    page.section("The Gaussian map")
    wave = gaussian.oscillation(page)
    second = page.claim(
        E(sp.sin(x) ** 2),
        sp.S.Half - E(sp.cos(2 * x)) / 2,
        r"$\sin^2 x = \tfrac12(1 - \cos 2x)$.",
        trigonometry,
    ).then((1 - sp.exp(-2 * q)) / 2, f"{wave} with $s = 2$.", following(wave.at({gaussian.s: 2})))
    qmap = 2 * second.rhs
    star = 1 + sp.LambertW(-2 * sp.exp(-2)) / 2

    def fixed() -> str:
        # By W's definition e^{-w} = w/z with z = -2e^{-2}, so 1 - q = e^{-2q} at q = 1 + w/2.
        w, z = sp.Symbol("w"), -2 * sp.exp(-2)
        require_zero(-w / 2 - sp.exp(-2) * (w / z), "the equation")
        require(
            abs(sp.N((qmap - q).subs(q, star), 40)) < sp.Float("1e-35"),
            "the fixed point does not solve the equation.",
        )
        return "definition of W; inserted, 35 digits"

    page.step(
        r"q \mapsto 1 - e^{-2q}, \qquad \boxed{q^* = 1 + \tfrac12 W(-2e^{-2})}",
        r"$n\operatorname{Var} W = 2$. For the fixed point put $w = 2(q-1)$: the equation "
        r"$1 - q = e^{-2q}$ becomes $-\tfrac w2 = e^{-2}e^{-w}$, that is $we^w = -2e^{-2}$. $W$ is "
        "Lambert's function; its principal branch gives the nonzero solution.",
        fixed,
    )
    page.claim(
        sp.Derivative(qmap, q),
        2 * sp.exp(-2 * q),
        "The slope of the map.",
    )
    slope, chi = 2 * (1 - star), 2 - star
    page.holds(
        r"Q'(q^*) = 2(1 - q^*) < 1 < 2 = Q'(0)",
        r"At the fixed point $e^{-2q} = 1 - q$. The fixed point $q^*$ attracts and 0 repels.",
        sp.N(slope, 30) < 1,
        sp.N(slope, 30) > 0,
        (2 * sp.exp(-2 * q)).subs(q, 0) == 2,
        check="30 digits",
    )
    page.holds(
        r"\chi = 2\,\mathbb{E}[\cos^2 x] = 1 + e^{-2q^*} = 2 - q^* > 1",
        r"$\cos^2 + \sin^2 = 1$. In each layer the gradient's second moment grows by this factor, "
        "and near inputs move apart ([edge of chaos](edge_of_chaos.md)). A sine network is on the "
        "chaotic side, which lets it fit fine detail.",
        sp.N(chi, 30) > 1,
        check="30 digits",
    )
    page.section("Numbers")
    page.table(
        ("quantity", "value"),
        page.value("$q^*$", star),
        page.value("$Q'(q^*)$", slope),
        page.value(r"$\chi$", chi),
    )
    return page
