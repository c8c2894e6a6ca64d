"""Initializers where other libraries call them: Haiku, Keras, and layers that pass their axes."""

import os

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.bounds import z_score

KEY = jax.random.key(2)
NO_KERAS = "Keras is not installed; `pip install flaxinit[elsewhere]` has it"


def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras", reason=NO_KERAS)


class DenseGeneral(nn.Module):
    """Passes its kernel's axes at the call, as MaxText and t5x's scalable_t5 do."""

    features: tuple[int, ...]
    axis: tuple[int, ...]
    kernel_init: object

    @nn.compact
    def __call__(self, x):
        axis = tuple(a % x.ndim for a in self.axis)
        shape = (*(x.shape[a] for a in axis), *self.features)
        in_axis = tuple(range(len(axis)))
        out_axis = tuple(range(len(axis), len(shape)))
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32, in_axis, out_axis)
        return jax.lax.dot_general(x, kernel, ((axis, in_axis), ((), ())))


@pytest.mark.parametrize(("features", "axis"), [((5,), (-1,)), ((2, 3), (-1,)), ((6,), (-2, -1))])
def test_axes_at_call_time_are_those_of_jaxs_initializer(features, axis):
    """MaxText's nd_dense_init builds JAX's initializer with the axes that the layer passes."""

    def nd_dense_init(key, shape, dtype, in_axis, out_axis):
        init = jax.nn.initializers.variance_scaling(1, "fan_in", "normal", in_axis, out_axis)
        return jax.jit(init, static_argnums=(1, 2))(key, shape, dtype)

    ours = flaxinit.lecun(distribution="normal")
    x = jnp.ones((7, 3, 4))
    kernels = [
        DenseGeneral(features, axis, init).init(KEY, x)["params"]["kernel"]
        for init in (ours, nd_dense_init)
    ]
    np.testing.assert_array_equal(*kernels)
    if len(features) == 2:  # axes make a difference
        assert (ours(KEY, kernels[0].shape) != kernels[0]).any()


INITS = {
    "normal": flaxinit.normal(0.02),
    "zeros": flaxinit.zeros,
    "uniform": flaxinit.uniform(0.1),
    "truncated_normal": flaxinit.truncated_normal(0.1),
}


@pytest.mark.parametrize("name", INITS)
def test_axes_are_nothing_to_what_does_not_read_them(name):
    init = INITS[name]
    by_axes = init(KEY, (3, 4), jnp.bfloat16, 0, 1)
    np.testing.assert_array_equal(by_axes, init(KEY, (3, 4), jnp.bfloat16))
    assert by_axes.dtype == jnp.bfloat16 and init.with_axes(0, 1) is init


def test_axes_by_name_leave_the_sharding_its_place():
    mesh = jax.make_mesh((8,), ("x",))
    sharding = jax.NamedSharding(mesh, jax.P(None, "x"))
    drawn = flaxinit.he()(KEY, (4, 16), None, sharding, in_axis=-1, out_axis=-2)
    assert drawn.sharding == sharding
    known = flaxinit.he(in_axis=-1, out_axis=-2)(KEY, (4, 16))
    np.testing.assert_array_equal(drawn, known)


def test_orthogonal_kernels_have_their_columns_along_one_axis():
    init = flaxinit.orthogonal()
    assert init.with_axes((0, 1), 2) == flaxinit.orthogonal(column_axis=2)
    heads = init(KEY, (6, 2, 3), None, 0, (1, 2)).reshape(6, 6)
    np.testing.assert_allclose(heads @ heads.T, np.eye(6), atol=1e-5)
    with pytest.raises(ValueError, match=r"columns along one axis.*in_axis=\(0, 1\)"):
        init(KEY, (2, 3, 2, 3), None, (0, 1), (2, 3))
    # Only the number of outputs over that of inputs is the norm.
    assert flaxinit.semi_orthogonal().with_axes(1, 0).singular_value((16, 4)) == 2
    with pytest.raises(ValueError, match="must be one axis"):
        flaxinit.semi_orthogonal()(KEY, (6, 2, 3), None, 0, (1, 2))


def test_wrong_axes_at_call_time():
    for call, error, message in (
        (lambda: flaxinit.he()(KEY, (3, 4), None, 0, 5), ValueError, "out_axis=5 is out of range"),
        (lambda: flaxinit.he()(KEY, (3, 4), in_axis=0), TypeError, "out_axis must be an integer"),
        (lambda: flaxinit.he()(KEY, (3, 4), None, "a", 1), TypeError, "in_axis must be an"),
        (lambda: flaxinit.normal()(KEY, (3, 4), None, "a", 1), TypeError, "in_axis must be an"),
        (lambda: flaxinit.sparse(0.5)(KEY, (3, 4), None, 0, 1), TypeError, "takes no in_axis"),
        (lambda: flaxinit.identity()(None, (3, 4), None, 0, 1), TypeError, "takes no in_axis"),
    ):
        with pytest.raises(error, match=message):
            call()


def haiku_params(init, bias=None):
    def model(x):
        return hk.Linear(8, w_init=init, b_init=bias)(x)

    return hk.transform(model).init(jax.random.PRNGKey(1), jnp.ones((1, 4)))["linear"]


def test_haiku_draws_with_its_own_keys():
    params = haiku_params(flaxinit.for_haiku(flaxinit.he()), flaxinit.for_haiku(flaxinit.ones))
    key = hk.PRNGSequence(jax.random.PRNGKey(1))
    expected = flaxinit.he()(next(key), (4, 8))
    np.testing.assert_array_equal(params["w"], expected)
    np.testing.assert_array_equal(params["b"], np.ones(8))
    both = haiku_params(flaxinit.for_haiku(jax.nn.initializers.he_normal()))
    assert both["w"].shape == (4, 8)


def test_what_draws_nothing_takes_no_key_of_haiku():
    def model(first):
        hk.get_parameter("a", (2,), init=flaxinit.for_haiku(first))
        return hk.get_parameter("b", (2,), init=flaxinit.for_haiku(flaxinit.normal()))

    a, b, c = (
        hk.transform(lambda init=init: model(init)).init(KEY)["~"]["b"]
        for init in (flaxinit.zeros, flaxinit.ones, flaxinit.normal())
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_keras_layers_draw_and_follow_its_seed():
    k = keras()
    init = flaxinit.for_keras(flaxinit.he("gelu"))

    def kernels(seed):
        k.utils.set_random_seed(seed)
        layers = [k.layers.Dense(48, kernel_initializer=init) for _ in range(2)]
        for layer in layers:
            layer.build((None, 64))
        return [np.asarray(layer.kernel) for layer in layers]

    first, second = kernels(1)
    assert (first != second).any()  # layers that share the initializer
    for again, kernel in zip(kernels(1), (first, second), strict=True):
        np.testing.assert_array_equal(again, kernel)
    assert (kernels(2)[0] != first).any()
    # The mean square of a truncated normal varies less than a normal's, whose variance is 2.
    error = abs((first**2).mean() / init.init.variance((64, 48)) - 1)
    assert error < z_score(1) * np.sqrt(2 / first.size)


def test_keras_saves_and_loads_the_initializer(tmp_path):
    k = keras()
    init = flaxinit.for_keras(flaxinit.constant([1.0, 2.0], "bfloat16"), seed=4)
    model = k.Sequential([k.Input((3,)), k.layers.Dense(2, kernel_initializer=init)])
    model.save(tmp_path / "model.keras")
    custom = {"for_keras": flaxinit.for_keras}
    loaded = k.models.load_model(tmp_path / "model.keras", custom_objects=custom)
    assert loaded.layers[0].kernel_initializer == init
    np.testing.assert_array_equal(loaded.layers[0].kernel, [[1, 2]] * 3)
    with pytest.raises(TypeError, match="Keras saves flaxinit's initializers alone"):
        flaxinit.for_keras(jax.nn.initializers.ones).get_config()


def test_a_seed_of_keras_is_the_key():
    k = keras()
    init = flaxinit.for_keras(flaxinit.normal(), seed=3)
    for dtype in ("float32", "bfloat16", None):
        drawn = init((4, 5), dtype=dtype)
        known = flaxinit.normal()(jax.random.key(3), (4, 5), dtype or k.config.floatx())
        assert drawn.dtype == known.dtype
        np.testing.assert_array_equal(drawn, known)


def test_a_bare_initializer_names_the_adapters():
    adapters = r"takes \(key, shape, .*flaxinit\.for_haiku\(init\).*flaxinit\.for_keras\(init\)"
    for init in (flaxinit.he(), flaxinit.zeros, flaxinit.orthogonal()):
        with pytest.raises(TypeError, match=adapters):
            haiku_params(init)
        with pytest.raises(TypeError, match=adapters):
            init((3, 4), dtype="float32")  # Keras
    with pytest.raises(TypeError, match=adapters):
        flaxinit.he()(KEY)


def test_keras_shows_the_error_of_a_bare_initializer():
    layer = keras().layers.Dense(3, kernel_initializer=flaxinit.he())
    with pytest.raises(TypeError, match=r"flaxinit\.for_keras\(init\)"):
        layer.build((None, 4))


def test_adapters_are_values_and_take_initializers_alone():
    for adapter in (flaxinit.for_haiku, flaxinit.for_keras):
        assert adapter(flaxinit.he()) == adapter(flaxinit.he()) != adapter(flaxinit.lecun())
        names = {n: getattr(flaxinit, n) for n in (adapter.__name__, "variance_scaling")}
        assert eval(repr(adapter(flaxinit.he())), names) == adapter(flaxinit.he())
        for wrong, hint in (
            (flaxinit.he, r"Call it: he\(\.\.\.\)"),
            (flaxinit.orthogonal, r"Call it: orthogonal"),
            ("he", r"flaxinit\.get\('he'\)"),
            (3, "such as flaxinit"),
        ):
            with pytest.raises(TypeError, match=f"init must be an initializer .*{hint}"):
                adapter(wrong)
    with pytest.raises(ValueError, match="seed must be a positive integer"):
        flaxinit.for_keras(flaxinit.he(), seed=-1)
