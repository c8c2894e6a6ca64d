"""Statistics of a signal, for reports: correlations of its places, and how far one draw strays."""

from collections.abc import Sequence

import numpy as np

from flaxinit.signal.signals import CONSTANT, PLACE, Signal


def correlations(signal: Signal) -> tuple[float | None, float | None]:
    """Return mean correlations E[x_i x_j] / √(E[x_i²] E[x_j²]) of two positions and two samples.

    The first axis counts samples, or the first longer one that has places; further axes of places
    count positions. A constant axis has correlation 1. A correlation is None if no axis longer
    than 1 counts its places, or the signal is 0.
    """
    axes = [i for i, (role, n) in enumerate(zip(signal.roles, signal.shape, strict=True)) if n > 1]
    places = [i for i in axes if signal.roles[i] in (PLACE, CONSTANT)]
    if not places:
        return None, None
    one = len(signal.shape) > 2 and signal.shape[0] == 1
    samples, positions = ([], places) if one else (places[:1], places[1:])
    order = [i for i in range(len(signal.shape)) if i not in places] + places
    data = np.transpose(_some(signal), (0, *(i + 1 for i in order)))
    sizes = [int(np.prod([signal.held[i] for i in axes])) for axes in (samples, positions)]
    data = data.reshape(-1, *sizes)
    squares = np.mean(np.abs(data) ** 2, axis=0)
    data = np.divide(data, np.sqrt(squares), out=np.zeros_like(data), where=squares > 0)
    if not np.any(squares):
        return None, None
    return (
        _pairs(data, 2) if positions else None,
        _pairs(data, 1) if samples else None,
    )


def _some(signal: Signal) -> np.ndarray:
    """Return as many replicas as a report needs."""
    each = max(1, signal.data.size // signal.replicas)
    return signal.data[: max(1, _ENTRIES // each)]


_ENTRIES = 2**20


def _pairs(data: np.ndarray, axis: int) -> float:
    """Return the mean product of two different entries along an axis, each of second moment 1."""
    count = data.shape[axis]
    if count == 1:
        return 1.0
    total = np.mean(np.abs(np.sum(data, axis=axis)) ** 2)
    alone = np.mean(np.abs(data) ** 2) * count
    return float((total - alone) / (count * (count - 1)))


def spread(signal: Signal, summed: Sequence[int], fan: float) -> float:
    """Return (E[a²] / E[a]² - 1) / fan, where a is the mean of x² over places, in one channel.

    It is what a kernel adds to the variance of the logarithm of the second moment (Hanin & Nica
    2020): Σ_c a_c over the fan strays that much from its expectation.
    """
    if signal.known:
        return 0.0
    channels = (0, *(axis + 1 for axis in summed))
    places = tuple(axis for axis in range(1, signal.data.ndim) if axis not in channels)
    square = np.mean(np.abs(_some(signal)) ** 2, axis=places)
    mean = np.mean(square)
    return float(np.mean((square / mean) ** 2) - 1) / fan if mean else 0.0


def slope(signal: Signal) -> float:
    """Return d log E[x²] / d log q for x = φ(u), with u ~ N(0, q) at each place.

    Integration by parts gives E[x² (u²/q - 1)] / 2 E[x²]. The estimate E[u² (u²/q - 1)] / q from
    the same sample replaces the 2: the errors of both cancel, all of them after ReLU. The slope is
    1 if it is not known what x is a function of.
    """
    if signal.base is None or signal.base.shape != signal.data.shape:
        return 1.0
    few = len(_some(signal))
    x, u = np.abs(signal.data[:few]) ** 2, np.abs(signal.base[:few]) ** 2
    channels = (0, *(axis + 1 for axis in signal.widths()))
    q = np.mean(u, axis=channels, keepdims=True)
    change = np.divide(u, q, out=np.ones_like(u), where=q > 0) - 1
    two = np.mean(u * change) / np.mean(u) if np.any(u) else 0.0
    total = np.mean(x)
    return float(np.mean(x * change) / (total * two)) if total and two else 1.0
