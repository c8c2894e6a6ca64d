"""Initializers of research code: each does what its docstring states."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx
from scipy import stats

import flaxinit
from benchmarks.bounds import PARENTS, Rounded, ks_bound, z_score

KEY = jax.random.key(3)
CASES = 12


@pytest.mark.parametrize("first", [False, True])
def test_siren_has_its_half_width_and_variance(first):
    init, shape = flaxinit.siren(30.0, first=first), (256, 1024)
    half_width = 1 / 256 if first else np.sqrt(6 / 256) / 30  # as the paper writes them
    assert init.half_width(shape) == pytest.approx(half_width)
    sample = np.asarray(init(KEY, shape), np.float64).ravel()
    assert np.abs(sample).max() <= half_width * (1 + 1e-6)
    exact = Rounded(PARENTS["uniform"], init.std(shape), "float32")
    assert exact.variance_error(sample) < z_score(CASES)


def test_siren_keeps_the_phase_at_unit_variance():
    """The inputs have the arcsine distribution, like the sine of a uniform phase."""
    width, batch, omega = 1024, 64, 30.0
    x = np.sin(np.random.default_rng(0).uniform(-np.pi, np.pi, (batch, width)))
    phases = omega * x @ np.asarray(flaxinit.siren(omega)(KEY, (width, width)), np.float64)
    # Given x, a column's mean over the batch has expectation 2 mean(x²); columns are independent.
    columns, expected = np.mean(phases**2, axis=0), 2 * np.mean(x**2)
    assert abs(columns.mean() - expected) < z_score(CASES) * columns.std() / np.sqrt(width)
    assert abs(expected - 1) < z_score(CASES) * np.sqrt(0.5 / x.size)  # Var(2 sin²) = 1/2


def test_siren_settles_where_its_docstring_says():
    """From layer to layer q approaches the fixed point of ``q = 1 - e^(-2q)``."""
    width, batch, omega = 1024, 64, 30.0
    x = np.random.default_rng(0).uniform(-1, 1, (batch, width))
    for key in jax.random.split(KEY, 12):
        kernel = np.asarray(flaxinit.siren(omega)(key, (width, width)), np.float64)
        phases = omega * x @ kernel
        x = np.sin(phases)
    q = 1.0
    for _ in range(100):
        q = 1 - np.exp(-2 * q)
    assert q == pytest.approx(0.797, abs=5e-4)
    # Deep sines forget how similar their inputs were, so values of a batch are independent.
    by_input = np.mean(phases**2, axis=1)
    bound = z_score(CASES) * by_input.std() / np.sqrt(batch)
    assert abs(by_input.mean() - q) < bound < abs(1 - q)  # it is not the 1 of a uniform phase


# Published values: Zhang et al. (2019), Huang et al. (2020), Wang et al. (2022, table of factors),
# for L = 16 layers, and M = 81 of a decoder.
PUBLISHED = {
    "Fixup, m = 2": (lambda: flaxinit.fixup_factor(16), 16 ** (-1 / 2)),
    "Fixup, m = 3": (lambda: flaxinit.fixup_factor(16, depth=3), 16 ** (-1 / 4)),
    "T-Fixup encoder": (lambda: flaxinit.tfixup_factor(16), 0.67 * 16 ** (-1 / 4)),
    "T-Fixup decoder": (lambda: flaxinit.tfixup_factor(16, "decoder"), (9 * 16) ** (-1 / 4)),
    "DeepNorm α": (lambda: flaxinit.deepnorm_factors(16)[0], (2 * 16) ** (1 / 4)),
    "DeepNorm β": (lambda: flaxinit.deepnorm_factors(16)[1], (8 * 16) ** (-1 / 4)),
    "DeepNorm α, decoder": (lambda: flaxinit.deepnorm_factors(16, "decoder")[0], 48 ** (1 / 4)),
    "DeepNorm β, decoder": (lambda: flaxinit.deepnorm_factors(16, "decoder")[1], 192 ** (-1 / 4)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_depth_factors_are_the_published_ones(name):
    call, value = PUBLISHED[name]
    assert call() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (6, 6), (16, 81), (100, 100)])
def test_deepnorms_encoder_factors_round_to_the_published_ones(n, m):
    alpha, beta = flaxinit.deepnorm_factors(n, "encoder", decoder_layers=m)
    assert round(alpha / (n**4 * m) ** (1 / 16), 2) == 0.81
    assert round(beta * (n**4 * m) ** (1 / 16), 2) == 0.87
    # The two conditions that these factors solve; the other pairs satisfy them too.
    decoder = flaxinit.deepnorm_factors(m, "decoder")
    reach = m * decoder.weights**2 / decoder.stream
    alone = flaxinit.deepnorm_factors(n)
    for pair, count in (((alpha, beta), 2 * n * reach), (decoder, 3 * m), (alone, 2 * n)):
        assert pair[0] * pair[1] == pytest.approx(0.5**0.5)
        assert count * 2 * pair[1] ** 2 / pair[0] ** 2 == pytest.approx(1)


def test_factors_multiply_the_standard_deviation():
    init = flaxinit.he("gelu", mode="fan_avg")
    scaled = init.times(flaxinit.residual_factor(12, branches=2))
    assert scaled.std((30, 40)) == pytest.approx(init.std((30, 40)) / np.sqrt(24))


def test_residual_factor_doubles_the_stream():
    layers, width = 24, 512
    kernel = flaxinit.lecun().times(flaxinit.residual_factor(layers))
    x = np.random.default_rng(1).standard_normal(width)
    start = np.mean(x**2)
    norm = x / np.sqrt(start)  # branches see a normalized input, as after a layer norm
    for key in jax.random.split(KEY, layers):
        x = x + norm @ np.asarray(kernel(key, (width, width)), np.float64)
        norm = x / np.sqrt(np.mean(x**2))
    # Given the start, each entry gains N(0, 1): its square's mean has variance 2/width, and the
    # cross term 2 mean(x·gain) has 4 start/width.
    bound = z_score(CASES) * np.sqrt((2 + 4 * start) / width)
    assert abs(np.mean(x**2) - start - 1) < bound


def test_blocks_with_zero_gammas_are_the_identity():
    class Block(nn.Module):
        gamma: flaxinit.Initializer

        @nn.compact
        def __call__(self, x):
            branch = nn.Dense(6, kernel_init=flaxinit.he())(nn.relu(nn.LayerNorm()(x)))
            return x + nn.LayerNorm(scale_init=self.gamma, use_bias=False)(branch)

    x = jnp.arange(6.0) ** 2
    for value, is_identity in ((0.0, True), (1.0, False)):
        block = Block(flaxinit.residual_gamma(value))
        params = block.init(KEY, x)
        jacobian = jax.jacobian(lambda x, p=params, b=block: b.apply(p, x))(x)
        assert np.array_equal(block.apply(params, x), x) == is_identity
        assert np.array_equal(jacobian, np.eye(6)) == is_identity


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_a_lora_step_has_the_stated_mean_and_variance(alpha):
    d, rank, samples, rate = 64, 4, 4096, 0.5
    init = flaxinit.lora(1.0, "normal")
    gradient = np.random.default_rng(2).standard_normal((d, 2))
    a = jax.vmap(lambda key: init.a(key, (d, rank)))(jax.random.split(KEY, samples))
    b = init.b(KEY, (rank, 2))
    assert not np.asarray(a @ b).any()

    def step(a):  # of a loss whose gradient in the product is constant: Σ G · (α/r) A B
        def loss(a, b):
            return jnp.sum(jnp.asarray(gradient, jnp.float32) * (alpha / rank * (a @ b)))

        slope_a, slope_b = jax.grad(loss, argnums=(0, 1))(a, b)
        return alpha / rank * ((a - rate * slope_a) @ (b - rate * slope_b))

    moved = np.asarray(jax.jit(jax.vmap(step))(a), np.float64)
    unit = rate * (alpha / rank) ** 2 / d  # η (α/r)² Var A
    mean = -rank * unit * gradient
    variance = unit**2 * rank * (np.sum(gradient**2, axis=0) + gradient**2)
    score = z_score(2 * moved[0].size * 2)
    assert (abs(moved.mean(axis=0) - mean) < score * np.sqrt(variance / samples)).all()
    squares = (moved - mean) ** 2
    error = squares.std(axis=0) / np.sqrt(samples)
    assert (abs(squares.mean(axis=0) - variance) < score * error).all()


def test_loras_default_is_that_of_its_authors_and_fits_nnx():
    init = flaxinit.lora()
    # torch.nn.init.kaiming_uniform_(a=√5): half-width √3 · √(2/(1 + a²)) / √fan_in.
    assert np.sqrt(3 * init.a.variance((48, 4))) == pytest.approx(np.sqrt(3 * 2 / 6 / 48))
    layer = nnx.LoRA(48, 4, 8, a_initializer=init.a, b_initializer=init.b, rngs=nnx.Rngs(0))
    assert not np.asarray(layer(jnp.ones((2, 48)))).any()


def test_mimetic_products_have_the_stated_distribution():
    d, heads = 96, 1
    kernels = flaxinit.mimetic(0.7, 0.6, 0.4, -0.3)(KEY, d, heads)
    q, k, v, out = (np.asarray(kernel, np.float64) for kernel in kernels)
    products = (
        (np.einsum("dhk,ehk->de", q, k), 0.7, 0.6),
        (np.einsum("dhk,hke->de", v, out), 0.4, -0.3),
    )
    for product, noise, identity in products:
        z = (product - identity * np.eye(d)) / noise * np.sqrt(d)
        assert stats.kstest(z.ravel(), stats.norm.cdf).statistic < ks_bound(z.size, CASES)
        assert abs(np.mean(z**2) - 1) < z_score(CASES) * np.sqrt(2 / z.size)
        assert abs(np.trace(z)) < z_score(CASES) * np.sqrt(d)


def test_mimetic_heads_are_balanced_best_factors():
    d, heads = 32, 4
    kernels = flaxinit.mimetic()(KEY, d, heads)
    noiseless = flaxinit.mimetic(0.0, 2.0)(KEY, d, heads)
    q, k = (np.asarray(kernel, np.float64).transpose(1, 0, 2) for kernel in kernels[:2])
    for query, key in zip(q, k, strict=True):
        gram = query.T @ query  # U √Σ and V √Σ: both Gram matrices are Σ
        np.testing.assert_allclose(gram, key.T @ key, atol=1e-5)
        np.testing.assert_allclose(gram, np.diag(np.sort(np.diag(gram))[::-1]), atol=1e-5)
        # The k largest singular values of d hold more than k/d of the squares, on average.
        assert np.mean(np.diag(gram) ** 2) > 0.7**2 + 0.7**2
    assert len({query.tobytes() for query in q}) == heads
    # Of 2 I every cut keeps a projection: twice an idempotent.
    product = np.einsum("dhk,ehk->hde", noiseless.query, noiseless.key) / 2
    np.testing.assert_allclose(product @ product, product, atol=1e-5)


def test_mimetic_promotes_no_ranks():
    with jax.numpy_rank_promotion("raise"):
        flaxinit.mimetic()(KEY, 8, 2)


def test_mimetic_kernels_fit_flaxs_attention():
    layer = nn.MultiHeadDotProductAttention(2, use_bias=False)
    params = layer.init(KEY, jnp.ones((1, 3, 8)))["params"]
    init = flaxinit.mimetic(dtype="bfloat16")
    assert eval(repr(init), {"mimetic": flaxinit.mimetic}) == init
    kernels = init(KEY, features=8, heads=2)
    assert {name: kernel.shape for name, kernel in kernels._asdict().items()} == {
        name: value["kernel"].shape for name, value in params.items()
    }
    assert kernels.query.dtype == jnp.bfloat16


def test_bad_arguments_get_a_clear_error():
    for call, message in (
        (lambda: flaxinit.siren(0), "omega must be positive"),
        (lambda: flaxinit.residual_factor(0), "layers must be a positive integer"),
        (lambda: flaxinit.fixup_factor(3, depth=1), "depth must be 2 or more"),
        (lambda: flaxinit.tfixup_factor(3, "middle"), "part must be one of"),
        (lambda: flaxinit.deepnorm_factors(1.5), "layers must be a positive integer"),
        (lambda: flaxinit.deepnorm_factors(4, "encoder"), "decoder_layers goes with"),
        (lambda: flaxinit.deepnorm_factors(4, decoder_layers=4), "decoder_layers goes with"),
        (lambda: flaxinit.residual_gamma(np.nan), "value must be finite"),
        (lambda: flaxinit.lora(-1.0), "scale must be"),
        (lambda: flaxinit.mimetic(np.inf), "query_noise must be finite"),
        (lambda: flaxinit.mimetic()(KEY, 8, 3), "multiple of heads"),
        (lambda: flaxinit.mimetic()(KEY, 8, 2, jnp.complex64), "real kernels"),
        (lambda: flaxinit.mimetic()(KEY, 0, 2), "features must be a positive integer, got 0"),
        (lambda: flaxinit.mimetic()(KEY, 8, True), "heads must be a positive integer, got True"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("scaling", [None, "density", "spectrum"])
@pytest.mark.parametrize("frame, points", [(16, 16), (12, 16)])
def test_stft_kernels_are_numpys_transform(frame, points, scaling):
    signal = np.random.default_rng(0).normal(size=frame)
    window = scipy.signal.get_window("hann", frame, fftbins=False)
    scale = {None: 1, "density": np.linalg.norm(window), "spectrum": window.sum()}[scaling]
    expected = np.fft.rfft(window * signal / scale, points)
    shape = (frame, 1, points // 2 + 1)
    for part, values in (("real", expected.real), ("imag", expected.imag)):
        kernel = flaxinit.stft(part, scaling=scaling)(None, shape)
        made = np.tensordot(signal, np.asarray(kernel[:, 0]), 1)
        # Rounding of each of `frame` products, whose factors are at most 1.
        bound = frame * np.finfo(np.float32).eps * np.abs(signal).sum()
        np.testing.assert_allclose(made, values, atol=bound, rtol=0)


def test_bad_kernels_of_the_stft_get_a_clear_error():
    with pytest.raises(ValueError, match="window='hnan'"):
        flaxinit.stft(window="hnan")
    with pytest.raises(ValueError, match=r"kernels \(frame, 1, bins\)"):
        flaxinit.stft()(None, (8, 2, 5))
    for window in (3, 3.0, ("kaiser", 8.0)):
        with pytest.raises(TypeError, match="window must be a name or None"):
            flaxinit.stft(window=window)
    with pytest.raises(TypeError, match="periodic must be True or False"):
        flaxinit.stft(periodic="no")


def test_flags_are_not_strings():
    with pytest.raises(TypeError, match="first must be True or False, got 'no'"):
        flaxinit.siren(first="no")
    with pytest.raises(TypeError, match="transposed must be True or False, got 'no'"):
        flaxinit.he(transposed="no")
