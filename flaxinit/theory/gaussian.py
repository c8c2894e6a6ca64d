"""Gaussian expectations in closed form, by an algorithm made for the job.

E[f(z)], z ~ N(0, q), is a sum over the terms of `terms.py`. Each exponential is absorbed by
completing the square, powers of z are taken down by Stein's identity, and what is left is one
of a handful of base integrals: the normal integral itself, erf of a shifted normal, Williams'
arcsine for two error functions, Bessel and exponential integrals for the algebraic factors.

References:
    Stein (1981), Estimation of the mean of a multivariate normal distribution.
    Williams (1998), Computation with infinite neural networks.
    Goodwin & Staton (1948), Table of ∫ e^{-u²}/(u+x) du.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import sympy
from sympy import Expr, I, Integer, Rational, asin, atan, erf, exp, oo, pi, sqrt

from flaxinit.theory.algebra import vanishes
from flaxinit.theory.algebraic import algebraic_expectation
from flaxinit.theory.pieces import Piece
from flaxinit.theory.symbols import q, z
from flaxinit.theory.terms import NoClosedForm, Term, expand
from flaxinit.theory.tidy import tidy


@dataclass(frozen=True)
class Step:
    """One line of a derivation: a reason, and the equation it gives (either side may be text)."""

    reason: str
    left: object
    right: object


@dataclass
class _Work:
    deadline: float
    steps: list[Step] = field(default_factory=list)
    cache: dict = field(default_factory=dict)

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise NoClosedForm("the time budget for the closed form is used up")

    def note(self, reason: str, left, right) -> None:
        step = Step(reason, left, right)
        if step not in self.steps:
            self.steps.append(step)


def expectation(pieces: Sequence[Piece], budget: float = 20.0) -> tuple[Expr, tuple[Step, ...]]:
    """E[f(z)] for z ~ N(0, q), as an expression in q, with the steps that lead to it.

    Args:
        pieces: f as smooth pieces that cover the real line.
        budget: seconds after which the search is given up.

    Returns:
        The expectation and its derivation.

    Raises:
        NoClosedForm: if a term is of no known kind, or time ran out.

    >>> from flaxinit.theory.pieces import split
    >>> expectation(split(sympy.Max(0, z) ** 2))[0]
    q/2
    """
    work = _Work(time.monotonic() + budget)
    if _is_odd(pieces):
        work.note("an odd function: z and −z cancel", "E", Integer(0))
        return Integer(0), tuple(work.steps)
    pieces = _even_part(pieces, work)
    total: Expr = Integer(0)
    for low, high, terms in _gathered(pieces, work):
        for term, coefficient in terms.items():
            work.check()
            total += coefficient * _term(term, low, high, work)
    value = tidy(total)
    work.note("the sum of all terms", "E", value)
    return value, tuple(work.steps)


def _is_odd(pieces: Sequence[Piece]) -> bool:
    return all(
        p.low == -m.high and vanishes(p.expr + m.expr.subs(z, -z))
        for p, m in zip(pieces, reversed(pieces), strict=True)
    )


def _even_part(pieces: Sequence[Piece], work: _Work) -> Sequence[Piece]:
    """The even part of a rational function of exponentials, where that is simpler."""
    expr = pieces[0].expr
    if len(pieces) > 1 or not any(p.exp.is_negative and p.has(exp) for p in expr.atoms(sympy.Pow)):
        return pieces
    even = sympy.cancel((expr + expr.subs(z, -z)) / 2)
    if even.has(exp):
        return pieces
    work.note("E[f(z)] = E[(f(z) + f(−z))/2], the even part", expr, even)
    return [Piece(-oo, oo, even)]


def _gathered(pieces: Sequence[Piece], work: _Work):
    """The terms interval by interval, the negative half-line folded onto the positive one."""
    if len(pieces) > 1:
        cuts = [piece.high for piece in pieces[:-1]]
        work.note("split where a branch changes", "z", sympy.Tuple(*cuts))
    intervals: dict[tuple[Expr, Expr], dict[Term, Expr]] = {}
    for piece in pieces:
        if piece.expr == 0:
            continue
        low, high, expr = piece.low, piece.high, piece.expr
        if low == -oo and high != oo and high.is_nonpositive:
            low, high, expr = -high, oo, expr.subs(z, -z)
            work.note("fold the negative side over: z → −z keeps the density", piece.expr, expr)
        terms = expand(expr)
        whole = intervals.setdefault((low, high), {})
        for term, coefficient in terms.items():
            whole[term] = whole.get(term, Integer(0)) + coefficient
    for (low, high), terms in intervals.items():
        kept = {term: sympy.expand(c) for term, c in terms.items() if sympy.expand(c) != 0}
        yield low, high, kept


def _term(term: Term, low: Expr, high: Expr, work: _Work) -> Expr:
    """E[term · 1(low < z < high)]."""
    if low == -high and term.is_odd:
        work.note("an odd function on a symmetric interval integrates to 0", term.expr, Integer(0))
        return Integer(0)
    if term.algebraic is not None:
        s, _, mass = _square(term, work)
        return mass * algebraic_expectation(term, s, low, high, work)
    return _moment(term, low, high, work)


def _square(term: Term, work: _Work) -> tuple[Expr, Expr, Expr]:
    """Completes the square: e^{az²+bz} N(z; 0, q) = mass · N(z; m, s)."""
    denominator = 1 - 2 * term.a * q
    at_one = denominator.subs(q, 1)
    if at_one.is_number and not at_one.is_positive:
        # Not yet a proof that the whole diverges: another term may cancel this one.
        raise NoClosedForm(f"{term.expr} alone outgrows the decay of the normal density")
    s = sympy.cancel(q / denominator)
    m = sympy.expand(term.b * s) if term.b != 0 else Integer(0)
    mass = 1 / sqrt(denominator)
    if term.b != 0:
        mass *= exp(sympy.cancel(term.b**2 * s / 2))
    if term.a != 0 or term.b != 0:
        work.note(
            "complete the square: e^{az²+bz} N(z; 0, q) = c · N(z; m, s), with (c, m, s)",
            exp(term.a * z**2 + term.b * z),
            sympy.Tuple(mass, m, s),
        )
    return s, m, mass


def _moment(term: Term, low: Expr, high: Expr, work: _Work) -> Expr:
    """E[zⁿ e^{az²+bz} Π erf(γz+δ) · 1(low < z < high)] by Stein's identity, down to n = 0."""
    key = (term, low, high)
    if key not in work.cache:
        work.check()
        work.cache[key] = _reduced(term, low, high, work)
    return work.cache[key]


def _reduced(term: Term, low: Expr, high: Expr, work: _Work) -> Expr:
    s, m, mass = _square(term, work)
    if not (term.n.is_Integer and term.n >= 0):
        return mass * _fractional(term, s, m, low, high, work)
    if term.n == 0:
        return mass * _base(term, s, m, low, high, work)
    # E[z·g] = m E[g] + s E[g'] with g = z^{n−1} Π erf, minus the boundary term s [g N].
    once = replace(term, n=term.n - 1)
    value = m * _moment(once, low, high, work) if m != 0 else Integer(0)
    if term.n >= 2:
        twice = replace(term, n=term.n - 2)
        value += s * (term.n - 1) * _moment(twice, low, high, work)
    for i, (gamma, delta) in enumerate(term.erfs):
        rest = Term(
            n=term.n - 1,
            a=term.a - gamma**2,
            b=term.b - 2 * gamma * delta,
            erfs=term.erfs[:i] + term.erfs[i + 1 :],
        )
        value += s * 2 * gamma / sqrt(pi) * exp(-(delta**2)) * _moment(rest, low, high, work)
    for end, direction in ((low, 1), (high, -1)):
        if end.is_finite:
            value += direction * s * _boundary(once, end)
    work.note("Stein: E[z g(z)] = m E[g] + s E[g′], less s·[g N] at the ends", term.expr, value)
    return value


def _boundary(term: Term, end: Expr) -> Expr:
    """The term times the density N(z; 0, q), at an end of the interval."""
    return term.expr.subs(z, end) * exp(-(end**2) / (2 * q)) / sqrt(2 * pi * q)


def _base(term: Term, s: Expr, m: Expr, low: Expr, high: Expr, work: _Work) -> Expr:
    """E[Π erf(γz+δ) · 1(low < z < high)] for z ~ N(m, s)."""
    everywhere = low == -oo and high == oo
    right_half = low == 0 and high == oo and m == 0
    if not term.erfs:
        if everywhere:
            return Integer(1)
        if m.has(I):
            raise NoClosedForm("a trigonometric function on a part of the line")
        value = (_cdf(high, m, s) - _cdf(low, m, s)) / 2
        work.note("the normal integral over the interval", sympy.Interval(low, high), value)
        return value
    if len(term.erfs) == 1:
        ((gamma, delta),) = term.erfs
        if everywhere and not m.has(I):
            value = erf((gamma * m + delta) / sqrt(1 + 2 * gamma**2 * s))
            work.note(
                "E[erf(γz+δ)] = erf((γm+δ)/√(1+2γ²s)) for z ~ N(m, s)",
                erf(gamma * z + delta),
                value,
            )
            return value
        if right_half and delta == 0:
            value = atan(gamma * sqrt(2 * s)) / pi
            work.note("E[erf(γz) 1(z>0)] = arctan(γ√(2s))/π", erf(gamma * z), value)
            return value
    if len(term.erfs) == 2 and m == 0 and all(delta == 0 for _, delta in term.erfs):
        (g1, _), (g2, _) = term.erfs
        share = Integer(1) if everywhere else Rational(1, 2)
        if everywhere or right_half:
            spread = sympy.factor(sympy.together((1 + 2 * g1**2 * s) * (1 + 2 * g2**2 * s)))
            value = 2 / pi * asin(sympy.cancel(2 * g1 * g2 * s) / sqrt(spread)) * share
            work.note(
                "Williams: E[erf(γz) erf(κz)] = (2/π) arcsin(2γκs/√((1+2γ²s)(1+2κ²s)))",
                erf(g1 * z) * erf(g2 * z),
                value,
            )
            return value
    raise NoClosedForm("error functions on a part of the line, or with a shift")


def _cdf(end: Expr, m: Expr, s: Expr) -> Expr:
    """2Φ − 1 at an end of the interval."""
    if end in (oo, -oo):
        return Integer(1) if end == oo else Integer(-1)
    return erf((end - m) / sqrt(2 * s))


def _fractional(term: Term, s: Expr, m: Expr, low: Expr, high: Expr, work: _Work) -> Expr:
    """E[zᵖ 1(z>0)], for a real power p."""
    p = term.n
    if p.is_number and p <= -1 and low <= 0 <= high:
        raise NoClosedForm(f"{term.expr} alone has a pole at 0")
    if term.erfs or m != 0 or (low, high) != (0, oo):
        raise NoClosedForm(f"the power z**({p}) is known on z > 0 alone")
    value = (2 * s) ** (p / 2) * sympy.gamma((p + 1) / 2) / (2 * sqrt(pi))
    work.note("the Gamma integral of a power: E[zᵖ 1(z>0)]", z**p, value)
    return value
