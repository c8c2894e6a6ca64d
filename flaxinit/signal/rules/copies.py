"""Copies in a kernel: slices that are multiples of other slices, as in ``jnp.tile(w, (1, 4))``.

A kernel that repeats its columns, W P with a matrix P of one number in each column, has channels
that repeat, and one that repeats its rows sees sums of what meets these:

    x (W P) = (x W) P,    x (Pᵀ W) = (x Pᵀ) W.

So the distinct slices meet the signal, and P is applied to the signal.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxinit.signal.samples.signals import CONSTANT, Signal


class Copies(NamedTuple):
    """What the held slices of a kernel along one axis are.

    Attributes:
        firsts: places of the distinct slices.
        numbers: of the distinct slice that each slice is a multiple of.
        factors: these multiples.
    """

    firsts: np.ndarray
    numbers: np.ndarray
    factors: np.ndarray


def copies(kernel: Signal, axis: int) -> Copies | None:
    """Return how slices along an axis repeat; None if no two are multiples of each other.

    >>> w = np.array([[[1.0, 2.0, -1.0], [3.0, 5.0, -3.0]]])
    >>> copies(Signal(w, (2, 3), (1, 1), sources=frozenset({1})), 1)
    Copies(firsts=array([0, 1]), numbers=array([0, 1, 0]), factors=array([ 1.,  1., -1.]))
    """
    size = kernel.shape[axis]
    if kernel.known or size == 1:
        return None
    if kernel.held[axis] == 1:
        one = np.zeros(size, int)
        return Copies(one[:1], one, one + 1.0) if kernel.roles[axis] == CONSTANT else None
    rows = _rows(kernel, axis, kernel.replicas)
    if len(rows[0]) == 1 or _differ(rows[:, :2]):
        return None
    found = _grouped(rows)
    return found if len(found.firsts) < len(rows) else None


def repeats(kernel: Signal) -> bool:
    """Return whether entries of a kernel stand in it more than once, wherever they do.

    They do if a kernel is turned and joined to itself. A law of a few values, as that of signs, has
    equal entries by chance: these are not the same ones in two replicas.
    """
    if kernel.known or kernel.replicas == 1:
        return False
    one, other = kernel.data[:2].reshape(2, -1)
    order = np.argsort(one)
    one, other = one[order], other[order]
    equal = (one[1:] == one[:-1]) & (one[1:] != 0)
    if np.mean(equal) <= _FEW:
        return False
    return bool(np.mean((other[1:] == other[:-1])[equal]) > _MOST)


# Of n draws in 32 bits, one in 2**24 / n has a double by chance.
_FEW = 1 / 16
# Of entries that are equal in one replica, so many are so in another, unless by chance.
_MOST = 0.9


def is_one(kernel: Signal, axis: int) -> bool:
    """Return whether all slices along an axis are one, as a broadcast makes them.

    >>> w = np.array([[[3.0, 5.0], [3.0, 5.0]]])
    >>> is_one(Signal(w, (2, 2), (2, 1), sources=frozenset({1})), 0)
    True
    """
    found = copies(kernel, axis)
    return bool(found) and len(found.firsts) == 1 and np.allclose(found.factors, 1)


def matched_slices(kernel: Signal, known: Signal, axis: int) -> Copies | None:
    """Return which slices of a known kernel those of another are, or new ones, behind these.

    None if no slice of the one is a multiple of one of the other.
    """
    replicas = min(kernel.replicas, known.replicas)
    theirs, mine = (_rows(each, axis, replicas) for each in (known, kernel))
    many, found = len(theirs), _grouped(np.concatenate([theirs, mine]))
    numbers = found.numbers[many:]
    if not np.array_equal(found.firsts[:many], np.arange(many)) or min(numbers) >= many:
        return None
    return Copies(found.firsts, numbers, found.factors[many:])


def _rows(kernel: Signal, axis: int, replicas: int) -> np.ndarray:
    return np.moveaxis(kernel.data[:replicas], axis + 1, 0).reshape(kernel.held[axis], -1)


def _grouped(rows: np.ndarray) -> Copies:
    """Return the first of each group of rows that are multiples of each other."""
    norms = np.linalg.norm(rows, axis=1)
    firsts, numbers, factors = [], np.arange(len(rows)), np.ones(len(rows))
    # Multiples of one row have one cosine with any vector, up to the sign.
    some = np.random.default_rng(0).standard_normal(rows.shape[1])
    cosines = np.divide(np.abs(rows @ some), norms, out=np.zeros_like(norms), where=norms > 0)
    seen: dict[float, int] = {}
    for n, cosine in enumerate(np.round(cosines, _DIGITS)):
        first = seen.setdefault(cosine, n)
        if norms[n] and first != n:
            factor = np.vdot(rows[first], rows[n]) / norms[first] ** 2
            if np.allclose(rows[n], factor * rows[first], 1e-9, 1e-9 * norms[n]):
                numbers[n], factors[n] = numbers[first], factor
                continue
        numbers[n] = len(firsts)
        firsts.append(n)
    return Copies(np.array(firsts), numbers, factors)


_DIGITS = 9


def _differ(pairs: np.ndarray) -> bool:
    """Return whether the ratios of two entries show that no slices are multiples of each other."""
    one, other = pairs.T
    if not np.all(one) or not np.all(other):
        return False
    return len(np.unique(np.round(one / other, _DIGITS))) == len(pairs)


def distinct(kernel: Signal, axis: int, found: Copies) -> Signal:
    """Return the kernel with its distinct slices only."""
    if kernel.held[axis] == 1:  # constant
        shape = (*kernel.shape[:axis], 1, *kernel.shape[axis + 1 :])
        return kernel.with_data(kernel.data, shape=shape)
    return slices(kernel, axis, found.firsts.tolist())


def slices(kernel: Signal, axis: int, places: Sequence[int]) -> Signal:
    """Return some of the held slices of a kernel, which stand for their share."""
    shape = list(kernel.shape)
    shape[axis] = round(shape[axis] * len(places) / kernel.held[axis])
    return kernel.with_data(np.take(kernel.data, places, axis=axis + 1), shape=tuple(shape))


def repeated(found: Copies, held: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which of `held` distinct entries stand at the places of a signal, and what multiples.

    Each slice that the kernel holds stands for a run of the signal's entries, if the signal holds
    more. That is so where runs of columns repeat (``tile``, ``concatenate``) and where each column
    does (``repeat``), and where they are in reverse; None if the slices come in another order.

    Args:
        found: how slices of the kernel repeat.
        held: distinct entries that the signal holds.

    >>> tiled = Copies(np.arange(3), np.array([0, 1, 2, 0, 1, 2]), np.ones(6))
    >>> repeated(tiled, 6)[0]
    array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
    """
    many, numbers, factors = len(found.firsts), found.numbers, found.factors
    if held <= many:
        chosen = np.full(many, -1)
        chosen[np.arange(held) * many // held] = np.arange(held)
        places = chosen[numbers]
        return places[places >= 0], factors[places >= 0]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    each = math.gcd(*starts.tolist(), len(numbers))  # so often each slice stands in a row
    rows, weights = numbers[::each], factors[::each]
    # Runs are in order, or all in reverse: what every other slice stands for is not known.
    onward, back = np.diff(rows, append=rows[-1:]), np.diff(rows, prepend=rows[:1])
    step = np.where(np.abs(onward) == 1, onward, back)
    unclear = np.any(np.abs(step) != 1) or np.any(onward * back == -1)
    if held % many or unclear or not np.allclose(np.repeat(weights, each), factors):
        return None
    inside = np.arange(held // many)
    inside = np.where(step[:, None] > 0, inside, inside[::-1])
    which = (rows[:, None] * len(inside[0]) + inside).reshape(-1)
    return np.repeat(which, each), np.repeat(np.repeat(weights, len(inside[0])), each)


def spread(found: Copies, y: np.ndarray, axis: int) -> np.ndarray | None:
    """Repeat entries along an axis as slices repeat; None if it is not known in which order."""
    if (places := repeated(found, y.shape[axis])) is None:
        return None
    which, factors = places
    return np.moveaxis(np.moveaxis(np.take(y, which, axis=axis), axis, -1) * factors, -1, axis)


def folded(x: Signal, axis: int, found: Copies) -> Signal | None:
    """Sum entries of a signal that meet copies of one slice; None if it is not known which do."""
    true = round(x.shape[axis] * len(found.firsts) / len(found.numbers))
    data, have = x.data, x.held[axis]
    if have == 1:
        have = len(found.numbers)
        data = np.repeat(data, have, axis=axis + 1)
    held = max(1, round(have * true / x.shape[axis]))
    places = repeated(found, held)
    if places is None or len(places[0]) != have:
        return None
    which, factors = places
    weighted = np.moveaxis(factors * np.moveaxis(data, axis + 1, -1), -1, 0)
    total = np.zeros((held, *weighted.shape[1:]), weighted.dtype)
    np.add.at(total, which, weighted)
    shape = list(x.shape)
    shape[axis] = true
    return x.with_data(np.moveaxis(total, 0, axis + 1), shape=tuple(shape))
