"""The law of parameters that are there already: what their entries look like.

If all entries of a parameter are equal, as in a bias or a norm's scale at the start, they are
known. Any other parameter is taken for a draw of independent entries that have its moments.
Parameters that are stacked on leading axes (layers of a scan, experts) each keep their own moments.
"""

import math
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np

from flaxinit.signal.samples.signals import CONSTANT, WIDTH, Signal, exact, squared, wide

_ENTRIES = 2**14  # entries that stand for all
_FEW = 16  # entries along one of the last two axes, at least, where it has so many
_LONGEST = 2**6
# A mean that is off 0 by chance stays within four standard errors, but for one in 16,000.
_ERRORS = 4


def laws(
    params: Sequence[Any],
    numbers: Iterator[int],
    rng: np.random.Generator,
    whole: Container[int] = (),
) -> list[Signal]:
    """Return parameters as signals, each with its own origin.

    Args:
        params: arrays.
        numbers: names draws.
        rng: chooses entries.
        whole: which of them are to be held as they are, by number.
    """
    return [_law(np.asarray(x), n, numbers, rng, n in whole) for n, x in enumerate(params)]


def _law(array: np.ndarray, number: int, numbers: Iterator[int], rng, whole: bool) -> Signal:
    array, origin = wide(array), frozenset({(number, ())})
    if array.ndim == 0 or not array.size:
        return exact(array, origin)
    if np.all(array == array.flat[0]):
        held = array.reshape(-1)[:1].reshape((1,) * array.ndim)[None]
        return Signal(held, array.shape, (CONSTANT,) * array.ndim, origin=origin)
    roles = tuple(CONSTANT if n == 1 else WIDTH for n in array.shape)
    if whole:
        return Signal(array[None], array.shape, roles, frozenset({next(numbers)}), origin)
    stacked = max(0, array.ndim - 2)
    leading = array.shape[:stacked]
    flat = array.reshape(*leading, -1)
    last = _held(array.shape[stacked:], math.prod(leading))
    count = math.prod(last)
    replicas = max(1, _ENTRIES // (count * math.prod(leading)))
    some = rng.integers(flat.shape[-1], size=replicas * count)
    data = np.moveaxis(flat[..., some].reshape(*leading, replicas, *last), stacked, 0)
    own = tuple(range(1 + stacked, data.ndim))
    mean, second = np.mean(flat, -1), np.mean(squared(flat), -1)
    error = math.sqrt(np.mean(second) / array.size)
    mean = mean if abs(np.mean(mean)) > _ERRORS * error else np.zeros(leading)
    deviation = np.sqrt(second - squared(mean))
    data = data - np.mean(data, axis=(0, *own), keepdims=True)
    found = np.sqrt(np.mean(squared(data), axis=(0, *own)))
    factor = np.divide(deviation, found, out=np.zeros_like(deviation), where=found > 0)
    shape = (*leading, *(1,) * len(last))
    data = data * factor.reshape(shape) + mean.reshape(shape)
    return Signal(data, array.shape, roles, frozenset({next(numbers)}), origin)


def _held(sizes: Sequence[int], stacked: int) -> tuple[int, ...]:
    """Return how many entries of each last axis stand for all; they divide it where they can."""
    most = max(_FEW, min(_LONGEST, math.isqrt(_ENTRIES // max(1, stacked))))
    return tuple(_divisor(n, most) if n > most else n for n in sizes)


def _divisor(size: int, most: int) -> int:
    return next((n for n in range(most, most // 2, -1) if size % n == 0), most)
