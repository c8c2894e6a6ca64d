"""A page: text and numbered steps, each checked when it is written down."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import mpmath
import sympy as sp

from derivations.digits import WORKING, digits, number
from derivations.notation import latex, linear
from derivations.proof import Fact, UnprovenError, Warrant, algebra, require


class StepError(Exception):
    """A step of a page does not hold; the message gives page, step, reason and difference."""


@dataclass(frozen=True)
class Text:
    markdown: str


@dataclass(frozen=True)
class Step:
    """A displayed formula with its number, its reason and the check that it passed."""

    number: int
    formula: str
    because: str
    check: str
    boxed: bool = False


@dataclass(frozen=True)
class Display:
    """A displayed formula that claims nothing, such as a definition."""

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
        """Continue the chain of equalities: the old right side equals the new one."""
        return self.page.claim(self.lhs, rhs, because, by, since=self.rhs)

    def at(self, values: dict) -> "Claim":
        """Return the same fact at particular values of its symbols."""
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
        references: one string each: authors, year, title, place.
    """

    kind = "theorem"

    def __init__(self, name: str, title: str, *references: str):
        self.name, self.title, self.references = name, title, references
        self.blocks: list[Text | Step | Display | Table] = []
        self.steps = 0

    def finish(self) -> None:
        """Write the end that all pages of a kind share; a theorem has none."""

    def unfold(self, expr: sp.Expr) -> sp.Expr:
        """Replace the page's own symbols by their definitions; a theorem has none."""
        return expr

    def section(self, heading: str) -> None:
        self.say(f"## {heading}")

    def say(self, markdown: str) -> None:
        """Write a paragraph, with inline mathematics between dollars."""
        self.blocks.append(Text(" ".join(markdown.split())))

    def table(self, header: tuple[str, ...], *rows: tuple[str, ...]) -> None:
        self.blocks.append(Table(header, rows))

    def display(self, lhs: sp.Expr | str, rhs: sp.Expr | str) -> None:
        """Display a definition."""
        self.blocks.append(Display(f"{latex(lhs)} = {latex(rhs)}"))

    def value(self, name: str, expr: sp.Expr) -> tuple[str, str]:
        """Make a row of a table: a name and the certified digits of a closed expression."""
        found = number(expr)
        # SymPy's evalf bounds its own error to the requested digits; five are given up as a margin.
        margin = abs(found) * mpmath.mpf(10) ** (5 - WORKING)
        with mpmath.workdps(WORKING):
            return name, digits(found - margin, found + margin)

    def step(self, formula: str, because: str, check: Callable[[], str]) -> int:
        """Run the check, write the step down if it passes, and return its number."""
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
        """State lhs = rhs with a reason, and check it by a warrant.

        Args:
            lhs: the left side.
            rhs: the right side.
            because: the reason, for the reader.
            by: the warrant, which checks the step and ignores the reason.
            since: the expression that the right side continues; by default the left side.
            shown: LaTeX of the left side, for one that SymPy evaluates at once.
        """
        lhs, rhs = sp.sympify(lhs), sp.sympify(rhs)
        if lhs == rhs and shown is None:
            raise StepError(f"page {self.name!r}: {lhs} = {rhs} says nothing ({because}).")
        start = self.unfold(lhs if since is None else since)
        number = self.step(
            f"{shown or latex(lhs)} = {latex(rhs)}", because, lambda: by(start, self.unfold(rhs))
        )
        return Claim(number, lhs, rhs, linear(self.unfold(lhs) - self.unfold(rhs)), self)

    def holds(
        self, formula: str, because: str, *statements: object, check: str = "arithmetic"
    ) -> int:
        """State a step that is not an equation, such as an inequality.

        Each statement is a bool or a relation that SymPy decides, and must be true.
        """

        def decide():
            for statement in statements:
                require(statement in (True, sp.true), f"SymPy does not show that {statement}.")
            return check

        require(statements, "a step needs a statement to check.")
        return self.step(formula, because, decide)
