"""Warrants: the ways to justify a step, which also check it.

A warrant takes the two sides of a claim. It returns the name of the check that passed, or raises
`UnprovenError`. It never reads the text beside the step. A function that takes anything else
returns a warrant.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp

from derivations.notation import E, Mean, Phi, g, linear, oo, p, plain, q, x

Warrant = Callable[[sp.Expr, sp.Expr], str]


class UnprovenError(ValueError):
    """A claim that its warrant does not support."""


@dataclass(frozen=True)
class Fact:
    """A checked equation of a page; its `str` is its number, for reasons that cite it."""

    number: int
    lhs: sp.Expr
    rhs: sp.Expr
    residual: sp.Expr  # lhs - rhs with the page's definitions unfolded, expanded by linearity

    def __str__(self) -> str:
        return f"({self.number})"


def is_zero(expr: sp.Basic) -> bool:
    """Return whether SymPy shows that the expression is identically 0."""
    expr = linear(sp.sympify(expr).doit())
    if expr == 0:
        return True
    expr = sp.expand(roots(plain(expr).rewrite(sp.erf)))
    if expr == 0 or sp.expand(sp.numer(sp.together(expr))) == 0:
        return True
    if expr.has(E):
        return all(is_zero(integrand) for integrand in gathered(expr))
    return sp.simplify(sp.powsimp(expr)) == 0


def gathered(expr: sp.Expr) -> list[sp.Expr]:
    """Return the integrands which, if all are 0, make Σ c E[f] + rest vanish, by linearity."""
    expr = linear(expr)
    inside: dict[tuple, sp.Expr] = {(-oo, oo): expr.subs(dict.fromkeys(expr.atoms(E), 0))}
    for part in expr.atoms(E):
        factor = expr.coeff(part)
        require(not factor.has(E), "the expression is not linear in E.")
        inside[part.limits] = inside.get(part.limits, sp.S.Zero) + part.args[0] * factor
    return list(inside.values())


def roots(expr: sp.Expr) -> Any:
    """Write what is under each root as one fraction and factor it."""
    return expr.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer,
        lambda e: sp.factor(sp.together(e.base)) ** e.exp,
    )


def require(condition: object, message: str) -> None:
    """Raise `UnprovenError` unless the condition holds."""
    if not condition:
        raise UnprovenError(message)


def require_zero(expr: sp.Expr, what: str) -> None:
    """Raise `UnprovenError` unless the expression is identically 0."""
    if not is_zero(expr):
        raise UnprovenError(f"{what} does not hold: the two sides differ by {expr}.")


def algebra(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check that both sides agree after linearity of E, differentiation and expansion."""
    require_zero(lhs - rhs, "the identity")
    return "algebra"


def following(*facts: Fact, also: Iterable[sp.Expr] = ()) -> Warrant:
    """Return the warrant for a linear consequence of earlier facts.

    Args:
        *facts: the facts that the step cites.
        also: expressions known to be 0.
    """

    def warrant(lhs, rhs):
        known = [linear(fact.residual) for fact in facts] + [linear(e) for e in also]
        claim = linear(sp.sympify(lhs - rhs).doit())
        for index, equation in enumerate(known):
            atoms = sorted(equation.atoms(E), key=sp.default_sort_key)
            if not atoms:
                continue
            pivot = max(atoms, key=lambda atom: (claim.has(atom), sp.count_ops(atom)))
            value = sp.solve(equation, pivot)[0]
            known[index + 1 :] = [linear(e.subs(pivot, value)) for e in known[index + 1 :]]
            claim = linear(claim.subs(pivot, value))
        require_zero(claim, "what follows from the cited equations")
        return "follows from " + ", ".join(dict.fromkeys(map(str, facts)))

    return warrant


def at_end(F: sp.Expr, variable: sp.Symbol, end: sp.Expr) -> Any:
    """Return the value of a primitive at an end of an interval.

    At ±∞ a Gaussian factor beats every polynomial and exponential, so g and p become 0 and Φ
    becomes 0 or 1. If the rest still depends on the variable, SymPy takes the limit.
    """
    if end not in (oo, -oo):
        return F.subs(variable, end)

    def upper(u):
        rate = sp.diff(u, variable) * sp.sign(end)
        if rate.is_positive or rate.is_negative:
            return sp.S.One if rate.is_positive else sp.S.Zero
        return Phi(u)

    gone = F.replace(lambda e: isinstance(e, (g, p)) and e.has(variable), lambda e: sp.S.Zero)
    gone = sp.expand(gone.replace(Phi, upper))
    return gone if not gone.has(variable) else sp.limit(plain(F), variable, end)


def between(F: sp.Expr, variable: sp.Symbol, a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """Return F(b) - F(a)."""
    return at_end(F, variable, b) - at_end(F, variable, a)


def primitive(F: sp.Expr) -> Warrant:
    """Return the warrant for an integral with primitive F, by the fundamental theorem."""

    def warrant(lhs, rhs):
        if isinstance(lhs, E):
            variable, (a, b), f = x, lhs.limits, lhs.args[0] * p(x)
        else:
            require(isinstance(lhs, sp.Integral), "the left side is not an integral.")
            f, (variable, a, b) = lhs.function, lhs.limits[0]
        require_zero(plain(sp.diff(F, variable) - f), "F' = f")
        require_zero(between(F, variable, a, b) - rhs, "F(b) - F(a)")
        return "fundamental theorem of calculus, F′ and both ends"

    return warrant


def gaussian_primitive(n: int) -> Any:
    """Return F with F' = xⁿ p(x), by parts: F_n = -q x^{n-1} p + (n-1) q F_{n-2}."""
    if n == 0:
        return Phi(x / sp.sqrt(q))
    lower = (n - 1) * q * gaussian_primitive(n - 2) if n > 1 else 0
    return sp.expand(-q * x ** (n - 1) * p(x) + lower)


def powers_of_x(f: sp.Expr) -> dict[int, sp.Expr]:
    """Return the coefficients of a polynomial in x, by power."""
    return {n: c for (n,), c in sp.Poly(f, x).terms()}


def moments(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim with each E[xⁿ; a<x<b] replaced by its primitive's difference."""

    def value(f, *limits):
        a, b = limits or (-oo, oo)
        return sp.Add(
            *(c * between(gaussian_primitive(n), x, a, b) for n, c in powers_of_x(f).items())
        )

    require_zero((lhs - rhs).replace(E, value), "the sum of Gaussian moments")
    return "moments of the Gaussian, from their primitives"


def odd(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim with E of every odd function set to 0."""
    for term in linear(lhs - rhs).atoms(E):
        f = term.args[0]
        if term.limits == (-oo, oo) and is_zero(f + f.subs(x, -x)):
            lhs, rhs = linear(lhs).subs(term, 0), linear(rhs).subs(term, 0)
    require_zero(lhs - rhs, "what the odd terms leave")
    return "parity"


def symmetry(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim by symmetry of the Gaussian: E[f(x)] = E[(f(x) + f(-x))/2]."""

    def symmetrized(f):
        return E(sp.simplify(plain(f + f.subs(x, -x)).rewrite(sp.exp)) / 2)

    require_zero((lhs - rhs).replace(E, symmetrized), "what symmetry gives")
    return "parity"


def exponentials(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check that both sides are the same rational function of exponentials."""
    difference = sp.together(plain(lhs - rhs).rewrite(sp.exp))
    require_zero(sp.expand(sp.numer(difference)), "the identity")
    return "algebra of exponentials"


def trigonometry(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check that the integrands agree with sines and cosines written as exponentials."""

    def spread(f):
        return linear(E(sp.expand(f.rewrite(sp.exp))))

    require_zero(linear((lhs - rhs).replace(E, spread)), "the trigonometric identity")
    return "algebra of sines and cosines"


def even(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim by E[f; x>0] = E[f; x<0] = ½ E[f] for even f."""

    def half(f, *limits):
        if limits and set(limits) in ({sp.S.Zero, oo}, {sp.S.Zero, -oo}):
            require_zero(f - f.subs(x, -x), "that the integrand is even")
            return E(f) / 2
        return E(f, *limits)

    require_zero(linear(lhs - rhs).replace(E, half), "what symmetry gives")
    return "parity"


def mirror(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim by reflection onto x > 0: E[f(x); a<x<b] = E[f(-x); -b<x<-a]."""

    def right(f, *limits):
        a, b = limits or (-oo, oo)
        if (a, b) == (-oo, oo):
            return E(f, 0, oo) + E(f.subs(x, -x), 0, oo)
        return E(f.subs(x, -x), -b, -a) if b.is_nonpositive else E(f, a, b)

    require_zero((lhs - rhs).replace(E, right), "what the reflection x → -x gives")
    return "reflection"


def stein(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check Stein's lemma, integration by parts: E[x f(x)] = q E[f'(x)]."""
    f = sp.expand(lhs.args[0] / x)
    require_zero(rhs - q * E(sp.diff(f, x)), "E[x f] = q E[f']")
    return "Stein's lemma"


def parts_on_half_line(f: sp.Expr) -> Warrant:
    """Return the warrant for E[x f; x>0] = q f(0) p(0) + q E[f'; x>0], f a power of 1+x."""

    def warrant(lhs, rhs):
        n = f.exp
        lower = E(f * (1 + x), 0, oo) - E(f, 0, oo)  # x f = (1+x) f - f
        known = lower - q * plain(f.subs(x, 0) * p(0)) - q * E(sp.diff(f, x), 0, oo)
        known = known.subs(E(sp.S.One, 0, oo), sp.S.Half)
        require_zero(known - n * q * (rhs - lhs), "integration by parts")
        return "integration by parts on the half line"

    return warrant


def variance(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check the claim by E[x²] = q."""
    require_zero(linear(lhs - rhs).subs(E(x**2), q), "what E[x²] = q leaves")
    return "variance"


def integral(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check a definite integral that SymPy knows."""
    require_zero(lhs.doit() - rhs, "the integral")
    return "integration by SymPy"


def heat(f: sp.Expr) -> Warrant:
    """Return the warrant for the Gaussian's heat equation, d/dq E[f(x)] = ½ E[f''(x)].

    It checks the right side.
    """

    def warrant(lhs, rhs):
        require_zero(rhs - E(sp.diff(f, x, 2)) / 2, "½ E[f'']")
        return "heat equation"

    return warrant


def starting(
    value: sp.Expr, at: sp.Expr = sp.S.Zero, variable: sp.Symbol = q, rate=None
) -> Warrant:
    """Return the warrant for a function of q, given its derivative and its value at q = 0."""

    def warrant(lhs, rhs):
        require_zero(sp.diff(rhs, q) - rate, "the rate of change")
        require_zero(sp.limit(rhs, q, 0, "+") - value, "the value at the start")
        return "derivative and starting value"

    return warrant


def tends(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check that the right side is the limit on the left."""
    require_zero(lhs.doit() - rhs, "the limit")
    return "limit"


def substitution(inner: sp.Expr, variable: sp.Symbol) -> Warrant:
    """Return the warrant for a change of variable to an integral over (0, ∞).

    The left side is the expectation of an even function, or an integral over (0, ∞).

    Args:
        inner: the old variable as an increasing function of the new one that maps (0, ∞) onto
            itself.
        variable: the new variable.
    """

    def warrant(lhs, rhs):
        factor, integral = rhs.as_independent(sp.Integral, as_Add=False)
        if isinstance(lhs, E):
            f, old = 2 * lhs.args[0] * p(x), x
            require_zero(f - f.subs(x, -x), "that the integrand is even")
        else:
            before, start = lhs.as_independent(sp.Integral, as_Add=False)
            f, old = before * start.function, start.limits[0][0]
        changed = plain(f).subs(old, inner) * sp.diff(inner, variable)
        # Both integrands are positive, so their ratio is 1 if its square is; the square is free of
        # roots.
        square = ((changed / plain(factor * integral.function)) ** 2).rewrite(sp.exp)
        square = sp.powsimp(square.replace(sp.exp, lambda u: sp.exp(sp.expand(u))))
        square = square.replace(sp.exp, lambda u: sp.exp(sp.expand(u)))
        require_zero(sp.expand(sp.numer(sp.together(square - 1))), "the substituted integrand")
        return "substitution"

    return warrant


def quadrature(lhs: sp.Expr, rhs: sp.Expr) -> str:
    """Check that both sides agree to 25 digits in numerical quadrature at three values of q.

    The integrand on the left must be below 10^-50 at 9, and fall from there on as a double
    exponential does.
    """
    factor, integral = lhs.as_independent(sp.Integral, as_Add=False)
    variable = integral.limits[0][0]
    for variance in (sp.S.Half, sp.S.One, sp.Integer(3)):
        f = sp.lambdify(variable, (factor * integral.function).subs(q, variance), "mpmath")
        with mpmath.workdps(30):
            require(abs(f(9)) < mpmath.mpf(10) ** -50, f"the integrand at 9 is {f(9)}.")
            found = mpmath.quad(f, [0, 2, 4, 6, 9])
            stated = mpmath.mpf(str(sp.N(rhs.subs(q, variance), 30)))
            gap = abs(found - stated)
            require(
                gap < stated * mpmath.mpf(10) ** -25,
                f"at q = {variance} quadrature gives {found}, but the step says {stated}.",
            )
    return "definition of K, and quadrature at three values of q"


def independence(moments_of: Mapping[sp.Symbol, Sequence[sp.Expr]]) -> Warrant:
    """Return the warrant for E of a polynomial in independent variables, by their moments.

    Args:
        moments_of: variable -> (E[v], E[v²], ...), up to the highest power that occurs.
    """
    variables = list(moments_of)

    def average(f):
        total = sp.S.Zero
        for powers, c in sp.Poly(sp.expand(f), *variables).terms():
            for variable, n in zip(variables, powers, strict=True):
                c = c * moments_of[variable][n - 1] if n else c
            total += c
        return total

    def warrant(lhs, rhs):
        require_zero((lhs - rhs).replace(Mean, average), "the expectation, term by term")
        return "independence, term by term"

    return warrant
