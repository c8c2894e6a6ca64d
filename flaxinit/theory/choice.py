"""Numbers that depend on the input by cases: counters, and the places that a table is read at.

SymPy would hold them as `Piecewise`, and solve the conditions anew at every step.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sympy import And, Expr, Integer, Not, Or, Piecewise, false, true
from sympy.logic.boolalg import Boolean

MAX_CASES = 256


@dataclass(frozen=True)
class Choice:
    """A number for each of several conditions: the first that holds counts, the last is true."""

    cases: tuple[tuple[Expr, Boolean], ...]

    @property
    def free_symbols(self) -> set:
        return set().union(*[condition.free_symbols for _, condition in self.cases])

    @property
    def expr(self) -> Expr:
        """The number as an expression."""
        return self.pick(lambda number: number)

    def pick(self, result: Callable[[Expr], Expr]) -> Expr:
        """The expression that belongs to the number.

        >>> from flaxinit.theory.symbols import z
        >>> count(z > 0).pick(lambda number: (-z, z)[number])
        Piecewise((z, z > 0), (-z, True))
        """
        return Piecewise(*[(result(number), condition) for number, condition in self.cases])


def count(condition: Boolean) -> Choice | Integer:
    """1 where the condition holds, else 0."""
    if condition in (true, false):
        return Integer(condition == true)
    return Choice(((Integer(1), condition), (Integer(0), true)))


def first(conditions: Iterable[Boolean]) -> Choice:
    """The place of the first condition that holds; 0 if none does."""
    cases = [(Integer(n), condition) for n, condition in enumerate(conditions)]
    return Choice((*cases, (Integer(0), true)))


def are_choices(entries: Sequence) -> bool:
    """Whether every entry is a number or a `Choice`, and one a `Choice`."""
    chosen = [isinstance(entry, Choice) for entry in entries]
    return any(chosen) and all(
        is_choice or (isinstance(entry, Expr) and entry.is_number)
        for is_choice, entry in zip(chosen, entries, strict=True)
    )


def combine(rule: Callable, entries: Sequence):
    """A rule applied case by case: again a `Choice`, or the condition that a relation holds.

    >>> from flaxinit.theory.symbols import z
    >>> combine(lambda a, b: a + b, (count(z > 0), count(z > 1))).expr
    Piecewise((2, (z > 0) & (z > 1)), (1, (z > 0) | (z > 1)), (0, True))
    """
    rows: list[tuple[tuple, frozenset]] = [((), frozenset())]
    for entry in entries:
        cases = entry.cases if isinstance(entry, Choice) else ((entry, true),)
        rows = _reached(
            ((*numbers, number), conditions | set(And.make_args(another)) - {true})
            for numbers, conditions in rows
            for number, another in cases
        )
    results = [(rule(*numbers), And(*conditions)) for numbers, conditions in rows]
    if not all(isinstance(result, Boolean) for result, _ in results):
        return Choice(tuple(results))
    holds: Boolean = false
    for result, condition in reversed(results):
        holds = Or(condition, holds) if result == true else And(Not(condition), holds)
    return holds


def _reached(rows: Iterable[tuple[tuple, frozenset]]) -> list[tuple[tuple, frozenset]]:
    """The rows that come first somewhere: not those that ask for all that an earlier row asks."""
    kept: list[tuple[tuple, frozenset]] = []
    for numbers, conditions in rows:
        if not any(earlier <= conditions for _, earlier in kept):
            kept.append((numbers, conditions))
        if len(kept) > MAX_CASES:
            raise ValueError(
                f"this function counts its conditions in more than {MAX_CASES} cases; write its "
                "choices as nested jnp.where"
            )
    return kept
