"""The interpreter of signals: known values are computed, laws are read, nothing large is stored."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import flaxinit
from benchmarks.bounds import z_score
from flaxinit.signal.forecast import cotangent
from flaxinit.signal.rules.interpret import Interpreter
from flaxinit.signal.rules.products import contracted
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.alignment import aligned
from flaxinit.signal.samples.draws import gaussian
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import CONSTANT, PLACE, WIDTH, Signal, exact


def interpreter(**limits):
    return Interpreter(Limits(**limits), np.random.default_rng(0))


def run(function, *inputs, **limits):
    program = jax.make_jaxpr(function)(*inputs)
    return interpreter(**limits).run(program, [exact(x, None) for x in inputs])


X = jax.random.normal(jax.random.key(0), (4, 6, 8))
N = jnp.arange(24).reshape(4, 6)
CONV = functools.partial(lax.conv_general_dilated, dimension_numbers=("NWC", "WIO", "NWC"))


def doubled(x):
    return lax.while_loop(lambda s: jnp.max(s) < 100.0, lambda s: 2 * s, x)


PROGRAMS = {
    "elementwise": lambda x: jnp.tanh(x) * jax.nn.gelu(x) / (1 + jnp.exp(-x)) - x**3 + jnp.abs(x),
    "more": lambda x: lax.rsqrt(x * x + 1) + jnp.log1p(x * x) + jnp.sign(x) * jnp.floor(x),
    "choice": lambda x: jnp.where(x > 0, x, 0.1 * x) + jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, 0),
    "softmax": lambda x: jax.nn.softmax(x, -1) + jax.nn.log_softmax(x, 1),
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=(1, 2)),
    "norms": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var((0, 1)) + 1e-5),
    "reshape": lambda x: x.reshape(4, 3, 2, 8).transpose(2, 0, 1, 3).reshape(2, -1),
    "slices": lambda x: x[1:3, ::2, -3:] + x[:2, 1::2, :3],
    "indices": lambda x: x[:, jnp.array([0, 2, 2])] + x[jnp.arange(4), 1][:, None],
    "a computed slice": lambda x: lax.dynamic_slice_in_dim(x, jnp.argmax(x[0, :3, 0]), 3, 1),
    "concatenate": lambda x: jnp.concatenate([x, 0 * x[:, :1], jnp.roll(x, 1, 1)], axis=1),
    "stack": lambda x: jnp.stack([x, -x], axis=-1).reshape(4, 6, 16),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0))) + jnp.tile(x[:, :1], (1, 9, 1)),
    "cumulative": lambda x: jnp.cumsum(x, 1) + lax.cummax(x, 2) + jnp.sort(x, 1),
    "reductions": lambda x: x.max(1) + x.min(1) + x.prod(1) + x.sum(1) + jnp.argmax(x, 1),
    "einsum": lambda x: jnp.einsum("btc,bsc->bts", x, x[:, :3]) @ x[:, :3],
    "convolution": lambda x: CONV(x, x[:3, :2].transpose(0, 2, 1), (2,), "SAME"),
    "pooling": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 2, 1), "VALID"),
    "scan": lambda x: lax.scan(lambda c, row: (c + row, c * row), x[0], x),
    "backwards": lambda x: lax.scan(lambda c, row: (c + row, c), x[0], x, reverse=True),
    "associative": lambda x: lax.associative_scan(jnp.multiply, x, axis=1),
    "while": doubled,
    "cond": lambda x: lax.cond(x[0, 0, 0] > 0, jnp.sin, jnp.cos, x),
    "calls": jax.jit(jax.checkpoint(lambda x: jax.nn.relu(x) + jax.nn.silu(x))),
    "fft": lambda x: jnp.abs(jnp.fft.rfft(x, axis=1)),
    "gradient": jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) ** 2 * jnp.sin(x))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_known_values_are_computed(name):
    with jax.numpy_dtype_promotion("standard"):
        expected = jax.tree.leaves(PROGRAMS[name](X))
        results = run(PROGRAMS[name], X)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape and not result.sources and not result.sampled
        whole = np.broadcast_to(result.data[0], wanted.shape)
        # What JAX rounds in 32 bits has 64 here.
        np.testing.assert_allclose(whole, wanted, rtol=2e-4, atol=2e-5)


def test_integers_wrap_and_shift_as_they_do_in_jax():
    def hashed(n):
        n = n.astype(jnp.uint32) * np.uint32(2654435761)
        return (n >> 7) ^ (n << 3) | (n & np.uint32(0xFF)), n // np.uint32(3), n % np.uint32(7)

    for result, wanted in zip(run(hashed, N), hashed(N), strict=True):
        np.testing.assert_array_equal(result.data[0], wanted)


# The midpoint rule over 2¹⁴ bits is short of a normal's tails by 6e-4 of its variance:
# 2 ∫ (z² - z_mid²) beyond the last midpoint, (2/n)(2 ln n) with n = 2¹⁴ is 2.4e-3 at most.
TAILS = 2.4e-3


@pytest.mark.parametrize(
    "init",
    [
        flaxinit.he(),
        flaxinit.he("gelu", distribution="normal"),
        flaxinit.glorot("tanh", distribution="uniform"),
        flaxinit.normal(0.02),
        flaxinit.uniform(0.3),
        flaxinit.truncated_normal(0.5),
        flaxinit.lecun(dtype="bfloat16"),
    ],
    ids=repr,
)
def test_the_law_of_a_parameter_is_read_from_its_program(init):
    shape = (96, 160)
    report = flaxinit.forecast(
        (lambda key, x: init(key, shape), lambda w, x: x @ w.astype(x.dtype)),
        X[0, :1, :1] * np.ones(96),
    )
    (layer,) = report.layers
    # Rounding to 8 bits moves a variance by up to 2⁻¹⁶ of it.
    assert layer.sigma_w2 / 96 == pytest.approx(init.variance(shape), rel=TAILS)
    assert layer.fan_in_seen == 96 and not layer.sampled


def test_a_law_that_takes_the_whole_array_is_sampled():
    """The entries of a product depend on each other; its size is true, and it is marked."""

    def init(key, x):
        q = flaxinit.orthogonal()(key, (64, 64))
        return q @ q.T[::-1]

    (layer,) = flaxinit.forecast((init, lambda w, x: x @ w), np.ones((2, 64), "f")).layers
    assert layer.sigma_w2 == pytest.approx(1, rel=1e-5) and layer.sampled


def test_the_law_of_an_orthogonal_kernel_is_known():
    for init in (flaxinit.orthogonal(), jax.nn.initializers.orthogonal()):
        make = lambda key, x, init=init: init(key, (2**16, 512), np.float32)
        (layer,) = flaxinit.forecast((make, lambda w, x: x @ w), np.ones((2, 2**16), "f")).layers
        assert layer.sigma_w2 == pytest.approx(1, rel=1e-5) and not layer.sampled
        assert layer.fan_in_seen == 2**16


def test_what_is_equal_is_stored_once():
    def constant(x):
        return jnp.zeros((10**6, 10**6)) + x, jnp.broadcast_to(x, (10**9,))

    program = jax.make_jaxpr(constant)(1.0)
    for result in interpreter().run(program, [exact(np.float32(1))]):
        assert result.data.size == 1 and result.second_moment() == 1


def test_wide_axes_are_held_in_part_and_counted_whole():
    """The sum over a width axis of which a part is held is that of all of it."""
    limits = Limits()
    held = limits.hold((2**20,))
    assert np.prod(held) <= limits.cap
    data = np.random.default_rng(0).standard_normal((1, 4, *held))
    signal = Signal(data, (4, 2**20), (2, WIDTH), frozenset({1}), None)
    program = jax.make_jaxpr(lambda x: (x * x).sum(-1))(jax.ShapeDtypeStruct((4, 2**20), "float32"))
    (result,) = interpreter().run(program, [signal])
    assert result.data / 2**20 == pytest.approx(1, abs=4 * np.sqrt(2 / np.prod(held)))


@pytest.mark.parametrize("held", [(4, 1), (4, 2), (16, 1)])
@pytest.mark.parametrize("common", [0.0, 0.25, 1.0])
def test_a_sum_of_gradients_over_channels_has_the_moment_of_all_of_them(held, common):
    """n E[g²] + n (n - 1) E[g g'], for gradients with a common part or without."""
    rng, replicas, shape = np.random.default_rng(0), 2**18, (16, 8)
    own, same = rng.standard_normal((replicas, *held)), rng.standard_normal((replicas, 1, 1))
    data = np.sqrt(1 - common) * own + np.sqrt(common) * same
    signal = Signal(data, shape, (WIDTH, WIDTH), frozenset({1}), None, backward=True)
    program = jax.make_jaxpr(jnp.sum)(jax.ShapeDtypeStruct(shape, "float32"))
    (result,) = interpreter().run(program, [signal])
    n, m = math.prod(shape), math.prod(held)
    # The mean of the squares of so many Gaussian sums strays by √(2/replicas) of itself.
    chance = n**2 * (1 / m + common) * math.sqrt(2 / replicas)
    assert result.second_moment() == pytest.approx(n + n * (n - 1) * common, abs=5 * chance)


@pytest.mark.parametrize("count", [256, 257, 20])
def test_drawn_channels_have_the_second_moments_asked_for(count):
    x = np.random.default_rng(1).standard_normal((1, 12, 5))
    y = gaussian(np.random.default_rng(0), x, count)
    gram = np.einsum("gcp,gcq->pq", y, y) / count
    np.testing.assert_allclose(np.diagonal(gram), np.sum(x[0] ** 2, 1), rtol=1e-6)
    if count == 256:  # an even number, and enough of them
        np.testing.assert_allclose(gram, x[0] @ x[0].T, atol=1e-8)
        assert np.abs(y.mean(1)).max() < 1e-12


@pytest.mark.parametrize(
    ("strides", "padding", "spacing", "dilation"),
    [
        ((1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
        ((2, 1), ((1, 1), (2, 0)), (1, 1), (1, 1)),
        ((1, 1), ((2, 2), (2, 2)), (1, 1), (2, 2)),
        ((1, 2), ((2, 1), (1, 2)), (2, 3), (1, 1)),
        ((1, 1), ((-1, 0), (0, -1)), (1, 1), (1, 1)),
    ],
)
def test_patches_are_what_a_convolution_sees(strides, padding, spacing, dilation):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((3, 2, 3, 5))
    window = Window((3, 2), strides, padding, spacing, dilation)
    seen = patches(x[None, :, :, :, None], window)[0, :, :, :, 0]
    expected = lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(w), strides, padding, spacing, dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    assert list(expected.shape[1:3]) == window.outputs((7, 6))
    np.testing.assert_allclose(
        np.einsum("nijchw,hwco->nijo", seen, w), expected, rtol=1e-4, atol=1e-4
    )


def test_the_gram_matrix_of_patches_is_that_of_what_a_window_sees():
    window = Window((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 1), (2, 1))
    x = np.random.default_rng(0).standard_normal((5, 2, 4, 3, 1, 7))  # 5 replicas, 7 channels
    seen = np.moveaxis(patches(x, window), 4, 0)[0]
    rows = np.moveaxis(seen.reshape(5, -1, 7, 6), 1, 0).reshape(-1, 5 * 7 * 6)
    found = gram_of_patches(gram(x, 3), window, (2, 4, 3))
    np.testing.assert_allclose(found, rows @ rows.T / (5 * 7))


CONVOLUTIONS = {
    "3 × 3": (nn.Conv(16, (3, 3)), 6),
    "strided": (nn.Conv(16, (3, 3), (2, 2)), 6),
    "dilated": (nn.Conv(16, (3, 3), kernel_dilation=2, padding="VALID"), 6),
    "transposed": (nn.ConvTranspose(16, (3, 3), (2, 2)), 6),
    "depthwise": (nn.Conv(32, (3, 3), feature_group_count=32), 6),
    "many positions": (nn.Conv(16, (3, 3)), 20),
}


# With 800 positions, 64 gradients take seconds.
SLOW = pytest.param("many positions", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "case", [*[name for name in CONVOLUTIONS if name not in SLOW.values], SLOW]
)
def test_the_gradient_of_a_convolution(case):
    """E[dW²] over gradients of the output that are white, and so E[δ²] Σ x² of what is seen."""
    layer, size = CONVOLUTIONS[case]

    first = nn.Conv(32, (1, 1), kernel_init=flaxinit.lecun())
    network = nn.Sequential([first, nn.relu, layer])
    x = jax.random.normal(jax.random.key(0), (2, size, size, 8))
    *_, found = flaxinit.forecast(network, x, backward=True).layers

    def one(key):
        keys = jax.random.split(key)
        params = network.init(keys[0], x)
        y, pull = jax.vjp(lambda params: jnp.asarray(network.apply(params, x)), params)
        (slopes,) = pull(jax.random.normal(keys[1], y.shape))
        return jnp.mean(slopes["params"]["layers_2"]["kernel"] ** 2)

    draws = np.array(jax.lax.map(one, jax.random.split(jax.random.key(1), 64)), np.float64)
    z = z_score(len(CONVOLUTIONS))
    assert found.gradient_parameter == pytest.approx(
        draws.mean(),
        abs=z * draws.std() / 8 + 0.02 * draws.mean(),  # and 1/√4096 of the particles
    )


def test_a_slice_of_one_channel_is_the_same_for_all_channels():
    """Exactly two of four channels are not less than the second largest."""
    data = np.random.default_rng(0).standard_normal((64, 5, 4))
    signal = Signal(data, (5, 4), (PLACE, WIDTH), frozenset({1}), None)

    def chosen(x):
        return x >= jnp.sort(x, axis=-1)[:, -2:-1]

    program = jax.make_jaxpr(chosen)(jax.ShapeDtypeStruct((5, 4), "float32"))
    (result,) = interpreter().run(program, [signal])
    np.testing.assert_array_equal(result.data.sum(-1), 2)


def test_independent_signals_of_different_widths_are_all_used():
    """Of one with few replicas each meets many of the other; what depends stays in pairs."""

    def signal(replicas, *sources):
        return Signal(np.zeros((replicas, 3, 3)), (3, 3), (PLACE, WIDTH), frozenset(sources), None)

    (product,) = jax.make_jaxpr(jnp.matmul)(jnp.zeros((3, 3)), jnp.zeros((3, 3))).eqns
    apart = contracted(product, signal(4, 1), signal(10, 2), Limits())
    assert apart.replicas == 10
    assert contracted(product, signal(4, 1), signal(10, 1, 2), Limits()).replicas == 4
    assert contracted(product, signal(4, 1), signal(10, 2), Limits(entries=54)).replicas == 6


def test_a_parameter_makes_a_signal_no_smaller_sample():
    """The law of a parameter is read from as many entries as that needs."""
    signal = Signal(np.ones((64, 8, 256)), (8, 256), (PLACE, WIDTH), frozenset({1}), None)
    entries, origin = np.arange(4096.0).reshape(16, 256), frozenset({(0, ())})
    bias = Signal(entries, (256,), (WIDTH,), frozenset({2}), origin)
    bias = bias.with_data(entries[:, None], shape=(1, 256), roles=(CONSTANT, WIDTH))
    for pair in ([signal, bias], [bias, signal]):
        made = aligned(pair, Limits(particles=2**14), np.random.default_rng(0))
        assert [each.replicas for each in made] == [64, 64]
        np.testing.assert_array_equal(made[pair.index(bias)].data[:, 0], np.tile(entries, (4, 1)))


def test_gradients_of_a_row_that_is_looked_up_again_are_correlated():
    """A place that looks up one row twice counts four times, and of two rows each counts once."""
    tokens = np.array([[1, 1, 2, 3], [5, 8, 8, 8]])

    def found(*shifts):
        def looked_up(table):
            return sum(table[jnp.roll(tokens, n, axis=1)] for n in shifts)

        def gradient(table, slopes):
            return jax.vjp(looked_up, table)[1](slopes)

        run, table = interpreter(), jnp.zeros((10, 256))
        slopes = cotangent(jax.ShapeDtypeStruct((*tokens.shape, 256), "float32"), run)
        program = jax.make_jaxpr(gradient)(table, jnp.zeros(slopes.shape))
        (result,) = run.run(program, [exact(table), slopes])
        times = sum(np.roll(tokens, n, axis=1)[..., None] == np.arange(10) for n in shifts)
        return result.second_moment(), np.sum(np.square(times)) / 10

    assert found(0)[0] == pytest.approx(found(0)[1])
    assert found(0, 0)[0] == pytest.approx(found(0, 0)[1])
    second_moment, expected = found(0, 1)
    # What two rows have in common is the mean of 4096 products of channels and signs.
    assert second_moment == pytest.approx(expected, rel=5 / 4096**0.5)


@pytest.mark.parametrize(("mode", "found"), [("fill", 2), ("clip", 5)])
def test_a_place_beyond_a_table_has_the_row_that_it_is_clipped_to_or_none(mode, found):
    """Each of the places that find a row adds 1 to the squares of a table of ten."""

    def gradient(table, slopes):
        places = jnp.array([-12, -11, 2, 9, 10])
        return jax.vjp(lambda table: jnp.take(table, places, axis=0, mode=mode), table)[1](slopes)

    run, table = interpreter(), jnp.zeros((10, 256))
    slopes = cotangent(jax.ShapeDtypeStruct((5, 256), "float32"), run)
    program = jax.make_jaxpr(gradient)(table, jnp.zeros(slopes.shape))
    (result,) = run.run(program, [exact(table), slopes])
    assert result.second_moment() == pytest.approx(found / 10)


def test_places_that_all_are_beyond_a_table_give_no_gradient():
    def gradient(table, slopes):
        return jax.vjp(lambda table: table.at[jnp.array([12, 13])].get(mode="fill"), table)[1](
            slopes
        )

    run, table = interpreter(), jnp.zeros((10, 256))
    slopes = cotangent(jax.ShapeDtypeStruct((2, 256), "float32"), run)
    program = jax.make_jaxpr(gradient)(table, jnp.zeros(slopes.shape))
    (result,) = run.run(program, [exact(table), slopes])
    assert result.second_moment() == 0 and result.shape == table.shape
