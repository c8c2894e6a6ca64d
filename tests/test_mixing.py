"""Gains after pooling, attention and centered kernels, against samples and closed forms."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import ndtr

import flaxinit

DRAWS = 100_000
UNKNOWN: Any = "mean"
SIDES: Any = (2, 2)


def held(values: np.ndarray, expected: float) -> None:
    """Compare a mean with its expectation; five standard errors are exceeded once in 1e6."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) <= 5 * error + 1e-12


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("window", [1, 4, 9])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("tanh", np.tanh),
        ("gelu", lambda z: z * ndtr(z)),
        ("abs(x)", np.abs),
    ],
)
def test_pooling_keeps_the_signal(name, function, window, kind):
    z = function(np.random.default_rng(0).standard_normal((DRAWS, window)))
    pooled = z.max(1) if kind == "max" else z.mean(1)
    held((flaxinit.pooling_gain(name, window, kind) * pooled) ** 2, 1.0)


def test_maxima_of_normal_variables_have_their_closed_forms():
    """The second moments of the largest of 2, 3 and 4 (Godwin 1949)."""
    found = [flaxinit.pooling_gain("linear", k) ** -2 for k in (2, 3, 4)]
    expected = [1, 1 + math.sqrt(3) / (2 * math.pi), 1 + math.sqrt(3) / math.pi]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("scores", [0.0, 0.25, 1.0, 9.0])
@pytest.mark.parametrize("tokens", [1, 2, 16, 256])
def test_attention_keeps_the_signal(tokens, scores):
    rng = np.random.default_rng(0)
    a = math.sqrt(scores) * rng.standard_normal((DRAWS // tokens, tokens))
    p = np.exp(a - a.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    held(np.sum(p**2, axis=1), flaxinit.attention_gain(tokens, scores=scores) ** -2)
    rho = 0.3
    shared, own = rng.standard_normal((len(p), 1)), rng.standard_normal(p.shape)
    z = np.sum(p * (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own), axis=1)
    gain = flaxinit.attention_gain(tokens, scores=scores, correlation=rho)
    held((gain * z) ** 2, 1.0)


def test_causal_attention_is_the_mean_over_positions():
    each = [flaxinit.attention_gain(n) ** -2 for n in range(1, 9)]
    assert flaxinit.attention_gain(8, causal=True) ** -2 == pytest.approx(np.mean(each))
    many = flaxinit.attention_gain(3000, causal=True)  # in several parts
    assert many**-2 == pytest.approx(math.e * (math.log(3000)) / 3000, rel=0.2)


def test_a_centered_kernel_sees_the_variance_of_the_activation():
    init = flaxinit.he("relu", centered=True, distribution="normal")
    assert init.scale == pytest.approx(2 * math.pi / (math.pi - 1))
    assert flaxinit.gain("relu", centered=True) == pytest.approx(math.sqrt(init.scale))
    assert flaxinit.gain("tanh", centered=True) == pytest.approx(flaxinit.gain("tanh"))
    kernel = np.array(init(jax.random.key(0), (512, 2048)))
    kernel -= kernel.mean(0)
    z = np.maximum(np.random.default_rng(0).standard_normal(512), 0)
    # Given z, outputs are independent with variance s Σ (z - mean)²/n (1 - 1/n).
    wanted = init.scale * np.var(z) * (1 - 1 / 512)
    held((z @ kernel) ** 2, wanted)


def test_embeddings_start_a_stream_of_unit_second_moment():
    init = flaxinit.embedding(3, multiplier=4.0)
    rows = [init(jax.random.key(n), (100, 512)) for n in range(3)]
    held(np.asarray((4 * sum(rows)) ** 2).ravel(), 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flaxinit.pooling_gain("relu", 0), "window must be"),
        (lambda: flaxinit.pooling_gain("relu", SIDES[:0]), "window must be"),
        (lambda: flaxinit.pooling_gain("relu", SIDES), r"number of its units: for \(2, 2\) 4\."),
        (lambda: flaxinit.pooling_gain("relu", 4, UNKNOWN), "got 'mean'.* mean 'avg'"),
        (lambda: flaxinit.attention_gain(0), "tokens must be"),
        (lambda: flaxinit.attention_gain(4, correlation=1.5), "correlation must be"),
        (lambda: flaxinit.attention_gain(4, scores=-1.0), "scores must be"),
        (lambda: flaxinit.embedding(0), "tables must be"),
        (lambda: flaxinit.embedding(multiplier=0.0), "multiplier must be"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
