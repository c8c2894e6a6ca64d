"""Collectives: what devices make of their parts together, as operations on whole arrays."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from flaxinit.signal.shards.layout import Layout, Sharded, apart, moved, refused

Sizes = Mapping[str, int]
_REDUCED: dict[str, Callable[[Any, Sequence[int]], Any]] = {
    "sum": lax.reduce_sum,
    "max": lax.reduce_max,
    "min": lax.reduce_min,
}


def reduced(x: Sharded, axes: Collection[str], kind: str, sizes: Sizes) -> Sharded:
    """Return the sum (or maximum, minimum) of the parts along some mesh axes."""
    if x.total and x.total.kind == kind and x.total.axes <= set(axes):
        return reduced(x.total.whole, set(axes) - x.total.axes, kind, sizes)
    apart = [axis for axis in axes if axis in x.layout.axes]
    kept = x.layout.with_places(dict.fromkeys(apart))
    first = moved(x, Layout(kept.dims, (*apart, *kept.stacked)), sizes)
    value = _REDUCED[kind](first.value, tuple(range(len(apart)))) if apart else first.value
    copies = math.prod(sizes[axis] for axis in axes if axis not in apart)
    if kind == "sum" and copies > 1:
        value = value * jnp.asarray(copies, value.dtype)
    return Sharded(value, kept)


def _reduce(kind: str) -> Callable:
    def run(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
        return [reduced(x, params["axes"], kind, sizes) for x in operands]

    return run


def names(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the mesh axes that a collective names."""
    names = params.get("axis_name", ())
    return tuple(names) if isinstance(names, tuple | list) else (names,)


def _one(params: Mapping[str, Any], name: str) -> str:
    axis, *others = names(params)
    if others:
        raise refused(f"{name} over several axes")
    return axis


def _all_gather(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
    (x,), dim = operands, params["all_gather_dimension"]
    if not params["tiled"]:
        x = _lifted(x, dim)
    for axis in reversed(names(params)):
        x = _joined(x, axis, dim, sizes)
    return [x]


def _joined(x: Sharded, axis: str, dim: int, sizes: Sizes) -> Sharded:
    """Return an array whose parts along a mesh axis all devices have put together."""
    x = _minor(x, axis, dim, sizes)
    return Sharded(x.value, x.layout.with_places({axis: None}))


def _parted(x: Sharded, axis: str, dim: int) -> Sharded:
    """Return an array of which each device along a mesh axis, where all have it, takes a part."""
    return Sharded(x.value, x.layout.with_places({axis: dim}))


def _minor(x: Sharded, axis: str, dim: int, sizes: Sizes) -> Sharded:
    """Let a mesh axis split a dimension within all others that split it."""
    if x.layout.dims[dim][-1:] == (axis,):
        return x
    without = x.layout.with_places({axis: None})
    return moved(x, without.with_places({axis: dim}), sizes)


def _lifted(x: Sharded, dim: int) -> Sharded:
    """Insert a dimension of size 1."""
    first = len(x.layout.stacked)
    dims = (*x.layout.dims[:dim], (), *x.layout.dims[dim:])
    return Sharded(lax.expand_dims(x.value, [first + dim]), Layout(dims, x.layout.stacked))


def _reduce_scatter(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
    (x,), dim, axes = operands, params["scatter_dimension"], names(params)
    x = reduced(x, axes, "sum", sizes)
    for axis in axes:
        x = _parted(x, axis, dim)
    return [x if params["tiled"] else _dropped(x, dim, sizes)]


def _dropped(x: Sharded, dim: int, sizes: Sizes) -> Sharded:
    """Leave out a dimension that has size 1 on each device."""
    x = apart(x, dim, sizes)
    dims = (*x.layout.dims[:dim], *x.layout.dims[dim + 1 :])
    value = lax.squeeze(x.value, [len(x.layout.stacked) + dim])
    return Sharded(value, Layout(dims, x.layout.stacked))


def _all_to_all(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
    (x,), split, dim = operands, params["split_axis"], params["concat_axis"]
    axis = _one(params, "all_to_all")
    x = _joined(x, axis, dim, sizes)
    if split == dim:  # the device that a part comes from is the minor one of two now
        count, first = sizes[axis], len(x.layout.stacked) + dim
        parts = math.prod(sizes[other] for other in x.layout.dims[dim])
        shape = (*x.value.shape[:first], parts, count, count, -1, *x.value.shape[first + 1 :])
        swapped = jnp.swapaxes(jnp.reshape(x.value, shape), first + 1, first + 2)
        x = x._replace(value=jnp.reshape(swapped, x.value.shape))
    return [_parted(x, axis, split)]


def _permuted(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
    axis = _one(params, "ppermute")
    size = sizes[axis]
    results = []
    for x in operands:
        kept = x.layout.with_places({axis: None})
        first = moved(x, Layout(kept.dims, (axis, *kept.stacked)), sizes)
        sources = {target: source for source, target in params["perm"]}
        rows = [
            lax.index_in_dim(first.value, sources[n], 0)
            if n in sources
            else jnp.zeros_like(first.value[:1])
            for n in range(size)
        ]
        made = Sharded(lax.concatenate(rows, 0), first.layout)
        # What was a part of a dimension, such as of samples, is one still.
        to = x.layout if axis in x.layout.axes else made.layout
        results.append(moved(made, to, sizes))
    return results


def _index(params, operands: Sequence[Sharded], sizes: Sizes) -> list[Sharded]:
    (axis,) = names(params)
    return [Sharded(np.arange(sizes[axis], dtype=np.int32), Layout((), (axis,)))]


# What a collective does to whole arrays: (parameters, operands, sizes of mesh axes) -> results.
COLLECTIVES: dict[str, Callable[[Any, Sequence[Sharded], Sizes], list[Sharded]]] = {
    "all_gather": _all_gather,
    "all_gather_invariant": _all_gather,
    "all_to_all": _all_to_all,
    "axis_index": _index,
    "pmax": _reduce("max"),
    "pmin": _reduce("min"),
    "ppermute": _permuted,
    "psum": _reduce("sum"),
    "psum_invariant": _reduce("sum"),
    "reduce_scatter": _reduce_scatter,
}
