"""Piecewise polynomials: cut the line and add up truncated Gaussian moments."""

import sympy as sp

from derivations.activation import TARGETS, Activation
from derivations.notation import E, Phi, linear, oo, p, plain, x
from derivations.page import Claim
from derivations.proof import (
    algebra,
    between,
    even,
    following,
    gaussian_primitive,
    mirror,
    moments,
    require_zero,
)

HEADINGS = {"mean": "Mean", "second": "Second moment", "backward": "Backward second moment"}
JUMP_AT_0 = (
    r"The derivative above holds almost everywhere; automatic differentiation returns it. It "
    r"leaves out the jump at 0: as a distribution, $\phi'$ has a delta there, and the C-map "
    r"has an infinite slope at $c = 1$. No weight variance keeps gradients through this "
    r"function."
)


def two_half_lines(page: Activation, **results: sp.Expr) -> None:
    """Derive the moments of one polynomial left of 0 and another right of it, by reflection.

    Args:
        page: the activation's page.
        **results: the author's closed forms of `mean`, `second` and `backward`.
    """
    for which, result in results.items():
        page.section(HEADINGS[which])
        step = page.cut(TARGETS[which][0], "The definition, on each half line.")
        folded = sp.Add(*(_right(part) for part in sorted(step.rhs.atoms(E), key=str)))
        if folded != step.rhs:
            step = step.then(
                folded, "The density is even: reflect the left half line onto the right.", mirror
            )
        f = sum(
            count * part.args[0]
            for part, count in folded.as_coefficients_dict().items()
            if part.args
        )
        f = sp.expand(f)
        if f == 0 or folded == 0:
            if step.rhs != result:
                step = step.then(result, "The two halves cancel.", algebra)
        elif sp.expand(f - f.subs(x, -x)) == 0:
            step = step.then(
                E(f) / 2, "The integrand is even: half of the expectation over the line.", even
            ).then(result, _WHOLE[sp.degree(f, x) if f.has(x) else 0], moments)
        else:
            step = step.then(result, _HALF, moments)
        page.result(which, step.box())


def _right(part: sp.Expr) -> sp.Expr:
    f, a, _ = part.args
    return E(f.subs(x, -x) if a == -oo else f, 0, oo)


def whole_line(page: Activation, **results: sp.Expr) -> None:
    """Derive the moments of a polynomial."""
    for which, result in results.items():
        page.section(HEADINGS[which])
        target = TARGETS[which][0]
        inside = linear(page.unfold(target))
        step = page.claim(target, inside, "The definition.")
        if result != inside:
            f = sp.expand(page.unfold(target).args[0])
            because = "An odd power has mean 0." if result == 0 else _WHOLE[sp.degree(f, x)]
            step = step.then(result, because, moments)
        page.result(which, step.box())


_WHOLE = {
    0: "The total probability is 1.",
    2: r"$\mathbb{E}[x^2] = q$ is the variance.",
    4: r"$\mathbb{E}[x^4] = 3q^2$: Stein's lemma twice, "
    r"$\mathbb{E}[x \cdot x^3] = 3q\,\mathbb{E}[x^2]$.",
}
_HALF = (
    r"$-q\,p(x)$ has the derivative $x\,p(x)$, so "
    r"$\mathbb{E}[x;\ x>0] = q\,p(0) = \sqrt{q/2\pi}$."
)


def truncated(page: Activation, **results: sp.Expr) -> None:
    """Derive the moments of a polynomial on each of several pieces.

    Args:
        page: the activation's page.
        **results: the author's closed forms of `mean`, `second` and `backward`.
    """
    degrees = sorted(
        {
            n
            for pieces, power in ((page.pieces, 1), (page.pieces, 2), (page.slopes, 2))
            for f, *_ in pieces
            for (n,) in sp.Poly(f**power, x).monoms()
            if f != 0
        }
    )
    page.section("Truncated moments of the Gaussian")
    page.say(
        r"The density of $x$ is $p(x) = e^{-x^2/2q}/\sqrt{2\pi q}$, with $p' = -(x/q)\,p$; its "
        r"distribution function is $\Phi(x/\sqrt q)$. Each primitive below was found by "
        r"integration by parts and is checked by differentiation. At $\pm\infty$, $p = 0$ and "
        r"$\Phi = 0$ or $1$. By symmetry, $\Phi(-s) = 1 - \Phi(s)$ and $p(-x) = p(x)$."
    )
    for n in degrees:
        page.claim(
            sp.Derivative(gaussian_primitive(n), x),
            x**n * p(x),
            "The distribution function." if n == 0 else "Product rule, and $p' = -(x/q)\\,p$.",
            _density,
        )
    known: dict[sp.Expr, Claim] = {}
    for which, result in results.items():
        page.section(HEADINGS[which])
        step = page.cut(TARGETS[which][0], "Cut the line at the ends of the pieces.")
        spread = linear(step.rhs)
        if spread != step.rhs:
            step = step.then(spread, "Multiply out; $\\mathbb{E}$ is linear.", algebra)
        parts = sorted(step.rhs.atoms(E), key=sp.default_sort_key)
        for part in parts:
            if part not in known:
                known[part] = page.claim(part, _at_the_ends(part), _ENDS, moments)
        numbers = ", ".join(str(known[part]) for part in parts)
        by = following(*(known[part] for part in parts))
        if step.rhs != result:
            step = step.then(result, f"Insert {numbers}; collect the terms.", by)
        page.result(which, step.box())


_ENDS = r"The primitive at the right end minus the primitive at the left end."


def _at_the_ends(part: sp.Expr) -> sp.Expr:
    """Return the value of E[xⁿ; a<x<b], simplified by Φ(-s) = 1 - Φ(s) and p(-s) = p(s)."""
    value = between(gaussian_primitive(sp.degree(part.args[0], x)), x, *part.limits)
    value = value.replace(
        lambda e: isinstance(e, Phi) and e.args[0].could_extract_minus_sign(),
        lambda e: 1 - Phi(-e.args[0]),
    )
    value = value.replace(
        lambda e: isinstance(e, p) and e.args[0].could_extract_minus_sign(),
        lambda e: p(-e.args[0]),
    )
    return sp.expand(value)


def _density(lhs: sp.Expr, rhs: sp.Expr) -> str:
    require_zero(plain(lhs.doit() - rhs), "the primitive")
    return "differentiation"
