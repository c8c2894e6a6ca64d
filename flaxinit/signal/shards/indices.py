"""Indices that differ from device to device: rows of a split table, and parts by device number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.lax import GatherScatterMode

from flaxinit.sampling import is_traced
from flaxinit.signal.shards.layout import STACKED, Sharded, moved


def is_index(equation: Any, operands: Sequence[Sharded]) -> bool:
    """Return whether an operation makes an index, such as a device's own, of known numbers."""
    avals = [atom.aval for atom in (*equation.invars, *equation.outvars)]
    whole = all(jnp.issubdtype(a.dtype, jnp.integer) or a.dtype == jnp.bool_ for a in avals)
    scalars = not any(a.shape for a in avals)
    return whole and scalars and not is_traced(*(x.value for x in operands))


def own_part(equation: Any, operands: Sequence[Sharded]) -> Sharded | None:
    """Return an array that all devices have, and each takes its part of; None for other slices.

    Devices in a row may take the same part, such as a key that several queries share. Then the
    array has it once for each.
    """
    x, *starts = operands
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    cut = [dim for dim, size in enumerate(sizes) if size != shape[dim]]
    if len(cut) != 1 or not sizes[cut[0]]:
        return None
    (dim,) = cut
    start, size, axes = starts[dim].value, sizes[dim], starts[dim].layout.stacked
    if is_traced(start) or x.layout.axes & set(axes):
        return None
    parts = shape[dim] // size
    same = np.size(start) // parts  # devices that take one part
    in_order = np.array_equal(np.ravel(start), np.repeat(size * np.arange(parts), same))
    if not in_order or parts * size != shape[dim]:
        return None
    value, place = x.value, len(x.layout.stacked) + dim
    before, after = value.shape[:place], value.shape[place + 1 :]
    if same > 1:
        rows = jnp.reshape(value, (*before, -1, 1, size, *after))
        rows = jnp.broadcast_to(rows, (*before, rows.shape[place], same, size, *after))
        value = jnp.reshape(rows, (*before, -1, *after))
    return Sharded(value, x.layout.with_places(dict.fromkeys(axes, dim)))


def looked_up(equation: Any, operands: list[Sharded], sizes: Mapping[str, int]) -> list[Sharded]:
    """Let indices into a device's part of a table be indices into all of it."""
    params, (table, indices) = equation.params, operands
    (axis, *more), gone = (
        getattr(params["dimension_numbers"], name)
        for name in ("start_index_map", "collapsed_slice_dims")
    )
    axes = table.layout.dims[axis]
    if not axes or more or axis not in gone or params["mode"] == GatherScatterMode.FILL_OR_DROP:
        return operands
    places = dict.fromkeys(axes, STACKED)
    at = moved(indices, indices.layout.with_places(places), sizes)
    parts = math.prod(sizes[each] for each in axes)
    rows = table.value.shape[len(table.layout.stacked) + axis] // parts
    device = jnp.zeros_like(at.value)
    for each in axes:
        own = lax.broadcasted_iota(at.value.dtype, at.value.shape, at.layout.stacked.index(each))
        device = device * sizes[each] + own
    whole = at._replace(value=jnp.clip(at.value, 0, rows - 1) + device * rows)
    return [Sharded(table.value, table.layout.with_places(dict.fromkeys(axes))), whole]
