"""What `audit` measures agrees with the forecast, in Linen, NNX and hand-written models."""

import contextlib
import io
from dataclasses import fields

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from scipy.stats import chi2

import flaxinit
from flaxinit.signal import Measured
from flaxinit.signal.audit import cotangents


class Deep(nn.Module):
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        for n in range(10):
            init = flaxinit.lecun() if n == 0 else flaxinit.he("tanh").times(self.scale)
            x = nn.Dense(512, kernel_init=init, use_bias=False)(x if n == 0 else jnp.tanh(x))
        return x


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def audit(model, *inputs):
    return flaxinit.audit(model.apply, model.init(jax.random.key(1), *inputs), *inputs)


def spread(layer, batch):
    """Four standard deviations of E[y²]/forecast: y given x is normal, batch rows share W."""
    return 4 * np.sqrt(2 / layer.shape[-1] + 2 / (batch * layer.shape[-1]))


def test_the_forecast_is_what_is_measured():
    report = audit(Deep(), x(64, 512))
    assert [layer.path for layer in report.layers] == [
        f"params/Dense_{n}/kernel" for n in range(10)
    ]
    for each in measured(report):
        assert abs(each.ratio - 1) < spread(each, 64)


def test_convolution_attention_and_nnx():
    conv = audit(nn.Conv(64, (3, 3), padding="VALID", use_bias=False), x(8, 12, 12, 16)).layers
    assert [(layer.shape, layer.fan_in) for layer in conv] == [((3, 3, 16, 64), 144)]
    attention = audit(nn.MultiHeadDotProductAttention(4), x(2, 5, 32)).layers
    assert [layer.path.split("/")[1] for layer in attention] == ["query", "key", "value", "out"]
    assert {layer.fan_in for layer in attention} == {32}
    graph, state = nnx.split(nnx.Linear(16, 8, rngs=nnx.Rngs(0)))
    report = flaxinit.audit(lambda s, v: nnx.merge(graph, s)(v), state, x(4, 16))
    assert [layer.shape for layer in report.layers] == [(16, 8)]


def measured(report):
    return [layer.measured for layer in report.layers]


def numbers(report):
    return [
        (each.fan_in, each.kernel, each.signal_in, each.signal_out, each.expected)
        for each in measured(report)
    ]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv(1024, (3, 3), use_bias=False),
        nn.Conv(1024, (3, 3), strides=2, feature_group_count=2, use_bias=False),
        nn.Dense(1024, use_bias=False),
    ],
    ids=["padded", "grouped", "dense"],
)
def test_forecast_and_spread_are_those_of_the_matrix_of_inputs(conv):
    """``y = P w`` for each output, where P are the patches: E[y²] = E[w²] tr(PᵀP) / rows."""
    inputs = x(2, 6, 6, 4)
    (layer,) = measured(audit(conv, inputs))
    patches = [inputs.reshape(-1, 4)]
    if isinstance(conv, nn.Conv):
        patches = [
            jax.lax.conv_general_dilated_patches(
                group,
                (3, 3),
                (conv.strides or 1,) * 2,
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ).reshape(-1, 9 * group.shape[-1])
            for group in jnp.split(inputs, conv.feature_group_count, axis=-1)
        ]
    grams = [np.asarray(P.T @ P, np.float64) for P in patches]
    trace = sum(np.trace(G) for G in grams) / len(grams)
    assert layer.expected == pytest.approx(layer.kernel * trace / len(patches[0]), rel=1e-5)
    assert layer.outputs == 1024 // len(grams)
    squares = sum(np.sum(G * G) for G in grams) / len(grams)
    # The estimate of tr(A²) has the relative error √(2/1024) if A has rank 1, and less if not.
    assert abs(layer.spread**2 / (2 * squares / (1024 * trace**2)) - 1) < 4 * np.sqrt(2 / 1024)


@pytest.mark.parametrize("outputs", [1, 10, 64, 1000])
@pytest.mark.parametrize("level", [0.3, 0.01, 1e-5])
def test_bounds_hold_for_normal_weights_with_one_input(outputs, level):
    """With one input the ratio of normal weights is χ²/outputs: scipy knows its tails."""
    numbers = dict.fromkeys((field.name for field in fields(Measured)), 1.0)
    layer = Measured(**numbers | {"spread": np.sqrt(2 / outputs), "outputs": outputs})
    low, high = layer.bounds(level)
    missed = chi2.cdf(low * outputs, outputs) + chi2.sf(high * outputs, outputs)
    assert missed < level
    assert chi2.sf((1 + high) / 2 * outputs, outputs) > level**4 / 4  # nor are they idle


def test_weights_that_depend_on_their_input_are_marked():
    w = jax.random.normal(jax.random.key(1), (256, 256)) / 16
    report = flaxinit.audit(lambda p, v: (v @ p["w"]) @ p["w"].T, {"w": w}, x(64, 256))
    assert report.outside == report.layers[1:]  # E|WᵀWx|² = 2 E|Wx|² for square W
    assert ["*" in line for line in str(report).splitlines() if "(256,256)" in line] == [
        False,
        True,
    ]
    report = flaxinit.audit(lambda p, v: jnp.abs(v) @ p, jnp.ones((256, 8)), x(64, 256))
    assert report.outside == report.layers  # not centered
    assert audit(Deep(), x(64, 512)).outside == ()


def test_a_strided_transposed_convolution_meets_a_part_of_its_window():
    init = flaxinit.lecun(strides=2, transposed=True)
    model = nn.ConvTranspose(64, (4, 4), strides=(2, 2), kernel_init=init, use_bias=False)
    report = audit(model, x(4, 16, 16, 32))
    (layer,) = measured(report)
    assert layer.fan_in == 4 * 4 * 32 / 4
    assert abs(layer.sigma_w2 - 1) < 4 * np.sqrt(2 / (4 * 4 * 32 * 64))
    assert report.outside == ()


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.Dense(16)(jnp.tanh(nn.Dense(32)(x))), None


def test_scanned_blocks_are_layers_each():
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            blocks = nn.scan(
                nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
            )
            return nn.Dense(2)(blocks(name="blocks")(x, None)[0])

    model, inputs = Scanned(), x(4, 16)
    params = model.init(jax.random.key(1), inputs)
    scanned = flaxinit.audit(model.apply, params, inputs)
    assert [layer.path for layer in scanned.layers] == [
        *(f"params/blocks/{name}/kernel[{n}]" for n in range(3) for name in ("Dense_1", "Dense_0")),
        "params/Dense_0/kernel",
    ]
    assert [layer.shape for layer in scanned.layers[:2]] == [(16, 32), (32, 16)]

    def unrolled(params, v):
        for n in range(3):
            one = jax.tree.map(lambda w, n=n: w[n], params["params"]["blocks"])
            v, _ = Block().apply({"params": one}, v)
        return nn.Dense(2).apply({"params": params["params"]["Dense_0"]}, v)

    np.testing.assert_allclose(
        numbers(scanned), numbers(flaxinit.audit(unrolled, params, inputs)), rtol=1e-5
    )


def test_a_recurrent_kernel_is_the_mean_over_time():
    inputs = x(4, 7, 8)
    model = nn.RNN(nn.LSTMCell(16))
    params = model.init(jax.random.key(1), inputs)
    layers = measured(flaxinit.audit(model.apply, params, inputs))
    assert [layer.path.split("/")[2] for layer in layers] == [
        *("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")
    ]
    # The state before the first step is zero, which is not a signal; no step reads the last one.
    states = model.apply(params, inputs)[:, :-1]
    assert layers[0].signal_in == pytest.approx(float(jnp.mean(inputs**2)), rel=1e-5)
    assert layers[4].signal_in == pytest.approx(float(jnp.mean(states**2)), rel=1e-5)
    recurrent = states @ params["params"]["cell"]["hi"]["kernel"]
    assert layers[4].signal_out == pytest.approx(float(jnp.mean(recurrent**2)), rel=1e-5)


def test_loops_and_branches_of_jax():
    def step(n, v, p):
        return jnp.tanh(v @ jax.lax.cond(n < 5, lambda: p["w"], lambda: p["never"]))

    models = {
        "for": lambda p, v: jax.lax.fori_loop(0, 3, lambda n, v: step(n, v, p), v),
        "while": lambda p, v: jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, step(*c, p)), (0, v)
        ),
        "unrolled": lambda p, v: step(2, step(1, step(0, v, p), p), p),
    }
    params = {"w": x(8, 8), "never": x(8, 8)}
    reports = {name: flaxinit.audit(model, params, x(4, 8)) for name, model in models.items()}
    for report in reports.values():
        assert {layer.path for layer in report.layers} == {"w"}
        assert report.others == {"never": ""}
    mean = np.mean(numbers(reports["unrolled"]), axis=0)
    np.testing.assert_allclose(numbers(reports["for"]), [mean], rtol=1e-5)
    np.testing.assert_allclose(numbers(reports["while"]), [mean], rtol=1e-5)


def test_a_composite_is_a_call():
    def mlp(x, a, b):
        return jnp.maximum(x @ a, 0) @ b

    params = {"a": x(64, 128), "b": x(128, 64)}
    plain = flaxinit.audit(lambda p, v: mlp(v, p["a"], p["b"]), params, x(8, 64))
    named = jax.lax.composite(mlp, "my.mlp")
    report = flaxinit.audit(lambda p, v: named(v, p["a"], p["b"]), params, x(8, 64))
    assert numbers(report) == numbers(plain)
    assert [layer.path for layer in report.layers] == ["a", "b"]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("current", [False, True])
def test_a_kernel_on_several_devices_is_measured_as_one(kind, current):
    """Each device holds a part of `a`'s outputs and of `b`'s inputs."""
    mesh = jax.make_mesh((4,), ("model",), axis_types=(kind,))
    specs = {"a": P(None, "model"), "b": P("model"), "x": P()}

    def mlp(params, inputs):
        def on_one(a, b, v):
            (b,), _ = jax.lax.scan(lambda c, _: (c, None), (b,), length=2)
            return jax.lax.psum(jnp.maximum(v @ a, 0) @ b, "model")

        return jax.shard_map(on_one, mesh=mesh, in_specs=tuple(specs.values()), out_specs=P())(
            params["a"], params["b"], inputs
        )

    arrays = {"a": x(64, 128), "b": x(128, 64), "x": x(8, 64)}
    a, b, inputs = map(np.asarray, arrays.values())
    placed = {
        name: jax.device_put(array, NamedSharding(mesh, specs[name]))
        for name, array in arrays.items()
    }
    with jax.set_mesh(mesh) if current else contextlib.nullcontext():
        report = flaxinit.audit(mlp, {k: placed[k] for k in "ab"}, placed["x"])
    assert not report.remarks
    assert [(layer.path, layer.fan_in) for layer in report.layers] == [("a", 64), ("b", 128)]
    first, second = measured(report)
    hidden = np.maximum(inputs @ a, 0)
    assert (first.fan_in, second.fan_in) == (64, 128)
    assert first.signal_out == pytest.approx(np.mean((inputs @ a) ** 2), rel=1e-5)
    assert second.signal_in == pytest.approx(np.mean(hidden**2), rel=1e-5)
    assert second.signal_out == pytest.approx(np.mean((hidden @ b) ** 2), rel=1e-5)


def test_a_scan_backwards_takes_and_gives_in_order():
    def scanned(p, v):
        def step(v, w):
            y = v @ w
            return jnp.tanh(y), y

        _, products = jax.lax.scan(step, v, p["w"], reverse=True)
        return products[0] @ p["first"] + products[2] @ p["last"]

    def unrolled(p, v):
        third = v @ p["w"][2]
        second = jnp.tanh(third) @ p["w"][1]
        first = jnp.tanh(second) @ p["w"][0]
        return first @ p["first"] + third @ p["last"]

    params = {"w": x(3, 8, 8), "first": x(8, 8), "last": x(8, 8)}
    report = flaxinit.audit(scanned, params, x(4, 8))
    paths = [layer.path for layer in report.layers]
    assert paths == ["w[2]", "w[1]", "w[0]", "first", "last"]
    expected = numbers(flaxinit.audit(unrolled, params, x(4, 8)))
    np.testing.assert_allclose(numbers(report), expected, rtol=1e-5)


def test_kernels_computed_from_several_parameters():
    params = {"w": x(16, 8), "a": x(16, 2), "b": x(2, 8), "bias": x(8), "unused": x(3)}
    model = lambda p, v: v @ (p["w"] + p["a"] @ p["b"]) + p["bias"]
    report = flaxinit.audit(model, params, x(4, 16))
    (layer,) = measured(report)
    assert (layer.path, layer.shape, layer.fan_in) == ("a, b, w", (16, 8), 16)
    kernel = params["w"] + params["a"] @ params["b"]
    assert layer.kernel == pytest.approx(float(jnp.mean(kernel**2)), rel=1e-5)
    assert report.others == {"bias": "add", "unused": ""}
    assert "not measured, never meets the signal: unused" in str(report)

    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.WeightNorm(nn.Dense(8))(x)

    (layer,) = measured(audit(Normalized(), x(4, 16)))
    assert "params/Dense_0/kernel" in layer.path
    assert layer.sigma_w2 == pytest.approx(1, rel=1e-5)  # columns of unit length


def test_a_tied_embedding_keeps_its_shape():
    embedding = nn.Embed(100, 32)
    params = embedding.init(jax.random.key(1), jnp.arange(3))
    report = flaxinit.audit(lambda p, v: embedding.apply(p, v, method="attend"), params, x(4, 32))
    assert [(layer.shape, layer.fan_in) for layer in report.layers] == [((100, 32), 32)]


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(jnp.float16, 300), (jnp.bfloat16, 300), (jnp.float32, 1e25), (jnp.float32, 1e-25)],
)
def test_squares_neither_overflow_nor_vanish(dtype, scale):
    inputs = (scale * x(16, 64)).astype(dtype)
    kernel = (x(64, 64) / 8).astype(dtype)
    (layer,) = measured(flaxinit.audit(lambda w, v: v @ w, kernel, inputs))
    ins, out = (np.asarray(v).astype(np.float64) for v in (inputs, inputs @ kernel))
    assert layer.signal_in == pytest.approx(np.mean(ins**2), rel=1e-5)
    assert layer.signal_out == pytest.approx(np.mean(out**2), rel=1e-5)
    assert layer.expected == pytest.approx(layer.sigma_w2 * layer.signal_in, rel=1e-5)


def test_flags_keys_and_collections_go_through():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(32)(x))
            return nn.Dense(4)(nn.Dropout(0.5, deterministic=not train)(x))

    model, inputs = Net(), x(16, 8)
    params = model.init(jax.random.key(1), inputs)
    options = {"rngs": {"dropout": jax.random.key(2)}, "mutable": ["batch_stats"]}
    report = flaxinit.audit(model.apply, params, inputs, train=True, **options)
    kept, _ = model.apply(
        params,
        inputs,
        True,
        **options,
        capture_intermediates=lambda module, _: isinstance(module, nn.Dense),
    )
    assert measured(report)[1].signal_out == pytest.approx(float(jnp.mean(kept**2)), rel=1e-5)
    assert numbers(flaxinit.audit(model.apply, params, inputs, True, **options)) == numbers(report)
    jitted = jax.jit(model.apply, static_argnames=("train", "mutable"))
    options["mutable"] = ("batch_stats",)
    report_of_jitted = flaxinit.audit(jitted, params, inputs, train=True, **options)
    assert numbers(report_of_jitted) == numbers(report)
    assert report.others["params/BatchNorm_0/scale"] == "mul"


def test_mapped_modules_have_a_kernel_for_each():
    mapped = nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True})
    (layer,) = measured(audit(mapped(8), x(3, 10, 16)))
    assert (layer.shape, layer.fan_in, layer.outputs) == ((3, 16, 8), 16, 8)
    assert layer.expected == pytest.approx(layer.sigma_w2 * layer.signal_in, rel=1e-5)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.norm(self.first(x)))))


def test_an_nnx_module_is_a_model_and_stays_as_it_is():
    module = Network(nnx.Rngs(0))
    before = jax.tree.map(jnp.copy, nnx.state(module, nnx.Not(nnx.RngKey)))
    report = flaxinit.audit(module, x(4, 8))
    assert [layer.path for layer in report.layers] == ["first/kernel", "last/kernel"]
    called = flaxinit.audit(lambda module, v: module(v), module, x(4, 8))
    assert numbers(report) == numbers(called)
    after = nnx.state(module, nnx.Not(nnx.RngKey))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), before, after))


def test_it_prints():
    from rich.console import Console

    params = {"blocks": x(3, 8, 8), "zero": jnp.zeros((8, 2))}

    def model(p, v):
        return jax.lax.scan(lambda v, w: (v @ w, None), v, p["blocks"])[0] @ p["zero"]

    report = flaxinit.audit(model, params, x(4, 8))
    console = Console(width=80, file=io.StringIO())
    console.print(report)
    for text in (console.file.getvalue(), str(report), repr(report)):
        for expected in ("E[y²]", "σ_w²", "blocks[2]", "zero"):
            assert expected in text.split()
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    assert "params/Dense_9/kernel" in str(audit(Deep(), x(4, 512)))


def test_a_model_without_gradients_is_measured_forward():
    def model(p, v):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ p)), (0, v)
        )

    report = flaxinit.audit(model, x(8, 8), x(4, 8))
    assert "no gradients" in report.remarks[0]
    (layer,) = report.layers
    assert layer.measured.gradient_out is None and layer.measured.signal_out > 0


def test_gradients_are_those_of_jax():
    """For a unit Gaussian gradient of the output: of parameters, and of the outputs of a kernel."""
    params = {"a": x(16, 32) / 4, "b": x(32, 4) / 4}

    def model(p, v, shift=0.0):
        return jnp.tanh(v @ p["a"] + shift) @ p["b"]

    (first, last) = measured(flaxinit.audit(model, params, x(8, 16)))
    (gradient,) = cotangents([jax.ShapeDtypeStruct((8, 4), jnp.float32)])
    _, pull = jax.vjp(lambda p, shift: model(p, x(8, 16), shift), params, jnp.zeros((8, 32)))
    slopes, inner = pull(gradient)
    assert first.gradient_out == pytest.approx(float(jnp.mean(inner**2)), rel=1e-5)
    assert last.gradient_out == pytest.approx(float(jnp.mean(gradient**2)), rel=1e-5)
    for layer, name in ((first, "a"), (last, "b")):
        square = float(jnp.mean(slopes[name] ** 2))
        assert layer.gradient_parameter == pytest.approx(square, rel=1e-5)


def test_scanned_gradients_are_those_of_each_row():
    params = x(3, 8, 8) / 3

    def scanned(p, v):
        return jax.lax.scan(jax.checkpoint(lambda v, w: (jnp.tanh(v @ w), None)), v, p)[0]

    report = flaxinit.audit(scanned, params, x(4, 8))
    assert [layer.path for layer in report.layers] == [f"params[{n}]" for n in range(3)]
    (gradient,) = cotangents([jax.ShapeDtypeStruct((4, 8), jnp.float32)])
    (slopes,) = jax.vjp(lambda p: scanned(p, x(4, 8)), params)[1](gradient)
    for row, each in enumerate(measured(report)):
        square = float(jnp.mean(slopes[row] ** 2))
        assert each.gradient_parameter == pytest.approx(square, rel=1e-4)
        assert each.gradient_out is not None


def test_parts_of_a_parameter_are_kernels_of_their_own():
    params = {"gating": x(2, 8, 16), "fused": x(8, 24), "down": x(16, 8)}

    def model(p, v):
        q, rest = jnp.split(p["fused"], [8], axis=1)
        v = v + v @ q + (v @ rest)[:, :8]
        return (nn.silu(v @ p["gating"][0]) * (v @ p["gating"][1])) @ p["down"]

    report = flaxinit.audit(model, params, x(4, 8))
    paths = ["fused[:,0:8]", "fused[:,8:24]", "gating[0]", "gating[1]", "down"]
    assert [layer.path for layer in report.layers] == paths
    assert [layer.shape for layer in report.layers] == [(8, 8), (8, 16), (8, 16), (8, 16), (16, 8)]
    assert all(each.gradient_parameter for each in measured(report))
    # Beside each stands its forecast.
    assert all(layer.signal_out > 0 for layer in report.layers)


def test_experts_are_seen():
    """Kernels of ragged_dot, and those that each token gathers."""
    experts, tokens = x(3, 8, 16) / 3, x(6, 8)
    sizes = jnp.array([1, 2, 3])
    ragged = flaxinit.audit(lambda p, v: jax.lax.ragged_dot(v, p, sizes), experts, tokens)
    chosen = jnp.repeat(jnp.arange(3), sizes)

    def gathered(p, v):
        which = chosen + jnp.argmax(v, axis=1) * 0  # the inputs choose
        return jnp.einsum("tn,tnm->tm", v, p[which])

    apart = flaxinit.audit(gathered, experts, tokens)
    outputs = np.einsum("tn,tnm->tm", tokens, np.asarray(experts)[np.asarray(chosen)])
    for report in (ragged, apart):
        (layer,) = report.layers
        assert (layer.path, layer.shape, layer.measured.fan_in) == ("params", (3, 8, 16), 8)
        assert layer.measured.signal_out == pytest.approx(np.mean(outputs**2), rel=1e-5)
    # An embedding is a signal, and not a kernel.
    table = flaxinit.audit(
        lambda p, v: p["table"][v] @ p["w"], {"table": x(9, 8), "w": x(8, 4)}, jnp.arange(5)
    )
    assert [layer.path for layer in table.layers] == ["w"]


def test_what_is_computed_from_nothing_is_neither_kernel_nor_signal():
    def model(w, x):
        return x @ (w + jnp.eye(16, 8)) + jnp.arange(8.0)

    w = x(16, 8)
    (layer,) = flaxinit.audit(model, w, x(4, 16)).layers
    wanted = np.mean(np.square(x(4, 16) @ (w + jnp.eye(16, 8))))
    assert (layer.shape, layer.fan_in) == ((16, 8), 16)
    assert layer.measured.signal_out == pytest.approx(wanted, rel=1e-5)


def test_a_signal_of_zeros_is_measured_under_debug_nans():
    model, zeros = nn.Dense(8), jnp.zeros((4, 16))
    params = model.init(jax.random.key(1), zeros)
    with jax.debug_nans(True):
        (layer,) = flaxinit.audit(model.apply, params, zeros).layers
        (one,) = flaxinit.audit(model.apply, params, x(1, 16)).layers
    assert layer.measured.signal_out == 0
    assert layer.measured.samples is layer.measured.positions is one.measured.samples is None


def test_an_empty_memory_beside_a_batch_is_an_input():
    def model(w, x, memory):
        return jnp.concatenate([memory, x]) @ w

    (layer,) = flaxinit.audit(model, x(16, 8), x(4, 16), jnp.zeros((0, 16))).layers
    assert layer.measured.signal_in == pytest.approx(float(jnp.mean(x(4, 16) ** 2)), rel=1e-5)


@pytest.mark.slow
def test_repeated_layers_are_compiled_once(caplog):
    def compiled(depth, width):
        layers = [layer for _ in range(depth) for layer in (nn.Dense(width), nn.relu)]
        model = nn.Sequential(layers)
        params, inputs = model.init(jax.random.key(1), x(8, width)), x(8, width)
        caplog.clear()
        with jax.log_compiles():
            flaxinit.audit(model.apply, params, inputs)
        return [line for line in caplog.messages if "Compiling" in line]

    assert compiled(2, 24)
    assert compiled(7, 24) == []
    assert compiled(2, 25)
