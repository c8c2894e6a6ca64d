"""forecast() has the kernels and moments that others derived."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit

PARTICLES = 2**16


def correlated(c, terms=2):
    """Two inputs of unit second moment and correlation c."""
    x = np.zeros((2, terms))
    x[0, 0], x[1, :2] = 1, (c, math.sqrt(1 - c * c))
    return jnp.asarray(x * math.sqrt(terms), jnp.float32)


def dense(depth, activation, gain=1.0):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = flaxinit.lecun().times(gain)
            for n in range(depth + 1):
                x = nn.Dense(256, kernel_init=init)(activation(x) if n else x)
            return x

    return Network()


def arc_cosine(gram):
    """E[relu(u) relu(v)] (Cho & Saul 2009)."""
    a, b, cross = gram
    c = cross / math.sqrt(a * b)
    value = math.sqrt(a * b) * (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c)))
    return a / 2, b / 2, value / (2 * math.pi)


def arc_sine(gram):
    """E[erf(u) erf(v)] (Williams 1998)."""
    a, b, cross = gram

    def value(x):
        return 2 / math.pi * math.asin(2 * x / math.sqrt((1 + 2 * a) * (1 + 2 * b)))

    return value(a), value(b), value(cross)


@pytest.mark.parametrize(
    ("activation", "dual"),
    [(jax.nn.relu, arc_cosine), (jax.scipy.special.erf, arc_sine)],
    ids=["relu", "erf"],
)
@pytest.mark.parametrize("c", [0.0, 0.3, 0.9])
def test_the_kernel_of_a_dense_network(activation, dual, c):
    report = flaxinit.forecast(dense(3, activation), correlated(c), particles=PARTICLES)
    gram = (1.0, 1.0, c)
    first, *others = report.layers
    assert first.samples == pytest.approx(c, abs=1e-6)
    for depth, layer in enumerate(others, 1):
        gram = dual(gram)
        # Each layer adds a mean of 2¹⁶ products, of moment E[φ(u)² φ(v)²] ≤ 3 E[φ²]².
        bound = 4 * math.sqrt(3 * depth / PARTICLES)
        assert layer.signal_out == pytest.approx(gram[0], rel=bound)
        assert layer.samples == pytest.approx(gram[2] / gram[0], abs=bound)


def test_one_sample_has_positions_and_no_other_sample():
    """What stands along the second axis is a position, whatever the size of the batch."""
    pair = correlated(0.3)
    (alone, *_) = flaxinit.forecast(dense(1, jax.nn.relu), pair[None], particles=2**10).layers
    (two, *_) = flaxinit.forecast(dense(1, jax.nn.relu), pair[:, None], particles=2**10).layers
    assert (alone.samples, two.positions) == (None, None)
    assert alone.positions == pytest.approx(0.3, abs=1e-6)
    assert two.samples == pytest.approx(0.3, abs=1e-6)


def test_attention_over_exchangeable_tokens():
    """E|z|²/E|v|² = ρ + (1 - ρ) E Σp², here with ρ = 0 (Hron et al. 2020; Noci et al. 2022)."""
    tokens, width, heads = 16, 128, 4
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((width, tokens)))
    x = jnp.asarray(basis.T[None] * math.sqrt(width), jnp.float32)
    model = nn.MultiHeadDotProductAttention(heads, kernel_init=flaxinit.lecun())
    report = flaxinit.forecast(model, x, particles=PARTICLES)
    head = width // heads
    # By simulation, of nothing but a head's queries and keys.
    q, k = np.random.default_rng(1).standard_normal((2, 4000, tokens, head))
    scores = q @ np.swapaxes(k, 1, 2) / math.sqrt(head)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    each = np.sum(weights**2, -1).mean(-1)
    drawn = PARTICLES // head  # heads in the forecast
    bound = 4 * each.std() * math.sqrt(1 / 4000 + 1 / drawn)
    # The products with values are means over particles too.
    bound += 4 * each.mean() * math.sqrt(2 / PARTICLES)
    assert report.layers[-1].signal_in == pytest.approx(each.mean(), abs=bound)


def test_global_average_pooling_after_a_convolution():
    """The mean of relu over positions has the mean of the arc-cosine kernel over their pairs."""
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 8))

    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(256, (3, 3), padding="VALID", kernel_init=flaxinit.lecun())(x)
            return nn.Dense(10)(nn.relu(x).mean((1, 2)))

    report = flaxinit.forecast(Pooled(), jnp.asarray(x, jnp.float32), particles=PARTICLES)
    patches = np.stack([x[0, i : i + 3, j : j + 3].reshape(-1) for i in range(2) for j in range(2)])
    gram = patches @ patches.T / patches.shape[1]
    pairs = [
        arc_cosine((gram[i, i], gram[j, j], gram[i, j] * (1 - 1e-12)))[2]
        for i in range(4)
        for j in range(4)
    ]
    expected = float(np.mean(pairs))
    assert report.layers[0].signal_out == pytest.approx(np.trace(gram) / 4, rel=1e-5)
    assert report.layers[1].signal_in == pytest.approx(expected, rel=4 * math.sqrt(3 / PARTICLES))


def test_weight_standardization_wants_what_it_takes():
    """σ_w² = 1 / (1/2 - 1/2π) = 2.934 after ReLU, for the mean is lost (Brock et al. 2021)."""

    class Standardized(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(256, kernel_init=flaxinit.lecun())(x)
            w = self.param("w", nn.initializers.normal(1.0), (256, 256))
            w = (w - w.mean(0)) / jnp.sqrt(w.var(0) * 256)
            return nn.relu(x) @ w

    report = flaxinit.forecast(Standardized(), correlated(0.0, 32), particles=PARTICLES)
    wanted = 1 / (1 / 2 - 1 / (2 * math.pi))
    # Of u = relu(z) - E relu(z) the kurtosis is 5.41.
    chance = 4 * math.sqrt(4.41 / PARTICLES)
    assert report.layers[1].sigma_w2_wanted == pytest.approx(wanted, rel=chance)


def test_gradients_of_a_deep_relu_network_keep_their_size():
    """With σ_w² = 2 forward and backward signals are kept in layers of one width (He et al.
    2015)."""
    network = dense(10, jax.nn.relu, gain=math.sqrt(2))
    report = flaxinit.forecast(network, jax.ShapeDtypeStruct((16, 256), "float32"), backward=True)
    slopes = np.array([layer.gradient_out for layer in report.layers[1:]])
    # Each layer masks independently: E[δ²] is kept exactly in the mean over places and channels.
    np.testing.assert_allclose(slopes / slopes[-1], 1, rtol=0.05)


def arc_cosine_matrix(gram):
    """E[relu(u_i) relu(u_j)] for each pair of places."""
    scale = np.sqrt(np.outer(np.diagonal(gram), np.diagonal(gram)))
    c = np.clip(np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0), -1, 1)
    return scale * (np.sqrt(1 - c * c) + c * (np.pi - np.arccos(c))) / (2 * np.pi)


def mean_correlation(gram):
    scale = np.sqrt(np.outer(np.diagonal(gram), np.diagonal(gram)))
    c = gram / scale
    return float((c.sum() - np.trace(c)) / (len(c) * (len(c) - 1)))


def test_the_kernel_of_a_residual_network():
    """K + σ_w² E[φ(u) φ(v)] after each block (Yang & Schoenholz 2017; Novak et al. 2020)."""

    class Residual(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(256, kernel_init=flaxinit.lecun())(x)
            for _ in range(3):
                x = x + nn.Dense(256, kernel_init=flaxinit.lecun())(nn.relu(x))
            return nn.Dense(10, kernel_init=flaxinit.lecun())(x)

    x = np.random.default_rng(0).standard_normal((6, 16))
    gram = x @ x.T / 16
    for _ in range(3):
        gram = gram + arc_cosine_matrix(gram)
    report = flaxinit.forecast(Residual(), jnp.asarray(x, jnp.float32), particles=PARTICLES)
    bound = 4 * math.sqrt(3 * 3 / PARTICLES)
    assert report.layers[-1].signal_out == pytest.approx(np.trace(gram) / 6, rel=bound)
    assert report.layers[-1].samples == pytest.approx(mean_correlation(gram), abs=bound)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_the_kernel_of_a_convolutional_network(padding):
    """K(i, j) is the mean over δ of E[φ(u_{i+δ}) φ(u_{j+δ})], and 0 beyond borders.

    References: Novak et al. (2019), Bayesian deep convolutional networks with many channels are
    Gaussian processes.
    """

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for n in range(3):
                conv = nn.Conv(256, (3,), padding=padding, kernel_init=flaxinit.lecun())
                x = conv(nn.relu(x) if n else x)
            return x

    def windows(gram):
        gram = np.pad(gram, 1) if padding == "SAME" else gram
        size = len(gram) - 2
        return np.mean([gram[k : k + size, k : k + size] for k in range(3)], axis=0)

    x = np.random.default_rng(0).standard_normal((1, 9, 16))
    gram = windows(x[0] @ x[0].T / 16)
    for _ in range(2):
        gram = windows(arc_cosine_matrix(gram))
    report = flaxinit.forecast(Network(), jnp.asarray(x, jnp.float32), particles=PARTICLES)
    bound = 4 * math.sqrt(3 * 2 / PARTICLES)
    assert report.layers[-1].signal_out == pytest.approx(np.trace(gram) / len(gram), rel=bound)
    assert report.layers[-1].positions == pytest.approx(mean_correlation(gram), abs=bound)


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.scipy.special.erf], ids=["relu", "erf"])
def test_the_tangent_kernel_of_a_dense_network(activation):
    """Θ' = K' + Θ σ_w² E[φ'(u)²], the sum of all gradients (Jacot, Gabriel, Hongler 2018).

    With weights of variance σ_w²/fan_in, that is the sum of σ_w²/fan_in |∂f/∂W|².
    """

    def slope(q):  # E[φ'(u)²]
        return 0.5 if activation is jax.nn.relu else 4 / math.pi / math.sqrt(1 + 4 * q)

    def square(q):
        dual = arc_cosine if activation is jax.nn.relu else arc_sine
        return dual((q, q, q * (1 - 1e-12)))[0]

    x = np.random.default_rng(0).standard_normal((1, 16))
    q = float(np.mean(x**2))
    tangent = q
    for _ in range(3):
        q, tangent = square(q), square(q) + tangent * slope(q)
    inputs = jnp.asarray(x, jnp.float32)
    network = dense(3, activation)
    report = flaxinit.forecast(network, inputs, backward=True, particles=PARTICLES)
    found = sum(
        layer.sigma_w2 / layer.fan_in * math.prod(layer.shape) * (layer.gradient_parameter or 0)
        for layer in report.layers
    )
    # Each layer's term is a product of up to 7 means, of moments that are at most 3.
    assert found / 256 == pytest.approx(tangent, rel=4 * math.sqrt(3 * 7 / PARTICLES))


def test_angles_and_gradients_of_a_deep_network_have_one_exponent():
    """Both change by χ = σ_w² E[φ'(u)²] a layer, at the fixed point where all inputs are alike.

    Poole et al. (2016); Schoenholz et al. (2017); Cowsik et al. (2024) for transformers.
    """
    sigma_w2, depth = 0.8, 14
    maps = flaxinit.derive("tanh").maps
    network = dense(depth, jnp.tanh, gain=math.sqrt(sigma_w2))
    # Inputs that are nearly alike, so that the angle is small from the start.
    report = flaxinit.forecast(network, correlated(0.99), backward=True, particles=PARTICLES)
    for n in range(2, depth, 4):
        before, after = report.layers[n], report.layers[n + 1]
        chi = maps.chi(before.signal_out, sigma_w2)
        one, other = (x.signal_out * (1 - float(x.samples or 0)) for x in (before, after))
        chance = 4 * math.sqrt(2 / PARTICLES)  # a squared difference has a relative variance of 2
        assert other / one == pytest.approx(chi, rel=chance)
        one, other = (float(x.gradient_out or 0) for x in (before, after))
        assert one / other == pytest.approx(chi, rel=chance)


def test_moments_of_the_parts_of_a_transformer():
    """ReLU, GELU, dropout and a residual sum, as functions of σ² (Kedia et al. 2024, table 1)."""
    sigma2 = 1.7

    def part(function):
        class Network(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(256, kernel_init=flaxinit.lecun().times(math.sqrt(sigma2)))(x)
                return nn.Dense(64, kernel_init=flaxinit.lecun())(function(x))

        x = correlated(0.0, 64)
        report = flaxinit.forecast(
            Network(), x, particles=PARTICLES, rngs={"dropout": jax.random.key(0)}
        )
        return report.layers[1].signal_in

    ratio = sigma2 / (1 + sigma2)
    gelu = math.pi / 2 + math.asin(ratio) + 2 * ratio / math.sqrt(1 + 2 * sigma2)
    bound = 4 * math.sqrt(3 / PARTICLES)
    assert part(nn.relu) == pytest.approx(sigma2 / 2, rel=bound)
    assert part(partial(nn.gelu, approximate=False)) == pytest.approx(
        sigma2 * gelu / (2 * math.pi), rel=bound
    )

    def drop(x):
        return nn.Dropout(0.3, deterministic=False)(x)

    assert part(drop) == pytest.approx(sigma2 / 0.7, rel=bound)
    assert part(lambda x: x + nn.relu(x)) == pytest.approx(sigma2 * 2.5, rel=bound)
