"""Every array is where it was asked for, with the values that one device makes."""

import contextlib

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P, SingleDeviceSharding
from materialize_models import INIT_FUNCTIONS, MATRICES_OF_PRODUCTS, entangled
from test_materialize_values import assert_same_bits, state

import flaxinit

KEY = jax.random.key(5)

# Leaves that sum over a dimension: the mesh decides the order of the sum, hence its rounding.
SUMS = {
    MATRICES_OF_PRODUCTS: {"0", "1", "2"},
    "entangled": {"mean", "mixed", "norm", "sum"},
    "state": {"SpectralNorm_0", "Dense_1", "Dense_2"},
    "structured": {"q", "power"},
}


@pytest.fixture(params=["auto", "explicit"])
def mesh(request):
    kind = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}[request.param]
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))


def spread(mesh):
    """Split the first dimension that divides over `model`, the last other one over `data`."""

    def rule(path, x):
        spec = [None] * len(x.shape)
        for axis, order in (("model", range(len(spec))), ("data", reversed(range(len(spec))))):
            free = [i for i in order if spec[i] is None and x.shape[i] % mesh.shape[axis] == 0]
            if free:
                spec[free[0]] = axis
        return NamedSharding(mesh, P(*spec))

    return rule


def without(tree, names):
    """Return the leaves whose paths contain none of `names`."""
    return [
        x
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
        if names.isdisjoint(jax.tree_util.keystr((k,), simple=True) for k in path)
    ]


@pytest.mark.parametrize("name", INIT_FUNCTIONS)
def test_a_mesh_does_not_change_a_bit(name, mesh):
    init_fn = INIT_FUNCTIONS[name]
    sharded = state(flaxinit.fast_init(init_fn, spread(mesh))(KEY))
    arrays = [x for x in jax.tree.leaves(sharded) if isinstance(x, jax.Array)]
    assert arrays and all(x.sharding.mesh == mesh for x in arrays)
    assert all(x.sharding.shard_shape(x.shape) != x.shape for x in arrays if x.size % 4 == 0)
    sums = SUMS.get(name, set())
    assert_same_bits(without(sharded, sums), without(state(init_fn(KEY)), sums))


def test_sums_over_a_mesh_agree_to_rounding(mesh):
    """|fl(Σx) − Σx| ≤ γ Σ|x|, γ = n·u / (1 − n·u), for any order of summation (Higham 2002, 4.4).

    The two orders may err to both sides, hence 2γ; the square root and the quotient behind the
    sums add one rounding u each.
    """
    eager, sharded = entangled(KEY), flaxinit.fast_init(entangled, spread(mesh))(KEY)
    a = np.asarray(eager["a"], np.float64)
    u = np.finfo(np.float32).eps / 2

    def gamma(n):
        return n * u / (1 - n * u)

    np.testing.assert_allclose(sharded["norm"], eager["norm"], rtol=2 * (gamma(len(a) + 1) + u))
    error = abs(float(sharded["mean"]) - float(eager["mean"]))
    assert error <= 2 * (gamma(a.size) + u) * np.abs(a).mean()


def dense(names, mesh=None):
    init = nn.with_partitioning(nn.initializers.lecun_normal(), names, mesh)
    return nn.Dense(8, kernel_init=init)


X = np.ones((1, 4), np.float32)


def test_linen_boxes_say_where(mesh):
    with jax.set_mesh(mesh):
        params = flaxinit.fast_init(dense((None, "model")).init)(KEY, X)["params"]
    assert isinstance(params["kernel"], nn.Partitioned)
    assert params["kernel"].value.sharding == NamedSharding(mesh, P(None, "model"))
    assert params["bias"].sharding == NamedSharding(mesh, P())
    assert_same_bits(nn.unbox(params), nn.unbox(dense((None, "model")).init(KEY, X)["params"]))


def test_linen_boxes_may_bring_their_mesh():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))  # Flax's constraints need
    params = flaxinit.fast_init(dense((None, "model"), mesh).init)(KEY, X)["params"]
    assert params["kernel"].value.sharding == NamedSharding(mesh, P(None, "model"))


def test_boxes_without_a_mesh_stay_on_the_default_device():
    kernel = flaxinit.fast_init(dense((None, "model")).init)(KEY, X)["params"]["kernel"].value
    assert kernel.devices() == {jax.devices()[0]}


def test_logical_axis_rules(mesh):
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
    model = nn.Dense(8, kernel_init=init)
    with jax.set_mesh(mesh), nn.logical_axis_rules((("embed", "data"), ("mlp", "model"))):
        params = flaxinit.fast_init(model.init)(KEY, X)["params"]
    assert params["kernel"].value.sharding == NamedSharding(mesh, P("data", "model"))


def test_scanned_boxes_gain_an_axis(mesh):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.with_partitioning(nn.initializers.lecun_normal(), ("data", "model"))
            scan = nn.scan(
                lambda layer, x, _: (layer(x), None),
                variable_axes={"params": 0},
                length=4,
                split_rngs={"params": True},
                metadata_params={nn.PARTITION_NAME: None},
            )
            return scan(nn.Dense(4, kernel_init=init), x, None)

    model = Stack()
    with jax.set_mesh(mesh):
        params = flaxinit.fast_init(model.init)(KEY, X)["params"]["Dense_0"]
    assert params["kernel"].value.sharding == NamedSharding(mesh, P(None, "data", "model"))
    assert_same_bits(nn.unbox(params), nn.unbox(model.init(KEY, X)["params"]["Dense_0"]))


def test_nnx_metadata(mesh):
    def make(key):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
        return nnx.Linear(4, 8, kernel_init=init, rngs=nnx.Rngs(key))

    with jax.set_mesh(mesh):
        model, eager = flaxinit.fast_init(make)(KEY), make(KEY)
    assert model.kernel.sharding.is_equivalent_to(NamedSharding(mesh, P(None, "model")), 2)
    assert model.bias.sharding.is_fully_replicated
    assert_same_bits(nnx.state(model), nnx.state(eager))


RULES = (("embed", "data"), ("mlp", "model"))


@pytest.mark.parametrize("where", ["in the variable", "around the call"])
def test_nnx_logical_axis_rules(where, mesh):
    own = {"sharding_rules": RULES} if where == "in the variable" else {}

    def make(key):
        init = nnx.initializers.lecun_normal()
        init = nnx.with_partitioning(init, ("embed", "mlp"), **own)
        return nnx.Linear(4, 8, kernel_init=init, rngs=nnx.Rngs(key))

    around = contextlib.nullcontext() if own else nnx.logical_axis_rules(RULES)
    with jax.set_mesh(mesh), around:
        model = flaxinit.fast_init(make)(KEY)
    assert model.kernel.sharding == NamedSharding(mesh, P("data", "model"))


def test_a_sharding_for_a_subtree_and_none(mesh):
    column = NamedSharding(mesh, P("model"))
    shardings = {"params": {"Dense_0": column, "Dense_1": None}}

    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(nn.Dense(8)(x))

    params = flaxinit.fast_init(Two().init, shardings)(KEY, X)["params"]
    assert params["Dense_0"]["kernel"].sharding == column
    assert params["Dense_0"]["bias"].sharding == column
    assert params["Dense_1"]["kernel"].devices() == {jax.devices()[0]}
    assert_same_bits(params, Two().init(KEY, X)["params"])


def test_shardings_of_the_nnx_state(mesh):
    def make(key):
        return nnx.Linear(4, 8, rngs=nnx.Rngs(key))

    shardings = jax.tree.map(
        lambda x: NamedSharding(mesh, P(*[None] * (x.ndim - 1), "model")), nnx.state(make(KEY))
    )
    model = flaxinit.fast_init(make, shardings)(KEY)
    assert model.kernel.sharding == NamedSharding(mesh, P(None, "model"))
    assert model.bias.sharding == NamedSharding(mesh, P("model"))


def test_partition_specs_use_the_mesh_that_is_set(mesh):
    with jax.set_mesh(mesh):
        kernel = flaxinit.fast_init(nn.Dense(8).init, P("model"))(KEY, X)["params"]["kernel"]
    assert kernel.sharding == NamedSharding(mesh, P("model"))


def test_one_device_that_is_not_the_default():
    device = jax.devices()[3]
    made = flaxinit.fast_init(entangled, SingleDeviceSharding(device))(KEY)
    assert all(x.devices() == {device} for x in jax.tree.leaves(made) if isinstance(x, jax.Array))
    assert_same_bits(made, entangled(KEY))


def test_a_shared_array_in_two_places(mesh):
    def tied(key):
        w = jax.random.normal(key, (8, 8))
        return {"in": w, "out": w}

    rows, columns = NamedSharding(mesh, P("model")), NamedSharding(mesh, P(None, "model"))
    made = flaxinit.fast_init(tied, {"in": rows, "out": columns})(KEY)
    assert (made["in"].sharding, made["out"].sharding) == (rows, columns)
    assert_same_bits(made, tied(KEY))
    same = flaxinit.fast_init(tied, rows)(KEY)
    assert same["in"] is same["out"]


def test_input_data_on_a_mesh(mesh):
    """An init function may read data: an argument in parts on several devices stays there."""
    data = jax.device_put(
        np.arange(32, dtype=np.float32).reshape(8, 4), NamedSharding(mesh, P("model"))
    )

    def from_data(key, x):
        return {"shift": x * np.float32(0.5), "w": jax.random.normal(key, (4, 8)), "x": x}

    made = flaxinit.fast_init(from_data, NamedSharding(mesh, P("data")))(KEY, data)
    assert made["shift"].sharding == NamedSharding(mesh, P("data"))
    assert_same_bits(made, from_data(KEY, data))


def test_keys_on_a_mesh(mesh):
    """A batch of keys may be anywhere: in parts, in copies, on a device that is not the default."""

    def init(keys):
        return {
            "each": jax.vmap(lambda key: jax.random.normal(key, (16,)))(keys),
            "first": jax.random.normal(jax.random.fold_in(keys[0], 3), (8,)),
            "key": keys[1],
        }

    keys = jax.random.split(KEY, 8)
    everywhere = NamedSharding(mesh, P())
    for place in (
        NamedSharding(mesh, P("model")),
        everywhere,
        SingleDeviceSharding(jax.devices()[3]),
    ):
        made = flaxinit.fast_init(init, everywhere)(jax.device_put(keys, place))
        assert_same_bits(made, init(keys))
        assert all(x.sharding == everywhere for x in jax.tree.leaves(made))
        assert_same_bits(flaxinit.fast_init(init)(jax.device_put(keys, place)), init(keys))


@pytest.mark.parametrize("shape", [(1024, 2048), (1024, 16, 128)], ids=["plain", "reshaped"])
def test_only_shards_are_held(shape, mesh, executors):
    """An executable keeps a shard and temporaries of a shard on a device, no whole array."""

    def dense(key):  # as Flax does it for heads: drawn as a matrix, scaled, reshaped
        return flaxinit.he()(key, (1024, 2048)).reshape(shape)

    flaxinit.fast_init(dense, NamedSharding(mesh, P(("data", "model"))))(KEY)
    (executor,) = executors
    shard = 1024 * 2048 * 4 // 8
    for executable in executor.executables.values():
        memory = executable.memory_analysis()
        assert memory.output_size_in_bytes <= shard
        # Hash, sampler and scale are one pass, so temporaries are scalars only.
        assert memory.temp_size_in_bytes <= shard // 100


@pytest.mark.parametrize("kind", [np.asarray, jax.numpy.asarray], ids=["NumPy", "JAX"])
def test_a_table_that_is_an_argument_is_cut(kind, mesh, executors):
    """Each device receives the part that it needs, and the report counts it."""
    table = kind(np.arange(1024 * 64, dtype=np.float32).reshape(1024, 64))
    reports = []

    def init(key, table):
        return {"table": table, "scaled": table * np.float32(3), "w": jax.random.normal(key, (8,))}

    made = flaxinit.fast_init(
        init, NamedSharding(mesh, P(("data", "model"))), report=reports.append
    )(KEY, table)
    assert_same_bits(made, init(KEY, table) | {"table": jax.numpy.asarray(table)})
    (executor,) = executors
    for executable in executor.executables.values():
        assert executable.memory_analysis().argument_size_in_bytes <= table.nbytes // 8 + 8
    assert reports[0].bytes_per_device == sum(x.nbytes // 8 for x in made.values())
    assert reports[0].peak_bytes_per_device >= reports[0].bytes_per_device


def test_draws_that_read_each_other_on_different_devices():
    """A weight on one device, its norm on another: each is where it is wanted."""
    first, second = jax.devices()[1:3]
    places = {"a": SingleDeviceSharding(first), "norm": SingleDeviceSharding(second)}
    made = flaxinit.fast_init(entangled, lambda path, x: places.get(path))(KEY)
    assert (made["a"].devices(), made["norm"].devices()) == ({first}, {second})
    assert_same_bits(made, entangled(KEY))
