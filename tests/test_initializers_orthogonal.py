"""Orthogonal kernels: orthonormal up to rounding, and Haar-distributed."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flaxinit
from benchmarks.bounds import ALPHA, gram_bound, gram_error, z_score
from flaxinit.initializers import haar
from flaxinit.versions.compat import enable_x64

KEY = jax.random.key(11)
M = 2**15  # matrices
CASES = 40  # assertions on samples in this file, an upper bound


# Wide and tall ones; of one block, of three equal blocks, and with a shorter last block.
SHAPES = [(1, 1), (7, 1), (5, 3), (3, 5), (64, 64), (300, 520), (520, 301), (530, 9)]
ORTHONORMAL = [
    *((shape, "float32") for shape in SHAPES),
    *itertools.product(
        [(5, 3), (300, 520), (520, 301)], ["complex64", "bfloat16", "float16", "float64"]
    ),
]


@pytest.mark.parametrize(("shape", "dtype"), ORTHONORMAL)
def test_rows_or_columns_are_orthonormal(shape, dtype):
    with enable_x64(dtype == "float64"):
        w = np.asarray(flaxinit.orthogonal()(KEY, shape, jnp.dtype(dtype)))
    assert gram_error(w) < gram_bound(shape, w.dtype)


def test_axes_batches_and_scales():
    kernel = flaxinit.orthogonal(2.0, column_axis=0)(KEY, (6, 2, 4))
    assert gram_error(np.asarray(kernel).reshape(6, 8), 2.0) < 1e-5
    stack = flaxinit.orthogonal(column_axis=2, batch_axis=(0, -1))(KEY, (3, 5, 4, 2))
    matrices = np.moveaxis(np.asarray(stack), -1, 1).reshape(6, 5, 4)
    assert max(map(gram_error, matrices)) < 1e-5
    assert len({matrix.tobytes() for matrix in matrices}) == 6
    scaled = flaxinit.semi_orthogonal()(KEY, (16, 64))
    np.testing.assert_allclose(np.linalg.svd(scaled, compute_uv=False), 2.0, rtol=1e-5)
    assert flaxinit.orthogonal()(KEY, (0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match="two axes besides batch_axis"):
        flaxinit.orthogonal()(KEY, (3,))


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 5, 6, 4), (1, 2, 3, 4, 4)])
def test_delta_orthogonal_keeps_norms(shape):
    kernel = np.asarray(flaxinit.delta_orthogonal()(KEY, shape))
    center = tuple((size - 1) // 2 for size in shape[:-2])
    assert gram_error(kernel[center]) < 1e-5
    assert np.count_nonzero(kernel) == np.count_nonzero(kernel[center])


def haar_sample(n, dtype, block, monkeypatch, count=M):
    """`count` matrices, in blocks so small that several make one matrix."""
    monkeypatch.setattr(haar, "BLOCK", block)
    draw = functools.partial(haar.orthonormal, rows=n, columns=n, dtype=dtype)
    keys = jax.random.split(KEY, count)
    return np.asarray(jax.jit(draw)(keys))


def within(sample, mean, variance):
    """Return whether the sample's mean is within the bound for an exact mean and variance."""
    return abs(np.mean(sample) - mean) < z_score(CASES) * np.sqrt(variance / sample.size)


def trace_moments_hold(q) -> bool:
    """E tr² = 1 and E tr⁴ = 3 on O(n), n >= 4 (Diaconis, Shahshahani 1994); E tr⁸ <= 105."""
    trace = np.trace(q, axis1=1, axis2=2)
    return within(trace, 0, 1) and within(trace**2, 1, 2) and within(trace**4, 3, 105 - 9)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_real_matrices_are_haar(block, monkeypatch):
    n = 4
    q = haar_sample(n, jnp.float32, block, monkeypatch).astype(np.float64)
    assert trace_moments_hold(q)
    # An entry squared is Beta(1/2, (n-1)/2).
    entry = stats.beta(0.5, (n - 1) / 2)
    for i in range(n):
        for j in range(n):
            assert stats.kstest(q[:, i, j] ** 2, entry.cdf).pvalue > ALPHA / (CASES * n * n)
    assert within(np.linalg.det(q), 0, 1)  # both signs, equally often


def test_complex_matrices_are_haar(monkeypatch):
    n = 4
    q = haar_sample(n, jnp.complex64, 3, monkeypatch).astype(np.complex128)
    # E|tr|² = 1 and E|tr|⁴ = 2 on U(n), so Var|tr|² = 1; E|tr|⁸ = 24.
    power = np.abs(np.trace(q, axis1=1, axis2=2)) ** 2
    assert within(power, 1, 1) and within(power**2, 2, 24 - 4)
    assert stats.kstest(np.abs(q[:, 1, 2]) ** 2, stats.beta(1, n - 1).cdf).pvalue > ALPHA / CASES
    angle = stats.uniform(-np.pi, 2 * np.pi)
    assert stats.kstest(np.angle(np.linalg.det(q)), angle.cdf).pvalue > ALPHA / CASES


def test_the_distribution_is_that_of_qr_and_invariant_under_rotation(monkeypatch):
    n = 5
    ours = haar_sample(n, jnp.float32, 2, monkeypatch)
    theirs = np.asarray(jax.random.orthogonal(jax.random.key(5), n, (M,)))
    rotation = np.asarray(jax.random.orthogonal(jax.random.key(6), n))
    statistics = {
        "trace": lambda q: np.trace(q, axis1=1, axis2=2),
        "corner": lambda q: q[:, 0, 0],
        "minor": lambda q: q[:, 0, 0] * q[:, 1, 1] - q[:, 0, 1] * q[:, 1, 0],
        "last column": lambda q: q[:, :, -1] @ np.arange(1.0, n + 1),
    }
    for name, statistic in statistics.items():
        for rotated in (ours, rotation @ ours, ours @ rotation):
            result = stats.ks_2samp(statistic(rotated), statistic(theirs))
            assert result.pvalue > ALPHA / CASES, name


def test_qr_without_the_signs_is_caught():
    gaussian = np.random.default_rng(0).standard_normal((M, 4, 4))
    assert not trace_moments_hold(np.linalg.qr(gaussian)[0])


def test_identity_passes_the_signal_on():
    x = np.arange(12.0).reshape(1, 3, 4)
    kernel = flaxinit.identity()(KEY, (3, 4, 4))
    same = jax.lax.conv_general_dilated(
        jnp.asarray(x, jnp.float32), kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_array_equal(same, x)
    grouped = jax.lax.conv_general_dilated(
        jnp.asarray(x, jnp.float32),
        flaxinit.identity(2.0, groups=2)(KEY, (1, 2, 4)),
        (1,),
        "SAME",
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=2,
    )
    np.testing.assert_array_equal(grouped, 2 * x)


def test_sparse_columns_have_exactly_their_zeros_and_variance():
    init = flaxinit.sparse(0.75, 2.0)
    w = np.asarray(init(KEY, (64, 4096)), np.float64)
    assert ((w == 0).sum(axis=0) == 48).all()
    # A mixture of 0 and N(0, s²): E w⁴ = 3 s⁴ · share.
    variance = init.variance(w.shape)
    fourth = 3 * 2.0**4 / 4
    assert within(w**2, variance, fourth - variance**2) and within(w, 0, variance)
    zeros_by_row = (w == 0).sum(axis=1)
    assert stats.chisquare(zeros_by_row).pvalue > ALPHA / CASES


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (3, 3, 6, 4)])
def test_entries_have_the_stated_variance(shape):
    for init in (flaxinit.orthogonal(1.5), flaxinit.semi_orthogonal(), flaxinit.delta_orthogonal()):
        if isinstance(init, type(flaxinit.delta_orthogonal())) and len(shape) < 3:
            continue
        # The sum of squares is fixed by the singular values: exact, not only on average.
        w = np.asarray(init(KEY, shape), np.float64)
        assert np.mean(w**2) == pytest.approx(init.variance(shape), rel=1e-5)
