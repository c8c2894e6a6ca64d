"""Gaussian expectations in closed form, by an algorithm made for them.

E[f(z)], z ~ N(0, q), is a sum over the terms of `terms`. Completing the square absorbs each
exponential, and Stein's identity lowers the powers of z. A few base integrals remain: the normal
integral, erf of a shifted normal, Williams' arcsine for two error functions, and Bessel and
exponential integrals for algebraic factors.

References: Stein (1981), Estimation of the mean of a multivariate normal distribution; Williams
(1998), Computation with infinite neural networks; Goodwin, Staton (1948), Table of
∫ e^{-u²}/(u+x) du.
"""

from collections.abc import Sequence
from dataclasses import replace

import sympy
from sympy import Expr, I, Integer, asin, atan, erf, exp, oo, pi, sqrt

from flaxinit.theory.functions.algebra import vanishes
from flaxinit.theory.functions.constants import kept_whole
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.parity import even_part, is_odd
from flaxinit.theory.functions.piecewise import Piece, join
from flaxinit.theory.functions.printing import latex
from flaxinit.theory.functions.symbols import q, z
from flaxinit.theory.functions.tidy import tidy
from flaxinit.theory.moments.algebraic import algebraic_expectation
from flaxinit.theory.moments.knots import REASON, knot_expectation, polynomials
from flaxinit.theory.moments.record import Expectation, Step, Work, normal, unevaluated_sum
from flaxinit.theory.moments.terms import NoClosedForm, Term, attempt, expand

_MANY = 8  # a piecewise polynomial of more pieces is integrated knot by knot
_TERM = 3000  # units of work that one integral takes
_WRITING = 10  # and for each part of its value, written out


class Positive(sympy.Function):
    """1 − 2aq for a > 0, which is positive wherever the expectation is finite.

    SymPy does not know that, and would write the root of q/(1 − 2aq) with (2aq − 1).
    """

    is_positive = True

    def _latex(self, printer, exp=None):
        body = rf"\left({printer.doprint(self.args[0])}\right)"
        return body if exp is None else rf"{body}^{{{exp}}}"


def expectation(pieces: Sequence[Piece], budget: float = 5.0) -> tuple[Expr, tuple[Step, ...]]:
    """Return E[f(z)] for z ~ N(0, q), as an expression in q, with the steps that lead to it.

    Args:
        pieces: f as smooth pieces that cover the real line.
        budget: how much work the search may take, in seconds of one core.

    Returns:
        The expectation and its derivation.

    Raises:
        NoClosedForm: if the kind of a term is not known, or the search takes too much work.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> expectation(split(sympy.Max(0, z) ** 2))[0]
    q/2
    """
    names = kept_whole(*(expr for p in pieces for expr in (p.low, p.high, p.expr)))
    with attempt(budget):
        value, steps = _expectation(
            [Piece(*(e.xreplace(names) for e in (p.low, p.high, p.expr))) for p in pieces]
        )
        return value.xreplace({name: power for power, name in names.items()}), steps


def _expectation(pieces: Sequence[Piece]) -> tuple[Expr, tuple[Step, ...]]:
    work = Work()
    if is_odd(pieces):
        work.note("The function is odd: $z$ and $-z$ cancel", "E", Integer(0))
        return Integer(0), work.steps
    if len(pieces) > _MANY and (polys := polynomials(pieces)) is not None:
        value = knot_expectation(pieces, polys)
        work.note(REASON, "E", value)
        return value, work.steps
    if (even := even_part(pieces)) is not None:
        work.note(
            r"Only the even part counts: $\mathbb{E}[f(z)] = \mathbb{E}[(f(z) + f(-z))/2]$",
            unevaluated_sum([(Integer(1), Expectation(p.expr, p.low, p.high)) for p in pieces]),
            unevaluated_sum([(Integer(1), Expectation(p.expr, p.low, p.high)) for p in even]),
        )
        pieces = join(list(even))
    total: Expr = Integer(0)
    unevaluated = []
    for low, high, terms in _gathered(pieces, work):
        for term, coefficient in terms.items():
            unevaluated.append((coefficient, Expectation(term.expr, low, high)))
            total += coefficient * _term(term, low, high, work)
    value = tidy(total.replace(Positive, lambda u: u))
    work.note("Add the terms up", "E", unevaluated_sum(unevaluated), value)
    return value, work.steps


def _gathered(pieces: Sequence[Piece], work: Work):
    """Yield the terms of each interval, with the negative half-line folded onto the positive."""
    if len(pieces) > 1:
        cuts = [piece.high for piece in pieces[:-1]]
        places = ",\\ ".join(f"z = {latex(cut)}" for cut in cuts)
        unevaluated = [(Integer(1), Expectation(p.expr, p.low, p.high)) for p in pieces]
        work.note(f"Split where a branch changes, at ${places}$", "E", unevaluated_sum(unevaluated))
    intervals: dict[tuple[Expr, Expr], dict[Term, Expr]] = {}
    for piece in pieces:
        if piece.expr == 0:
            continue
        low, high, expr = piece.low, piece.high, piece.expr
        if low == -oo and high != oo and high.is_nonpositive:
            low, high, expr = -high, oo, expr.subs(z, -z)
            work.note(
                r"Fold the negative side over: $z \to -z$ keeps the density",
                Expectation(piece.expr, piece.low, piece.high),
                Expectation(expr, low, high),
            )
        if low == -high and expr.has(sympy.log) and vanishes(expr - expr.subs(z, -z)):
            low, expr = Integer(0), 2 * expr
            work.note(
                "The function is even: both sides contribute the same",
                Expectation(piece.expr, piece.low, piece.high),
                Expectation(expr, low, high),
            )
        terms = expand(expr)
        expanded = sympy.Add(*[c * term.expr for term, c in terms.items()])
        if expanded != expr:
            trigonometric = expr.has(sympy.sin, sympy.cos)
            how = ", with sines and cosines as exponentials" if trigonometric else ""
            work.note(f"Multiply out{how}", expr, expanded)
        whole = intervals.setdefault((low, high), {})
        for term, coefficient in terms.items():
            whole[term] = whole.get(term, Integer(0)) + coefficient
    for (low, high), terms in intervals.items():
        kept = {term: sympy.expand(c) for term, c in terms.items() if sympy.expand(c) != 0}
        _require_no_pole(kept, low, high)
        yield low, high, kept


def _require_no_pole(terms: dict[Term, Expr], low: Expr, high: Expr) -> None:
    """Refuse a sum of inverse powers whose poles at 0 do not cancel."""
    powers = [int(term.n) for term in terms if term.n.is_Integer and not term.logs]
    if not low < 0 < high or min(powers, default=0) >= 0:
        return
    lowest = -min(powers)
    numerator = sympy.Add(*[c * term.expr * z**lowest for term, c in terms.items()])
    for _ in range(lowest):
        if sympy.expand(numerator.subs(z, 0)) != 0:
            raise NoClosedForm("The integrand has a pole at 0.")
        numerator = sympy.diff(numerator, z)


def _term(term: Term, low: Expr, high: Expr, work: Work) -> Expr:
    """Return E[term · 1(low < z < high)]."""
    if low == -high and term.is_odd:
        work.note(
            "An odd function on a symmetric interval integrates to 0",
            Expectation(term.expr, low, high),
            Integer(0),
        )
        return Integer(0)
    if term.algebraic is not None:
        spend(_TERM)
        s, _, mass = _square(term, work)
        return algebraic_expectation(term, s, mass, low, high, work)
    return _moment(term, low, high, work)


def _square(term: Term, work: Work) -> tuple[Expr, Expr, Expr]:
    """Complete the square: e^{az²+bz} N(z; 0, q) = mass · N(z; m, s)."""
    denominator = 1 - 2 * term.a * q
    at_one = denominator.subs(q, 1)
    if at_one.is_number and not at_one.is_positive:
        # This does not prove that the sum diverges, because another term may cancel this one.
        raise NoClosedForm(f"{term.expr} alone grows faster than the normal density decays.")
    if not denominator.is_positive:
        denominator = Positive(denominator)
    s = sympy.cancel(q / denominator)
    m = sympy.expand(term.b * s) if term.b != 0 else Integer(0)
    mass = 1 / sqrt(denominator)
    if term.b != 0:
        mass *= exp(sympy.cancel(term.b**2 * s / 2))
    if term.a != 0 or term.b != 0:
        work.note(
            "Complete the square in the exponent",
            rf"{latex(exp(term.a * z**2 + term.b * z))}\, {normal(Integer(0), q)}",
            rf"{latex(mass)}\, {normal(m, s)}",
        )
    if m.has(I):
        work.note(
            "The mean is complex. The integrand has no singularity and falls like a Gaussian in "
            "every strip around the real line. Cauchy's theorem therefore shifts the contour by "
            "the mean, and what holds for a real mean holds for this one",
            r"\int_{-\infty}^{\infty} z^n\, \mathcal{N}(z;\, m,\, s)\, dz",
            r"\int_{-\infty}^{\infty} (z + m)^n\, \mathcal{N}(z;\, 0,\, s)\, dz",
        )
    return s, m, mass


def _moment(term: Term, low: Expr, high: Expr, work: Work) -> Expr:
    """Return E[zⁿ e^{az²+bz} Π erf(γz+δ) 1(low < z < high)], by Stein's identity down to n = 0."""
    key = (term, low, high)
    if key not in work.cache:
        spend(_TERM)
        value = _reduced(term, low, high, work)
        spend(_WRITING * size(value))  # written out, it may be twice as long for each power of z
        work.cache[key] = value
    return work.cache[key]


def _reduced(term: Term, low: Expr, high: Expr, work: Work) -> Expr:
    if term.n.is_Integer and term.n < 0 and not term.logs and low == -high:
        return _inverse(term, low, high, work)
    s, m, mass = _square(term, work)
    if term.logs or not (term.n.is_Integer and term.n >= 0):
        return mass * _fractional(term, s, m, low, high, work)
    if term.n == 0:
        value, reason = _base(term, s, m, low, high)
        work.note(reason, Expectation(term.expr, low, high), mass * value)
        return mass * value
    # E[z·g] = m E[g] + s E[g'] with g = z^{n−1} Π erf, minus the boundary term s [g N].
    once = replace(term, n=term.n - 1)
    value = m * _moment(once, low, high, work) if m != 0 else Integer(0)
    parts = [(m, Expectation(once.expr, low, high))] if m != 0 else []
    if term.n >= 2:
        twice = replace(term, n=term.n - 2)
        value += s * (term.n - 1) * _moment(twice, low, high, work)
        parts.append((s * (term.n - 1), Expectation(twice.expr, low, high)))
    for i, (gamma, delta) in enumerate(term.erfs):
        rest = Term(
            n=term.n - 1,
            a=term.a - gamma**2,
            b=term.b - 2 * gamma * delta,
            erfs=term.erfs[:i] + term.erfs[i + 1 :],
        )
        factor = s * 2 * gamma / sqrt(pi) * exp(-(delta**2))
        value += factor * _moment(rest, low, high, work)
        parts.append((factor, Expectation(rest.expr, low, high)))
    for end, direction in ((low, 1), (high, -1)):
        if end.is_finite:
            value += direction * s * _boundary(once, end)
            parts.append((direction * s, _boundary(once, end)))
    work.note(
        rf"Stein's identity $\mathbb{{E}}[z g] = m\, \mathbb{{E}}[g] + s\, \mathbb{{E}}[g'] - "
        rf"s\, [g \mathcal{{N}}]$ with $m = {latex(m)},\ s = {latex(s)}$; the bracket is the "
        "difference between the ends",
        Expectation(term.expr, low, high),
        unevaluated_sum(parts),
        value,
    )
    return value


def _boundary(term: Term, end: Expr) -> Expr:
    """Return the term times the density N(z; 0, q), at an end of the interval."""
    return term.expr.subs(z, end) * exp(-(end**2) / (2 * q)) / sqrt(2 * pi * q)


def _base(term: Term, s: Expr, m: Expr, low: Expr, high: Expr) -> tuple[Expr, str]:
    """Return E[Π erf(γz+δ) 1(low < z < high)] for z ~ N(m, s), and the name of the integral."""
    everywhere = low == -oo and high == oo
    right_half = low == 0 and high == oo and m == 0
    if not term.erfs:
        if everywhere:
            return Integer(1), "The density integrates to 1"
        if m.has(I):
            raise NoClosedForm("It has a trigonometric function on a part of the line.")
        return (_cdf(high, m, s) - _cdf(low, m, s)) / 2, "The normal integral over the interval"
    if len(term.erfs) == 1:
        ((gamma, delta),) = term.erfs
        if everywhere and not m.has(I):
            return erf((gamma * m + delta) / sqrt(1 + 2 * gamma**2 * s)), (
                r"$\mathbb{E}[\mathrm{erf}(\gamma z + \delta)] = \mathrm{erf}((\gamma m + \delta)"
                r"/\sqrt{1 + 2\gamma^2 s})$ for $z \sim \mathcal{N}(m, s)$"
            )
        if right_half and delta == 0:
            return atan(gamma * sqrt(2 * s)) / pi, (
                r"$\mathbb{E}[\mathrm{erf}(\gamma z);\ z > 0] = \arctan(\gamma\sqrt{2s})/\pi$"
            )
    if len(term.erfs) == 2 and m == 0 and all(delta == 0 for _, delta in term.erfs):
        (g1, _), (g2, _) = term.erfs
        if everywhere or right_half:
            spread = sympy.factor(sympy.together((1 + 2 * g1**2 * s) * (1 + 2 * g2**2 * s)))
            value = 2 / pi * asin(sympy.cancel(2 * g1 * g2 * s) / sqrt(spread))
            return value if everywhere else value / 2, (
                r"Williams (1998): $\mathbb{E}[\mathrm{erf}(\gamma z)\,\mathrm{erf}(\kappa z)] = "
                r"\frac{2}{\pi} \arcsin\frac{2\gamma\kappa s}{\sqrt{(1 + 2\gamma^2 s)"
                r"(1 + 2\kappa^2 s)}}$"
            )
    raise NoClosedForm("It has error functions on a part of the line, or with a shift.")


def _cdf(end: Expr, m: Expr, s: Expr) -> Expr:
    """Return 2Φ − 1 at an end of the interval."""
    if end in (oo, -oo):
        return Integer(1) if end == oo else Integer(-1)
    return erf((end - m) / sqrt(2 * s))


def _fractional(term: Term, s: Expr, m: Expr, low: Expr, high: Expr, work: Work) -> Expr:
    """Return E[zᵖ logᵏz 1(z>0)], for a real power p."""
    p, k = term.n, term.logs
    if p.is_number and p <= -1 and low <= 0 <= high:
        raise NoClosedForm(f"{term.expr} alone has a pole at 0.")
    if term.erfs or m != 0 or (low, high) != (0, oo):
        raise NoClosedForm(f"The expectation of {term.expr} is known only on z > 0.")
    power = sympy.Dummy("p")
    # Use E[z^p] = s(p − 1) E[z^{p−2}] down to the derivatives of Γ that have a name.
    steps = int(p // 2) if k and p.is_Rational else 0
    value = (2 * s) ** (power / 2 - steps) * sympy.gamma((power + 1) / 2 - steps) / (2 * sqrt(pi))
    value *= sympy.prod(s * (power - 1 - 2 * i) for i in range(steps))
    value = sympy.diff(value, power, k).subs(power, p)
    value = sympy.expand(value) if k else value
    derived = rf", differentiated {k} times in $p = {latex(p)}$" if k else ""
    work.note(
        r"The Gamma integral $\mathbb{E}[z^p;\ z > 0] = (2s)^{p/2}\, \Gamma((p+1)/2)/(2\sqrt\pi)$, "
        rf"$s = {latex(s)}${derived}",
        Expectation(z**p * sympy.log(z) ** k, low, high),
        value,
    )
    return value


def _inverse(term: Term, low: Expr, high: Expr, work: Work) -> Expr:
    """Return the finite part of E[z^{-n} e^{az²+bz}]; in a sum whose poles cancel, these add up.

    The finite part leaves out the powers of 1/ε in the integral over |z| > ε. Stein's identity
    holds for it, because its boundary terms at ±ε are such powers.
    """
    if term.erfs or high != oo:
        raise NoClosedForm(f"{term.expr} alone has a pole at 0.")
    s, _, mass = _square(replace(term, b=Integer(0)), work)
    n, b = -int(term.n), term.b
    before = exp(b**2 * s / 2)
    value = sqrt(pi / (2 * s)) * sympy.erfi(b * sqrt(s / 2))  # ∫₀ᵇ E[e^{tz}] dt
    if b.has(I):
        value = sqrt(pi / (2 * s)) * I * erf(b / I * sqrt(s / 2))
    for k in range(2, n + 1):
        before, value = value, (b * value - before / s) / (k - 1)
    work.note(
        r"The finite part, by $\mathbb{E}[e^{bz}/z] = \int_0^b \mathbb{E}[e^{tz}]\, dt$ and by "
        r"Stein's identity $(n-1)\, \mathbb{E}[e^{bz}/z^n] = b\, \mathbb{E}[e^{bz}/z^{n-1}] - "
        r"\mathbb{E}[e^{bz}/z^{n-2}]/s$; what diverges at $0$ cancels in the sum",
        Expectation(term.expr, low, high),
        mass * value,
    )
    return mass * value
