"""Elementwise operations, run on the sample and corrected by what theory knows.

Sums and products of independent signals have the second moments

    E[(x ± y)²] = E[x²] + E[y²] ± 2 E[x] E[y],    E[(x y)²] = E[x²] E[y²],

and the latter holds for a signal that another one masks, too. A sample has these moments only up to
an error of 1/√particles, and such errors would add up with depth.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flaxinit.signal.rules.functions import function
from flaxinit.signal.samples.alignment import aligned, independent, moments, roles
from flaxinit.signal.samples.fluctuation import Fluctuation, total
from flaxinit.signal.samples.limits import Limits, must_fit
from flaxinit.signal.samples.signals import (
    WIDTH,
    Base,
    Signal,
    all_bases,
    follows,
    joined,
    joint_level,
    wide,
)


def elementwise(
    equation, signals: Sequence[Signal], limits: Limits, rng: np.random.Generator
) -> Signal | None:
    """Return the result of an elementwise operation; None if it is another operation."""
    name = equation.primitive.name
    run = function(name, equation.params)
    if run is None:
        return None
    signals = aligned(signals, limits, rng)
    sizes = zip(*(signal.data.shape for signal in signals), strict=True)
    aval = equation.outvars[0].aval
    must_fit(math.prod(map(max, sizes)), name, aval.shape)
    if name == "bitcast_convert_type":  # the bits are those of its dtype, not of 64 bits
        if aval.dtype.itemsize != equation.invars[0].aval.dtype.itemsize:
            return None
        signals = [signals[0].with_data(signals[0].data.astype(equation.invars[0].aval.dtype))]
    with np.errstate(all="ignore"):
        data = np.asarray(run(*(signal.data for signal in signals)))
    if aval.dtype.kind in "biu":
        data = data.astype(aval.dtype, copy=False)
    data, bases = wide(data), all_bases(signals)
    known = joined(signals, strays=not follows(bases, data))
    known["level"] = _level(name, signals)
    if name == "mul" and any(signal.known and not np.any(signal.data) for signal in signals):
        # So is the first state of a cell, whatever its gates are: no part of a sum.
        known["sources"] = frozenset()
    result = Signal(data, tuple(aval.shape), roles(signals), bases=bases, **known)
    if name == "select_n" and _masked(signals, result):
        result = _matched(result, _kept(signals, result.widths()))
    elif name in _MOMENTS and independent(signals, result.roles):
        result = _matched(result, _expected(name, signals, result.widths()))
    result = _leveled(name, signals, result)
    if len(result.bases) > _BASES:
        # As the state of a cell after many steps: what follows is a function of it.
        strays, mask = result.carried, result.bases[0].mask
        result = replace(result, strays=strays, bases=(Base(result.data, strays, mask),))
    return result


def _level(name: str, signals: Sequence[Signal]) -> float:
    """Return the level of a function of signals.

    What chooses says nothing of what it chooses from, if it is known, as indices are. Nor do
    zeros, or weights of whole vectors, as those of attention, say anything of what they meet.
    """
    if name == "select_n" and not signals[0].sources:
        signals = signals[1:]
    widths = {axis for signal in signals for axis in signal.widths()}
    vectors = [signal for signal in signals if widths <= {*signal.widths()}] or signals
    return joint_level(signal for signal in vectors if np.any(signal.data))


# Pre-activations of which a signal may be a function: to find all slopes takes as long as these
# are many, and a loop would take the square of its steps.
_BASES = 32
_MOMENTS = ("add", "add_any", "sub", "mul")


def _expected(name: str, signals: Sequence[Signal], widths: tuple[int, ...]) -> np.ndarray:
    (mean, square), (other_mean, other_square) = (moments(signal, widths) for signal in signals)
    if name == "mul":
        return square * other_square
    cross = 2 * np.real(mean * np.conj(other_mean))
    return square + other_square + (-cross if name == "sub" else cross)


def _masked(signals: Sequence[Signal], result: Signal) -> bool:
    """Return whether one of two signals is chosen by a signal that is independent of both."""
    which, *cases = signals
    drawn = frozenset().union(*(case.sources for case in cases))
    both = len(cases) == 2 and bool(which.sources) and bool(drawn)
    return both and WIDTH in result.roles and not which.sources & drawn


def _kept(signals: Sequence[Signal], widths: tuple[int, ...]) -> np.ndarray:
    which, *cases = signals
    second, _ = moments(which, widths)  # how often the second case is chosen
    (_, zero), (_, one) = (moments(case, widths) for case in cases)
    return (1 - second) * zero + second * one


def _matched(signal: Signal, wanted: np.ndarray) -> Signal:
    """Rescale a signal to these second moments at each place."""
    _, found = moments(signal, signal.widths())
    usable = (found > 0) & np.isfinite(found) & np.isfinite(wanted) & (wanted > 0)
    ratio = np.divide(wanted, found, out=np.ones(np.shape(found)), where=usable)
    return signal.with_data(signal.data * np.sqrt(ratio), bases=signal.bases)


def _leveled(name: str, signals: Sequence[Signal], result: Signal) -> Signal:
    """Set the level and the spread that follow from those of the operands.

    A sum of signals, or of a signal and a bias or an input, is a new pre-activation. So is a
    quotient by a norm: its second moment is the same in each draw. Any other operation on a
    pre-activation is part of the activation. Of inputs it is what is done before a network begins,
    as x / 255 is.
    """
    if result.origin is not None:
        return result
    if not result.sources:
        floating = result.data.dtype.kind in "fc"
        return replace(result, level=result.second_moment() if floating else math.nan)
    if name in ("add", "add_any", "sub"):
        # A number of the program, as in 1 + tanh(x), is part of an activation; an input is not.
        # What is 0, as the first state of a loop, adds nothing.
        inputs = (x for x in signals if x.known and x.origin is None and np.any(x.data))
        fixed = [*inputs, *(x for x in signals if x.is_parameter)]
        if not (result.backward or fixed) and not independent(signals, result.roles):
            return result
        squares = [signal.second_moment() for signal in signals]
        shares = [square / (sum(squares) or 1.0) for square in squares]
        pairs = zip(signals, shares, strict=True)
        strays = total(x.carried.scaled(share) for x, share in pairs)
        drawn = [signal for signal in signals if signal.sources]
        normed = len(drawn) == 1 and drawn[0].carried.fixed  # and the rest is a number, as a bias
        return _pre_activation(result, replace(strays, fixed=normed))
    if result.backward:
        return result
    if name in ("mul", "div") and _is_normed(signals, result):
        return _pre_activation(result, Fluctuation(fixed=True))
    return result


def _pre_activation(signal: Signal, strays: Fluctuation) -> Signal:
    level, bases = signal.second_moment(), (Base(signal.data, strays),)
    return replace(signal, level=level, strays=strays, bases=bases)


def _is_normed(signals: Sequence[Signal], result: Signal) -> bool:
    """Return whether a signal is multiplied or divided by a statistic of itself.

    That is one number for several entries, computed from nothing else: a gate that a kernel makes
    of such a statistic is no norm, nor is the sum of the weights with which attention made the
    signal. That one has the level of the scores, but a statistic has that of its signal.
    """
    for statistic, other in (signals, signals[::-1]):
        own = statistic.origin is None and statistic.sources and statistic.sources <= other.sources
        # Levels that are multiplied and rooted are equal but for rounding.
        if own and np.isclose(statistic.level, other.level, _ROUNDING, 0, equal_nan=True):
            pairs = zip(statistic.held, result.held, strict=True)
            if any(mine == 1 and size > 1 for mine, size in pairs):
                return True
    return False


# What 64 bits leave of a level after many geometric means.
_ROUNDING = 1e-9
