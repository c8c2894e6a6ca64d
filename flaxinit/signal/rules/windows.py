"""Windows that slide over positions: what each output of a convolution sees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Window:
    """A window, as a convolution of JAX describes it."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    spacing: tuple[int, ...]  # of inputs, between which there are zeros (lhs_dilation)
    dilation: tuple[int, ...]  # of the window

    @classmethod
    def of(cls, params: dict[str, Any], sizes: Sequence[int]) -> "Window":
        return cls(
            tuple(sizes),
            tuple(params["window_strides"]),
            tuple(tuple(pair) for pair in params["padding"]),
            tuple(params["lhs_dilation"]),
            tuple(params["rhs_dilation"]),
        )

    def outputs(self, positions: Sequence[int]) -> list[int]:
        """Return how many positions the window has along each axis.

        >>> Window((3, 3), (2, 2), ((1, 1), (0, 0)), (1, 1), (1, 1)).outputs((8, 8))
        [4, 3]
        """
        padded = [
            (n - 1) * space + 1 + sum(pad)
            for n, space, pad in zip(positions, self.spacing, self.padding, strict=True)
        ]
        spans = [(size - 1) * d + 1 for size, d in zip(self.sizes, self.dilation, strict=True)]
        return [
            max(0, (n - span) // stride + 1)
            for n, span, stride in zip(padded, spans, self.strides, strict=True)
        ]


def patches(data: np.ndarray, window: Window) -> np.ndarray:
    """Return what each position of a window sees.

    Args:
        data: replicas × samples × positions... × groups × channels.
        window: over the positions.

    Returns:
        replicas × samples × positions of the window... × groups × channels × window...
    """
    rank = len(window.sizes)
    for axis in range(2, 2 + rank):
        space, pad = window.spacing[axis - 2], window.padding[axis - 2]
        size = data.shape[axis]
        low, high = (max(0, n) for n in pad)
        padded = list(data.shape)
        padded[axis] = (size - 1) * space + 1 + low + high
        wide = np.zeros(padded)
        index = [slice(None)] * data.ndim
        index[axis] = slice(low, low + (size - 1) * space + 1, space)
        wide[tuple(index)] = data
        index[axis] = slice(max(0, -pad[0]), wide.shape[axis] - max(0, -pad[1]))
        data = wide[tuple(index)]
    spans = [(size - 1) * d + 1 for size, d in zip(window.sizes, window.dilation, strict=True)]
    axes = tuple(range(2, 2 + rank))
    seen = np.lib.stride_tricks.sliding_window_view(data, spans, axes)
    index = [slice(None)] * seen.ndim
    for axis, stride in zip(axes, window.strides, strict=True):
        index[axis] = slice(None, None, stride)
    for axis, step in zip(range(-rank, 0), window.dilation, strict=True):
        index[axis] = slice(None, None, step)
    return seen[tuple(index)]


def gram(data: np.ndarray, axes: int) -> np.ndarray:
    """Return E[x_i x_j] over places, so many axes after the first; the mean is over all others."""
    places = math.prod(data.shape[1 : 1 + axes])
    flat = np.swapaxes(data.reshape(len(data), places, -1), 0, 1).reshape(places, -1)
    return flat @ flat.T / flat.shape[1]


def gram_of_patches(gram: np.ndarray, window: Window, shape: Sequence[int]) -> np.ndarray:
    """Return the Gram matrix of what the positions of a window see, from that of the positions.

    Args:
        gram: of the places, samples × positions.
        window: over the positions.
        shape: samples and positions along each axis.

    >>> pair = Window((2,), (1,), ((0, 1),), (1,), (1,))
    >>> gram_of_patches(np.eye(3), pair, (1, 3))  # the last one sees one position
    array([[2., 0., 0.],
           [0., 2., 0.],
           [0., 0., 1.]])
    """
    number = np.arange(1.0, len(gram) + 1).reshape(1, *shape, 1, 1)
    seen = patches(number, window).astype(int)  # 0 for what is beyond the border
    seen = seen.reshape(-1, math.prod(window.sizes)).T
    padded = np.pad(gram, ((1, 0), (1, 0)))
    return np.sum([padded[np.ix_(each, each)] for each in seen], axis=0)
