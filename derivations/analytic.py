"""Analytic activations without a closed form: strips, limits and certificates."""

import sympy as sp

from derivations.activation import TARGETS, Activation
from derivations.notation import E, latex, oo, phi, plain, q, sigma, x, y
from derivations.page import Claim
from derivations.proof import exponentials, is_zero, require, require_zero, symmetry
from derivations.trapezoid import Strip, certify, explain

A = sp.Rational(3, 4)
"""Half-width of the strip: 3/4 < π/4, where cos 2y > 0."""

z = sp.Symbol("z", real=True)


def tanh_bound(page: Activation) -> int:
    """Prove that |tanh| ≤ 1 in the strip |Im| ≤ π/4."""
    lhs = sp.tanh(x + sp.I * y) * sp.tanh(x - sp.I * y)
    rhs = (sp.cosh(2 * x) - sp.cos(2 * y)) / (sp.cosh(2 * x) + sp.cos(2 * y))
    page.claim(
        lhs,
        rhs,
        r"$\lvert\tanh(x+iy)\rvert^2$ is the product with the conjugate. Use "
        r"$2\sinh w\sinh\bar w = \cosh 2x - \cos 2y$ and "
        r"$2\cosh w\cosh\bar w = \cosh 2x + \cos 2y$ for $w = x + iy$.",
        exponentials,
    )
    return page.holds(
        r"\lvert\tanh(x+iy)\rvert \le 1 \qquad\text{for } \lvert y\rvert \le \tfrac{\pi}{4}",
        r"There $\cos 2y \ge 0$, so the numerator does not exceed the denominator.",
        sp.cos(2 * sp.pi / 4) >= 0,
        sp.pi / 4 > A,
        check="sign of the cosine",
    )


def sigma_bound(page: Activation) -> int:
    """Prove that |σ| ≤ 1 in the strip |Im| ≤ π/2."""
    page.claim(
        sigma(x),
        (1 + sp.tanh(x / 2)) / 2,
        r"Multiply numerator and denominator of $\sigma(x) = 1/(1+e^{-x})$ by $e^{x/2}$.",
        exponentials,
    )
    tanh_bound(page)
    return page.holds(
        r"\lvert\sigma(x+iy)\rvert \le \tfrac12(1 + 1) = 1 "
        r"\qquad\text{for } \lvert y\rvert \le \tfrac{\pi}{2}",
        r"Half the argument lies in the strip $\lvert y\rvert \le \pi/4$ of the previous step.",
        sp.pi / 2 > 2 * A,
    )


def softplus_bound(page: Activation) -> int:
    """Prove that |log(1 + e^x)| ≤ |Re x| + 3/4 + log 2 in the strip |Im x| ≤ 3/4."""
    return page.holds(
        r"\lvert s(x+iy)\rvert \le \lvert x\rvert + \tfrac34 + \log 2 "
        r"\qquad\text{for } \lvert y\rvert \le \tfrac34",
        r"On the real line $0 \le \log(1+e^x) \le \log(2e^{\lvert x\rvert})$. From $x$ to $x+iy$ "
        r"the function changes by at most $\lvert y\rvert\,\max\lvert\sigma\rvert \le \lvert "
        r"y\rvert$.",
        sp.pi / 2 > A,
    )


def derive(
    page: Activation,
    strip: Strip,
    *,
    growth: int,
    closed: dict[str, Claim] | None = None,
) -> None:
    """Write what holds without a closed form, then the certificates and the results.

    Args:
        page: the activation's page.
        strip: where φ and φ' are analytic, with the bounds of their atoms.
        growth: k such that φ(t)/|t|^k has limits at ±∞ (0 for bounded functions).
        closed: closed forms that the page found. The mean of an odd function is added here.
    """
    f, df = page.pieces[0][0], page.slopes[0][0]
    closed = dict(closed or {})
    page.section("Parity")
    if is_zero(sp.simplify(plain(f + f.subs(x, -x)).rewrite(sp.exp))):
        closed["mean"] = page.claim(
            E(phi(x)), sp.S.Zero, r"$\phi(-x) = -\phi(x)$, and the density is even.", symmetry
        )
    elif "mean" not in closed:
        page.say(r"$\phi$ is not odd, so its mean is enclosed below.")
    limits(page, f, growth)
    page.section("Certified values at $q = 1$")
    explain(page, strip)
    integrands = {"mean": f, "second": f**2, "backward": df**2}
    for which, (target, _) in TARGETS.items():
        if which in closed:
            page.result(which, closed[which])
            continue
        bounds = certify(page, latex(target), integrands[which], strip)
        page.result(which, bounds)


def limits(page: Activation, f: sp.Expr, growth: int) -> None:
    """Write the limits of E[φ²] as q → 0 and as q → ∞."""
    page.section("Small and large $q$")
    at_zero = [sp.simplify(plain(sp.diff(f, x, n)).subs(x, 0).rewrite(sp.exp)) for n in range(3)]
    rate = sp.simplify(at_zero[1] ** 2 + at_zero[0] * at_zero[2])

    def small() -> str:
        second = sp.diff(f**2, x, 2) / 2
        require_zero(sp.simplify(plain(second).subs(x, 0)) - rate, "½ (φ²)'' at 0")
        return "derivatives at the origin"

    start = at_zero[0] ** 2
    expansion = " + ".join(latex(e) for e in (start, rate * q) if e != 0) or "0"
    page.step(
        rf"{latex(E(phi(x) ** 2))} = {expansion} + O(q^2), "
        r"\qquad q \to 0",
        r"The heat equation of the Gaussian, $\frac{d}{dq}\mathbb{E}[f(x)] = "
        r"\tfrac12\mathbb{E}[f''(x)]$ with $f = \phi^2$: at $q = 0$ it gives "
        rf"$\phi'(0)^2 + \phi(0)\,\phi''(0)$, and here $\phi(0) = {latex(at_zero[0])}$, "
        rf"$\phi'(0) = {latex(at_zero[1])}$, $\phi''(0) = {latex(at_zero[2])}$.",
        small,
    )
    ends = [_end(f, growth, sign) for sign in (-1, 1)]

    def large() -> str:
        for end in ends:
            require(end.is_finite, f"φ(t)/|t|^{growth} has no finite limit.")
        return "limits at both ends"

    moment = sp.factorial2(2 * growth - 1)
    value = (ends[0] ** 2 + ends[1] ** 2) / 2 * moment
    power = "" if growth == 0 else r"\,/\,q" if growth == 1 else rf"\,/\,q^{growth}"
    over = (
        "" if growth == 0 else r"/\lvert t\rvert" if growth == 1 else rf"/\lvert t\rvert^{growth}"
    )
    page.step(
        rf"{latex(E(phi(x) ** 2))}{power} \to {latex(value)}, \qquad q \to \infty",
        rf"$\phi(t){over}$ tends to ${latex(ends[0])}$ as $t \to -\infty$ and to "
        rf"${latex(ends[1])}$ as $t \to \infty$. Put $x = \sqrt q\,z$. By dominated convergence "
        rf"the limit may be taken inside, and each half line holds half of "
        rf"$\mathbb{{E}}[z^{{{2 * growth}}}] = {moment}$.",
        large,
    )


def _end(f: sp.Expr, growth: int, sign: int) -> sp.Expr:
    ratio = (plain(f) / x**growth).subs(x, sign * z).rewrite(sp.exp)
    return sp.limit(sp.simplify(ratio), z, oo) * sign**growth
