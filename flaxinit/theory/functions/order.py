"""The proven order of places on the line: exact, by balls, or by the signs of parameters."""

from collections.abc import Iterable, Sequence
from functools import cmp_to_key

from flint import arb
from sympy import Expr, oo

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import is_zero
from flaxinit.theory.functions.effort import remembered


def compare(a: Expr, b: Expr) -> int:
    """Return −1, 0 or 1 if a lies to the left of b, at b, or to its right.

    Raises:
        ValueError: if the order cannot be proven.

    >>> from sympy import Rational, sqrt
    >>> compare(sqrt(2), Rational(7, 5)), compare(-oo, oo)
    (1, -1)
    """
    if a == b:
        return 0
    if a.is_Rational and b.is_Rational:
        return 1 if a.p * b.q > b.p * a.q else -1
    if a in (oo, -oo) or b in (oo, -oo):
        return 1 if a == oo or b == -oo else -1
    return _proven(a, b)


@remembered
def _proven(a: Expr, b: Expr) -> int:
    gap = a - b
    if gap.free_symbols:
        if is_zero(gap):
            return 0
        if gap.is_positive or gap.is_negative:
            return 1 if gap.is_positive else -1
        raise ValueError(
            f"The order of the kinks {a} and {b} depends on the parameters. Give them assumptions "
            "that decide it, such as Symbol('a', positive=True)."
        )
    left, right = _located(a), _located(b)
    if not left.overlaps(right):
        return 1 if left > right else -1
    if is_zero(gap):
        return 0
    raise ValueError(f"The kinks {a} and {b} are too close to order. Merge them or move one.")


@remembered
def _located(place: Expr) -> arb:
    with balls.precision():
        return balls.evaluate(place)


def ordered(places: Iterable[Expr]) -> tuple[Expr, ...]:
    """Return the places from left to right, each once."""
    kept: list[Expr] = []
    for place in sorted(set(places), key=cmp_to_key(compare)):
        if not kept or compare(kept[-1], place):
            kept.append(place)
    return tuple(kept)


def within(place: Expr, low: Expr, high: Expr) -> bool:
    """Tell whether a place lies in a closed interval."""
    return compare(low, place) <= 0 <= compare(high, place)


def between(low: Expr, places: Iterable[Expr], high: Expr) -> list[Expr]:
    """Return the places inside an open interval."""
    return [p for p in places if compare(low, p) < 0 and compare(p, high) < 0]


def aligned(rows: Sequence[Sequence]):
    """Yield (low, high, the piece of each row) for every interval of the common refinement.

    Every row holds pieces with a `low` and a `high`, from left to right. All rows cover the same
    interval.
    """
    places = [0] * len(rows)
    low = rows[0][0].low
    while True:
        here = [row[place] for row, place in zip(rows, places, strict=True)]
        high = here[0].high
        for piece in here[1:]:
            if compare(piece.high, high) < 0:
                high = piece.high
        yield low, high, here
        for i, piece in enumerate(here):
            if not compare(piece.high, high):
                places[i] += 1
        if places[0] == len(rows[0]):
            return
        low = high
