"""forecast() says, before any parameter is drawn, what draws of a model measure."""

import io
from functools import partial

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from flax import nnx

import flaxinit
from benchmarks.bounds import z_score
from benchmarks.forecasts import compared, measured
from benchmarks.zoo import Block, Recurrent, ResidualMLP, linen

DRAWS = 32
WIDTH = 64
LINEN = linen(WIDTH)


def outside(forecast, draws, tolerance):
    """Kernels whose forecast is off by more than the tolerance, and than chance explains."""
    z = z_score(len(draws))
    return {
        path: (round(error, 3), round(chance, 3))
        for path, (error, chance) in compared(forecast, draws).items()
        if abs(error) > max(tolerance, z * chance)
    }


def signals(report):
    return {layer.path: layer.signal_out for layer in report.layers}


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


# 1/width is 0.016, and a norm over so few channels, a head of 16 or a kernel over 16 tokens strays
# by a few times that; the benchmark has the figures at width 256.
NARROW = 0.1


# Gates are multiplied at every step, and the errors of a sample add up over them, at any width:
# docs/theory/models.md has the numbers.
PARTICLES = {"LSTM": 2**14, "GRU": 2**14}


# Each model is compiled, and drawn 32 times.
@pytest.mark.slow
@pytest.mark.parametrize("case", list(LINEN))
def test_the_signal_is_what_draws_measure(case):
    model, inputs, options = LINEN[case]
    with jax.numpy_dtype_promotion("standard"):  # Flax's pooling divides by an integer
        particles = PARTICLES.get(case, 4096)
        report = flaxinit.forecast(model, *inputs, particles=particles, **options)
        draws = measured(model, *inputs, backward=False, **options).signals
    assert set(draws) <= {layer.path for layer in report.layers}
    assert not outside(signals(report), draws, NARROW)


def test_a_residual_network_has_the_signal_and_the_gradients_that_were_forecast():
    model, inputs = ResidualMLP(256), x(16, 32)
    report = flaxinit.forecast(model, inputs, backward=True)
    draws, slopes, *_ = measured(model, inputs)
    assert not outside(signals(report), draws, 0.03)
    gradients = {layer.path: layer.gradient_parameter for layer in report.layers}
    assert not outside(gradients, {path: slopes[path] for path in gradients}, 0.15)
    assert len(report.stream) == model.blocks
    # The last kernel reads the stream.
    assert report.stream[-1].second_moment == pytest.approx(report.layers[-1].signal_in)


def test_a_wrong_kernel_is_found_and_it_alone():
    """A control: draws of a model with one wrong kernel are not those of the forecast."""
    report = flaxinit.forecast(ResidualMLP(256), x(16, 32))
    wrong = ResidualMLP(256, wrong=3)
    draws = measured(wrong, x(16, 32), backward=False).signals
    assert list(outside(signals(report), draws, 0.03)) == [
        "params/Dense_8/kernel",
        "params/Dense_9/kernel",  # which reads the stream after it
    ]
    other = flaxinit.forecast(wrong, x(16, 32))
    far = [
        layer.path
        for layer in other.layers
        if layer.sigma_w2_wanted and layer.sigma_w2 / layer.sigma_w2_wanted < 0.3
    ]
    assert far == ["params/Dense_8/kernel"]


# Drawn 256 times each.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "depth"), [(jax.nn.relu, 20), (jnp.tanh, 20), (jax.nn.gelu, 8)]
)
def test_one_draw_strays_as_far_as_is_said(activation, depth):
    """The standard deviation of log E[y²] over draws, of a network without norms."""

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            for n in range(depth):
                init = flaxinit.he(activation) if n else flaxinit.lecun()
                x = nn.Dense(WIDTH, kernel_init=init)(activation(x) if n else x)
            return x

    inputs = x(8, 32)
    last = flaxinit.forecast(Deep(), inputs).layers[-1]
    draws = measured(Deep(), inputs, draws=256, backward=False).signals
    found = float(np.std(np.log(draws[last.path]), ddof=1))
    # The outputs of one draw: their mean square over n channels that see correlated places.
    own = 2 / WIDTH * (1 + 7 * last.samples**2) / 8
    # Four standard errors of a deviation over 256 draws are 18 % of it. What is of second order in
    # depth/width, 20/64 at most, is not in the forecast.
    assert np.hypot(last.log_sd, np.sqrt(own)) == pytest.approx(found, rel=0.18 + (20 / 64) ** 2)


def test_a_recurrent_cell_has_an_entry_for_each_step():
    """Kernels used at each step are drawn once: their uses are correlated."""
    model, inputs = Recurrent(WIDTH), x(4, 6, 16)
    report = flaxinit.forecast(model, inputs)
    steps = [layer for layer in report.layers if layer.path.endswith("LSTMCell_0/ii/kernel")]
    assert len(steps) == 6
    squares = [float(np.mean(np.square(inputs[:, n]))) for n in range(6)]
    np.testing.assert_allclose([step.signal_out for step in steps], squares, rtol=1e-3)
    init = jax.jit(model.init)
    last = []
    for seed in range(DRAWS):
        out = model.apply(init(jax.random.key(seed), inputs), inputs)
        last.append(float(jnp.mean(out**2)))
    assert not outside({"": report.layers[-1].signal_out}, {"": np.array(last)}, NARROW)


def test_rows_that_are_sorted_by_expert_meet_a_kernel_each():
    def init(key, x):
        experts = flaxinit.lecun(batch_axis=0)(key, (4, 32, 64))
        return experts, flaxinit.he()(jax.random.fold_in(key, 1), (64, 8))

    def apply(w, x):
        return jax.nn.relu(jax.lax.ragged_dot(x, w[0], jnp.array([5, 3, 0, 8]))) @ w[1]

    x = jax.random.normal(jax.random.key(0), (16, 32))
    layers = flaxinit.forecast((init, apply), x, backward=True).layers
    assert [layer.path for layer in layers] == ["0[0]", "0[1]", "0[3]", "1"]  # one has no rows
    # Of relu(u)² = (u² + u|u|)/2 the first half is exact; the second has the variance 3/4.
    chance = 4 * (3 / 4096) ** 0.5
    assert layers[-1].signal_in == pytest.approx(np.mean(np.square(x)) / 2, rel=chance)
    # Of 1/2 · σ_w² Σ δ²/64, over rows of each expert: E[dW²] is the mean over all kernels.
    slope = 0.5 * 2 * 8 / 64
    assert layers[0].gradient_parameter == pytest.approx(
        4 * slope * np.mean(np.square(x)), rel=chance
    )
    measured = flaxinit.audit(apply, init(jax.random.key(1), x), x).layers[0]
    # One draw of 64 outputs: Var Σ y² = 2 Σ K² for rows of one expert, of Gram matrix K.
    groups = np.split(np.asarray(x, float), [5, 8])
    squares = sum(np.sum((rows @ rows.T / 32) ** 2) for rows in groups)
    chance = 4 * (2 * squares / 64) ** 0.5 / np.sum(np.square(x) / 32)
    expected = float(np.mean(np.square(x)))
    assert measured.path == "0" and measured.signal_out == pytest.approx(expected, rel=chance)


def test_the_gradient_of_experts_that_see_the_same_tokens():
    """E[dW²] = Σ_t E[x_t²] for unit gradients; each group holds its tokens once for its experts."""

    def init(key, x):
        keys = jax.random.split(key, (2, 3))
        return jax.vmap(jax.vmap(lambda key: flaxinit.lecun()(key, (512, 1200))))(keys)

    def apply(w, x):
        tokens = jnp.broadcast_to(x[:, None], (2, 3, *x.shape[1:]))
        return jnp.einsum("getd,gedf->getf", tokens, w)

    (layer,) = flaxinit.forecast((init, apply), x(2, 4, 512), backward=True).layers
    square = 4 * float(jnp.mean(x(2, 4, 512) ** 2))
    # Whitened gradients make it exact, up to the rounding of 32 bits.
    assert layer.gradient_parameter == pytest.approx(square, rel=1e-6)


def test_a_tied_head_knows_the_rows_that_were_looked_up():
    """Of 20 logits one is √width |e|, the others are of unit second moment."""

    class Tied(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(20, 256)
            return embed.attend(nn.RMSNorm()(embed(tokens)))

    report = flaxinit.forecast(Tied(), jnp.arange(20)[None])
    (layer,) = report.layers
    # |e|² has a relative variance of 2/256, and there are 20 rows in each of 16 replicas.
    chance = 4 * (2 / 256 / 20 / 16) ** 0.5
    assert layer.signal_out == pytest.approx((19 + 256) / 20, rel=chance)


def broadcast(kernel, repeats):
    shape = (*kernel.shape[:2], repeats, kernel.shape[2])
    return jnp.broadcast_to(kernel[:, :, None], shape)


def looked_up(kernel, repeats):
    return kernel[:, jnp.arange(kernel.shape[1] * repeats) // repeats]


@pytest.mark.parametrize(("repeats", "wide"), [(4, broadcast), (32, broadcast), (4, looked_up)])
def test_the_gradient_of_a_kernel_that_is_repeated_for_several_heads(repeats, wide):
    """Grouped-query attention: each head has a query of its own, and several share a key."""
    shapes = {"query": (32, repeats * 32), "key": (32, 32), "value": (32, 32)}
    shapes["out"] = (repeats * 32, 32)
    inputs = x(2, 6, 32)

    def init(key, inputs):
        keys = zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
        return {name: flaxinit.lecun()(k, shape) for k, (name, shape) in keys}

    def apply(w, inputs):
        shared = (wide(w[name].reshape(32, 2, 16), repeats) for name in ("key", "value"))
        kernels = (y.reshape(32, -1) for y in (w["query"], *shared))
        heads = [(inputs @ y).reshape(2, 6, -1, 16) for y in kernels]
        made = jax.nn.dot_product_attention(*heads)
        return made.reshape(2, 6, -1) @ w["out"]

    def squares(key):
        first, last = jax.random.split(key)
        out, pull = jax.vjp(lambda w: apply(w, inputs), init(first, inputs))
        (slopes,) = pull(jax.random.normal(last, out.shape))
        return jax.tree.map(lambda y: jnp.mean(y**2), slopes)

    draws = jax.jit(jax.vmap(squares))(jax.random.split(jax.random.key(1), DRAWS))
    report = flaxinit.forecast((init, apply), inputs, backward=True)
    forecast = {layer.path: layer.gradient_parameter for layer in report.layers}
    assert forecast.keys() == shapes.keys()
    assert not outside(forecast, {n: np.asarray(y) for n, y in draws.items()}, NARROW)


@pytest.mark.parametrize("shape", [(64, 2 * 4096), (64, 2, 4096)])
def test_parts_of_a_wide_kernel_are_independent(shape):
    """As queries and keys of one kernel are: E[(u v)²] = E[u²] E[v²], E[(u + v)²] = 2 E[u²]."""
    inputs = jnp.ones((2, 64))

    def init(key, inputs):
        first, last = jax.random.split(key)
        return [jax.random.normal(first, shape) / 8, flaxinit.lecun()(last, (4096, 4))]

    def square(join):
        def apply(w, inputs):
            parts = jnp.tensordot(inputs, w[0], 1).reshape(2, 2, 4096)
            return join(parts[:, 0], parts[:, 1]) @ w[1]

        return flaxinit.forecast((init, apply), inputs).layers[-1].signal_in

    # Of 2048 channels: Var (u v)² = 8, and Var (u + v)² = 8.
    assert square(jnp.multiply) == pytest.approx(1, abs=5 * (8 / 2048) ** 0.5)
    assert square(jnp.add) == pytest.approx(2, abs=5 * (8 / 2048) ** 0.5)


@pytest.mark.slow
def test_an_nnx_module_is_built_by_a_function_of_its_random_numbers():
    def build(rngs):
        return Block(64, rngs)

    inputs = x(2, 8, 64)
    report = flaxinit.forecast(build, inputs)
    found: dict[str, list[float]] = {}
    for seed in range(8):
        for layer in flaxinit.audit(build(nnx.Rngs(seed)), inputs).layers:
            found.setdefault(layer.path, []).append(layer.signal_out)
    assert [layer.path for layer in report.layers] == list(found)
    draws = {path: np.array(values) for path, values in found.items()}
    assert not outside(signals(report), draws, NARROW)
    assert [layer.path for layer in report.layers if layer.sampled] == []


class Keyword(nn.Module):
    """Takes its inputs by keyword, as many public models do."""

    @nn.compact
    def __call__(self, *, inputs, mask, train):
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(64)(inputs))
        return nn.Dense(8)(nn.relu(y) * mask[:, None])


def test_inputs_may_be_given_by_keyword():
    model, key = Keyword(), jax.random.key(0)
    call = {"inputs": jax.random.normal(key, (16, 32)), "mask": jnp.ones(16), "train": True}
    found = flaxinit.forecast(model, **call, mutable=["batch_stats"], backward=True)
    shapes = call | {"inputs": jax.ShapeDtypeStruct((16, 32), jnp.float32)}
    params = model.init(key, **call)
    measured = flaxinit.audit(model.apply, params, **call, mutable=["batch_stats"])
    paths = ["params/Dense_0/kernel", "params/Dense_1/kernel"]
    for report in (found, measured, flaxinit.forecast(model, **shapes)):
        assert [layer.path for layer in report.layers] == paths
        # BatchNorm makes 1 of any signal, and ReLU a half of it.
        # But for the norm's epsilon of 1e-5.
        assert report.layers[1].signal_in == pytest.approx(0.5, rel=1e-4)
    assert set(flaxinit.tune(model, **call).factors) == set(paths)
    fitted = flaxinit.calibrate(model.apply, params, **call, mutable=["batch_stats"])
    assert jax.tree.structure(fitted) == jax.tree.structure(params)
    with pytest.raises(TypeError, match="arrays, not shapes"):
        flaxinit.audit(model.apply, params, **shapes)


def test_scanned_layers_are_numbered():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(64, kernel_init=flaxinit.he())(nn.relu(x)), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = nn.scan(
                Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
            )
            return layers()(x, None)[0]

    report = flaxinit.forecast(Scanned(), x(4, 64))
    assert [layer.path[-3:] for layer in report.layers] == ["[0]", "[1]", "[2]"]
    # The first kernel reads relu of the input, which is not a Gaussian of its own.
    first, *others = [layer.signal_out / layer.signal_in for layer in report.layers]
    assert [first, *others] == pytest.approx([2, 2, 2], rel=1e-3)


def test_what_is_computed_again_for_the_gradient_is_told_once():
    class Checkpointed(nn.Module):
        @nn.compact
        def __call__(self, x):
            for n in range(3):
                x = x + nn.remat(Branch)(name=f"branch_{n}")(x)
            return x

    class Branch(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(64, kernel_init=flaxinit.lecun())(x)
            return nn.Dense(64, kernel_init=flaxinit.he())(nn.relu(h))

    report = flaxinit.forecast(Checkpointed(), x(4, 64), backward=True)
    assert len(report.layers) == 6 and len(report.stream) == 3
    assert all(layer.gradient_out and layer.gradient_parameter for layer in report.layers)


def test_a_checkpoint_in_a_loop_of_layers_changes_nothing():
    """The first layer reads known inputs and the others drawn signals; one stack holds both."""
    shapes = {"query": (32, 64), "key": (32, 64), "value": (32, 64), "out": (64, 32)}
    shapes |= {"up": (32, 48), "down": (48, 32)}

    def init(key, inputs):
        keys = zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
        kernels = {n: jax.vmap(partial(flaxinit.lecun(), shape=s)) for n, s in shapes.items()}
        return {n: kernels[n](jax.random.split(k, 4)) for k, (n, _) in keys}

    def layer(v, w):
        normed = v * jax.lax.rsqrt(jnp.mean(v * v, -1, keepdims=True) + 1e-6)
        heads = [(normed @ w[n]).reshape(2, 6, 4, 16) for n in ("query", "key", "value")]
        v = v + jax.nn.dot_product_attention(*heads).reshape(2, 6, 64) @ w["out"]
        return v + nn.relu(v @ w["up"]) @ w["down"], None

    def loops(step):
        """A loop of loops, of two layers each."""

        def group(v, w):
            return jax.lax.scan(step, v, w)

        def run(w, v):
            pairs = jax.tree.map(lambda y: y.reshape(2, 2, *y.shape[1:]), w)
            return jax.lax.scan(jax.checkpoint(group), v, pairs)[0]

        return run

    def loop(step):
        return lambda w, v: jax.lax.scan(step, v, w)[0]

    def figures(apply):
        report = flaxinit.forecast((init, apply), x(2, 6, 32), backward=True)
        fields = ("signal_in", "signal_out", "gradient_out", "gradient_parameter", "log_sd")
        layers = [[getattr(each, name) for name in fields] for each in report.layers]
        return layers, [each.second_moment for each in report.stream]

    for run in (loop, loops):
        (layers, stream), (again, stream_again) = (
            figures(run(step)) for step in (layer, jax.checkpoint(layer))
        )
        assert len(layers) == 4 * len(shapes) and len(stream) == 8
        np.testing.assert_allclose(again, layers, rtol=1e-9)
        np.testing.assert_allclose(stream_again, stream, rtol=1e-9)


def test_parameters_that_are_equal_or_zero():
    class Ones(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(8, kernel_init=nn.initializers.constant(0.5))(x)
            return nn.Dense(8, kernel_init=nn.initializers.zeros)(x)

    inputs = x(4, 16)
    first, second = flaxinit.forecast(Ones(), inputs).layers
    assert first.signal_out == pytest.approx(float(np.mean((0.5 * inputs.sum(1)) ** 2)), rel=1e-5)
    assert (first.sigma_w2, second.sigma_w2, second.signal_out) == (0, 0, 0)


def test_the_report_prints_a_kernel_a_line():
    report = flaxinit.forecast(ResidualMLP(32, blocks=1), x(4, 8))
    lines = str(report).splitlines()
    assert sum("/kernel" in line for line in lines) == len(report.layers) == 4
    assert "residual stream" in lines[-1]


def test_a_narrow_terminal_shows_whole_paths_and_fewer_columns():
    report = flaxinit.forecast(ResidualMLP(32, blocks=1), x(4, 8), backward=True)
    file = io.StringIO()
    rich.console.Console(file=file, width=60).print(report)
    lines = file.getvalue().splitlines()
    assert sum("/kernel" in line for line in lines) == 4
    assert "E[y²]" in lines[1] and "shape" not in lines[1]


@pytest.mark.parametrize("bits", ["bfloat16", "float16", "float32"])
def test_the_bits_of_a_number_are_those_of_its_dtype(bits):
    """Clearing the last bit of a number changes it by less than its precision."""
    whole = jnp.uint32 if bits == "float32" else jnp.uint16

    class Bits(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(256, kernel_init=flaxinit.lecun())(x).astype(bits)
            word = jax.lax.bitcast_convert_type(h, whole)
            h = jax.lax.bitcast_convert_type((word >> 1) << 1, bits)
            return nn.Dense(8)(h.astype("float32"))

    first, second = flaxinit.forecast(Bits(), x(4, 16)).layers
    precision = float(jnp.finfo(bits).eps)
    assert second.signal_in == pytest.approx(first.signal_out, rel=2 * precision)
    # A cleared bit makes numbers smaller.
    assert second.signal_in < first.signal_out


def test_a_haiku_model_with_state_is_a_model():
    def network(x, is_training):
        x = hk.Linear(8, w_init=flaxinit.for_haiku(flaxinit.lecun()))(x)
        return hk.Linear(4)(hk.BatchNorm(True, True, 0.9)(x, is_training))

    model, inputs = hk.transform_with_state(network), x(16, 64)
    with jax.numpy_dtype_promotion("standard"):  # Haiku multiplies integers and floats
        report = flaxinit.forecast(model, inputs, is_training=True)
        init = flaxinit.tune(model, inputs, is_training=True)
        made, state = init(jax.random.key(0), inputs, is_training=True)
        plain, _ = model.init(jax.random.key(0), inputs, is_training=True)
    first, second = report.layers
    assert (first.path, second.path) == ("0/linear/w", "0/linear_1/w")
    assert first.signal_out == pytest.approx(first.signal_in, rel=1e-6)
    assert second.signal_in == pytest.approx(1, rel=1e-4)  # behind a norm with an epsilon of 1e-5
    assert set(init.factors) == {"0/linear/w", "0/linear_1/w"} and state
    wanted = init.factors["0/linear_1/w"] * plain["linear_1"]["w"]
    np.testing.assert_allclose(made["linear_1"]["w"], wanted, rtol=1e-6)
