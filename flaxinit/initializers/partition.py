"""The division of a stack of matrices, whose rows can be made one by one, among devices.

A draw is traced before anyone knows where its result will live: ``out_sharding`` may say so, or
the ``out_shardings`` of a jitted function around it, or only the compiler. Left alone, the
compiler's partitioner would split each matrix product inside the draw, with hundreds of exchanges
between devices. ``custom_partitioning`` gives it one callback, `partition`, for the whole draw. The
partitioner calls it while it compiles, with the layout that the result will have. The callback
returns the program that each device runs, and the parts of the arguments that this program reads.

As an example, one 4×2 matrix on two devices. The stack has the shape (keys, rows, columns) =
(1, 4, 2), and the arguments are the words of one key and the row numbers [0, 1, 2, 3]::

    layout of the result        device 0                    device 1
    rows in two parts           share(words, [0, 1])        share(words, [2, 3])
    columns in two parts        share(words, [0, 1])        share(words, [2, 3])
                                then one exchange: each sends the other its half of these rows
    a copy on each              whole(words, [0, 1, 2, 3])  the same

`share` makes whole rows only. So with columns in two parts each device makes two rows of two
entries, gives away the column that it will not hold, and gets that column's other two entries.

JAX has no rule for ``jax.vmap`` of a ``custom_partitioning``. `shared` therefore wraps it in a
``custom_vmap``, whose rule needs no new axis: a batch of 5 stacks of 3 matrices is one stack of 15.

On several devices, programs that use this cannot be exported or cached on disk, and must use a
single mesh.
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
    """Return a function that makes `whole`; on a mesh each device makes only its `share`.

    Args:
        whole: the words of keys and the numbers of all rows -> one matrix for each key.
        share: the same for some of the keys and some of the rows.
        rows_axis: the axis of the stack along which these rows are numbered; 1, or 2 if the
            matrices are transposed.
        partitioned: False leaves `whole` to the compiler's own partitioning.
    """
    columns_axis = 3 - rows_axis

    def partition(_, __, wanted):
        """Say what each device runs if the result is laid out as `wanted`.

        Devices that hold different columns of the same rows divide these rows among them, and
        exchange the parts.
        """
        sizes, over = _grid(wanted.sharding, 3)
        over_keys, over_rows, over_columns = over[0], over[rows_axis], over[columns_axis]
        parts = math.prod(sizes[name] for name in over_columns)
        # The partitioner reads only the number of parts from this mesh, and orders devices itself.
        devices = np.array(list(wanted.sharding.device_set)).reshape(tuple(sizes.values()))
        mesh = Mesh(devices, tuple(sizes))

        def make(words, index):
            # JAX may trace this while the caller's mesh is set. A device's own program has none.
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
        # A shard_map is already a device's own program. JAX's older partitioner is not supported.
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
    """Find axes of a mesh that explain a sharding; each splits at most one dimension.

    The partitioner passes a sharding without names of axes: only the part of each device is known.

    Returns:
        The size of each axis, from the outermost in, and for each dimension the axes that split it:
        ``{"axis0": 2}, [(), ("axis0",), ()]`` for the rows in two parts.
    """
    side = len(sharding.device_set)  # a size that every tiling divides
    indices = sharding.devices_indices_map((side,) * ndim).values()
    starts = np.array([[part.start or 0 for part in index] for index in indices])
    axes = []  # from the innermost out: its size, and how far one step moves along each dimension
    while len(starts) > 1:
        size, step = next(filter(None, (_innermost(starts, n) for n in range(2, side + 1))))
        axes.append((size, step))
        starts = starts[::size]
    named = {f"axis{i}": axis for i, axis in enumerate(reversed(axes))}
    longest_first = sorted(named, key=lambda name: -max(named[name][1]))
    over = [tuple(n for n in longest_first if named[n][1][i]) for i in range(ndim)]
    return {name: size for name, (size, _) in named.items()}, over


def _innermost(starts: np.ndarray, size: int) -> tuple[int, np.ndarray] | None:
    """Return the innermost axis if it has this size: the devices then lie along it in order."""
    if len(starts) % size:
        return None
    blocks = starts.reshape(-1, size, starts.shape[1])
    step = blocks[0, 1] - blocks[0, 0]
    along = np.arange(size)[:, None] * step
    straight = np.array_equal(blocks, blocks[:, :1] + along)
    return (size, step) if straight and np.count_nonzero(step) <= 1 else None
