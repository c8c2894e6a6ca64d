"""A second moment at any variance, as a float: closed form, quadrature or enclosure."""

import contextlib
import math

import numpy as np
import sympy

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.balls import NotCertifiable
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.functions.symbols import q
from flaxinit.theory.moments.enclosure import Diverges
from flaxinit.theory.moments.moment import Moment, may_diverge
from flaxinit.theory.moments.quadrature import Unresolved, expect


def evaluate(moment: Moment, variance: float, *, known: bool = False) -> float:
    """A moment at q = variance; nan for what takes an enclosure, if only what is known is asked."""
    if not moment.exists:
        return moment.value  # which says why
    if moment.exact == sympy.oo:
        return math.inf
    if variance == 0:
        function = numeric(moment.pieces)
        # The limit from both sides: a jump at 0 counts by halves.
        far, beside = (float(np.mean(function(np.array([-x, x])))) for x in (1e-150, 1e-300))
        if abs(beside - far) > 1e-6 * far:  # it still moves, as a power or a logarithm does
            return math.inf if beside > far else 0.0
        return beside
    diverging = may_diverge(moment.pieces)
    try:
        if moment.exact is not None and not diverging:
            with contextlib.suppress(NotCertifiable):  # a form that cancels, as at q → 0
                return float(balls.sharp(moment.exact, {q: variance}).mid())
        if not diverging:
            with contextlib.suppress(Unresolved):
                return expect(numeric(moment.pieces), variance).value
        return moment.at(variance) if diverging or not known else math.nan
    except Diverges:
        return math.inf
    except NotCertifiable:
        if known:
            return math.nan
        raise


def search(moment: Moment, variance: float, found: dict[float, float]) -> float:
    """A moment among those that a search has found.

    What diverges at q₀ diverges beyond: there, the density is at least √(q₀/q) times as large.
    """
    if variance not in found:
        diverges = any(math.isinf(value) for v, value in found.items() if v <= variance)
        found[variance] = math.inf if diverges else evaluate(moment, variance, known=True)
    return found[variance]
