"""Count work instead of timing it, so that a fast and a busy machine give the same answer.

A unit is about a microsecond of one core, for example a step of a ball program. A caller of SymPy
counts the cost before the call, by the size of the expression; `watch` counts it while SymPy runs.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator

from sympy import Basic

PER_SECOND = 1_000_000
_STEP = 2  # units of work; one on a machine at rest
_REMEMBERED = 4096
_REFUSED = "This takes more work than is allowed."


class OverBudget(ValueError):
    """A computation takes more work than it is allowed."""


class Stopped(BaseException):
    """SymPy was stopped at a limit; `limited` turns it into `OverBudget`.

    SymPy catches exceptions in many places. What is not an `Exception` passes through them.
    `resume` goes on counting, which Python 3.11 ends at an exception.
    """

    def __init__(self, resume: Callable[[], None]):
        super().__init__()
        self.resume = resume


class _Thread(threading.local):
    """How much work the thread has spent, and SymPy in it, and at which counts they must stop."""

    spent, limit = 0, math.inf
    steps, last_step = 0, math.inf


_thread = _Thread()


def spend(units: float) -> None:
    """Count work before it is done.

    Raises:
        OverBudget: if it is more than `limited` allows, or SymPy has taken more.
    """
    _thread.spent += units
    if _thread.spent > _thread.limit:
        _thread.spent = _thread.limit + 1  # refused work is not done, and an outer limit keeps it
        raise OverBudget(_REFUSED)
    if _thread.steps > _thread.last_step:
        raise OverBudget(_REFUSED)


def step(count: int, resume: Callable[[], None]) -> None:
    """Count steps of SymPy while SymPy runs.

    They count apart from what was spent on them in advance.

    Raises:
        Stopped: if they are more than `limited` allows.
    """
    _thread.steps += _STEP * count
    if _thread.steps > _thread.last_step:
        _thread.steps = _thread.last_step + 1
        raise Stopped(resume)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Allow so many seconds' worth of work, and no more than is allowed already.

    >>> with limited(seconds=1):
    ...     spend(2 * PER_SECOND)
    Traceback (most recent call last):
    ...
    flaxinit.theory.functions.effort.OverBudget: This takes more work than is allowed.
    """
    outer = _thread.limit, _thread.last_step
    _thread.limit = min(outer[0], _thread.spent + seconds * PER_SECOND)
    _thread.last_step = min(outer[1], _thread.steps + seconds * PER_SECOND)
    try:
        yield
    except Stopped as stopped:
        stopped.resume()
        raise OverBudget(_REFUSED) from None
    finally:
        _thread.limit, _thread.last_step = outer


def remembered(function: Callable) -> Callable:
    """Remember a function's results, but count their work each time.

    So a result does not depend on what was computed before.
    """
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
    """Return the number of parts of an expression, written out.

    >>> from flaxinit.theory.functions.symbols import z
    >>> size(z + z**2)
    5
    """
    return 1 + sum(map(size, expr.args))


@functools.lru_cache(maxsize=1 << 16)
def weight(expr: Basic) -> int:
    """Return the sum of the sizes of all parts: the work of SymPy if it visits them at each depth.

    >>> from flaxinit.theory.functions.symbols import z
    >>> weight(z + z**2)
    11
    """
    return size(expr) + sum(map(weight, expr.args))
