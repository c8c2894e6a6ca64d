"""What a report says of a signal: correlations of its places, and how far one draw strays."""

from collections.abc import Sequence

import numpy as np

from flaxinit.signal.signals import CONSTANT, PLACE, Signal


def correlations(signal: Signal) -> tuple[float | None, float | None]:
    """Mean correlation E[x_i x_j] / √(E[x_i²] E[x_j²]) of two positions, and of two samples.

    The first axis of places counts samples, the others positions; a constant axis has correlation
    1. None where there is one of them only.
    """
    axes = [i for i, (role, n) in enumerate(zip(signal.roles, signal.shape, strict=True)) if n > 1]
    places = [i for i in axes if signal.roles[i] in (PLACE, CONSTANT)]
    if not places:
        return None, None
    samples, positions = places[0], places[1:]
    order = [*(i for i in range(len(signal.shape)) if i not in places), samples, *positions]
    data = np.transpose(_some(signal), (0, *(i + 1 for i in order)))
    data = data.reshape(-1, signal.held[samples], int(np.prod([signal.held[i] for i in positions])))
    squares = np.mean(np.abs(data) ** 2, axis=0)
    data = np.divide(data, np.sqrt(squares), out=np.zeros_like(data), where=squares > 0)
    if not np.any(squares):
        return None, None
    return (
        _pairs(data, 2) if positions else None,
        _pairs(data, 1),
    )


def _some(signal: Signal) -> np.ndarray:
    """As many replicas as a report needs."""
    each = max(1, signal.data.size // signal.replicas)
    return signal.data[: max(1, _ENTRIES // each)]


_ENTRIES = 2**20


def _pairs(data: np.ndarray, axis: int) -> float:
    """Mean product of two different entries along an axis, of which each has second moment 1."""
    count = data.shape[axis]
    if count == 1:
        return 1.0
    total = np.mean(np.abs(np.sum(data, axis=axis)) ** 2)
    alone = np.mean(np.abs(data) ** 2) * count
    return float((total - alone) / (count * (count - 1)))


def spread(signal: Signal, summed: Sequence[int], fan: float) -> float:
    """(E[x⁴] / E[x²]² - 1) / fan: what a kernel adds to the variance of the log second moment."""
    if signal.known:
        return 0.0
    over = tuple({0, *(axis + 1 for axis in summed)})
    square = np.abs(_some(signal)) ** 2
    second, fourth = np.mean(square, axis=over), np.mean(square**2, axis=over)
    ratio = np.divide(fourth, second**2, out=np.ones_like(second), where=second > 0)
    return float(np.mean(ratio) - 1) / fan
