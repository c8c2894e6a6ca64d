"""Kernels that are used again: loops, pairs of inputs, and layers that share their weights."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.bounds import z_score
from benchmarks.forecasts import GRADIENT, compared, measured
from benchmarks.zoo import Recurrent
from flaxinit.signal.rules import kernels
from flaxinit.signal.rules.again import Again
from flaxinit.signal.samples.draws import gaussian
from flaxinit.signal.samples.signals import Base


def x(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def off(report, draws, tolerance):
    """Kernels whose gradient is off by more than the tolerance, and than chance explains."""
    forecast = {layer.path: layer.gradient_parameter for layer in report.layers}
    z = z_score(len(draws))
    return {
        path: (round(error, 3), round(chance, 3))
        for path, (error, chance) in compared(forecast, draws).items()
        if path.endswith("kernel") and abs(error) > max(tolerance, z * chance)
    }


@pytest.mark.parametrize(("terms", "first"), [(512, 512), (512, 32), (512, 1)])
def test_an_isometry_keeps_all_products_and_the_first_use(terms, first):
    rng = np.random.default_rng(0)
    known = rng.standard_normal((2, 6, first)) / np.sqrt(first)
    made = gaussian(rng, known, 512)
    again = Again.after(rng, known, made, terms)
    fitted = np.tile(known, terms // first) * np.sqrt(first / terms)
    others = rng.standard_normal((2, 5, terms)) / np.sqrt(terms) + fitted[:, :1]
    inputs = np.concatenate([fitted, others], axis=1)
    outputs = again.of(inputs)
    products = np.swapaxes(outputs, 1, 2) @ outputs / 512
    np.testing.assert_allclose(outputs[..., :6], made, atol=1e-7)
    np.testing.assert_allclose(products, inputs @ np.swapaxes(inputs, 1, 2), atol=1e-7)


def test_a_kernel_is_linear_over_as_many_uses_as_a_loop_has():
    """Σ_t W u_t = W Σ_t u_t, and with two kernels the difference has twice the moment."""
    steps, width = 200, 64

    def init(key, inputs):
        keys = jax.random.split(key, 4)
        shapes = ((16, width), (width, width), (width, width), (width, 4))
        return [flaxinit.lecun()(k, shape) for k, shape in zip(keys, shapes, strict=True)]

    def difference(last):
        def apply(w, inputs):
            def step(carry, row):
                u = jnp.tanh(row @ w[0])
                return (carry[0] + u @ w[1], carry[1] + u), None

            start = (jnp.zeros((8, width)), jnp.zeros((8, width)))
            (mapped, total), _ = jax.lax.scan(step, start, inputs)
            return (mapped - total @ w[last]) @ w[3]

        layers = flaxinit.forecast((init, apply), x(steps, 8, 16)).layers
        return layers[-1].signal_in / layers[-2].signal_out

    assert difference(1) < 1e-12
    # The sum of all uses of one kernel, less that of another: 1 + 1.
    assert difference(2) == pytest.approx(2, rel=5 / 4096**0.5)


def test_the_memory_of_a_kernel_does_not_grow_with_its_uses():
    kept = []

    class Watched(kernels.Kernels):
        def shared(self, *args, **kwargs):
            made = super().shared(*args, **kwargs)
            kept.append(self.kept)
            return made

    drawn = Watched(kernels.Limits(), np.random.default_rng(0))
    for n in range(40):
        drawn.shared(np.asarray(x(4, 8, 64, seed=n), float), (64,), "kernel")
    assert kept[-1] == kept[1] == sum(use.size for use in drawn.first.values())


def test_the_work_of_a_loop_grows_with_its_steps_and_not_with_their_square(monkeypatch):
    """The state of a cell is a function of all pre-activations before it."""
    calls, slope = [], Base.slope
    monkeypatch.setattr(Base, "slope", lambda *args: calls.append(1) or slope(*args))

    def count(steps):
        calls.clear()
        flaxinit.forecast(Recurrent(8, nn.LSTMCell), x(2, steps, 4), particles=64)
        return len(calls)

    first, second, third = (count(steps) for steps in (20, 40, 60))
    assert third - second == pytest.approx(second - first, rel=1 / 20)


def test_what_is_not_kept_is_told(monkeypatch):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, a, b):
            layers = [nn.Dense(64, name=f"layer_{n}") for n in range(3)]
            return nn.Sequential(layers)(a) - nn.Sequential(layers)(b)

    inputs = x(4, 16), x(4, 16, seed=1)
    whole = flaxinit.forecast(Twice(), *inputs)
    assert not any(layer.forgotten for layer in whole.layers)
    assert "takes too much memory" not in str(whole)
    monkeypatch.setattr(kernels, "_KEPT", 2**16)
    part = flaxinit.forecast(Twice(), *inputs)
    assert {layer.path for layer in part.layers if layer.forgotten} == {
        f"params/layer_{n}/kernel" for n in range(3)
    }
    assert "takes too much memory to be kept: params/layer_{0..2}/kernel" in " ".join(
        str(part).split()
    )


class Pair(nn.Module):
    """One network for two inputs, of which the difference or the sum goes on."""

    conv: bool
    activation: str = "relu"
    sign: float = -1.0

    @nn.compact
    def __call__(self, a, b):
        layers = [nn.Conv(64, (3, 3)) if self.conv else nn.Dense(64) for _ in range(3)]
        activation = getattr(jax.nn, self.activation)
        y, z = (layers[2](activation(layers[1](activation(layers[0](v))))) for v in (a, b))
        y = y + self.sign * z
        return nn.Dense(10)(y.mean((1, 2)) if self.conv else y)


@pytest.mark.parametrize("conv", [False, True], ids=["dense", "convolution"])
def test_what_an_odd_network_makes_of_opposite_inputs_is_opposite(conv):
    inputs = x(4, 8, 8, 3) if conv else x(4, 32)
    odd = Pair(conv, "tanh", sign=1.0)
    layers = flaxinit.forecast(odd, inputs, -inputs, backward=True).layers
    # Of the directions of 256 places each that has less than 1e-10 of the largest is not kept.
    assert layers[-1].signal_in < 256 * 1e-8 * layers[0].signal_out
    other = flaxinit.forecast(odd, inputs, inputs).layers
    assert other[-1].signal_in > 0.01 * layers[0].signal_out


# Drawn 64 times each.
@pytest.mark.slow
@pytest.mark.parametrize("conv", [False, True], ids=["dense", "convolution"])
def test_gradients_of_two_uses_may_cancel(conv):
    """At the second kernel they do, but for a 25th part, where the means of both are equal."""
    shape = (2, 6, 6, 3) if conv else (4, 32)
    inputs, model = (x(*shape), x(*shape, seed=5)), Pair(conv)
    report = flaxinit.forecast(model, *inputs, backward=True)
    slopes = measured(model, *inputs, draws=64).slopes
    assert not off(report, slopes, NARROW)
    apart = flaxinit.forecast(Pair(conv, sign=1.0), *inputs, backward=True)
    assert off(apart, slopes, NARROW)


# 1/width is 0.016, and a kernel over 16 tokens strays by a few times that.
NARROW = 0.1


class Shared(nn.Module):
    """Two blocks with the same weights: a mixer's or a transformer's."""

    mixer: bool
    width: int = 128

    @nn.compact
    def __call__(self, x):
        norms, places = [nn.LayerNorm(), nn.LayerNorm()], x.shape[1]
        tokens = nn.Sequential([nn.Dense(2 * places), nn.gelu, nn.Dense(places)])
        attention = nn.MultiHeadDotProductAttention(4)
        dense = nn.Sequential([nn.Dense(4 * self.width), nn.gelu, nn.Dense(self.width)])
        x = nn.Dense(self.width)(x)
        for _ in range(2):
            h = norms[0](x)
            if self.mixer:
                x = x + jnp.swapaxes(tokens(jnp.swapaxes(h, 1, 2)), 1, 2)
            else:
                x = x + attention(h)
            x = x + dense(norms[1](x))
        return nn.Dense(10)(x.mean(1))


# Drawn 128 times each.
@pytest.mark.slow
@pytest.mark.parametrize("mixer", [False, True], ids=["transformer", "mixer"])
def test_blocks_that_share_their_weights_have_the_gradients_that_draws_measure(mixer):
    model, inputs, particles = Shared(mixer), x(4, 16, 32), 2**14
    report = flaxinit.forecast(model, inputs, backward=True, particles=particles)
    slopes = measured(model, inputs, draws=128).slopes
    # Each replica of the sample is a network whose kernels over tokens are its own.
    chance = 3 / math.sqrt(particles / model.width)
    assert not off(report, slopes, NARROW + chance)


def test_cells_that_are_one_function_have_one_factor():
    """OptimizedLSTMCell joins the kernels of LSTMCell, and zero biases with them."""
    inputs = x(8, 6, 32)
    plain, joined = (
        flaxinit.tune(Recurrent(64, cell), inputs).factors["params/Dense_0/kernel"]
        for cell in (nn.LSTMCell, nn.OptimizedLSTMCell)
    )
    # Two samples, of which a second moment has an error of 1/√particles at each of six steps.
    assert joined == pytest.approx(plain, rel=z_score(1) * (6 / 4096) ** 0.5)


def test_a_kernel_that_is_used_again_is_the_same_kernel():
    """W x + W x = 2 W x has four times the second moment; two kernels would have twice."""

    def init(key, x):
        return [flaxinit.lecun()(key, shape) for shape in ((32, 256), (256, 10))]

    def total(apply):
        report = flaxinit.forecast((init, apply), x(4, 32))
        return report.layers[-1].signal_in / report.layers[0].signal_out

    assert total(lambda w, x: (x @ w[0] + x @ w[0]) @ w[1]) == pytest.approx(4)
    # And partly the same input: E(u + v)² = 2 + 2c.
    a = np.asarray(x(4, 32), np.float64)
    expected = np.sum((a + np.roll(a, 1, axis=0)) ** 2) / np.sum(a**2)
    rolled = total(lambda w, x: (x @ w[0] + jnp.roll(x, 1, axis=0) @ w[0]) @ w[1])
    assert rolled == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("window", [(), (3,)], ids=["dense", "convolution"])
def test_gradients_of_the_uses_of_a_kernel_are_correlated(window):
    """W x + W x has the gradient 2 δ x. W u + W v has δ (u + v), and E(u + v)² = 2 + 2c."""
    inputs, axes = x(8, *(5 for _ in window), 32), ("NWC", "WIO", "NWC")

    def init(key, x):
        fans = ((32, 256), (256, 256), (256, 256))
        return [flaxinit.lecun()(key, (*window, *each)) for each in fans]

    def meet(x, w):
        if not window:
            return x @ w
        return jax.lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=axes)

    def gradient(uses):
        def apply(w, x):
            h = meet(x, w[0])
            return meet(sum(meet(jnp.roll(h, n, axis=0), w[1]) for n in uses), w[2])

        report = flaxinit.forecast((init, apply), inputs, backward=True)
        (square,) = {layer.gradient_parameter for layer in report.layers if layer.path == "1"}
        return square

    once = gradient([0])
    assert gradient([0, 0]) == pytest.approx(4 * once)
    a = np.asarray(inputs, np.float64)
    expected = np.sum((a + np.roll(a, 1, axis=0)) ** 2) / np.sum(a**2)
    # c is the mean of 4096 products, and differs a little where windows end.
    assert gradient([0, 1]) == pytest.approx(expected * once, rel=5 / 4096**0.5)


@pytest.mark.parametrize("width", [48, 64, 100])
def test_a_kernel_may_meet_the_inputs_and_then_what_it_made(width):
    dense, x = nn.Dense(width), jax.random.normal(jax.random.key(0), (8, width))
    model = nn.Sequential([dense, nn.tanh, dense, nn.tanh, dense])
    found = [layer.signal_out for layer in flaxinit.forecast(model, x).layers]

    def draw(key):
        kernel, squares, h = model.init(key, x)["params"]["layers_0"]["kernel"], [], x
        for _ in found:
            squares.append(jnp.mean((h @ kernel) ** 2))
            h = jnp.tanh(h @ kernel)
        return jnp.stack(squares)

    draws = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(1), 64)))
    error = draws.std(axis=0) / np.sqrt(len(draws))
    # The theory is that of wide layers: a share of 1/width is what it may miss.
    assert np.all(
        np.abs(draws.mean(axis=0) - found) < z_score(3) * error + 2 / width * draws.mean(axis=0)
    )


class Mixed(nn.Module):
    """A kernel that mixes positions, and a norm over the channels of each."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64)(x)
        x = x + jnp.swapaxes(nn.Dense(x.shape[1])(jnp.swapaxes(x, 1, 2)), 1, 2)
        return nn.Dense(10)(nn.LayerNorm()(x).reshape(len(x), -1))


def test_gradients_come_back_through_the_kernel_that_a_norm_has_seen():
    """The norm divides by what few entries make, and its gradients meet these entries again."""
    model, inputs = Mixed(), x(2, 8, 32)
    report = flaxinit.forecast(model, inputs, backward=True)
    assert not off(report, measured(model, inputs, draws=128).slopes, GRADIENT)
