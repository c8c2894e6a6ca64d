"""Bounds of the time that a test takes, in seconds of a quiet machine, on whichever it runs."""

import contextlib
import time

import sympy

from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.functions.watch import watched

YARDSTICK = 0.2  # seconds' worth of work


def pace() -> float:
    """Return how long a processor takes, here and now, for what counts as a second of work."""
    start = time.process_time()
    with contextlib.suppress(OverBudget), watched(), limited(YARDSTICK):
        sympy.expand((1 + sympy.exp(z) + sympy.erf(z)) ** 150)  # more than the limit allows
    return (time.process_time() - start) / YARDSTICK


@contextlib.contextmanager
def at_most(seconds: float):
    """Fail if the block takes more than so many seconds' worth of work."""
    start = time.process_time()
    yield
    taken = time.process_time() - start
    assert taken < seconds or taken < seconds * pace()
