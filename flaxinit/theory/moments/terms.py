"""Expand a smooth piece into terms whose Gaussian integrals are known.

Every term is  coefficient · zⁿ · logᵏz · e^{az² + bz} · Π erf(γᵢz + δᵢ) · (z^d + β)^ν.  For
trigonometric functions b is imaginary. The last factor (d = 1 or 2) is often absent.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy
from sympy import Expr, I, Integer, Poly, exp, log

from flaxinit.theory.functions.algebra import MAX_TERMS, count_terms, expand_numerators, polynomial
from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.defects import SymPyFails, sympy_may_fail
from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.symbols import z


class NoClosedForm(ValueError):
    """The engine knows no closed form of an integral."""


@contextlib.contextmanager
def attempt(seconds: float) -> Iterator[None]:
    """Search for a closed form, with so many seconds' worth of work.

    Raises:
        NoClosedForm: if the search takes more, or SymPy fails in it.
    """
    try:
        with limited(seconds), sympy_may_fail():
            yield
    except OverBudget:
        raise NoClosedForm("The search for one takes more work than the budget allows.") from None
    except SymPyFails as error:
        raise NoClosedForm(f"The search for one ends: {error}") from error


@dataclass(frozen=True)
class Algebraic:
    """The factor (z^degree + offset)^power."""

    degree: int
    offset: Expr
    power: Expr


@dataclass(frozen=True)
class Term:
    """zⁿ · logᵏz · e^{az² + bz} · Π erf(γz + δ) · algebraic, without its coefficient."""

    n: Expr = Integer(0)
    a: Expr = Integer(0)
    b: Expr = Integer(0)
    erfs: tuple[tuple[Expr, Expr], ...] = ()
    algebraic: Algebraic | None = None
    logs: int = 0

    @property
    def expr(self) -> Expr:
        factors = [z**self.n, log(z) ** self.logs, exp(self.a * z**2 + self.b * z)]
        factors += [sympy.erf(gamma * z + delta) for gamma, delta in self.erfs]
        if self.algebraic:
            factors.append(
                (z**self.algebraic.degree + self.algebraic.offset) ** self.algebraic.power
            )
        return sympy.Mul(*factors)

    @property
    def is_odd(self) -> bool:
        """Whether the term is an odd function of z."""
        plain = self.b == 0 and not self.logs and all(delta == 0 for _, delta in self.erfs)
        if self.algebraic and self.algebraic.degree == 1:
            return False
        return bool(plain and self.n.is_integer and (self.n + len(self.erfs)) % 2 == 1)


def expand(expr: Expr) -> dict[Term, Expr]:
    """Write the expression as a sum: each term with its coefficient.

    Raises:
        NoClosedForm: if the kind of a factor is not known.

    >>> from sympy import sin
    >>> expand((1 + z) ** 2)[Term(n=Integer(1))]
    2
    """
    elementary = expr.rewrite(sympy.erfc, sympy.erf)
    elementary = _logarithms(_exponentials(elementary))
    for part in sympy.preorder_traversal(elementary):
        # Test this before SymPy multiplies out inside it, which may take minutes.
        if isinstance(part, sympy.Function) and not part.args[0].is_polynomial(z):
            raise NoClosedForm(f"{short(part)} is not a function of a polynomial.")
    if count_terms(elementary) > MAX_TERMS:
        raise NoClosedForm(f"The expansion has more than {MAX_TERMS} terms.")
    terms: dict[Term, Expr] = {}
    addends = sympy.Add.make_args(expand_numerators(elementary))
    for addend in addends:
        term, coefficient = _read(addend)
        terms[term] = terms.get(term, Integer(0)) + coefficient
    terms = {term: sympy.expand(c) if c.has(I) else c for term, c in terms.items()}
    return {term: c for term, c in terms.items() if c != 0}


def _exponentials(expr: Expr) -> Expr:
    """Write trigonometric and hyperbolic functions of z as exponentials; keep logistic ones."""
    replacements = {}
    for part in expr.atoms(sympy.sin, sympy.cos, sympy.sinh, sympy.cosh):
        if part.has(z):
            argument = polynomial(part.args[0])
            if argument is None or argument.degree() > 1:
                raise NoClosedForm(f"{short(part)} is not an exponential of a linear function.")
            replacements[part] = part.rewrite(exp)
    return expr.xreplace(replacements)


def _logarithms(expr: Expr) -> Expr:
    """Write log(c zᵏ) as log c + k log z, which holds for z > 0."""
    replacements = {}
    for part in expr.atoms(log):
        factor, power = part.args[0].as_independent(z, as_Add=False)
        base, exponent = power.as_base_exp()
        if base == z and not exponent.has(z) and factor.is_positive:
            replacements[part] = log(factor) + exponent * log(z)
    return expr.xreplace(replacements)


def _read(addend: Expr) -> tuple[Term, Expr]:
    coefficient: Expr = Integer(1)
    term = Term()
    for factor in sympy.Mul.make_args(addend):
        if not factor.has(z):
            coefficient *= factor
            continue
        term, constant = _multiply(term, factor)
        coefficient *= constant
    return term, coefficient


def _multiply(term: Term, factor: Expr) -> tuple[Term, Expr]:
    base, power = factor.as_base_exp()
    if isinstance(factor, exp) or not base.has(z):
        exponent = factor.exp if isinstance(factor, exp) else power * sympy.log(base)
        poly = polynomial(exponent)
        if poly is None or poly.degree() > 2:
            raise NoClosedForm(f"The exponent {short(exponent)} is not quadratic.")
        a, b, c = (poly.coeff_monomial(z**k) for k in (2, 1, 0))
        return replace(term, a=term.a + a, b=term.b + b), exp(c)
    if base == z and not power.has(z):
        return replace(term, n=term.n + power), Integer(1)
    if base == log(z) and power.is_Integer and power.is_positive:
        return replace(term, logs=term.logs + int(power)), Integer(1)
    if isinstance(base, sympy.erf) and power in (1, 2):
        poly = polynomial(base.args[0])
        if poly is not None and poly.degree() == 1:
            pair = tuple(poly.all_coeffs())
            return replace(
                term, erfs=tuple(sorted((*term.erfs, *[pair] * int(power)), key=str))
            ), Integer(1)
    poly = polynomial(base)
    if poly is not None and not power.has(z):
        return _algebraic(term, poly, power)
    raise NoClosedForm(f"{short(factor)} is not a factor of a known kind.")


def _algebraic(term: Term, poly: Poly, power: Expr) -> tuple[Term, Expr]:
    degree = poly.degree()
    lead, offset = poly.LC(), poly.coeff_monomial(1)
    unknown = NoClosedForm(f"({short(poly.as_expr())})**({power}) is not of a known kind.")
    if degree not in (1, 2) or (degree == 2 and poly.coeff_monomial(z) != 0):
        raise unknown
    if lead.is_negative:  # (β − z)^ν: only an integer power has a sign to take out
        if not power.is_integer:
            raise unknown
    elif not lead.is_positive:
        raise NoClosedForm(f"The sign of {lead} is not known.")
    factor = Algebraic(degree, offset / lead, power)
    if term.algebraic is not None:
        if replace(term.algebraic, power=power) != factor:
            raise NoClosedForm(
                f"It has two different algebraic factors: {term.algebraic} and {factor}."
            )
        factor = replace(factor, power=term.algebraic.power + power)
    return replace(term, algebraic=factor), lead**power
