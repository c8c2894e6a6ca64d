"""Bad input: a clear error that names the rule and the remedy, before anything is compiled."""

import random

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import InvalidRngError
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import flaxinit
from flaxinit.materialize import leaks
from flaxinit.materialize.execute import Executor

KEY = jax.random.key(0)
X = np.ones((1, 6), np.float32)
LEAK = []


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch):
    """Errors come before work: nothing is compiled."""
    monkeypatch.setattr(Executor, "_compile", lambda *args: pytest.fail("work was done"))
    LEAK.clear()


@pytest.fixture
def mesh():
    return jax.make_mesh((2, 4), ("data", "model"))


def draw(key, n=4):
    return {"w": jax.random.normal(key, (n, 8))}


def printing(key):
    jax.debug.print("drawing {}", key)
    return draw(key)


def ordered_callback(key):
    jax.experimental.io_callback(lambda: None, None, ordered=True)
    return draw(key)


def leaking(key):
    LEAK.append(jax.random.normal(key, (3,)))
    return draw(key)


def shape_from_values(key):
    return draw(key, int(jax.random.randint(key, (), 1, 9)))


def boolean_mask(key):
    x = jax.random.normal(key, (8,))
    return x[x > 0]


def through_numpy(key):
    return jnp.asarray(np.asarray(jax.random.normal(key, (8,))))


def python_random(key):
    return jax.random.normal(key, (8,)) * random.random()


def numpy_random(key):
    return jax.random.normal(key, (8,)) + np.random.normal(size=8).astype(np.float32)


def private_generator(key):
    return jnp.asarray(np.random.default_rng().normal(size=8).astype(np.float32))


@pytest.mark.parametrize(
    ("init_fn", "message"),
    [
        (printing, "side effects"),
        (ordered_callback, "side effects"),
        (leaking, "stores a traced value outside"),
        (shape_from_values, "needs the value of an array"),
        (boolean_mask, "needs the value of an array"),
        (through_numpy, "needs the value of an array"),
        (python_random, "something else when it was traced a second time"),
        (numpy_random, "something else when it was traced a second time"),
        (private_generator, "something else when it was traced a second time"),
    ],
)
def test_init_functions_that_do_not_depend_on_the_key_alone_are_refused(init_fn, message):
    with pytest.raises(TypeError, match=f"^{init_fn.__name__} .*{message}"):
        flaxinit.fast_init(init_fn)(KEY)


class Holder:
    """An init method that remembers what it drew."""

    def __init__(self):
        self.cache = {}

    def init(self, key):
        self.cache["h"] = [jax.random.normal(key, (3,))]
        return draw(key)


class Remembering(nn.Module):
    @nn.compact
    def __call__(self, x):
        type(self).last = nn.Dense(3)(x)
        return x


class Wide(nnx.Module):
    """Random streams in the metadata of a variable, where a traced call leaves them traced."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(8)])
        self.w = nnx.Param(jnp.zeros((8, 8)), rngs=rngs)


def closing(key):
    held = []

    def inner(key):
        held.append(key)
        return draw(key)

    closing.inner = inner
    return jax.jit(inner)(key)


@pytest.mark.parametrize(
    ("init_fn", "args", "place"),
    [
        (leaking, (), r"LEAK\[0\]"),
        (Holder().init, (), r"self\.cache\['h'\]\[0\]"),
        (Remembering().init, (X,), r"Remembering\.last"),
        (closing, (), r"held\[0\]"),
        (lambda key: Wide(nnx.Rngs(key)), (), r"the result\.w\..*rngs.*"),
    ],
    ids=["global", "attribute", "class", "closure", "metadata"],
)
def test_the_variable_that_holds_a_traced_value_is_named(init_fn, args, place):
    with pytest.raises(TypeError, match=rf"stores a traced value .*, in {place}: a side effect"):
        flaxinit.fast_init(init_fn)(KEY, *args)


def test_a_search_does_not_grow_with_jaxs_caches(monkeypatch):
    """It searches what the user holds. A search of all that refers to a value would not end."""
    visited, inside = [], leaks._inside
    monkeypatch.setattr(leaks, "_inside", lambda name, x: (visited.append(x), inside(name, x))[1])
    lengths = []
    for cached in ([], [jax.jit(lambda x, i=i: x + i) for i in range(50)]):
        kept = [function(jnp.zeros(3)) for function in cached]
        visited.clear()
        with pytest.raises(TypeError, match="stores a traced value"):
            flaxinit.fast_init(Holder().init)(KEY)
        lengths.append(len(visited))
        assert len(kept) == len(cached)
    assert lengths[0] == lengths[1] > 0


def test_a_shape_in_place_of_an_array():
    def shapes(key):
        return {"w": jax.eval_shape(lambda: jnp.zeros(3))}

    with pytest.raises(TypeError, match=r"^w: .*shapes returns the shape"):
        flaxinit.fast_init(shapes)(KEY)


NO_FUNCTIONS = {
    "a NoneType": lambda: None,
    "a dict": lambda: {"kernel": jnp.ones((1000, 1000))},
    r"a Dense\. Pass its `init` method": lambda: nn.Dense(3),
    r"a Linear\. .* build it inside": lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("message", NO_FUNCTIONS)
def test_not_a_function(message):
    with pytest.raises(TypeError, match=f"init_fn must be a function, received {message}") as error:
        flaxinit.fast_init(NO_FUNCTIONS[message]())
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("option", [{"report": "yes"}, {"progress": 1}, {"progress": print}])
def test_options(option):
    with pytest.raises(TypeError, match=r"^(report|progress) must be True.* received"):
        flaxinit.fast_init(draw, **option)


def test_inside_a_transformation():
    with pytest.raises(TypeError, match=r"cannot run inside jax.jit"):
        jax.jit(flaxinit.fast_init(draw))(KEY)
    with pytest.raises(TypeError, match=r"cannot run inside jax.jit"):  # with a key from outside
        jax.jit(lambda: flaxinit.fast_init(draw)(KEY))()


def test_an_nnx_object_as_argument():
    with pytest.raises(TypeError, match="build it inside"):
        flaxinit.fast_init(lambda rngs: nnx.Linear(2, 3, rngs=rngs))(nnx.Rngs(0))


def test_nnx_objects_of_the_caller():
    rngs = nnx.Rngs(0)
    with pytest.raises(TypeError, match=r"was made outside of it.* build it inside"):
        flaxinit.fast_init(lambda key: nnx.Linear(2, 3, rngs=rngs))(KEY)


def test_a_shape_where_a_value_is_needed():
    with pytest.raises(TypeError, match="depends on the values of an argument"):
        flaxinit.fast_init(lambda key, x: x + jax.random.normal(key, x.shape))(
            KEY, jax.ShapeDtypeStruct((3,), jnp.float32)
        )


@pytest.mark.parametrize("bad", ["model", 3, {"w": "model"}, {"w": ("data", "model")}])
def test_not_a_sharding(bad):
    with pytest.raises(TypeError, match=r"must be a jax.sharding.NamedSharding.* received"):
        flaxinit.fast_init(draw, bad)


def test_a_mesh_without_devices(mesh):
    with pytest.raises(TypeError, match="on a mesh of devices"):
        flaxinit.fast_init(draw, NamedSharding(mesh.abstract_mesh, P("model")))


def test_a_function_that_returns_no_sharding():
    with pytest.raises(TypeError, match=r"^w: a sharding must be"):
        flaxinit.fast_init(draw, lambda path, x: "model")(KEY)


def test_a_function_that_raises(mesh):
    rules = {"w": lambda path: P(), "v": lambda path, x: {}[path]}
    with pytest.raises(ValueError, match=r"^w: out_shardings, called with .* raised TypeError"):
        flaxinit.fast_init(draw, rules["w"])(KEY)
    with pytest.raises(ValueError, match=r"^w: out_shardings, called with .* raised KeyError"):
        flaxinit.fast_init(draw, rules["v"])(KEY)
    with pytest.raises(TypeError, match=r"^out_shardings: a sharding must be .* received Mesh"):
        flaxinit.fast_init(draw, mesh)


def test_another_structure(mesh):
    bad = {"params": {"kernal": NamedSharding(mesh, P()), "bias": None}}
    with pytest.raises(ValueError, match=r"structure of what init_fn returns.*\n?.*'params'"):
        flaxinit.fast_init(nn.Dense(3).init, bad)(KEY, X)


def test_a_dimension_that_does_not_divide(mesh):
    with pytest.raises(ValueError, match=r"^params/kernel: dimension 0 has size 6.* 4 parts"):
        flaxinit.fast_init(nn.Dense(8).init, lambda path, x: NamedSharding(mesh, P("model")))(
            KEY, X
        )


def test_more_entries_than_dimensions(mesh):
    with pytest.raises(ValueError, match=r"^params/bias: .* has 2 entries"):
        flaxinit.fast_init(nn.Dense(8).init, NamedSharding(mesh, P(None, "model")))(KEY, X)


def test_an_unconstrained_dimension():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match=r"^w: .* unconstrained"):
        flaxinit.fast_init(draw, NamedSharding(mesh, P(P.UNCONSTRAINED)))(KEY)


def test_a_spec_without_a_mesh():
    with pytest.raises(ValueError, match=r"^w: .* no mesh is set"):
        flaxinit.fast_init(draw, P("model"))(KEY)


def test_an_axis_that_the_mesh_does_not_have(mesh):
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"^w: .*modle.* names an axis"):
        flaxinit.fast_init(draw, P("modle"))(KEY)


def test_metadata_that_the_mesh_does_not_have(mesh):
    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "tensor"))
    box = lambda key: {"w": init(key, (4, 8))}
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"^w: the model's.*tensor"):
        flaxinit.fast_init(box)(KEY)


def test_logical_names_without_rules(mesh):
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"^params/kernel: .*no rules say"):
        flaxinit.fast_init(nn.Dense(8, kernel_init=init).init)(KEY, X)


def test_other_errors_on_explicit_axes_are_the_init_function_s(mesh):
    def wrong(key):
        raise ValueError("no such width")

    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"^no such width"):
        flaxinit.fast_init(wrong)(KEY)


def test_a_mesh_set_inside(mesh):
    def init(key):
        with jax.set_mesh(mesh):
            return draw(key)

    with pytest.raises(ValueError, match=r"init sets a mesh.*around the call"):
        flaxinit.fast_init(init)(KEY)


def test_a_layout_on_other_devices_than_the_place(mesh):
    few = jax.make_mesh((4,), ("model",), devices=jax.devices()[:4])
    place = NamedSharding(few, P("model"))

    @jax.jit
    def inside(key):
        return jax.lax.with_sharding_constraint(draw(key)["w"], P("model"))

    auto = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(auto), pytest.raises(ValueError, match=r"^w: .* makes it on .*its place is"):
        flaxinit.fast_init(lambda key: {"w": inside(key)}, place)(KEY)


def test_a_failed_call_says_what_may_be_wrong_with_its_arguments():
    def init(key, x):
        return jax.random.normal(key, x.shape)

    with pytest.raises(AttributeError) as raised:
        flaxinit.fast_init(init)(KEY, (4, 8, 32))
    assert 'jax.ShapeDtypeStruct((4, 8, 32), "float32")' in raised.value.__notes__[-1]
    with pytest.raises(InvalidRngError) as raised:
        flaxinit.fast_init(nn.Dense(4).init)(0, X)
    assert "jax.random.key(0)" in raised.value.__notes__[-1]
