"""Softsign: its integral is the solution of a differential equation."""

import sympy as sp

from derivations import references as ref
from derivations.activation import Activation
from derivations.notation import E, latex, oo, p, phi, plain, q, slope, t, x
from derivations.proof import (
    following,
    integral,
    is_zero,
    mirror,
    moments,
    parts_on_half_line,
    primitive,
    require_zero,
    tends,
)


def s(n: int) -> sp.Expr:
    """Return S_n = E[(1+x)^{-n}; x>0]."""
    return E((1 + x) ** -n, 0, oo)


def substituted(a: sp.Symbol, closed: sp.Expr):
    """Return the warrant for E[1/(1+x); x>0] = (a/√π) J(a), by x = t/a with a = 1/√(2q).

    Args:
        a: the symbol of J's argument.
        closed: J(a).
    """

    def warrant(lhs, rhs):
        density = plain(lhs.args[0] * p(x)).subs(x, t / a) / a
        density = density.subs(q, 1 / (2 * a**2))
        require_zero(density - a / sp.sqrt(sp.pi) * sp.exp(-(t**2)) / (t + a), "the integrand")
        require_zero((rhs - (a / sp.sqrt(sp.pi) * closed).subs(a, 1 / sp.sqrt(2 * q))), "the value")
        return "substitution"

    return warrant


def _backward(first: sp.Expr) -> sp.Expr:
    """Return 2 S_4 in terms of S_1, by the recursion."""
    p0 = 1 / sp.sqrt(2 * sp.pi * q)
    second = p0 + (first - sp.S.Half) / q
    third = p0 / 2 + (second - first) / (2 * q)
    return sp.collect(sp.expand(2 * (p0 / 3 + (third - second) / (3 * q))), first)


def write() -> Activation:
    page = Activation(
        "softsign",
        "Softsign",
        ref.BERGSTRA_2009,
        ref.GLOROT_2010,
        ref.ABRAMOWITZ_1964,
        pieces=[(x / (1 - x), -oo, 0), (x / (1 + x), 0, oo)],
    )
    page.section("The integral $J$")
    a = sp.Symbol("a", positive=True)
    J = sp.Function("J")(a)
    page.say(
        r"Let $J(a) = \int_0^\infty \frac{e^{-t^2}}{t+a}\,dt$ and "
        r"$S_n = \mathbb{E}[(1+x)^{-n};\ x>0]$."
    )
    rate = page.claim(
        sp.exp(-(t**2)) / (t + a) ** 2 + sp.Derivative(sp.exp(-(t**2)) / (t + a), t),
        -2 * sp.exp(-(t**2)) + 2 * a * sp.exp(-(t**2)) / (t + a),
        r"Differentiate $J$ under the integral: "
        r"$\frac{d}{da}\frac{1}{t+a} = -\frac{1}{(t+a)^2}$. The product rule and $t = (t+a) - a$ "
        r"replace the square by a derivative in $t$.",
    )
    total = page.claim(
        sp.Integral(sp.exp(-(t**2)), (t, 0, oo)),
        sp.sqrt(sp.pi) / 2,
        "The Gaussian integral.",
        primitive(sp.sqrt(sp.pi) * sp.erf(t) / 2),
    )
    page.holds(
        r"J'(a) = \sqrt\pi - \frac1a - 2a\,J(a)",
        rf"Integrate {rate} over $t > 0$ with {total}. The derivative in $t$ contributes "
        r"$-\frac1a$, from the lower end, and $J' = -\int e^{-t^2}(t+a)^{-2}dt$.",
        is_zero((sp.exp(-(t**2)) / (t + a)).subs(t, 0) - 1 / a),
    )
    closed = sp.exp(-(a**2)) / 2 * (sp.pi * sp.erfi(a) - sp.Ei(a**2))
    page.claim(
        sp.Derivative(closed, a),
        sp.sqrt(sp.pi) - 1 / a - 2 * a * closed,
        r"$\operatorname{erfi}'(a) = \tfrac{2}{\sqrt\pi}e^{a^2}$ and "
        r"$\frac{d}{da}\operatorname{Ei}(a^2) = \tfrac2a e^{a^2}$, so this function solves the "
        "same equation.",
    )
    page.claim(
        sp.Limit(closed + sp.log(a), a, 0),
        -sp.EulerGamma / 2,
        r"$\operatorname{Ei}(a^2) = \gamma + 2\log a + O(a^2)$, $\operatorname{erfi}(0) = 0$.",
        tends,
    )
    page.claim(
        2 * sp.Integral(t * sp.exp(-(t**2)) * sp.log(t), (t, 0, oo)),
        -sp.EulerGamma / 2,
        r"Integrating by parts, $J(a) + \log a \to 2\int_0^\infty t\,e^{-t^2}\log t\,dt$ as "
        r"$a \to 0$. With $s = t^2$ this is $\tfrac12\int_0^\infty e^{-s}\log s\,ds = "
        r"-\tfrac12\gamma$, the definition of Euler's constant.",
        integral,
    )
    page.holds(
        rf"{latex(J)} = {latex(closed)}",
        "Two solutions of one linear equation of first order differ by a multiple of $e^{-a^2}$, "
        "which is not 0 at $a = 0$. The two limits at 0 agree, so the multiple is 0.",
        sp.limit(sp.exp(-(a**2)), a, 0) == 1,
    )
    scale = 1 / sp.sqrt(2 * q)
    s1_value = scale / sp.sqrt(sp.pi) * closed.subs(a, scale)
    s1 = page.claim(
        s(1),
        s1_value,
        r"Put $x = \sqrt{2q}\,t$: $S_1 = \frac{a}{\sqrt\pi}\,J(a)$ with $a = 1/\sqrt{2q}$.",
        substituted(a, closed),
    )
    page.section("Higher powers")
    page.say(
        r"Integration by parts on the half line: $\mathbb{E}[x f;\ x>0] = q f(0)\,p(0) + "
        r"q\,\mathbb{E}[f';\ x>0]$, and $x = (1+x) - 1$."
    )
    p0 = 1 / sp.sqrt(2 * sp.pi * q)
    half = page.claim(E(sp.S.One, 0, oo), sp.S.Half, "Half of the probability.", moments)
    s2 = page.claim(
        s(2),
        p0 + (s(1) - sp.S.Half) / q,
        rf"$f = (1+x)^{{-1}}$: $\tfrac12 - S_1 = q\,p(0) - q\,S_2$, with {half}.",
        parts_on_half_line((1 + x) ** -1),
    )
    s3 = page.claim(
        s(3),
        p0 / 2 + (s(2) - s(1)) / (2 * q),
        r"$f = (1+x)^{-2}$: $S_1 - S_2 = q\,p(0) - 2q\,S_3$.",
        parts_on_half_line((1 + x) ** -2),
    )
    s4 = page.claim(
        s(4),
        p0 / 3 + (s(3) - s(2)) / (3 * q),
        r"$f = (1+x)^{-3}$: $S_2 - S_3 = q\,p(0) - 3q\,S_4$.",
        parts_on_half_line((1 + x) ** -3),
    )
    page.section("Mean")
    mean = (
        page.cut(E(phi(x)), "The definition, on each half line.")
        .then(sp.S.Zero, "Reflect the left half line onto the right: the two cancel.", mirror)
        .box()
    )
    page.section("Second moment")
    second = (
        page.cut(E(phi(x) ** 2), "The definition, on each half line.")
        .then(
            2 * E(x**2 / (1 + x) ** 2, 0, oo), "Reflect the left half line onto the right.", mirror
        )
        .then(
            2 * E(sp.S.One, 0, oo) - 4 * s(1) + 2 * s(2),
            r"$\left(\frac{x}{1+x}\right)^2 = \left(1 - \frac{1}{1+x}\right)^2$.",
        )
        .then(
            1 + 2 * p0 - 1 / q + (2 / q - 4) * s(1), f"Insert {half} and {s2}.", following(s2, half)
        )
        .then(1 + 2 * p0 - 1 / q + (2 / q - 4) * s1_value, f"Insert {s1}.", following(s1))
        .box()
    )
    page.section("Backward second moment")
    backward = (
        page.claim(
            E(slope(x) ** 2),
            E((1 - x) ** -4, -oo, 0) + E((1 + x) ** -4, 0, oo),
            r"$\phi'(x) = (1+\lvert x\rvert)^{-2}$.",
            page.split,
        )
        .then(2 * s(4), "Reflect the left half line onto the right.", mirror)
        .then(
            _backward(s(1)),
            f"Insert {s4}, {s3} and {s2}, each into the result of the last.",
            following(s4, s3, s2),
        )
        .then(_backward(s1_value), f"Insert {s1}.", following(s1))
        .box()
    )
    page.result("mean", mean)
    page.result("second", second)
    page.result("backward", backward)
    return page
