"""A second moment at any variance, as a float: by closed form, quadrature or enclosure.

An enclosure is slow, and a search for roots needs hundreds of values. So a search asks only for
what is `Known` without an enclosure and with little work; the attributes of `LayerMaps` whose names
start with ``known`` are such. NaN stands for "not known". Infinity is known: the moment diverges.

`root_search` finds no root next to a value that is not known. If a function is 1 at q = 1, NaN at
q = 2 and −1 at q = 3, it may have a root near 2, or jump over 0, so no root is reported. Without
the NaN, the change of sign would be followed to a root.
"""

import contextlib
import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import sympy

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.balls import NotCertifiable
from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.functions.symbols import q
from flaxinit.theory.moments.enclosure import Diverges
from flaxinit.theory.moments.moment import Moment, may_diverge
from flaxinit.theory.moments.quadrature import Unresolved, expect

_SECONDS = 0.1  # of work for a quadrature that a search asks for; most take a thousandth


def evaluate(moment: Moment, variance: float, *, known: bool = False) -> float:
    """Return a moment at q = variance; with `known`, nan if only an enclosure could give it."""
    if not moment.exists:
        return moment.value  # raises an error that says why
    if moment.exact == sympy.oo:
        return math.inf
    if variance == 0:
        function = numeric(moment.pieces)
        # The mean of the limits from both sides, which differ if the function jumps at 0.
        far, beside = (float(np.mean(function(np.array([-x, x])))) for x in (1e-150, 1e-300))
        if abs(beside - far) > 1e-6 * far:  # it still changes, as a power or a logarithm does
            return math.inf if beside > far else 0.0
        return beside
    diverging = may_diverge(moment.pieces)
    try:
        if moment.exact is not None and not diverging:
            with contextlib.suppress(NotCertifiable):  # the form may cancel, as for q → 0
                return float(balls.sharp(moment.exact, {q: variance}).mid())
        if not diverging:
            with contextlib.suppress(Unresolved), quickly() if known else nullcontext():
                return expect(numeric(moment.pieces), variance).value
        return moment.at(variance) if diverging or not known else math.nan
    except Diverges:
        return math.inf
    except NotCertifiable:
        if known:
            return math.nan
        raise


def quickly() -> contextlib.AbstractContextManager[None]:
    """Allow a quadrature the work that a search has for a value."""
    return limited(_SECONDS)


class Known:
    """A function of a variance, such as a moment, where it is known with little work; else nan.

    A moment that diverges at q₀ diverges at every q > q₀, because the density there is at least
    √(q₀/q) times as large. A quadrature that takes too much work at q₀ is not tried at q > q₀,
    where an oscillation takes even more.
    """

    def __init__(self, function: Callable[[float], float]):
        self._function = function
        self._values: dict[float, float] = {}
        self._infinite = self._costly = math.inf  # from which variance on

    def __call__(self, variance: float) -> float:
        if variance >= self._infinite:
            return math.inf
        if variance >= self._costly:
            return math.nan
        if variance not in self._values:
            self._values[variance] = self._value(variance)
        return self._values[variance]

    def _value(self, variance: float) -> float:
        try:
            value = self._function(variance)
        except OverBudget:
            self._costly = variance
            return math.nan
        if math.isinf(value):
            self._infinite = variance
        return value
