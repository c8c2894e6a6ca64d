"""Init functions for explicit axes, on which types say how arrays are laid out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P, reshard
from test_materialize_values import assert_same_bits

import flaxinit

KEY = jax.random.key(6)
MESH = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
ROW = jax.make_mesh((8,), ("row",))
MIXED = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Auto))
he = jax.nn.initializers.he_normal()


def rows(key):
    return he(key, (8, 16), out_sharding=P("data"))


def blocks(key):
    return jax.random.normal(key, (8, 16), out_sharding=P("data", "model"))


def numbered(block):
    return block * jax.lax.axis_index("data").astype(block.dtype)


EXPLICIT = {
    "jax.random": blocks,
    "jax.nn": rows,
    "narrow": lambda key: he(key, (8, 16), jnp.bfloat16, out_sharding=P(None, "model")),
    "flaxinit": lambda key: flaxinit.he()(key, (8, 16), out_sharding=P("data")) + rows(key),
    "orthogonal": lambda key: reshard(jax.nn.initializers.orthogonal()(key, (8, 8)), P("data")),
    "constant": lambda key: jnp.zeros(8, out_sharding=P("model")),
    "array of the caller": lambda key: TABLE * rows(key),
    "inherited": lambda key: jax.nn.gelu(blocks(key)).T.astype(jnp.bfloat16),
    "reshaped": lambda key: blocks(key).reshape(2, 4, 16, out_sharding=P("data", None, "model")),
    "indexed": lambda key: blocks(key).at[jnp.arange(4)].get(out_sharding=P(None, "model")),
    "product": lambda key: jnp.einsum("ik,jk->ij", rows(key), rows(key), out_sharding=P("data")),
    "normalized": lambda key: rows(key) / jnp.linalg.norm(rows(key), axis=1, keepdims=True),
    "jit": jax.jit(rows),
    "jit with a layout": lambda key: jax.jit(
        lambda key: rows(key), out_shardings=NamedSharding(MESH, P("data", None))
    )(key),
    "remat": jax.checkpoint(rows),
    "scan": lambda key: jax.lax.scan(lambda c, x: (c + x, c * x), rows(key), jnp.ones(3))[1],
    "cond": lambda key: jax.lax.cond(True, rows, lambda key: 2 * rows(key), key),
    "vmap": lambda key: reshard(
        jax.vmap(lambda k: he(k, (2, 3)))(jax.random.split(key, 8)), P("data")
    ),
    "shard_map": lambda key: jax.shard_map(numbered, in_specs=P("data"), out_specs=P("data"))(
        rows(key)
    ),
    "auto_axes": lambda key: jax.sharding.auto_axes(
        lambda w: jnp.linalg.qr(w)[0], out_sharding=P(None, "model")
    )(rows(key)),
    "auto_axes alone": lambda key: jax.sharding.auto_axes(
        lambda key: jax.random.normal(key, (8, 8)), out_sharding=P("data")
    )(key),
    "device_put": lambda key: jax.device_put(he(key, (8, 16)), P("data")),
    "jit with a spec": jax.jit(lambda key: he(key, (8, 16)), out_shardings=P("data")),
    "on another mesh": lambda key: reshard(he(key, (8, 16)), NamedSharding(ROW, P("row"))),
    "in memory of the host": lambda key: jax.device_put(
        he(key, (8, 16)), NamedSharding(MESH, P("data"), memory_kind="pinned_host")
    ),
    "other generator": lambda key: jax.random.normal(
        jax.random.key(3, impl="rbg"), (8, 8), out_sharding=P("data")
    ),
}
TABLE = np.arange(16, dtype=np.float32)


def assert_same_place(made, eager):
    for x, expected in zip(jax.tree.leaves(made), jax.tree.leaves(eager), strict=True):
        assert x.sharding.is_equivalent_to(expected.sharding, x.ndim)
        assert x.sharding.memory_kind == expected.sharding.memory_kind
        assert jax.typeof(x) == jax.typeof(expected)  # with the types of the mesh's axes


@pytest.mark.parametrize("name", EXPLICIT)
def test_values_and_layouts_are_those_of_an_eager_call(name):
    if name == "in memory of the host" and jax.__version_info__ < (0, 10, 1):
        pytest.skip("XLA of JAX 0.10.0 compiles nothing for CPUs that ends in memory of the host")
    init = EXPLICIT[name]
    other = NamedSharding(MESH, P())
    with jax.set_mesh(MESH):
        eager = init(KEY)
        made = flaxinit.fast_init(init)(KEY)
        elsewhere = flaxinit.fast_init(init, other)(KEY)
    assert_same_place(made, eager)
    assert elsewhere.sharding == other
    assert_same_bits([made, elsewhere], [eager, eager])


def test_arguments_keep_their_types():
    table = jax.device_put(np.ones((8, 16), np.float32), NamedSharding(MESH, P("data", "model")))

    def init(key, x):
        return {
            "twice": x * 2,
            "same": x,
            "none": jnp.zeros_like(x),
            "closed": table,
            "w": rows(key),
        }

    with jax.set_mesh(MESH):
        made, eager = flaxinit.fast_init(init)(KEY, table), init(KEY, table)
    assert_same_place(made, eager)
    assert_same_bits(made, eager)


def test_constraints_on_the_auto_axes_of_a_mixed_mesh():
    def init(key):
        free = jax.lax.with_sharding_constraint(he(key, (8, 16)), P(None, "model"))
        return {"typed": rows(key), "free": free}

    with jax.set_mesh(MIXED):
        made, eager = flaxinit.fast_init(init)(KEY), init(KEY)
    assert_same_place(made, eager)
    assert_same_bits(made, eager)


LAYOUTS = {
    "device_put": lambda key: jax.device_put(he(key, (8, 16)), NamedSharding(MESH, P("data"))),
    "reshard": lambda key: reshard(he(key, (8, 16)), NamedSharding(MESH, P("data", "model"))),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mesh_that_is_not_set(name):
    made, eager = flaxinit.fast_init(LAYOUTS[name])(KEY), LAYOUTS[name](KEY)
    assert_same_place(made, eager)
    assert_same_bits(made, eager)


def test_the_devices_of_another_mesh():
    few = jax.make_mesh((2,), ("few",), devices=jax.devices()[5:7])
    place = NamedSharding(few, P("few"))
    with jax.set_mesh(MESH):
        made = flaxinit.fast_init(blocks, place)(KEY)
        expected = blocks(KEY)
    assert made.sharding == place
    assert_same_bits(made, expected)


def test_a_module_of_linen():
    def init(key, shape, dtype):
        return he(key, shape, dtype, out_sharding=P(None, "model"))

    model, x = nn.Dense(16, kernel_init=init), jnp.ones((2, 8))
    with jax.set_mesh(MESH):
        made, eager = flaxinit.fast_init(model.init)(KEY, x), dict(model.init(KEY, x))
    for layer in made, eager:
        assert layer["params"]["kernel"].sharding.spec == P(None, "model")
        assert layer["params"]["bias"].sharding.is_fully_replicated
    assert_same_bits(made, eager)


def test_a_module_of_nnx():
    class Table(nnx.Module):
        def __init__(self, rngs):
            self.scale = nnx.Param(jnp.ones(8, out_sharding=P("model")))
            self.rows = nnx.Param(jax.random.normal(rngs(), (8, 16), out_sharding=P("data")))
            self.count = nnx.Variable(jnp.zeros((), jnp.int32))

    make = lambda key: Table(nnx.Rngs(key))
    with jax.set_mesh(MESH):
        made, eager = nnx.state(flaxinit.fast_init(make)(KEY)), nnx.state(make(KEY))
    assert made["rows"].sharding == eager["rows"].sharding
    assert made["scale"].sharding == eager["scale"].sharding
    assert_same_bits(made, eager)


def test_an_error_is_that_of_an_eager_call():
    def odd(key):
        return he(key, (7, 16), out_sharding=P("data"))

    for make in (odd, flaxinit.fast_init(odd)):
        with jax.set_mesh(MESH), pytest.raises(ValueError, match=r"7"):
            make(KEY)
