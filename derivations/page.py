"""A page: text and numbered steps, each step checked at the moment it is written down."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import mpmath
import sympy as sp

from derivations.digits import WORKING, digits, number
from derivations.notation import latex, linear
from derivations.proof import Fact, UnprovenError, Warrant, algebra, require


class StepError(Exception):
    """A step of a page does not hold; the message names page, step, reason and difference."""


@dataclass(frozen=True)
class Text:
    markdown: str


@dataclass(frozen=True)
class Step:
    """A displayed formula, with its number, its reason and the check that it passed."""

    number: int
    formula: str
    because: str
    check: str
    boxed: bool = False


@dataclass(frozen=True)
class Display:
    """A displayed formula that is no claim, such as a definition."""

    formula: str


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Claim(Fact):
    """A fact that can be continued: lhs = rhs = next rhs = ..."""

    page: "Page"

    def then(self, rhs: sp.Expr, because: str, by: Warrant = algebra) -> "Claim":
        """Continue the chain of equalities: what stood on the right equals the new right side."""
        return self.page.claim(self.lhs, rhs, because, by, since=self.rhs)

    def at(self, values: dict) -> "Claim":
        """The same fact for particular values of its symbols."""
        each = (e.subs(values) for e in (self.lhs, self.rhs, self.residual))
        return Claim(self.number, *each, self.page)

    def box(self) -> "Claim":
        """Mark the step as a result of the page."""
        blocks = self.page.blocks
        index = next(i for i, b in enumerate(blocks) if getattr(b, "number", 0) == self.number)
        blocks[index] = replace(blocks[index], boxed=True)
        return self


class Page:
    """A worked derivation: blocks in reading order.

    Args:
        name: file name and name on the command line.
        title: what the page shows, in a few words.
        references: authors, year and where, one a string.
    """

    kind = "theorem"

    def __init__(self, name: str, title: str, *references: str):
        self.name, self.title, self.references = name, title, references
        self.blocks: list[Text | Step | Display | Table] = []
        self.steps = 0

    def finish(self) -> None:
        """What every page of a kind ends with."""

    def unfold(self, expr: sp.Expr) -> sp.Expr:
        """Replace the page's own definitions; a theorem has none."""
        return expr

    def section(self, heading: str) -> None:
        self.say(f"## {heading}")

    def say(self, markdown: str) -> None:
        """A paragraph; inline mathematics between dollars."""
        self.blocks.append(Text(" ".join(markdown.split())))

    def table(self, header: tuple[str, ...], *rows: tuple[str, ...]) -> None:
        self.blocks.append(Table(header, rows))

    def display(self, lhs: sp.Expr | str, rhs: sp.Expr | str) -> None:
        """A definition."""
        self.blocks.append(Display(f"{latex(lhs)} = {latex(rhs)}"))

    def value(self, name: str, expr: sp.Expr) -> tuple[str, str]:
        """A row of a table: a closed expression and its certified digits."""
        found = number(expr)
        # SymPy's evalf tracks its own error to the digits asked for; five are given away.
        margin = abs(found) * mpmath.mpf(10) ** (5 - WORKING)
        with mpmath.workdps(WORKING):
            return name, digits(found - margin, found + margin)

    def step(self, formula: str, because: str, check: Callable[[], str]) -> int:
        """Run the check; write the step down only if it passes. Returns the step's number."""
        number = self.steps + 1
        try:
            passed = check()
        except UnprovenError as problem:
            raise StepError(
                f"page {self.name!r}, step ({number}) is not proven: {problem}\n"
                f"  step:   {formula}\n  reason: {' '.join(because.split())}"
            ) from problem
        self.steps = number
        self.blocks.append(Step(number, formula, " ".join(because.split()), passed))
        return number

    def claim(
        self,
        lhs: sp.Expr,
        rhs: sp.Expr,
        because: str,
        by: Warrant = algebra,
        *,
        since: sp.Expr | None = None,
        shown: str | None = None,
    ) -> Claim:
        """State lhs = rhs, with a reason and the warrant that checks it.

        Args:
            lhs, rhs: the two sides.
            because: the reason, for the reader.
            by: the warrant, which checks the step without it.
            since: what the new right side continues; the left side if not given.
            shown: LaTeX of the left side, where SymPy would already evaluate it.
        """
        lhs, rhs = sp.sympify(lhs), sp.sympify(rhs)
        if lhs == rhs and shown is None:
            raise StepError(f"page {self.name!r}: {lhs} = {rhs} says nothing ({because})")
        start = self.unfold(lhs if since is None else since)
        number = self.step(
            f"{shown or latex(lhs)} = {latex(rhs)}", because, lambda: by(start, self.unfold(rhs))
        )
        return Claim(number, lhs, rhs, linear(self.unfold(lhs) - self.unfold(rhs)), self)

    def holds(
        self, formula: str, because: str, *statements: object, check: str = "arithmetic"
    ) -> int:
        """A step that is not an equation between two expressions, e.g. an inequality.

        Each statement must come out as true: a bool, or a relation that SymPy decides.
        """

        def decide():
            for statement in statements:
                require(statement in (True, sp.true), f"not shown: {statement}")
            return check

        require(statements, "a step needs a statement to check")
        return self.step(formula, because, decide)
