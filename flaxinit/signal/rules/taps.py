"""Taps of convolutions that are used again at other positions, as a rotation puts them."""

import math
from collections.abc import Sequence

import numpy as np

from flaxinit.signal.samples.signals import Signal


def are_turned(kernel: Signal, spec: Sequence[int], known: Sequence[Signal]) -> bool:
    """Return whether taps of a kernel stand at other positions in a kernel that was met before.

    Args:
        kernel: whose outputs are no copies of each other.
        spec: its axes of outputs, of inputs, and of positions.
        known: kernels that were met before.
    """
    if kernel.known or math.prod(kernel.shape[axis] for axis in spec[2:]) == 1:
        return False
    taps = _taps(kernel, spec)
    others = (_taps(other, spec) for other in known if len(other.shape) == len(kernel.shape))
    return any(_moved(taps, other) for other in others if other.shape == taps.shape)


def _taps(kernel: Signal, spec: Sequence[int]) -> np.ndarray:
    """Return replicas × outputs × inputs × taps."""
    data = np.transpose(kernel.data, (0, *(axis + 1 for axis in spec)))
    return data.reshape(*data.shape[:3], -1)


def _sums(taps: np.ndarray) -> np.ndarray:
    """Return numbers of the taps of each output, outputs × numbers, that no order changes.

    They are multiplied by a factor on the taps, of either sign.
    """
    replicas, _, inputs, _ = taps.shape
    some = np.random.default_rng(0).standard_normal((replicas, inputs, 3))
    seen = np.einsum("roit,rik->okt", taps, some)
    sums = [np.cbrt(np.sum(seen**3, -1)), np.sum(seen, -1)]
    return np.concatenate(sums, axis=-1)


def _moved(taps: np.ndarray, known: np.ndarray) -> bool:
    """Return whether taps of some output are those of a known one, at other positions."""
    one, other = (np.abs(_sums(each)) for each in (taps, known))
    same = np.all(np.isclose(one, other, 1e-9, 1e-9 * np.max(other)), axis=-1)
    return bool(np.any(same)) and not np.allclose(np.abs(taps[:, same]), np.abs(known[:, same]))
