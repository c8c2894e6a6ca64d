"""How the devices of a mesh share a stack of matrices whose rows can be made one by one.

A draw need not know where its result will be: that is said by ``out_sharding``, by the
``out_shardings`` of a jitted function around it, or by whoever compiles it. JAX's partitioner
knows, and asks here what each device is to do. Left alone it would partition the products one by
one, with hundreds of exchanges.

JAX has rules for programs with such a question in them: on several devices all their shardings
are on one mesh, and they are neither exported nor found again in its persistent cache.
"""

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

    def partition(_, arguments, wanted):
        """Each device makes matrices of its own and, if there are more devices, some of the rows.

        Devices communicate only to bring the result where it is wanted.
        """
        if wanted.sharding.is_fully_replicated:
            mesh, (result, *inputs) = _grid(wanted.sharding, 1, (), (), ())
            return mesh, whole, result, tuple(inputs)
        devices = len(wanted.sharding.device_set)
        # Over how many parts the first axis is, seen from a shape that all tilings divide.
        parts = devices // wanted.sharding.shard_shape((devices,) * 3)[0]
        over_keys = parts if wanted.shape[0] % parts == 0 else 1
        spec = ("keys", "rows") if rows_axis == 1 else ("keys", None, "rows")
        mesh, (result, *inputs) = _grid(wanted.sharding, over_keys, spec, ("keys",), ("rows",))
        return mesh, share, result, tuple(inputs)

    spread = custom_partitioning(whole)
    spread.def_partition(partition, decode_shardings=False, sharding_rule="k w, r -> k m n")

    @jax.custom_batching.custom_vmap
    def mapped(words, index):
        # Inside a shard_map this is a device's own program. JAX's older partitioner is not asked.
        manual = jax.sharding.get_abstract_mesh().manual_axes
        asks = getattr(jax.config, "jax_use_shardy_partitioner", True)
        return (spread if partitioned and asks and not manual else whole)(words, index)

    @mapped.def_vmap
    def _(_, __, words, index):
        made = mapped(words.reshape(-1, words.shape[-1]), index)
        return made.reshape(*words.shape[:2], *made.shape[1:]), True

    return mapped


def _grid(sharding: Sharding, over_keys: int, *specs):
    """A mesh as large as that of `sharding`, and shardings on it.

    The partitioner takes from these how many parts there are, and orders devices itself.
    """
    devices = np.array(list(sharding.device_set)).reshape(over_keys, -1)
    mesh = Mesh(devices, ("keys", "rows"))
    return mesh, [NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs]
