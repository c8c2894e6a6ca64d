"""Rows of arrays by index: embeddings, tables of positions, and slices at a computed place.

A table of weights is as long as a vocabulary. Only the rows that are looked up are made, and each
is made once: it is the same row wherever it is looked up again.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jax.lax import GatherScatterMode

from flaxinit.signal.rules.movement import cut, permuted
from flaxinit.signal.rules.scales import uneven
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import (
    CONSTANT,
    PLACE,
    WIDTH,
    Signal,
    expanded,
    in_part,
    joined,
    squared,
)
from flaxinit.signal.samples.whole import is_partial

# Rows that were drawn, by origin of the table and place in it.
Rows = dict[tuple[Any, int], np.ndarray]


def axis_looked_up(equation) -> int | None:
    """Return the one axis from which a gather takes whole slices; None for another gather."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape = equation.invars[0].aval.shape
    mapped = tuple(numbers.start_index_map)
    others = [axis for axis in range(len(shape)) if axis not in mapped]
    simple = (
        len(mapped) == 1
        and tuple(numbers.collapsed_slice_dims) == mapped
        and not numbers.operand_batching_dims
        and all(sizes[axis] == shape[axis] for axis in others)
    )
    return mapped[0] if simple else None


def gather(
    equation, signals: Sequence[Signal], limits: Limits, rng: np.random.Generator, rows: Rows
) -> Signal | None:
    """Return the rows of an array at known indices; None if it is not a lookup along one axis."""
    table, indices = signals
    axis = axis_looked_up(equation)
    if axis is None or indices.sources:
        return None
    number = np.broadcast_to(indices.data[0, ..., 0].astype(np.int64), indices.shape[:-1])
    beyond = (number < 0) | (number >= table.shape[axis])
    number = np.clip(number, 0, table.shape[axis] - 1)
    offset = tuple(equation.params["dimension_numbers"].offset_dims)
    shape = tuple(equation.outvars[0].aval.shape)
    places = [i for i in range(len(shape)) if i not in offset]
    if table.is_parameter and not table.known and not _is_ordered(table, axis):
        data, held_roles = _drawn(table, axis, number, limits, rng, rows)
    else:
        whole = expanded(table, [axis])
        if whole.held[axis] != whole.shape[axis]:
            return None
        data = np.take(whole.data, number.reshape(-1), axis=axis + 1)
        held_roles = tuple(role for i, role in enumerate(table.roles) if i != axis)
        data = np.moveaxis(data, axis + 1, 1)
    if equation.params["mode"] == GatherScatterMode.FILL_OR_DROP and np.any(beyond):
        dtype, fill = equation.outvars[0].aval.dtype, equation.params["fill_value"]
        if fill is None and dtype.kind in "biu":
            return None
        data[:, beyond.reshape(-1)] = np.nan if fill is None else fill
    data = data.reshape(data.shape[0], *number.shape, *data.shape[2:])
    order = np.argsort([*places, *offset])
    data = np.transpose(data, (0, *(1 + order)))
    roles = [PLACE] * len(shape)
    for place, role in zip(offset, held_roles, strict=True):
        roles[place] = role
    kept = tuple(CONSTANT if n == 1 else role for n, role in zip(shape, roles, strict=True))
    found = Signal(data, shape, kept, **joined(signals))
    # The level of indices says nothing of what they point to.
    return replace(found, level=found.second_moment() if table.is_parameter else table.level)


def _is_ordered(table: Signal, axis: int) -> bool:
    """Return whether a table is held whole, and one row does not stand for another.

    Of single entries, such as a quantile of a kernel, it is not asked whether they are alike.
    """
    whole = not is_partial(table, [axis])
    return whole and (len(table.shape) == 1 or axis in uneven(table))


def _drawn(table, axis: int, number: np.ndarray, limits: Limits, rng, rows: Rows):
    """Draw rows of a table of weights, replicas × places × held entries, and return their roles."""
    others = tuple(n for i, n in enumerate(table.shape) if i != axis)
    held = limits.hold(others, number.size)
    replicas = limits.replicas(held, number.size)
    law = table.data.reshape(-1)
    square = float(np.mean(squared(law)))
    for row in np.unique(number):
        if (table.origin, int(row)) not in rows:
            entries = rng.choice(law, (replicas, *held))
            found = float(np.mean(squared(entries)))
            rows[table.origin, int(row)] = entries * math.sqrt(square / found if found else 1.0)
    some = [rows[table.origin, int(row)] for row in number.reshape(-1)]
    replicas = min(len(row) for row in some)
    roles = [WIDTH if i == len(others) - 1 else PLACE for i in range(len(others))]
    return np.stack([row[:replicas] for row in some], axis=1), roles


class Sums(NamedTuple):
    """The sums of updates that a scatter-add adds to slices of an array along one axis.

    Attributes:
        axis: of the array.
        rows: places along it that get an update.
        data: replicas × rows × held entries of a slice.
        roles: of the axes of a slice.
    """

    axis: int
    rows: np.ndarray
    data: np.ndarray
    roles: tuple[int, ...]


def summed(equation, signals: Sequence[Signal]) -> Sums | None:
    """Sum the updates of a scatter-add to an array of zeros; None for another scatter.

    None as well if updates are held in part, as those of channels are.

    An update beyond the array is dropped, unless the scatter clips its index.
    """
    target, indices, updates = signals
    numbers = equation.params["dimension_numbers"]
    (axis, *more) = numbers.scatter_dims_to_operand_dims
    simple = not more and tuple(numbers.inserted_window_dims) == (axis,)
    simple = simple and not numbers.operand_batching_dims  # an array for each of several lookups
    if not simple or np.any(target.data) or indices.sources or 0 in indices.shape:
        return None
    window = tuple(numbers.update_window_dims)
    others = tuple(size for n, size in enumerate(target.shape) if n != axis)
    if tuple(updates.shape[n] for n in window) != others:
        return None
    places = [i for i in range(len(updates.shape)) if i not in window]
    if any(in_part(updates, place) for place in places):
        return None
    full = permuted(expanded(updates, places), (*places, *window))
    found = np.broadcast_to(indices.data[0, ..., 0], indices.shape[:-1]).reshape(-1)
    data = full.data.reshape(full.replicas, len(found), *full.held[len(places) :])
    size = target.shape[axis]
    if equation.params["mode"] == GatherScatterMode.CLIP:
        found = np.clip(found, 0, size - 1)
    rows = np.unique(found[(found >= 0) & (found < size)]).astype(np.int64)
    sums = [np.sum(data[:, found == row], axis=1) for row in rows]
    data = np.stack(sums, axis=1) if sums else data[:, :0]
    return Sums(axis, rows, data, full.roles[len(places) :])


def scatter_add(equation, signals: Sequence[Signal]) -> Signal | None:
    """Add slices of a signal to places of an array of zeros; None for another scatter."""
    if (found := summed(equation, signals)) is None:
        return None
    target, _, updates = signals
    data = np.zeros((len(found.data), target.shape[found.axis], *found.data.shape[2:]))
    data = data.astype(found.data.dtype)
    data[:, found.rows] = found.data
    roles = list(found.roles)
    roles.insert(found.axis, PLACE if target.shape[found.axis] > 1 else CONSTANT)
    return updates.with_data(
        np.moveaxis(data, 1, 1 + found.axis),
        shape=target.shape,
        roles=tuple(roles),
        strays=replace(updates.carried, fixed=False),
    )


def dynamic_slice(equation, signals: Sequence[Signal]) -> Signal | None:
    """Return a slice at a computed place; None if the place depends on a draw."""
    signal, *starts = signals
    if any(start.sources for start in starts):
        return None
    sizes = equation.params["slice_sizes"]
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        first = int(np.clip(start.data.reshape(-1)[0], 0, signal.shape[axis] - size))
        signal = cut(signal, axis, first, first + size)
    return signal
