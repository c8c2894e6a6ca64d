"""Work is counted, not timed: one input has one answer, on a fast machine and on a busy one.

A unit is about a microsecond of one core, such as a step of a ball program. What calls SymPy
says beforehand what that will cost, by the size of what it hands over: SymPy cannot be stopped.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator

from sympy import Basic

PER_SECOND = 1_000_000
_REMEMBERED = 4096


class OverBudget(ValueError):
    """The work that was allowed does not suffice."""


class _Thread(threading.local):
    """What the thread has spent so far, and at which count it has to stop."""

    spent = 0
    limit = math.inf


_thread = _Thread()


def spend(units: float) -> None:
    """Counts work, before it is done.

    Raises:
        OverBudget: if that is more than `limited` allows.
    """
    _thread.spent += units
    if _thread.spent > _thread.limit:
        _thread.spent = _thread.limit + 1  # what is refused is not done: an outer limit keeps it
        raise OverBudget("the work that was allowed does not suffice")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Allows so many seconds' worth of work, and no more than is allowed already.

    >>> with limited(seconds=1):
    ...     spend(2 * PER_SECOND)
    Traceback (most recent call last):
    ...
    flaxinit.theory.functions.effort.OverBudget: the work that was allowed does not suffice
    """
    outer = _thread.limit
    _thread.limit = min(outer, _thread.spent + seconds * PER_SECOND)
    try:
        yield
    finally:
        _thread.limit = outer


def remembered(function: Callable) -> Callable:
    """A function computed once, whose work counts every time: no call makes another cheaper."""
    memory: dict[tuple, tuple] = {}

    @functools.wraps(function)
    def recalled(*args, **options):
        key = (args, *sorted(options.items()))
        if key in memory:
            value, cost = memory[key]
            spend(cost)
            return value
        before = _thread.spent
        value = function(*args, **options)
        if len(memory) >= _REMEMBERED:
            memory.pop(next(iter(memory)), None)
        memory[key] = value, _thread.spent - before
        return value

    return recalled


@functools.lru_cache(maxsize=1 << 16)
def size(expr: Basic) -> int:
    """The number of parts of an expression, written out.

    >>> from flaxinit.theory.functions.symbols import z
    >>> size(z + z**2)
    5
    """
    return 1 + sum(map(size, expr.args))


@functools.lru_cache(maxsize=1 << 16)
def weight(expr: Basic) -> int:
    """The sizes of all parts: what SymPy looks at that goes through every part at each depth.

    >>> from flaxinit.theory.functions.symbols import z
    >>> weight(z + z**2)
    11
    """
    return size(expr) + sum(map(weight, expr.args))
