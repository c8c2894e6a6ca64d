"""forecast() says, before any parameter is drawn, what draws of a model measure."""

import jax
import numpy as np
import pytest
from signal_models import ResidualMLP, measured, outside

import flaxinit


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def test_a_residual_network_has_the_signal_that_was_forecast():
    model, inputs = ResidualMLP(), x(16, 32)
    report = flaxinit.forecast(model, inputs)
    draws = measured((model.init, model.apply), inputs)
    assert not outside(report, draws, 0.03)
    assert len(report.stream) == model.blocks
    # The last kernel reads the stream, and keeps it.
    assert report.stream[-1].second_moment == pytest.approx(report.layers[-1].signal_in)


def test_a_wrong_kernel_is_found_and_it_alone():
    """A control: draws of a model with one wrong kernel are not those of the forecast."""
    report = flaxinit.forecast(ResidualMLP(), x(16, 32))
    wrong = ResidualMLP(wrong=3)
    draws = measured((wrong.init, wrong.apply), x(16, 32))
    assert next(iter(outside(report, draws, 0.03))) == "params/Dense_8/kernel"
    other = flaxinit.forecast(wrong, x(16, 32))
    far = [
        layer.path
        for layer in other.layers
        if layer.sigma_w2_wanted and layer.sigma_w2 / layer.sigma_w2_wanted < 0.3
    ]
    assert far == ["params/Dense_8/kernel"]


def test_relu_has_the_arc_cosine_kernel():
    """E[relu(u) relu(v)] = √(1-c²)/2π + c (π - acos c)/2π at unit variance (Cho & Saul 2009)."""
    c = 0.3
    inputs = np.array([[1.0, 0.0], [c, np.sqrt(1 - c * c)]]) * np.sqrt(2)

    def init(key, x):
        keys = jax.random.split(key)
        return [flaxinit.lecun()(keys[0], (2, 512)), flaxinit.lecun()(keys[1], (512, 512))]

    def apply(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    report = flaxinit.forecast((init, apply), jax.numpy.asarray(inputs, "float32"), particles=2**16)
    first, second = report.layers
    assert first.signal_out == pytest.approx(1, rel=1e-3) and first.samples == pytest.approx(c)
    expected = (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / (2 * np.pi)
    # Standard error of a mean of 2¹⁶ products of moment E[relu(u)² relu(v)²] ≤ E[u⁴] = 3.
    assert abs(second.samples * second.signal_out - expected) < 3 * np.sqrt(3 / 2**16)
    assert second.sigma_w2_wanted == pytest.approx(2)
