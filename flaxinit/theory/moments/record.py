"""The steps of a derivation: what the engine did, as equations with their reasons."""

from dataclasses import dataclass, field

import sympy
from sympy import Expr, oo

from flaxinit.theory.functions.printing import latex
from flaxinit.theory.functions.symbols import q, z
from flaxinit.theory.functions.tidy import tidy


class Expectation(sympy.Function):
    """E[f(z) 1(low < z < high)], z ~ N(0, q), left unevaluated in a step."""

    @classmethod
    def eval(cls, *args):
        return None

    def _latex(self, printer, exp=None):
        integrand, low, high = self.args
        where = ""
        if low != -oo and high != oo:
            where = rf";\ {printer.doprint(low)} < z < {printer.doprint(high)}"
        elif low != -oo:
            where = rf";\ z > {printer.doprint(low)}"
        elif high != oo:
            where = rf";\ z < {printer.doprint(high)}"
        body = rf"\mathbb{{E}}\left[{printer.doprint(integrand)}{where}\right]"
        return body if exp is None else rf"\left({body}\right)^{{{exp}}}"


@dataclass(frozen=True)
class Step:
    """One step: a reason in Markdown, and the equation left = right (= result).

    Attributes:
        reason: why the equation holds.
        left: SymPy, or LaTeX as text; ``"E"`` stands for the moment itself.
        right: SymPy, or LaTeX as text.
        result: the value of the right side, if that is not yet the value; it is tidied in print.
    """

    reason: str
    left: object
    right: object
    result: Expr | None = None

    def tex(self, symbol: str) -> str:
        """Return the equation in LaTeX.

        >>> Step("given", "E", sympy.Symbol("q")).tex("m")
        'm = q'
        """
        sides = [symbol if self.left == "E" else _tex(self.left), _tex(self.right)]
        if self.result is not None and (result := _tex(self.result)) != sides[-1]:
            sides.append(result)
        return " = ".join(sides)


def _tex(side) -> str:
    if isinstance(side, str):
        return side
    # Tidy only what is printed, because a derivation has far more steps than readers.
    value = side.has(q) and not side.has(z, Expectation, sympy.I)
    return latex(tidy(side) if value else side)


@dataclass
class Work:
    """The results and steps of one search for a closed form."""

    cache: dict = field(default_factory=dict)
    _steps: dict[Step, None] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps noted so far."""
        return tuple(self._steps)

    def note(self, reason: str, left, right, result: Expr | None = None) -> None:
        """Note a step, once."""
        self._steps[Step(reason, left, right, result)] = None


def unevaluated_sum(parts) -> Expr:
    """Return Σ coefficient · E[term], unevaluated."""
    totals: dict[Expr, Expr] = {}
    for coefficient, term in parts:
        totals[term] = totals.get(term, sympy.Integer(0)) + coefficient
    terms = [
        term if factor == 1 else sympy.Mul(factor, term, evaluate=False)
        for term, factor in totals.items()
        if factor != 0 and term != 0
    ]
    return sympy.Add(*terms, evaluate=False)


def normal(mean: Expr, variance: Expr) -> str:
    """Return the normal density in LaTeX."""
    return rf"\mathcal{{N}}\left({latex(z)};\, {latex(mean)},\, {latex(variance)}\right)"
