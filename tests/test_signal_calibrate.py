"""Calibration on real inputs: what each kernel makes, and what stays as it is."""

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import flaxinit

X = 3 + 2 * jax.random.normal(jax.random.key(0), (64, 16))


class Net(nn.Module):
    """A norm, a residual branch, a kernel that is used twice and a head of zeros."""

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Dense(64, name="first")(x)
        self.sow("intermediates", "first_out", x)
        x = nn.Dense(64, name="normed")(nn.tanh(x))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        self.sow("intermediates", "stream", x)
        y = nn.Dense(64, name="inner")(x)
        self.sow("intermediates", "inner_out", y)
        y = nn.Dense(64, name="branch")(nn.relu(y))
        self.sow("intermediates", "branch_out", y)
        x = x + y
        again = nn.Dense(64, name="again")
        x = nn.tanh(again(nn.tanh(again(x))))
        return nn.Dense(3, kernel_init=nn.initializers.zeros, name="zero")(x)


def test_each_kernel_makes_a_unit_signal():
    model, reports = Net(), []
    params = model.init(jax.random.key(1), X)
    mutable = ["batch_stats"]
    made = flaxinit.calibrate(model.apply, params, X, report=reports.append, mutable=mutable)
    rows = {row.path.split("/")[-2]: row for row in reports[0].rows}
    assert rows["normed"].why == "a norm divides its outputs"
    for name in ("normed", "zero"):
        assert jnp.array_equal(made["params"][name]["kernel"], params["params"][name]["kernel"])
    for name in ("first", "inner", "again"):
        assert rows[name].after == pytest.approx(1, rel=1e-5)
        ratio = made["params"][name]["kernel"] / params["params"][name]["kernel"]
        np.testing.assert_allclose(ratio, rows[name].factor, rtol=1e-5)
    _, state = model.apply(made, X, mutable=["intermediates", "batch_stats"])
    found = {name: float(jnp.mean(y[0] ** 2)) for name, y in state["intermediates"].items()}
    assert found["first_out"] == pytest.approx(1, rel=1e-5)
    # The one branch may add as much as the stream starts with.
    assert found["branch_out"] == pytest.approx(found["stream"], rel=1e-5)


def test_biases_center_each_channel_on_request():
    model = nn.Sequential(
        [nn.Conv(8, (3, 3)), nn.relu, nn.Conv(4, (3, 3), bias_init=nn.initializers.ones)]
    )
    x = 1 + jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    params = model.init(jax.random.key(1), x)
    made = flaxinit.calibrate(model.apply, params, x, center=True, level=4.0)
    y = model.apply(made, x)
    np.testing.assert_allclose(jnp.mean(y, axis=(0, 1, 2)), 0, atol=1e-5)
    assert float(jnp.mean(y**2)) == pytest.approx(4, rel=1e-4)


def test_rows_of_a_loop_have_factors_of_their_own():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.relu(nn.Dense(64)(x)), None

    layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=20)()
    x = jax.random.normal(jax.random.key(0), (64, 64))
    params = layers.init(jax.random.key(1), x, None)
    made = flaxinit.calibrate(layers.apply, params, x, None)
    ratio = made["params"]["Dense_0"]["kernel"] / params["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * jnp.ones_like(ratio), rtol=1e-5)
    assert jnp.mean(layers.apply(made, x, None)[0] ** 2) > 0.3  # without it 1e-6


def test_an_nnx_module_is_changed_in_place():
    model = nnx.Sequential(nnx.Linear(16, 32, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    assert flaxinit.calibrate(model, X) is model
    assert float(jnp.mean(model.layers[0](X) ** 2)) == pytest.approx(1, rel=1e-5)


def test_sharded_parameters_stay_where_they_are():
    mesh = jax.make_mesh((len(jax.devices()),), ("x",))
    model = nn.Dense(64)
    params = model.init(jax.random.key(0), X)
    whole = flaxinit.calibrate(model.apply, params, X)
    sharding = NamedSharding(mesh, PartitionSpec(None, "x"))
    params["params"]["kernel"] = jax.device_put(params["params"]["kernel"], sharding)
    made = flaxinit.calibrate(model.apply, params, X)
    assert made["params"]["kernel"].sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(made["params"]["kernel"], whole["params"]["kernel"], rtol=1e-5)


def test_what_cannot_be_calibrated_is_refused():
    model = nn.Dense(3)
    params = model.init(jax.random.key(0), X)
    with pytest.raises(TypeError, match="needs the model's parameters and inputs"):
        flaxinit.calibrate(model.apply, params)
    with pytest.raises(ValueError, match="level must be positive"):
        flaxinit.calibrate(model.apply, params, X, level=-1)
    with pytest.raises(ValueError, match=r"found no kernel at work.*params/kernel"):
        flaxinit.calibrate(lambda params, x: x, params, X)


@pytest.mark.parametrize(("name", "other"), [("calibrate", "tune"), ("audit", "forecast")])
def test_what_is_no_model_with_arrays_is_refused(name, other):
    measure = getattr(flaxinit, name)
    model = nn.Dense(3)
    params = model.init(jax.random.key(0), X)
    function = f"{name} takes a function .* received "
    with pytest.raises(TypeError, match=rf"use {name}\(module\.apply, params, x\)"):
        measure(model, params, X)
    with pytest.raises(TypeError, match=f"{name} needs the model's parameters and inputs"):
        measure(model.apply)
    with pytest.raises(TypeError, match=function + "the class Dense"):
        measure(nn.Dense, params, X)
    transformed = hk.transform(lambda x: hk.Linear(3)(x))
    with pytest.raises(TypeError, match=function + "Transformed"):
        measure(transformed, transformed.init(jax.random.key(0), X), X)
    with pytest.raises(TypeError, match=rf"ShapeDtypeStruct.*flaxinit\.{other}\("):
        measure(model.apply, params, jax.ShapeDtypeStruct(X.shape, X.dtype))


@pytest.mark.parametrize("name", ["level", "report", "center"])
@pytest.mark.parametrize("value", ["1", None])
def test_options_of_another_type_are_refused(name, value):
    model = nn.Dense(3)
    with pytest.raises(TypeError, match=f"{name} must be "):
        flaxinit.calibrate(model.apply, model.init(jax.random.key(0), X), X, **{name: value})


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_signal_that_is_not_finite_is_refused(value, center):
    """It is named by the first kernel that it meets, a kernel that is left alone among them."""
    model = nn.Sequential([nn.Dense(8), nn.LayerNorm(), nn.Dense(3)])
    params = model.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"layers_0/kernel makes of the inputs is not finite"):
        flaxinit.calibrate(model.apply, params, X.at[0, 0].set(value), center=center)
    kernel = params["params"]["layers_2"]["kernel"]
    params["params"]["layers_2"]["kernel"] = kernel.at[0, 0].set(value)
    with pytest.raises(ValueError, match=r"layers_2/kernel makes of the inputs is not finite"):
        flaxinit.calibrate(model.apply, params, X, center=center)


def test_an_empty_batch_is_refused():
    model = nn.Dense(3)
    with pytest.raises(ValueError, match="The batch is empty"):
        flaxinit.calibrate(model.apply, model.init(jax.random.key(0), X), X[:0])


def linear(params, x):
    return x @ params["w"]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_need_not_be_in_range(size):
    """Of float32, which holds no 1e±60."""
    x = size * X
    params = {"w": jax.random.normal(jax.random.key(0), (16, 8))}
    y = linear(flaxinit.calibrate(linear, params, x), x)
    assert float(jnp.mean(y**2)) == pytest.approx(1, rel=1e-5)


def test_a_kernel_out_of_the_range_of_its_dtype_is_refused():
    """A factor out of it is not, if the kernel is in it."""
    w = jax.random.normal(jax.random.key(0), (16, 8))
    x = (1e-6 * X).astype(jnp.float16)
    with pytest.raises(ValueError, match=r"w has entries up to .* leaves the range of float16"):
        flaxinit.calibrate(linear, {"w": w.astype(jnp.float16)}, x)
    rows = []
    params = {"w": (1e-3 * w).astype(jnp.float16)}
    x = (7e-4 * X).astype(jnp.float16)
    y = linear(flaxinit.calibrate(linear, params, x, report=rows.append), x)
    assert float(jnp.mean(y.astype(jnp.float32) ** 2)) == pytest.approx(
        1, rel=4 * float(jnp.finfo(jnp.float16).eps)
    )
    assert rows[0].rows[0].factor > float(jnp.finfo(jnp.float16).max)


@pytest.mark.parametrize("center", [False, True])
def test_models_of_strict_types_are_calibrated(center):
    model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64)])
    x = X.astype(jnp.bfloat16)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.init(jax.random.key(0), X))
    with jax.numpy_dtype_promotion("strict"):
        made = flaxinit.calibrate(model.apply, params, x, center=center)
        y = model.apply(made, x)
    assert y.dtype == jnp.bfloat16
    precision = 2 * float(jnp.finfo(jnp.bfloat16).eps)
    assert float(jnp.mean(y.astype(jnp.float32) ** 2)) == pytest.approx(1, rel=precision)


def test_parameters_of_8_bits_are_calibrated():
    w = jax.random.normal(jax.random.key(0), (16, 8)).astype(jnp.float8_e4m3fn)
    x = X.astype(w.dtype)
    y = linear(flaxinit.calibrate(linear, {"w": w}, x), x)
    assert y.dtype == w.dtype
    # An entry is rounded by at most 1/16 of itself, in the kernel and in the product.
    assert float(jnp.mean(y.astype(jnp.float32) ** 2)) == pytest.approx(
        1, rel=(1 + 1 / 16) ** 4 - 1
    )


@pytest.mark.parametrize("x", [X[:1], jnp.broadcast_to(X[:1], X.shape)], ids=["one", "alike"])
def test_what_does_not_vary_is_not_centered(x):
    model = nn.Dense(3)
    params = model.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"params/kernel makes is the same for all inputs"):
        flaxinit.calibrate(model.apply, params, x, center=True)


def test_outputs_of_0_are_reported_and_left_alone():
    rows = []
    params = {"w": jax.random.normal(jax.random.key(0), (16, 8))}
    made = flaxinit.calibrate(linear, params, 0 * X, report=rows.append)
    assert jnp.array_equal(made["w"], params["w"])
    assert [row.why for row in rows[0].rows] == ["makes 0 of the inputs"]


def test_a_stream_of_0_bounds_no_branch():
    def net(params, x):
        stream = 0.0 * jax.nn.relu(x @ params["a"])
        return (stream + (1 + stream) @ params["b"]) @ params["c"]

    keys = jax.random.split(jax.random.key(0), 3)
    params = {n: jax.random.normal(key, (16, 16)) for n, key in zip("abc", keys, strict=True)}
    reports = []
    flaxinit.calibrate(net, params, X, report=reports.append)
    assert [row.after for row in reports[0].rows] == pytest.approx([1, 1, 1], rel=1e-5)
