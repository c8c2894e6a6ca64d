"""Gaussian expectations of piecewise polynomials, knot by knot.

A spline of a hundred pieces has two hundred ends, but a knot contributes only by the difference of
its two polynomials.
"""

from collections.abc import Sequence

import sympy
from sympy import Expr, Integer, Poly, erf, exp, pi, sqrt

from flaxinit.theory.functions.algebra import polynomial
from flaxinit.theory.functions.effort import spend
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.symbols import q

_KNOT = 2000  # units of work that a knot takes
_READ = 40  # a sum of more terms is not factored, because nobody will read it
REASON = (
    r"For a polynomial $p$, Stein's identity gives $\mathbb{E}[p;\ z < c] = a_p\, \Phi(c/\sqrt q) "
    r"- b_p(c)\, \mathcal{N}(c;\, 0,\, q)$, where $a_{z^n} = (n-1)\, q\, a_{z^{n-2}}$ and "
    r"$b_{z^n}(c) = q c^{n-1} + (n-1)\, q\, b_{z^{n-2}}(c)$. In the sum over the pieces, each knot "
    r"contributes the difference of its two polynomials"
)


def polynomials(pieces: Sequence[Piece]) -> list[Poly] | None:
    """Return the pieces as polynomials in z; None if one is not a polynomial."""
    found = []
    for piece in pieces:
        if (poly := polynomial(piece.expr)) is None:
            return None
        found.append(poly)
    return found


def knot_expectation(pieces: Sequence[Piece], polys: Sequence[Poly]) -> Expr:
    """Return E[f(z)], z ~ N(0, q), of pieces that are the given polynomials.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> relu = split(sympy.Max(0, sympy.Symbol("z", real=True)))
    >>> knot_expectation(relu, polynomials(relu))
    sqrt(2)*sqrt(q)/(2*sqrt(pi))
    """
    terms: dict[Expr, Expr] = {Integer(1): _full(polys[-1])}
    for piece, left, right in zip(pieces, polys, polys[1:], strict=False):
        spend(_KNOT)
        knot, gap = piece.high, left - right
        if gap.is_zero:
            continue
        whole, edge = _full(gap), _edge(gap, knot)
        for kind, coefficient in (
            (Integer(1), whole / 2),
            (erf(knot / sqrt(2 * q)), whole / 2),
            (sqrt(q) * exp(-(knot**2) / (2 * q)), -edge / sqrt(2 * pi)),
        ):
            # SymPy writes erf(−x) as −erf(x).
            sign, kind = kind.as_coeff_Mul()
            terms[kind] = terms.get(kind, Integer(0)) + sign * coefficient
    if len(terms) <= _READ:
        terms = {kind: sympy.factor(coefficient) for kind, coefficient in terms.items()}
    return sympy.Add(*[coefficient * kind for kind, coefficient in terms.items()])


def _full(poly: Poly) -> Expr:
    """Return a_p = E[p], with E[zⁿ] = (n − 1) q E[zⁿ⁻²]."""
    return sympy.Add(
        *[c * sympy.factorial2(n - 1) * q ** (n // 2) for (n,), c in poly.terms() if n % 2 == 0]
    )


def _edge(poly: Poly, knot: Expr) -> Expr:
    """Return b_p(c)/q, which for zⁿ is Σ_k (n−1)(n−3)…(n−2k+1) qᵏ c^{n−1−2k}."""
    powers: dict[int, list[Expr]] = {}
    for (n,), coefficient in poly.terms():
        for k in range((n + 1) // 2):
            powers.setdefault(k, []).append(coefficient * knot ** (n - 1 - 2 * k))
            coefficient *= n - 1 - 2 * k
    totals = {k: sympy.Add(*terms) for k, terms in powers.items()}
    return sympy.Add(*[(c if c.is_Rational else sympy.expand(c)) * q**k for k, c in totals.items()])
