"""Initialize a model on one mesh, save it with Orbax, and restore the same values on another.

    python examples/checkpoint_roundtrip.py

Eight host devices stand in for accelerators. No device ever holds a whole kernel.
"""

import os
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec as P

import flaxinit


class Mlp(nn.Module):
    """Two layers whose hidden dimension is split."""

    @nn.compact
    def __call__(self, x):
        h = nn.gelu(nn.Dense(1024, kernel_init=flaxinit.lecun())(x))
        return nn.Dense(256, kernel_init=flaxinit.he("gelu"))(h)


def shardings(mesh):
    """Return the rule from a path and shape to a sharding, for any mesh with an axis `model`."""

    def rule(path: str, x: jax.ShapeDtypeStruct) -> NamedSharding:
        match path.split("/")[-2:]:
            case ["Dense_0", "kernel"]:
                return NamedSharding(mesh, P(None, "model"))
            case ["Dense_1", "kernel"] | ["Dense_0", "bias"]:
                return NamedSharding(mesh, P("model"))
        return NamedSharding(mesh, P())

    return rule


def main() -> None:
    x = jax.ShapeDtypeStruct((1, 256), jnp.float32)
    key = jax.random.key(0)

    # 1. Create the parameters where training will use them.
    mesh = jax.make_mesh((8,), ("model",))
    variables = flaxinit.fast_init(Mlp().init, shardings(mesh), report=True)(key, x)

    # 2. Describe what to restore on a mesh of half as many devices: shapes, dtypes, shardings.
    smaller = jax.make_mesh((4,), ("model",), devices=jax.devices()[:4])
    rule = shardings(smaller)
    target = jax.tree_util.tree_map_with_path(
        lambda path, a: jax.ShapeDtypeStruct(
            a.shape,
            a.dtype,
            sharding=rule(jax.tree_util.keystr(path, simple=True, separator="/"), a),
        ),
        variables,
    )

    # 3. Save, then restore on that mesh. No process needs the whole model for either.
    with (
        tempfile.TemporaryDirectory() as folder,
        ocp.StandardCheckpointer() as checkpointer,
    ):
        checkpointer.save(Path(folder) / "variables", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(Path(folder) / "variables", target)

    # 4. The restored values equal the saved ones, and a fresh initialization on the smaller mesh.
    again = flaxinit.fast_init(Mlp().init, shardings(smaller))(key, x)
    for (path, a), b, c in zip(
        jax.tree_util.tree_leaves_with_path(variables),
        jax.tree.leaves(restored),
        jax.tree.leaves(again),
        strict=True,
    ):
        assert b.sharding == c.sharding and len(b.devices()) == 4 and len(a.devices()) == 8
        assert np.array_equal(a, b) and np.array_equal(a, c)
        print(f"{jax.tree_util.keystr(path):40} {a.sharding.spec} on 8 -> {b.sharding.spec} on 4")
    print("saved, restored on another mesh and compared: every value is the same")


if __name__ == "__main__":
    main()
