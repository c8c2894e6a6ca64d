"""How far one draw strays from the forecast, and whether there is anything to forecast."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.forecasts import measured

X = jax.random.normal(jax.random.key(0), (8, 64))
# Four standard errors of a deviation over 256 draws are 18 % of it.
DRAWS, CHANCE = 256, 0.18


class Plain(nn.Module):
    """Dense layers of variance σ_w²/fan_in after the first."""

    depth: int
    activation: Callable
    sigma_w2: float
    width: int = 256

    @nn.compact
    def __call__(self, x):
        first, others = flaxinit.lecun(), flaxinit.lecun().times(self.sigma_w2**0.5)
        for n in range(self.depth):
            x = self.activation(x) if n else x
            x = nn.Dense(self.width, kernel_init=others if n else first)(x)
        return x


class Residual(nn.Module):
    depth: int
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, kernel_init=flaxinit.lecun())(x)
        for _ in range(self.depth):
            x = x + nn.Dense(self.width, kernel_init=flaxinit.he())(nn.relu(x))
        return nn.Dense(self.width)(x)


class Gated(nn.Module):
    """Two kernels read one signal, and their products are the next: log q doubles."""

    depth: int
    width: int
    normed: bool = False

    @nn.compact
    def __call__(self, x):
        def dense(x):
            return nn.Dense(self.width, kernel_init=flaxinit.lecun())(x)

        for _ in range(self.depth):
            x = nn.LayerNorm()(x) if self.normed else x
            x = dense(x) * dense(x)
        return dense(x)


def last(model, **options):
    return flaxinit.forecast(model, X, **options).layers[-1]


def slopes(activation, sigma_w2, depth):
    """∂ log q_L / ∂ log q_1 of the exact variance map, from its fixed point or from q = 1."""
    theory = flaxinit.derive(activation).maps
    q, product = float(np.mean(np.square(X))), 1.0
    for _ in range(depth - 1):
        up, down = (theory.qmap(q * (1 + h), sigma_w2) for h in (1e-5, -1e-5))
        product *= np.log(up / down) / np.log((1 + 1e-5) / (1 - 1e-5))
        q = theory.qmap(q, sigma_w2)
    return product


@pytest.mark.parametrize(
    ("activation", "sigma_w2", "depth"),
    [(nn.relu, 2.0, 12), (nn.gelu, 2.0, 12), (jnp.tanh, 1.5, 12)],
)
def test_the_sensitivity_is_the_product_of_the_slopes_of_the_variance_map(
    activation, sigma_w2, depth
):
    found = last(Plain(depth, activation, sigma_w2)).sensitivity
    name = "gelu_tanh" if activation is nn.gelu else activation.__name__
    # The estimate of each slope rests on 4096 particles at each of 8 correlated inputs.
    assert found == pytest.approx(slopes(name, sigma_w2, depth), rel=0.1)


def test_products_of_two_kernels_double_the_sensitivity_and_a_norm_ends_it():
    assert last(Gated(3, 128)).sensitivity == pytest.approx(2**3, rel=0.05)
    assert last(Gated(3, 128, normed=True)).sensitivity == 0


@pytest.mark.parametrize(
    ("activation", "sigma_w2", "unstable"),
    [(nn.relu, 2.0, False), (nn.gelu, 2.0, True), (nn.gelu, 2.351, True)],
    ids=["relu", "gelu", "gelu at its gain"],
)
def test_a_deep_network_without_norms_is_undetermined(activation, sigma_w2, unstable):
    report = flaxinit.forecast(Plain(50, activation, sigma_w2), X)
    assert "undetermined" in report.layers[-1].undetermined
    assert ("unstable" in report.layers[-1].undetermined) == unstable
    # The slope at an unstable fixed point says nothing of draws that are far from it.
    assert (report.layers[-1].band is None) == (report.layers[-1].typical is None) == unstable
    assert "undetermined" not in report.layers[2].undetermined
    (stray,) = [each for each in report.findings if each.what == "single draws stray"]
    assert "params/Dense_49/kernel" in stray.paths and "undetermined" in stray.text
    assert "undetermined" in next(line for line in str(report).splitlines() if "..49}" in line)


class Normed(nn.Module):
    """Layers after a norm, after a gate that is computed from the mean, and after pooling."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(64)(nn.LayerNorm()(nn.Dense(64)(x)))
        gate = nn.sigmoid(nn.Dense(1)(h.mean(-1, keepdims=True)))
        h = nn.relu(nn.LayerNorm()(nn.Dense(64)(gate * h)))
        return nn.Dense(64)(h), nn.Dense(64)(h.reshape(2, -1, 64).mean(1))


def test_a_norm_fixes_the_second_moment_and_a_gate_does_not():
    """The mean over places depends on their correlation, which no norm fixes."""
    layers = flaxinit.forecast(Normed(), X).layers
    assert len(layers) == 6
    assert [layer.path for layer in layers if layer.normed] == [
        "params/Dense_0/kernel",
        "params/Dense_4/kernel",
    ]


def test_a_deep_network_at_a_stable_fixed_point_is_determined():
    layer = last(Plain(50, jnp.tanh, 1.5))
    assert not layer.undetermined and layer.sensitivity < 0.1


def test_a_gradient_is_undetermined_where_the_network_is():
    report = flaxinit.forecast(Plain(50, nn.relu, 2.0), X, backward=True)
    assert all(layer.parameter_undetermined for layer in report.layers)
    # The gradient of the outputs is given at the end, and strays with each layer before.
    assert report.layers[0].gradient_undetermined and not report.layers[-1].gradient_undetermined
    shallow = flaxinit.forecast(Plain(4, nn.relu, 2.0), X, backward=True)
    assert not any(layer.parameter_undetermined for layer in shallow.layers)


# Drawn 256 times each.
@pytest.mark.slow
@pytest.mark.parametrize(("depth", "is_undetermined"), [(6, False), (20, True)])
def test_undetermined_says_that_a_standard_deviation_exceeds_the_mean(depth, is_undetermined):
    model = Plain(depth, nn.relu, 2.0, width=64)
    layer = last(model)
    assert bool(layer.undetermined) == is_undetermined
    draws = measured(model, X[:1], draws=DRAWS, backward=False).signals
    values = draws[layer.path]
    assert (values.std() > values.mean()) == is_undetermined


# Drawn 256 times each.
@pytest.mark.slow
@pytest.mark.parametrize("model", [Residual(12, 128), Gated(2, 128)], ids=["residual", "gated"])
def test_signals_that_are_added_or_multiplied_stray_together(model):
    layer = last(model)
    draws = measured(model, X, draws=DRAWS, backward=False).signals
    found = float(np.std(np.log(draws[layer.path]), ddof=1))
    assert layer.samples is not None
    own = 2 / model.width * (1 + 7 * layer.samples**2) / 8  # of the outputs of one draw
    expected = np.hypot(layer.log_sd, np.sqrt(own))
    assert expected == pytest.approx(found, rel=CHANCE + model.depth / model.width)
    # And 95 % of draws are in the band: at least 243 - 4 √(256 · 0.05 · 0.95) of 256.
    factor = np.exp(2 * np.sqrt(own))
    low, high = layer.band[0] / factor, layer.band[1] * factor
    assert np.sum((low < draws[layer.path]) & (draws[layer.path] < high)) >= 229
