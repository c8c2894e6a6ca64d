"""Statistics of a signal, for reports: correlations of its places, and how far one draw strays."""

import math
from collections.abc import Sequence

import numpy as np

from flaxinit.signal.samples.fluctuation import Fluctuation
from flaxinit.signal.samples.signals import CONSTANT, PLACE, WIDTH, Signal, some, squared


def correlations(signal: Signal) -> tuple[float | None, float | None]:
    """Return mean correlations E[x_i x_j] / √(E[x_i²] E[x_j²]) of two positions and two samples.

    The first axis of places counts samples, or the first one that is longer than 1; the others
    count positions. A constant axis has correlation 1. A correlation is None if no axis longer
    than 1 counts its places, or the signal is 0.
    """
    samples, positions = _places(signal)
    places = [*samples, *positions]
    if not places:
        return None, None
    order = [i for i in range(len(signal.shape)) if i not in places] + places
    data = np.transpose(some(signal), (0, *(i + 1 for i in order)))
    sizes = [int(np.prod([signal.held[i] for i in axes])) for axes in (samples, positions)]
    data = data.reshape(-1, *sizes)
    squares = np.mean(squared(data), axis=0)
    with np.errstate(invalid="ignore"):  # of what is not finite
        data = np.divide(data, np.sqrt(squares), out=np.zeros_like(data), where=squares > 0)
    if not np.any(squares):
        return None, None
    return (
        _pairs(data, 2) if positions else None,
        _pairs(data, 1) if samples else None,
    )


def _places(signal: Signal) -> tuple[list[int], list[int]]:
    """Return the axes that count samples, one at most, and those that count positions."""
    axes = [i for i, (role, n) in enumerate(zip(signal.roles, signal.shape, strict=True)) if n > 1]
    places = [i for i in axes if signal.roles[i] in (PLACE, CONSTANT)]
    one = len(signal.shape) > 2 and signal.shape[0] == 1
    return ([], places) if one else (places[:1], places[1:])


def count_samples(signal: Signal) -> int:
    """Return the number of samples."""
    samples, _ = _places(signal)
    return math.prod(signal.shape[axis] for axis in samples)


def _pairs(data: np.ndarray, axis: int) -> float:
    """Return the mean product of two different entries along an axis, each of second moment 1."""
    count = data.shape[axis]
    if count == 1:
        return 1.0
    total = np.mean(squared(np.sum(data, axis=axis)))
    alone = np.mean(squared(data)) * count
    return float((total - alone) / (count * (count - 1)))


def chance(signal: Signal) -> float:
    """Return the relative standard error of a signal's second moment, as its sample shows it.

    Channels are as many values, unless those of a replica have something in common. A sum over
    channels is one value in each replica, and few replicas have many channels.
    """
    if signal.known or not signal.data.size:
        return 0.0
    data = some(signal)
    over = tuple(axis + 1 for axis, role in enumerate(signal.roles) if role != WIDTH)
    squares = np.mean(squared(data), axis=over).reshape(len(data), -1)
    if squares.size < _FEW:  # places are all there is
        squares = squared(data).reshape(1, -1)
    mean = np.mean(squares)
    each = [squares.reshape(-1)] + [np.mean(squares, axis=1)] * (len(squares) >= _FEW)
    errors = [np.std(values, ddof=1) / math.sqrt(values.size) for values in each if values.size > 1]
    if not mean or not np.isfinite(mean):
        return 0.0
    return float(max(errors, default=0.0) / mean) * math.sqrt(len(data) / signal.replicas)


_FEW = 4  # values, of which a standard deviation says little


def fresh(signal: Signal, summed: Sequence[int], fan: float) -> Fluctuation:
    """Return the fluctuation that a signal of finitely many channels adds at a kernel.

    If no axis counts channels (flattened feature maps), the terms of the fan do.
    """
    if signal.known:
        return Fluctuation()
    channels = signal.widths()
    count = math.prod(signal.shape[axis] for axis in channels) if channels else fan
    samples = [axis for axis in _places(signal)[0] if axis not in summed]
    kept = [0, *(axis + 1 for axis in (*(channels or summed), *samples))]
    others = tuple(axis for axis in range(signal.data.ndim) if axis not in kept)
    data = some(signal)
    for axis in samples:
        data = np.take(data, np.arange(min(data.shape[axis + 1], _SAMPLES)), axis=axis + 1)
    square = np.mean(squared(data), axis=others, keepdims=True)
    for axis in samples:
        square = np.moveaxis(square, axis + 1, -1)
    square = square.reshape(-1, square.shape[-1] if samples else 1)
    mean = np.mean(square, axis=0)
    relative = np.divide(square, mean, out=np.ones_like(square), where=mean > 0) - 1
    return Fluctuation(relative / math.sqrt(count))


_SAMPLES = 16  # of a batch, whose pairs stand for all
