"""Kernels made of parts: side by side along an axis, or stacked."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flaxinit import sampling
from flaxinit.fans import axis_set, checked_shape, integers
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.checks import Axis, DType
from flaxinit.initializers.constants import constant
from flaxinit.initializers.entrywise import Entrywise, Parent


def _checked_parts(name: str, value: Any) -> tuple[Initializer, ...]:
    parts = tuple(value) if isinstance(value, list | tuple) else ()
    if parts and all(isinstance(part, Initializer) for part in parts):
        return parts
    raise TypeError(
        f"{name} must be a list of one or more of flaxinit's initializers, such as [he(), zeros]; "
        f"got {value!r}."
    )


def _checked_sizes(name: str, value: Any) -> tuple[int, ...]:
    try:
        sizes = integers(value)
    except TypeError:
        sizes = None
    if not isinstance(sizes, tuple) or any(size < 0 for size in sizes):
        raise ValueError(f"{name} must be a sequence of integers of at least 0, got {value!r}.")
    return sizes


Parts = Annotated[Sequence[Initializer], _checked_parts]


class _Joined(Initializer):
    """An initializer of an array whose parts each have their own."""

    parts: Parts
    axis: Axis = -1
    dtype: DType = None

    def __post_init__(self):
        named = {part.dtype for part in self.parts} - {None}
        if self.dtype is None and len(named) > 1:
            names = ", ".join(sorted(map(str, named)))
            raise ValueError(f"The parts name several dtypes ({names}). Name one: dtype=...")
        if self.dtype is None and named:
            object.__setattr__(self, "dtype", named.pop())

    @property
    def needs_key(self) -> bool:  # of this one, not of its class
        return any(part.needs_key for part in self.parts)

    def times(self, factor: float) -> Self:
        """Return the same initializer with every part multiplied, as in `Initializer.times`."""
        parts = [part.times(factor) for part in self.parts]
        return dataclasses.replace(self, parts=parts)

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the shapes of the parts of an array of this shape."""
        raise NotImplementedError

    def variances(self, shape: Sequence[int]) -> list[float]:
        """Return the variance of an entry of each part of an array of this shape."""
        shapes = self.shapes(checked_shape(shape))
        return [part.variance(own) for part, own in zip(self.parts, shapes, strict=True)]

    def check_shape(self, shape):
        for part, own in zip(self.parts, self.shapes(shape), strict=True):
            part.check_shape(own)

    def _variance(self, shape):
        size, total = math.prod(shape), 0.0
        for part, own in zip(self.parts, self.shapes(shape), strict=True):
            if 0 not in own:
                total += part.variance(own) * (math.prod(own) / size)
        return total

    def draw(self, key, shape, dtype, out_sharding):
        options = {
            "parts": self.parts,
            "shapes": tuple(self.shapes(shape)),
            "shape": shape,
            "axis": axis_number(self.axis, shape),
            "dtype": dtype,
        }
        if sampling.is_traced(*numbers(self)):  # its parts cannot be a cache key
            return sampling.place(functools.partial(_join, **options), out_sharding)(key)
        return _compiled(key, **options, out_sharding=out_sharding)


class concatenate(_Joined):
    """Draw a kernel whose parts lie side by side along an axis, each by its own initializer.

    Use it for kernels that a layer fuses: queries, keys and values, gate and up projections, the
    gates of a recurrent cell. Each part has the variance and the fans that it would have alone.
    The variance of the whole is the mean over its entries, ``Var W = Σ n_i Var W_i / Σ n_i`` for
    parts of n_i entries; `variances` gives that of each part.

    Parts whose entries are independent (`normal`, `uniform`, `truncated_normal`,
    `variance_scaling`, `he`, `siren`) and numbers (`zeros`, `constant`) are drawn in place on every
    mesh: each device draws what it holds. Parts of one distribution share one draw; equal parts
    are one draw of the whole.

    Args:
        parts: the initializers, in order.
        axis: the axis along which they lie.
        dtype: default dtype if the call gives none; default that of the parts.
        sizes: of the parts along the axis; default equal ones.

    Raises:
        TypeError: parts that are not flaxinit's initializers.
        ValueError: no part, parts that name several dtypes, another number of sizes than parts;
            when called, parts that do not add up to the shape or that a part's own rule refuses.

    >>> from flaxinit import lecun, zeros
    >>> qkv = concatenate([zeros, lecun(), lecun()])
    >>> qkv.variances((64, 192))
    [0.0, 0.015625, 0.015625]
    """

    _: dataclasses.KW_ONLY
    sizes: Annotated[Sequence[int], _checked_sizes] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.sizes is not None and len(self.sizes) != len(self.parts):
            raise ValueError(
                f"sizes={self.sizes} are {len(self.sizes)} numbers for {len(self.parts)} parts."
            )

    def shapes(self, shape):
        axis, count = axis_number(self.axis, shape), len(self.parts)
        sizes = self.sizes or [shape[axis] // count] * count
        if sum(sizes) != shape[axis]:
            have = f"Parts of sizes {self.sizes}" if self.sizes else f"{count} equal parts"
            raise ValueError(
                f"{have} do not add up to the {shape[axis]} entries of axis {self.axis} of the "
                f"shape {tuple(shape)}. Pass the sizes of this layer: "
                "flaxinit.concatenate(parts, sizes=...)."
            )
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]

    def with_axes(self, in_axis, out_axis):
        """Return the same initializer with each part's axes replaced."""
        parts = [part.with_axes(in_axis, out_axis) for part in self.parts]
        return dataclasses.replace(self, parts=parts)


class stack(_Joined):
    """Draw an array whose slices along an axis each have their own initializer.

    It works like `concatenate`, but the parts do not have the axis. Use it for experts, heads, or
    layers whose variance depends on the depth.

    Args:
        parts: the initializers, in order.
        axis: of the slices; the parts do not see it.
        dtype: default dtype if the call gives none; default that of the parts.

    Raises:
        TypeError: parts that are not flaxinit's initializers.
        ValueError: no part, parts that name several dtypes; when called, an axis of another size
            than there are parts.

    >>> from flaxinit import lecun
    >>> stack([lecun().times(1 / depth) for depth in (1, 2)]).variances((2, 4, 3))
    [0.25, 0.0625]
    """

    axis: Axis = 0

    def shapes(self, shape):
        axis, count = axis_number(self.axis, shape), len(self.parts)
        if shape[axis] != count:
            raise ValueError(
                f"{count} parts do not make up the {shape[axis]} slices along axis {self.axis} of "
                f"the shape {tuple(shape)}."
            )
        return [(*shape[:axis], *shape[axis + 1 :])] * count


def axis_number(axis: int, shape: Sequence[int]) -> int:
    """Return the number of an axis of this shape, counted from the front."""
    (number,) = axis_set("axis", axis, shape)
    return number


def numbers(value: Any) -> list[Any]:
    """Return the fields of an initializer and of its parts, in one list."""
    if isinstance(value, tuple):
        return [number for item in value for number in numbers(item)]
    return numbers(tuple(vars(value).values())) if isinstance(value, Initializer) else [value]


def _join(key, *, parts, shapes, shape, axis, dtype):
    if all(isinstance(part, Entrywise) or _is_number(part) for part in parts):
        return _by_entries(key, parts, shapes, shape, axis, dtype)
    # No family draws these: each is drawn by itself.
    keys = jax.random.split(key, len(parts)) if key is not None else [None] * len(parts)
    empty = [jnp.zeros(own, dtype) if 0 in own else None for own in shapes]
    drawn = [
        part.draw(k, own, dtype, None) if gap is None else gap
        for part, own, k, gap in zip(parts, shapes, keys, empty, strict=True)
    ]
    return (jnp.stack if len(shapes[0]) < len(shape) else jnp.concatenate)(drawn, axis)


def _is_number(part: Initializer) -> bool:
    return isinstance(part, constant) and np.ndim(part.value) == 0


def _by_entries(key, parts, shapes, shape, axis, dtype) -> Array:
    """Draw the whole once for each distribution, and keep the entries of its parts from each.

    No entry depends on its neighbors, so nothing is moved between devices.
    """
    sizes = [own[axis] if len(own) == len(shape) else 1 for own in shapes]
    owner = np.repeat(np.arange(len(parts)), sizes)
    owner = owner.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    present = [i for i, own in enumerate(shapes) if 0 not in own]
    parents = {
        i: part.parent(shapes[i], dtype) for i in present if isinstance(part := parts[i], Entrywise)
    }
    families: list[list[int]] = []
    for i, parent in parents.items():
        alike = (family for family in families if _alike(parents[family[0]], parent))
        if (family := next(alike, None)) is None:
            families.append([i])
        else:
            family.append(i)
    keys = [key] if len(families) < 2 else jax.random.split(key, len(families))

    values = jnp.zeros(shape, dtype)
    for own_key, family in zip(keys, families, strict=False):
        distribution, _, ends = parents[family[0]]
        multiples = [parents[i if i in family else family[0]].multiple for i in range(len(parts))]
        multiple = sampling.array_module(*multiples).stack(multiples)[owner]
        drawn = sampling.draw(
            own_key, multiple, ends, shape=shape, dtype=dtype, distribution=distribution
        )
        values = jnp.where(np.isin(owner, family), drawn, values)
    for i in set(present) - set(parents):
        number = parts[i].draw(None, (1,) * len(shape), dtype, None)
        values = jnp.where(owner == i, number, values)
    return values


def _alike(parent: Parent, other: Parent) -> bool:
    """Return whether two parents are known to differ in the multiple alone."""
    if sampling.is_traced(*parent.ends, *other.ends):
        return False
    return (parent.distribution, parent.ends) == (other.distribution, other.ends)


_compiled = sampling.program(_join)
