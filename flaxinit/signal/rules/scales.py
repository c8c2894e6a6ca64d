"""Scales of a kernel: its rows, or columns, differ in variance, as where a gate starts at 0.

A kernel W D with a diagonal matrix D has outputs that differ, and one D W sees a signal that does:

    x (W D) = (x W) D,    x (D W) = (x D) W.

So slices of one variance meet the signal, and D is applied to the signal.
"""

import numpy as np

from flaxinit.signal.rules.copies import Copies
from flaxinit.signal.samples.signals import Signal, squared

# Variances that differ by less than a quarter of their mean count as one.
_UNEVEN = 1 / 16


def uneven(kernel: Signal) -> list[int]:
    """Return the axes along which E[W²] differs between slices by more than chance explains.

    >>> w = np.random.default_rng(0).standard_normal((16, 64, 64))
    >>> signal = Signal(w, (64, 64), (1, 1), sources=frozenset({1}))
    >>> uneven(signal), uneven(signal.with_data(w * (np.arange(64) < 32)))
    ([], [1])
    """
    squares = squared(kernel.data)
    mean, variance = np.mean(squares), np.var(squares)

    def differ(axis: int, held: int) -> bool:
        chance = variance * held / squares.size
        return bool(np.var(_means(squares, axis)) - chance > _UNEVEN * mean**2)

    return [axis for axis, held in enumerate(kernel.held) if held > 1 and differ(axis, held)]


def _means(squares: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(squares, axis=tuple(n for n in range(squares.ndim) if n != axis + 1))


def scales(kernel: Signal, axis: int) -> Copies:
    """Return slices along an axis as multiples of slices of one variance."""
    squares = _means(squared(kernel.data), axis)
    every = np.arange(len(squares))
    return Copies(every, every, np.sqrt(squares / np.mean(squares)))


def even(kernel: Signal, axis: int, found: Copies) -> Signal:
    """Divide slices by their scales; for one of zeros another slice stands."""
    places = np.flatnonzero(found.factors)
    some = np.where(found.factors > 0, found.numbers, np.resize(places, len(found.numbers)))
    shape = [1] * kernel.data.ndim
    shape[axis + 1] = -1
    data = np.take(kernel.data, some, axis=axis + 1) / found.factors[some].reshape(shape)
    return kernel.with_data(data)
