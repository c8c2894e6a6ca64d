"""How the devices of a mesh share a stack of matrices whose rows can be made one by one.

A draw need not know where its result will be: that is said by ``out_sharding``, by the
``out_shardings`` of a jitted function around it, or by whoever compiles it. JAX's partitioner
knows, and asks here what each device is to do. Left alone it would partition the products one by
one, with hundreds of exchanges.

JAX has rules for programs with such a question in them: on several devices all their shardings
are on one mesh, and they are neither exported nor found again in its persistent cache.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
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

    def partition(axes, mesh, arguments, wanted):
        """Over the axes on which the result is spread, each device makes its matrices or rows.

        Devices communicate only to bring rows where they are wanted.
        """
        axes = dict(mesh.shape) or dict(axes) or {"all": len(wanted.sharding.device_set)}
        over_keys, over_rows = _spread_over(wanted.sharding, axes)
        if wanted.shape[0] % math.prod(axes[name] for name in over_keys):
            over_keys, over_rows = (), over_keys + over_rows
        devices = np.array(list(wanted.sharding.device_set)).reshape(*axes.values())
        # The partitioner takes from this mesh how many parts there are, and orders devices itself.
        mesh = Mesh(devices, tuple(axes))
        spec = (over_keys, over_rows) if rows_axis == 1 else (over_keys, None, over_rows)
        result, *inputs = (
            NamedSharding(mesh, PartitionSpec(*s)) for s in (spec, (over_keys,), (over_rows,))
        )
        make = share if over_keys or over_rows else whole
        return mesh, make, result, tuple(inputs)

    spread = custom_partitioning(lambda words, index, axes: whole(words, index), (2,))
    spread.def_partition(partition, decode_shardings=False, sharding_rule="k w, r -> k m n")

    @jax.custom_batching.custom_vmap
    def mapped(words, index):
        # Inside a shard_map this is a device's own program. JAX's older partitioner is not asked.
        mesh = jax.sharding.get_abstract_mesh()
        asks = getattr(jax.config, "jax_use_shardy_partitioner", True)
        if mesh.manual_axes or not (partitioned and asks):
            return whole(words, index)
        return spread(words, index, tuple(mesh.shape.items()))

    @mapped.def_vmap
    def _(_, __, words, index):
        made = mapped(words.reshape(-1, words.shape[-1]), index)
        return made.reshape(*words.shape[:2], *made.shape[1:]), True

    return mapped


def _spread_over(sharding: Sharding, axes: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    """The mesh axes along which nothing but the key changes, and those along which rows do."""
    side = len(sharding.device_set)  # which all tilings divide
    indices = sharding.devices_indices_map((side,) * 3).values()
    starts = np.array([[part.start or 0 for part in index] for index in indices])
    starts = starts.reshape(*axes.values(), 3)
    steps = [(np.diff(starts, axis=i) != 0).reshape(-1, 3).any(axis=0) for i in range(len(axes))]
    rows = tuple(name for name, step in zip(axes, steps, strict=True) if step[1:].any())
    keys = tuple(
        name for name, step in zip(axes, steps, strict=True) if step[0] and name not in rows
    )
    return keys, rows
