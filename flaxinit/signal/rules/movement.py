"""Operations that move entries: each axis keeps its role and what it is held with."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flaxinit.signal.samples.limits import parts
from flaxinit.signal.samples.signals import (
    CONSTANT,
    PLACE,
    WIDTH,
    Origin,
    Signal,
    expanded,
)


def broadcast_in_dim(equation, signals: Sequence[Signal]) -> Signal:
    signal, shape = signals[0], equation.outvars[0].aval.shape
    held, roles = [1] * len(shape), [CONSTANT] * len(shape)
    for axis, target in enumerate(equation.params["broadcast_dimensions"]):
        held[target], roles[target] = signal.held[axis], signal.roles[axis]
    return signal.with_data(signal.data.reshape(-1, *held), shape=tuple(shape), roles=tuple(roles))


def transpose(equation, signals: Sequence[Signal]) -> Signal:
    return permuted(signals[0], equation.params["permutation"])


def permuted(signal: Signal, order: Sequence[int]) -> Signal:
    if list(order) == sorted(order):
        return signal
    return signal.with_data(
        np.transpose(signal.data, (0, *(axis + 1 for axis in order))),
        shape=tuple(signal.shape[axis] for axis in order),
        roles=tuple(signal.roles[axis] for axis in order),
    )


def reshape(equation, signals: Sequence[Signal]) -> Signal:
    return reshaped(signals[0], tuple(equation.outvars[0].aval.shape))


def squeeze(equation, signals: Sequence[Signal]) -> Signal:
    return reshaped(signals[0], tuple(equation.outvars[0].aval.shape))


def reshaped(signal: Signal, shape: tuple[int, ...]) -> Signal:
    """Cut old and new shape into blocks of equal size, and reshape each block separately."""
    held: list[int] = []
    roles: list[int] = []
    for old, new in blocks(signal.shape, shape):
        signal, block_held, block_roles = _block(signal, old, [shape[axis] for axis in new])
        held += block_held
        roles += block_roles
    return signal.with_data(signal.data.reshape(-1, *held), shape=shape, roles=tuple(roles))


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the finest division of both shapes into runs of axes that hold the same entries.

    >>> blocks((2, 3, 4, 5), (6, 4, 1, 5))
    [([0, 1], [0]), ([2], [1]), ([], [2]), ([3], [3])]
    """
    cut: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        if i < len(old) and j < len(new) and old[i] == new[j]:
            left, right = [i], [j]
        elif j < len(new) and new[j] == 1:
            right = [j]
        elif i < len(old) and old[i] == 1:
            left = [i]
        else:
            left, right = [i], [j]
            sizes = [old[i], new[j]]
            while sizes[0] != sizes[1]:
                if sizes[0] < sizes[1]:
                    left.append(left[-1] + 1)
                    sizes[0] *= old[left[-1]]
                else:
                    right.append(right[-1] + 1)
                    sizes[1] *= new[right[-1]]
        i, j = i + len(left), j + len(right)
        cut.append((left, right))
    return cut


def _block(signal: Signal, old: list[int], sizes: list[int]) -> tuple[Signal, list[int], list[int]]:
    """Prepare a block of axes for a reshape to these sizes; return new held sizes and roles too."""
    kinds = {signal.roles[axis] for axis in old}
    if not old or kinds == {CONSTANT}:
        return signal, [1] * len(sizes), [CONSTANT] * len(sizes)
    if len(old) == 1 and len(sizes) == 1:
        return signal, [signal.held[old[0]]], [signal.roles[old[0]]]
    role = WIDTH if kinds <= {WIDTH, CONSTANT} else PLACE
    if len(old) > 1:  # constant axes among others are written out
        signal = expanded(signal, old)
    held = math.prod(signal.held[axis] for axis in old)
    target = list(parts(sizes, held))
    kept = math.prod(target)
    if kept < held:  # not a multiple of what stays whole
        first = len([axis for axis in range(len(signal.shape)) if axis < old[0]])
        shape = (*signal.data.shape[: first + 1], -1, *signal.data.shape[old[-1] + 2 :])
        data = np.take(signal.data.reshape(shape), np.arange(kept), axis=first + 1)
        signal = signal.with_data(data)
    return signal, target, [CONSTANT if size == 1 else role for size in sizes]


def iota(equation, signals: Sequence[Signal]) -> Signal:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    held = [size if i == axis else 1 for i, size in enumerate(shape)]
    data = np.arange(shape[axis]).reshape(1, *held)
    data = data.astype(
        np.float64
        if equation.outvars[0].aval.dtype.kind in "fV"
        else equation.outvars[0].aval.dtype
    )
    roles = tuple(PLACE if i == axis and shape[axis] > 1 else CONSTANT for i in range(len(shape)))
    return Signal(data, tuple(shape), roles)


def stepped(origin: Origin | None, step: Any) -> Origin | None:
    """Return the origin of a part of parameters, where another part is another kernel."""
    return origin and frozenset((number, (*steps, step)) for number, steps in origin)


def cut(signal: Signal, axis: int, start: int, stop: int, stride: int = 1) -> Signal:
    """Take a slice along one axis, or the same share of an axis that is held in part."""
    size, held = signal.shape[axis], signal.held[axis]
    length = len(range(start, stop, stride))
    shape = tuple(length if i == axis else n for i, n in enumerate(signal.shape))
    # One entry may meet many, and is then the same for all.
    roles = tuple(CONSTANT if n == 1 else role for n, role in zip(shape, signal.roles, strict=True))
    if length == size and stride == 1:
        return signal
    data = signal.data
    if held == size:
        index = [slice(None)] * data.ndim
        index[axis + 1] = slice(start, stop, stride)
        data = data[tuple(index)]
    elif held > 1:
        low = start * held // size
        count = max(1, length * held // size)
        data = np.take(data, (low + stride * np.arange(count)) % held, axis=axis + 1)
    origin = stepped(signal.origin, (axis, start, stop, stride))
    return signal.with_data(data, shape=shape, roles=roles, origin=origin)


def slice_(equation, signals: Sequence[Signal]) -> Signal:
    signal, params = signals[0], equation.params
    strides = params["strides"] or (1,) * len(signal.shape)
    for axis, bounds in enumerate(
        zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    ):
        signal = cut(signal, axis, *bounds)
    return signal


def split(equation, signals: Sequence[Signal]) -> list[Signal]:
    ends = np.cumsum([0, *equation.params["sizes"]])
    axis = equation.params["axis"]
    pairs = itertools.pairwise(ends)
    return [cut(signals[0], axis, int(low), int(high)) for low, high in pairs]


def unstack(equation, signals: Sequence[Signal]) -> list[Signal]:
    signal, axis = signals[0], equation.params["axis"]
    parts = [cut(signal, axis, i, i + 1) for i in range(signal.shape[axis])]
    return [
        reshaped(part, tuple(var.aval.shape))
        for part, var in zip(parts, equation.outvars, strict=True)
    ]


def row(signal: Signal, step: int) -> Signal:
    """Take the part of a stacked signal that one step of a loop reads."""
    origin = stepped(signal.origin, step)
    if signal.rows and (kept := signal.rows[step]):
        return replace(kept, origin=origin)
    taken = cut(signal, 0, step, step + 1)
    return reshaped(taken, signal.shape[1:]).with_data(
        taken.data.reshape(taken.replicas, *taken.held[1:]), origin=origin
    )


def rev(equation, signals: Sequence[Signal]) -> Signal:
    axes = tuple(axis + 1 for axis in equation.params["dimensions"])
    return signals[0].with_data(np.flip(signals[0].data, axes))


MOVEMENTS: dict[str, Callable[[Any, Sequence[Signal]], Signal | list[Signal]]] = {
    "broadcast_in_dim": broadcast_in_dim,
    "iota": iota,
    "reshape": reshape,
    "rev": rev,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "transpose": transpose,
    "unstack": unstack,
}
