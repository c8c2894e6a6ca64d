"""A process that initializes models together with others, for test_materialize_processes."""

import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np


def main(address: str, count: int, index: int, folder: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.distributed.initialize(address, count, index)
    from jax.sharding import NamedSharding, PartitionSpec as P
    from materialize_models import INIT_FUNCTIONS
    from test_materialize_processes import NAMES, SEED

    import flaxinit

    assert (jax.process_count(), len(jax.devices())) == (count, 2 * count)
    mesh = jax.make_mesh((count, 2), ("data", "model"))

    def rule(path, x):
        free = [i for i, n in enumerate(x.shape) if n % (2 * count) == 0]
        spec = [None] * len(x.shape)
        if free:
            spec[free[0]] = ("data", "model")  # since JAX 0.11 short rows may round differently
        return NamedSharding(mesh, P(*spec))

    shards = {}
    for name in NAMES:
        made = flaxinit.fast_init(INIT_FUNCTIONS[name], rule)(jax.random.key(SEED))
        for path, x in jax.tree_util.tree_leaves_with_path(made):
            assert not x.is_fully_addressable
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                x = jax.random.key_data(x)
            for shard in x.addressable_shards:
                where = [
                    [s.start or 0, s.stop or n] for s, n in zip(shard.index, x.shape, strict=True)
                ]
                shards[f"{name}|{jax.tree_util.keystr(path)}|{where}"] = np.asarray(shard.data)

    # This argument is too large to be copied to each device: each process cuts its own part.
    table = np.arange(2**16, dtype=np.float32).reshape(-1, 16)
    tripled = flaxinit.fast_init(lambda table: table * np.float32(3), rule)(table)
    for shard in tripled.addressable_shards:
        assert shard.data.size == table.size // len(jax.devices())
        np.testing.assert_array_equal(shard.data, 3 * table[shard.index])

    # Types on explicit axes say where an array goes: here to devices of both processes.
    def typed(key):
        return jax.random.normal(key, (4 * count, 16), out_sharding=P("data"))

    with jax.set_mesh(mesh):
        rows = flaxinit.fast_init(typed)(jax.random.key(SEED))
    whole = np.asarray(jax.random.normal(jax.random.key(SEED), rows.shape))
    for shard in rows.addressable_shards:
        assert shard.data.shape == (4, 16)
        np.testing.assert_array_equal(shard.data, whole[shard.index])

    # A process refuses a mesh whose devices all belong to the other process.
    other = [d for d in jax.devices() if d.process_index == 0]
    elsewhere = NamedSharding(jax.make_mesh((2,), ("x",), devices=other), P())
    try:
        flaxinit.fast_init(INIT_FUNCTIONS["haiku"], elsewhere)(jax.random.key(SEED))
        assert index == 0
    except ValueError as error:
        assert index > 0 and "belongs to this process" in str(error)

    np.savez(Path(folder) / f"process{index}.npz", **shards)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
