"""Layouts that the init function itself asks for, and meshes with different devices."""

import contextlib

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from materialize_models import entangled
from test_materialize_values import assert_same_bits

import flaxinit

KEY = jax.random.key(6)
DEVICES = np.array(jax.devices())
AUTO = Mesh(DEVICES.reshape(2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
ROWS = NamedSharding(AUTO, P("model"))


# Each shard has rows of 16 or more, which JAX 0.12 rounds alike on any mesh.
SHAPE = (8, 32)


def draw(key):
    return jax.random.normal(key, SHAPE)


def constrained(key):
    return jax.lax.with_sharding_constraint(draw(key), P("model"))


LAYOUTS = {
    "constraint": constrained,
    "constraint on a mesh": lambda key: jax.lax.with_sharding_constraint(draw(key), ROWS),
    "constraint inside": jax.jit(lambda key: jax.lax.with_sharding_constraint(draw(key), ROWS)),
    "initializer": lambda key: flaxinit.he()(key, SHAPE, out_sharding=P("model")),
    "initializer on a mesh": lambda key: flaxinit.he()(key, SHAPE, out_sharding=ROWS),
    "device_put": lambda key: jax.device_put(draw(key), ROWS),
    "one device": lambda key: jax.device_put(draw(key), DEVICES[3]),
    "jit": jax.jit(draw, out_shardings=ROWS),
    "second of a jit": lambda key: jax.jit(lambda key: (key, constrained(key)))(key)[1],
    "remat": jax.checkpoint(lambda key: constrained(key)),
    "free dimension": lambda key: jax.lax.with_sharding_constraint(
        draw(key), NamedSharding(AUTO, P(P.UNCONSTRAINED, None))
    ),
    "shard_map": jax.shard_map(
        lambda key: jax.random.normal(key, (2, 32)),
        mesh=AUTO,
        in_specs=P(),
        out_specs=P("model"),
        check_vma=False,
    ),
    "none": draw,
    "derivative": lambda key: jax.grad(lambda x: (draw(key) * x).sum())(jnp.ones(SHAPE)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_stay_where_the_init_function_leaves_them(name):
    """Unless out_shardings say otherwise."""
    init = LAYOUTS[name]
    other = NamedSharding(AUTO, P(None, "data"))
    with jax.set_mesh(AUTO):
        eager = init(KEY)
        made = flaxinit.fast_init(init)(KEY)
        elsewhere = flaxinit.fast_init(init, other)(KEY)
    assert made.sharding.is_equivalent_to(eager.sharding, 2)
    assert elsewhere.sharding == other
    assert_same_bits([made, elsewhere], [eager, eager])


def test_a_constraint_in_the_middle_does_not_place_the_result():
    def scaled(key):
        return jax.lax.with_sharding_constraint(draw(key), ROWS) * np.float32(2)

    made = flaxinit.fast_init(scaled)(KEY)
    assert made.devices() == {jax.devices()[0]}
    assert_same_bits(made, scaled(KEY))
    few = NamedSharding(Mesh(DEVICES[:4], ("x",)), P("x"))
    made = flaxinit.fast_init(scaled, few)(KEY)
    assert made.sharding == few
    assert_same_bits(made, scaled(KEY))


MESHES = {
    "other order": Mesh(DEVICES[::-1], ("model",)),
    "other devices": Mesh(DEVICES[4:], ("model",)),
    "other shape": AUTO,
    "one device": Mesh(DEVICES[3:4], ("model",)),
}


@pytest.mark.parametrize("name", MESHES)
def test_the_mesh_that_is_set_may_be_another_one(name):
    place = NamedSharding(MESHES[name], P("model"))
    with jax.set_mesh(Mesh(DEVICES, ("model",), axis_types=(AxisType.Explicit,))):
        made = flaxinit.fast_init(draw, place)(KEY)
    assert made.sharding == place
    assert_same_bits(made, draw(KEY))


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("set_mesh", [False, True])
def test_draws_that_read_each_other_on_different_meshes(name, set_mesh):
    """The devices of two meshes may be the same ones in another order."""
    first = NamedSharding(Mesh(DEVICES, ("model",)), P())
    second = NamedSharding(MESHES[name], P())
    context = jax.set_mesh(first.mesh) if set_mesh else contextlib.nullcontext()
    with context:
        made = flaxinit.fast_init(
            entangled, lambda path, x: first if path in ("norm", "again", "b") else second
        )(KEY)
    assert (made["norm"].sharding, made["a"].sharding) == (first, second)
    assert_same_bits(made, entangled(KEY))


def test_none_in_a_tree_is_a_copy_on_each_device_of_the_mesh_that_is_set():
    def two(key):
        return {"a": draw(key), "b": draw(key) + np.float32(1)}

    with jax.set_mesh(AUTO):
        made = flaxinit.fast_init(two, {"a": P("model"), "b": None})(KEY)
    assert made["a"].sharding == ROWS
    assert made["b"].sharding == NamedSharding(AUTO, P())


class Linear(nnx.Linear):
    """Where its arrays go is in its metadata."""

    def __init__(self, rngs):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", "model"))
        super().__init__(4, 8, kernel_init=init, rngs=rngs)


def linear(key):
    return Linear(nnx.Rngs(key))


STATE = {
    "get_partition_spec": lambda: nnx.get_partition_spec(nnx.state(nnx.eval_shape(linear, KEY))),
    "get_named_sharding": lambda: nnx.get_named_sharding(
        nnx.state(nnx.eval_shape(linear, KEY)), AUTO
    ),
    "specs of a module": lambda: nnx.get_partition_spec(nnx.eval_shape(linear, KEY)),
    "shardings of a module": lambda: nnx.get_named_sharding(nnx.eval_shape(linear, KEY), AUTO),
    "abstract state": lambda: nnx.state(nnx.eval_shape(linear, KEY)),
    "abstract model": lambda: nnx.get_abstract_model(lambda: linear(KEY), AUTO)[1],
}


@pytest.mark.parametrize("name", STATE)
def test_shardings_that_nnx_makes_as_out_shardings(name):
    with jax.set_mesh(AUTO):
        model = flaxinit.fast_init(linear, STATE[name]())(KEY)
    assert model.kernel.sharding == NamedSharding(AUTO, P("data", "model"))
    assert model.bias.sharding.is_fully_replicated


def boxed(logical=False):
    partitioned = nn.with_logical_partitioning if logical else nn.with_partitioning
    names = ("embed", "mlp") if logical else ("data", "model")
    return nn.Dense(8, kernel_init=partitioned(nn.initializers.lecun_normal(), names)).init


RULES = (("embed", "data"), ("mlp", "model"))
BOXES = {
    "get_partition_spec": lambda shapes: nn.get_partition_spec(shapes),
    "get_sharding": lambda shapes: nn.get_sharding(shapes, AUTO),
    "logical_to_mesh": lambda shapes: nn.logical_to_mesh(nn.get_partition_spec(shapes), RULES),
    "logical_to_mesh_sharding": lambda shapes: nn.logical_to_mesh_sharding(
        nn.get_partition_spec(shapes), AUTO, RULES
    ),
}


@pytest.mark.parametrize("unboxed", [False, True])
@pytest.mark.parametrize("name", BOXES)
def test_shardings_that_linen_makes_as_out_shardings(name, unboxed):
    """Its boxes are nodes in the tree of arrays; where shardings have none they stand for it."""
    init, x = boxed("logical" in name), np.ones((1, 4), np.float32)
    shardings = BOXES[name](jax.eval_shape(init, KEY, x))
    with jax.set_mesh(AUTO):
        made = flaxinit.fast_init(
            (lambda key, x: nn.unbox(init(key, x))) if unboxed else init, shardings
        )(KEY, x)
    made = nn.unbox(made)["params"]
    assert made["kernel"].sharding == NamedSharding(AUTO, P("data", "model"))
    assert made["bias"].sharding == NamedSharding(AUTO, P())


def test_a_module_of_equinox_as_out_shardings():
    """It can be called, and is a tree all the same."""

    def make(key):
        return eqx.nn.Linear(4, 8, key=key)

    shapes = eqx.filter(make(KEY), eqx.is_array)
    made = flaxinit.fast_init(make, jax.tree.map(lambda x: ROWS, shapes))(KEY)
    assert made.weight.sharding == made.bias.sharding == ROWS
