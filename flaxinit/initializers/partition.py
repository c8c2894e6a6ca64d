"""How the devices of a mesh share a stack of matrices whose rows can be made one by one.

A draw does not know where its result will live. That is stated by ``out_sharding``, by the
``out_shardings`` of a jitted function around it, or when that is compiled. JAX's partitioner
knows, and asks here what each device is to do. Without an answer it would partition the products
one by one, with hundreds of exchanges.

On several devices, programs that ask cannot be exported or cached on disk, and must use a single
mesh.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Inexact, Int32, UInt32

Words = UInt32[Array, "k w"]
Rows = Int32[Array, "rows"]
Stack = Inexact[Array, "k m n"]


def shared(
    whole: Callable[[Words, Rows], Stack],
    share: Callable[[Words, Rows], Stack],
    rows_axis: int,
    *,
    partitioned: bool,
) -> Callable[[Words, Rows], Stack]:
    """`whole`, of which each device makes its `share`; `jax.vmap` of it is a longer stack.

    Args:
        whole: the words of keys and the numbers of all rows -> one matrix for each key.
        share: the same for some of the keys and some of the rows.
        rows_axis: of the stack, 1 or 2.
        partitioned: False leaves `whole` to the partitioner's own ways.
    """

    columns_axis = 3 - rows_axis

    def partition(_, __, wanted):
        """Each device makes what it will hold; only parts of rows are exchanged.

        Devices that hold different columns of the same rows divide these rows between them.
        """
        sizes, over = _grid(wanted.sharding, 3)
        over_keys, over_rows, over_columns = over[0], over[rows_axis], over[columns_axis]
        parts = math.prod(sizes[name] for name in over_columns)
        # The partitioner takes from this mesh how many parts there are, and orders devices itself.
        devices = np.array(list(wanted.sharding.device_set)).reshape(tuple(sizes.values()))
        mesh = Mesh(devices, tuple(sizes))

        def make(words, index):
            # JAX may ask while the caller's mesh is set, which a device's own program knows not.
            with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                if not over_columns:
                    return (share if over_keys or over_rows else whole)(words, index)
                rows = jnp.pad(index, (0, -len(index) % parts)).reshape(parts, -1)
                made = share(words, rows[lax.axis_index(over_columns)])
                padding = [(0, 0)] * 3
                padding[columns_axis] = 0, -made.shape[columns_axis] % parts
                made = lax.all_to_all(
                    jnp.pad(made, padding), over_columns, columns_axis, rows_axis, tiled=True
                )
                return lax.slice_in_dim(made, 0, len(index), axis=rows_axis)

        inputs = (NamedSharding(mesh, PartitionSpec(axes)) for axes in (over_keys, over_rows))
        return mesh, make, wanted.sharding, tuple(inputs)

    spread = custom_partitioning(whole)
    spread.def_partition(partition, decode_shardings=False, sharding_rule="k w, r -> k m n")

    @jax.custom_batching.custom_vmap
    def mapped(words, index):
        # Inside a shard_map this is a device's own program. JAX's older partitioner is not asked.
        mesh = jax.sharding.get_abstract_mesh()
        asks = getattr(jax.config, "jax_use_shardy_partitioner", True)
        if mesh.manual_axes or not (partitioned and asks):
            return whole(words, index)
        return spread(words, index)

    @mapped.def_vmap
    def _(_, __, words, index):
        made = mapped(words.reshape(-1, words.shape[-1]), index)
        return made.reshape(*words.shape[:2], *made.shape[1:]), True

    return mapped


def _grid(sharding: Sharding, ndim: int) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Axes, in the order of the devices, along each of which at most one dimension changes.

    Returns:
        The size of each axis, and for each dimension the axes over which it is spread.
    """
    side = len(sharding.device_set)  # which all tilings divide
    indices = sharding.devices_indices_map((side,) * ndim).values()
    starts = np.array([[part.start or 0 for part in index] for index in indices])
    axes = []  # from the innermost out: a size, and how far a step along it takes each dimension
    while len(starts) > 1:
        size, step = next(filter(None, (_innermost(starts, n) for n in range(2, side + 1))))
        axes.append((size, step))
        starts = starts[::size]
    named = {f"axis{i}": axis for i, axis in enumerate(reversed(axes))}
    longest_first = sorted(named, key=lambda name: -max(named[name][1]))
    over = [tuple(n for n in longest_first if named[n][1][i]) for i in range(ndim)]
    return {name: size for name, (size, _) in named.items()}, over


def _innermost(starts: np.ndarray, size: int) -> tuple[int, np.ndarray] | None:
    """One axis of this size, if the devices lie along one."""
    if len(starts) % size:
        return None
    blocks = starts.reshape(-1, size, starts.shape[1])
    step = blocks[0, 1] - blocks[0, 0]
    along = np.arange(size)[:, None] * step
    straight = np.array_equal(blocks, blocks[:, :1] + along)
    return (size, step) if straight and np.count_nonzero(step) <= 1 else None
