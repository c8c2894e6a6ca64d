"""Values that depend on the input piecewise, as a flat list: one value for each cell of the line.

For example, the number of the conditions z > 0 and z > 1 that hold has the places (0, 1) and the
values (0, 0, 1, 1, 2): on z < 0, at 0, on 0 < z < 1, at 1, and on z > 1. SymPy would nest
`Piecewise` expressions, and solve their conditions again at every step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

from sympy import And, Basic, Eq, Expr, Integer, Or, false, nan, oo, true, zoo
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from flaxinit.theory.functions.algebra import polynomial
from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.functions.effort import remembered
from flaxinit.theory.functions.order import compare, ordered
from flaxinit.theory.functions.piecewise import where
from flaxinit.theory.functions.symbols import z

MAX_PLACES = 1024


@dataclass(frozen=True)
class Cells:
    """One value at every place on the line, and one on every open interval between places.

    Attributes:
        places: the places, from left to right.
        values: expressions or conditions, one for each cell from left to right: the interval up to
            the first place, that place, the interval up to the second place, and so on.
    """

    places: tuple[Expr, ...]
    values: tuple[Basic, ...]

    @cached_property
    def free_symbols(self) -> set:
        return {z}.union(*[value.free_symbols for value in set(self.values)])

    @property
    def are_numbers(self) -> bool:
        """Whether every value is a number or a truth value."""
        return not any(value.free_symbols for value in set(self.values))

    @property
    def expr(self) -> Basic:
        """The values as one expression, or one condition.

        >>> cells(z > 0).expr, count(z > 0).expr
        (z > 0, Piecewise((0, z <= 0), (1, True)))
        """
        if all(_is_condition(value) for value in self.values):
            return _condition(self)
        points, intervals = [], []
        for place, (left, point, right) in self.neighbors:
            if left != right:
                intervals.append((left, z < place if point != left else z <= place))
            if point not in (left, right):
                points.append((point, Eq(z, place)))
        return Piecewise(*points, *intervals, (self.values[-1], True))

    @property
    def neighbors(self) -> Iterator[tuple[Expr, tuple]]:
        """Each place, with the values to its left, at it, and to its right."""
        for n, place in enumerate(self.places):
            yield place, self.values[2 * n : 2 * n + 3]

    def spread(self, places: Sequence[Expr]) -> list[Basic]:
        """Return the values on the cells that a finer list of places makes."""
        own, spread = 0, []
        for place in places:
            spread.append(self.values[2 * own])
            here = own < len(self.places) and compare(place, self.places[own]) == 0
            spread.append(self.values[2 * own + here])
            own += here
        return [*spread, self.values[-1]]


def cells(condition: Boolean) -> Cells | Boolean:
    """Return the cells on which a condition on z holds.

    Raises:
        ValueError: if the places where it changes cannot be found.

    >>> cells(z >= 2)
    Cells(places=(2,), values=(False, True, True))
    """
    if (place := _threshold(condition)) is not None:
        return Cells((place,), tuple(condition.func(n, 0) for n in _beside(condition)))
    truths = where(condition, -oo, oo)
    values: list[Basic] = [true if truths[0].holds else false]
    for left, right in pairwise(truths):
        there = condition.subs(z, left.high)
        values += [there if there in (true, false) else values[-1], true if right.holds else false]
    return _simplest(Cells(tuple(truth.high for truth in truths[:-1]), tuple(values)))


def is_threshold(value) -> bool:
    """Tell whether a value is a comparison of z with a number."""
    return isinstance(value, Relational) and _threshold(value) is not None


@remembered
def _threshold(condition: Boolean) -> Expr | None:
    """Return the place at which a linear condition on z changes; None if it is not linear."""
    line = polynomial(condition.lhs - condition.rhs) if isinstance(condition, Relational) else None
    if line is None or line.degree() != 1 or line.free_symbols_in_domain:
        return None
    slope, offset = line.all_coeffs()
    return -offset / slope


def _beside(condition: Relational) -> tuple[int, int, int]:
    """Return the sign of lhs − rhs to the left of the threshold, at it, and to its right."""
    rises = polynomial(condition.lhs - condition.rhs).LC().is_positive
    return (-1, 0, 1) if rises else (1, 0, -1)


def count(condition: Boolean):
    """Return 1 where the condition holds, and 0 elsewhere."""
    return first([condition, true]) if condition in (true, false) else first([~condition, true])


def first(conditions: Sequence[Boolean]):
    """Return the index of the first condition that holds; 0 if none does.

    >>> first([z > 1, z > 0])
    Cells(places=(0, 1), values=(0, 0, 1, 1, 0))
    """

    def place(*holds: Boolean) -> Integer:
        return Integer(holds.index(true) if true in holds else 0)

    return apply(place, [c if c in (true, false) else cells(c) for c in conditions])


def apply(rule: Callable, entries: Sequence):
    """Apply a rule cell by cell.

    >>> apply(lambda a, b: a + b, (count(z > 0), count(z > 1)))
    Cells(places=(0, 1), values=(0, 0, 1, 1, 2))
    """
    return apply_to_all(lambda *columns: list(map(cache(rule), *columns)), entries)


def apply_to_all(rule: Callable, entries: Sequence):
    """Apply a rule to all cells at once: it takes one list of values for each entry."""
    rows = {entry.places for entry in entries if isinstance(entry, Cells)}
    places = ordered(p for row in rows for p in row) if len(rows) != 1 else next(iter(rows))
    if len(places) > MAX_PLACES:
        raise ValueError(
            f"This function changes its branch at more than {MAX_PLACES} places. Derive a simpler "
            "function."
        )
    columns = [
        entry.spread(places) if isinstance(entry, Cells) else [entry] * (2 * len(places) + 1)
        for entry in entries
    ]
    return _flat(places, rule(*columns))


def _flat(places: Sequence[Expr], values: Sequence):
    """Flatten cells whose values are cells."""
    finer = {place for value in values if isinstance(value, Cells) for place in value.places}
    if not finer:
        return _simplest(Cells(tuple(places), tuple(values)))
    every = ordered([*places, *finer])
    spread = Cells(tuple(places), tuple(values)).spread(every)
    inner = {value: value.spread(every) for value in set(spread) if isinstance(value, Cells)}
    flat = [inner[v][i] if isinstance(v, Cells) else v for i, v in enumerate(spread)]
    return _simplest(Cells(every, tuple(flat)))


def _simplest(whole: Cells):
    """Drop the places at which nothing changes. If none is left, return the one value."""
    places, values = [], [whole.values[0]]
    for place, (left, point, right) in whole.neighbors:
        if left != right or not _agree(left, point, place):
            places.append(place)
            values += [point, right]
    return Cells(tuple(places), tuple(values)) if places else values[0]


def _agree(value: Basic, point: Basic, place: Expr) -> bool:
    """Tell whether the value of an interval equals that of a single point, at the point."""
    if value == point:
        return True
    there = value.subs(z, place)
    return there not in (nan, zoo) and there == point.subs(z, place)


def _is_condition(value) -> bool:
    # SymPy counts a Symbol as a Boolean too.
    return isinstance(value, Boolean) and not isinstance(value, Expr)


def _condition(whole: Cells) -> Boolean:
    """Return where a condition holds, as comparisons with the places."""
    parts: list[Boolean] = []
    above: Boolean = true
    for place, (left, point, right) in whole.neighbors:
        parts.append(And(left, above, z <= place if point == left else z < place))
        above = z >= place if point == right else z > place
        if point not in (left, right):
            parts.append(And(point, Eq(z, place)))
    return Or(*parts, And(whole.values[-1], above))
