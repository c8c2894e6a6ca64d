"""Arrays that the devices of a mesh hold in parts, as whole arrays."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jax import lax

# They say where parts are, or for which devices a value holds.
PLACED = {"layout_constraint", "mesh_cast", "pcast", "pvary", "reshard", "sharding_constraint"}
# They keep entries as they are, or move them: any reduction over devices can be made after them.
MOVED = {
    *("broadcast_in_dim", "convert_element_type", "copy", "copy_p", "name", "reshape", "rev"),
    *("slice", "squeeze", "stop_gradient", "transpose"),
}

Dims = tuple[tuple[str, ...], ...]


class Layout(NamedTuple):
    """Where the parts of an array are.

    Attributes:
        dims: the mesh axes that split each dimension, the major one first.
        stacked: the mesh axes along which devices hold arrays that are parts of none.
    """

    dims: Dims
    stacked: tuple[str, ...] = ()

    @property
    def axes(self) -> set[str]:
        return {*self.stacked, *(axis for dim in self.dims for axis in dim)}

    def place(self, axis: str) -> int | None:
        """Return the dimension that a mesh axis splits, `STACKED`, or None if all parts are one."""
        if axis in self.stacked:
            return STACKED
        return next((n for n, dim in enumerate(self.dims) if axis in dim), None)

    def with_places(self, places: Mapping[str, int | None]) -> "Layout":
        """Return the layout with these mesh axes elsewhere.

        One that comes to a dimension splits it within those that are there.
        """
        dims = [[a for a in dim if places.get(a, n) == n] for n, dim in enumerate(self.dims)]
        stacked = [axis for axis in self.stacked if places.get(axis, STACKED) == STACKED]
        for axis, place in places.items():
            if place is not None:
                into = stacked if place == STACKED else dims[place]
                into += [axis] * (axis not in into)
        return Layout(tuple(map(tuple, dims)), tuple(stacked))


STACKED = -1


class Total(NamedTuple):
    """What a reduction over mesh axes will make of the parts of an array.

    Attributes:
        kind: "sum", "max" or "min".
        axes: of the mesh.
        whole: the result.
    """

    kind: str
    axes: frozenset[str]
    whole: "Sharded"


class Sharded(NamedTuple):
    """An array of which each device holds a part.

    Attributes:
        value: the stacked mesh axes, then the dimensions of the array, each with all its parts.
        layout: where the parts are.
        total: of the parts, where it is known without them.
    """

    value: Any
    layout: Layout
    total: Total | None = None

    @property
    def rank(self) -> int:
        return len(self.layout.dims)


def replicated(value: Any) -> Sharded:
    """Return an array that all devices hold."""
    return Sharded(value, Layout(((),) * value.ndim))


def sharded(values: Iterable[Any], layouts: Iterable[Layout]) -> list[Sharded]:
    """Return arrays with these layouts."""
    return [Sharded(*pair) for pair in zip(values, layouts, strict=True)]


def apart(x: Sharded, dim: int, sizes: Mapping[str, int]) -> Sharded:
    """Return an array that is stacked by device where a dimension was split over devices."""
    places = dict.fromkeys(x.layout.dims[dim], STACKED)
    return moved(x, x.layout.with_places(places), sizes)


def moved(x: Sharded, to: Layout, sizes: Mapping[str, int]) -> Sharded:
    """Return an array with its parts elsewhere.

    A new axis gets copies. A lost axis keeps its first part.

    Args:
        x: the array.
        to: the layout.
        sizes: of the mesh axes.

    >>> import jax.numpy as jnp
    >>> rows = Layout((("x",), ()))  # two rows on each of two devices
    >>> held = Sharded(jnp.arange(4).reshape(4, 1), rows)
    >>> moved(held, Layout(((), ("x",))), {"x": 2}).value.tolist()
    [[0, 2], [1, 3]]
    """
    if x.layout == to:
        return x
    value, stacked = x.value, list(x.layout.stacked)
    # Split what changes into the mesh axes and what each device holds; dimensions are numbers.
    split, names = list(value.shape[: len(stacked)]), list[Any](stacked)
    for n, (old, new) in enumerate(zip(x.layout.dims, to.dims, strict=True)):
        axes = old if old != new else ()
        counts = [sizes[axis] for axis in axes]
        split += [*counts, value.shape[len(stacked) + n] // math.prod(counts)]
        names += [*axes, n]
    value = _reshape(value, split)
    lost = x.layout.axes - to.axes
    for n, name in reversed(list(enumerate(names))):
        if name in lost:
            value = lax.index_in_dim(value, 0, n, keepdims=False)
    names = [name for name in names if name not in lost]
    copied = sorted(to.axes - x.layout.axes)
    if copied:
        value = lax.broadcast(value, [sizes[axis] for axis in copied])
    names = [*copied, *names]
    order, shape = [*to.stacked], [sizes[axis] for axis in to.stacked]
    for n, (old, new) in enumerate(zip(x.layout.dims, to.dims, strict=True)):
        axes = new if old != new else ()
        order += [*axes, n]
        size = value.shape[names.index(n)]
        shape.append(math.prod(sizes[axis] for axis in axes) * size)
    permutation = [names.index(name) for name in order]
    if permutation != sorted(permutation):
        value = lax.transpose(value, permutation)
    return Sharded(_reshape(value, shape), to)


def _reshape(value: Any, shape: Sequence[int]) -> Any:
    return value if tuple(value.shape) == tuple(shape) else lax.reshape(value, shape)


def refused(
    what: str, remedy: str = "Give the model without shard_map, if its signal is the same."
) -> ValueError:
    return ValueError(f"A shard_map has {what}, which flaxinit cannot read. {remedy}")
