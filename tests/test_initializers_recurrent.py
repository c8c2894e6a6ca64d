"""Recurrent initializers: each has the spectrum or the biases that its docstring states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flaxinit
from benchmarks.bounds import ks_bound, z_score

KEY = jax.random.key(4)
N = 2**18
CASES = 20  # assertions on samples in this file, an upper bound


def variance_is(sample, variance) -> bool:
    centered = (sample - sample.mean()) ** 2
    return abs(centered.mean() - variance) < z_score(CASES) * centered.std() / np.sqrt(sample.size)


@pytest.mark.parametrize("order", ["ifgo", "fiog"])
def test_gate_biases(order):
    bias = np.asarray(flaxinit.forget_bias(2.0, order)(KEY, (20,))).reshape(4, 5)
    assert (bias[order.index("f")] == 2).all() and np.count_nonzero(bias) == 5
    init = flaxinit.chrono(50, order)
    bias = np.asarray(init(KEY, (4 * N,)), np.float64).reshape(4, N)
    forget = bias[order.index("f")]
    np.testing.assert_array_equal(bias[order.index("i")], -forget)
    assert not bias[order.index("g")].any() and not bias[order.index("o")].any()
    memory = stats.uniform(1, 48)
    assert stats.kstest(np.exp(forget), memory.cdf).statistic < ks_bound(N, CASES)
    assert variance_is(forget, init.variance((4,)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_gates_are_independent_orthogonal_blocks(dtype):
    n, gates = 16, 3
    init = flaxinit.gated_orthogonal(gates, 2.0)
    kernel = init(KEY, (n, gates * n), jnp.dtype(dtype))
    assert kernel.dtype == dtype
    compute = np.complex128 if dtype == "complex64" else np.float64
    blocks = np.split(np.asarray(kernel).astype(compute) / 2, gates, axis=1)
    # As for one matrix: a small multiple of eps for each reflection, and eps/2 for each rounding.
    eps = float(jnp.finfo(dtype).eps)
    bound = 8 * n * float(jnp.finfo(jnp.float32).eps) + eps * np.sqrt(n)
    for block in blocks:
        assert np.abs(block.conj().T @ block - np.eye(n)).max() < bound
    # Apart from rounding their squares sum to n in every draw.
    power = np.mean(np.abs(np.concatenate(blocks)) ** 2) * 4
    assert power == pytest.approx(init.variance((n, gates * n)), rel=2 * bound)
    # tr(Q₁ᴴ Q₂) of independent Haar matrices has mean 0 and E|tr|² = 1; equal blocks give n.
    for a, b in ((0, 1), (0, 2), (1, 2)):
        trace = abs(np.trace(blocks[a].conj().T @ blocks[b]))
        assert trace < z_score(CASES) < n


@pytest.mark.parametrize(("r_min", "r_max", "max_phase"), [(0, 1, 2 * np.pi), (0.9, 0.999, 0.3)])
def test_eigenvalues_are_uniform_on_the_ring(r_min, r_max, max_phase):
    nu_init, theta_init = flaxinit.lru_nu(r_min, r_max), flaxinit.lru_theta(max_phase)
    first, second = jax.random.split(KEY)
    nu = np.asarray(nu_init(first, (N,)), np.float64)
    theta = np.asarray(theta_init(second, (N,)), np.float64)
    assert variance_is(nu, nu_init.variance((N,)))
    assert variance_is(theta, theta_init.variance((N,)))
    # Uniform on an area means that the squared modulus and the phase are uniform.
    eigenvalue = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    square = np.abs(eigenvalue) ** 2
    area = stats.uniform(r_min**2, r_max**2 - r_min**2)
    assert stats.kstest(square, area.cdf).statistic < ks_bound(N, CASES)
    phase = stats.uniform(0, max_phase)
    assert stats.kstest(np.angle(eigenvalue) % (2 * np.pi), phase.cdf).statistic < ks_bound(
        N, CASES
    )
    # Float32 keeps 1 - |λ|² = exp(2 gamma) to its own precision, near the unit circle too.
    gamma = np.asarray(flaxinit.lru_gamma(jnp.asarray(nu, jnp.float32)), np.float64)
    np.testing.assert_allclose(np.exp(2 * gamma), 1 - square, rtol=1e-5)


def test_a_ring_of_uniform_moduli_is_caught():
    modulus = np.random.default_rng(0).uniform(size=N)
    assert stats.kstest(modulus**2, stats.uniform().cdf).statistic > ks_bound(N, CASES)


def test_the_normalizer_gives_states_of_unit_variance():
    """``x' = λ x + γ u``: the variance γ² Σ |λ|^2t of the stationary state is 1."""
    nu = flaxinit.lru_nu(0.2, 0.9)(KEY, (8,))
    modulus = np.exp(-np.exp(np.asarray(nu, np.float64)))
    powers = modulus[:, None] ** (2 * np.arange(1000))  # 0.9^2000 is below float64's eps
    gamma = np.exp(np.asarray(flaxinit.lru_gamma(nu), np.float64))
    np.testing.assert_allclose(gamma**2 * powers.sum(axis=1), 1, rtol=1e-5)


def test_s4d_lin_are_the_frequencies_of_a_fourier_series():
    diagonal = np.asarray(flaxinit.s4d_lin()(KEY, (3, 8)))
    np.testing.assert_allclose(diagonal, np.tile(-0.5 + 1j * np.pi * np.arange(8), (3, 1)), 1e-6)
    assert flaxinit.s4d_lin().variance((3, 8)) == 0


@pytest.mark.parametrize("size", [16, 64, 256])
def test_s4d_inv_approaches_the_spectrum_of_hippo_legs(size):
    """The fastest frequency, N²/π - N/π, is that of LegS's normal part up to a share of 1/N."""
    root = np.sqrt(2 * np.arange(size) + 1)
    skew = np.sign(np.subtract.outer(np.arange(size), np.arange(size)))
    fastest = np.abs(np.linalg.eigvals(np.outer(root, root) * skew / 2).imag).max()
    ours = np.asarray(flaxinit.s4d_inv()(KEY, (size // 2,)))
    assert (ours.real == -0.5).all() and (np.diff(ours.imag) < 0).all()
    assert abs(fastest / ours.imag[0] - 1) < 1 / size
    if size == 16:  # a state of the wrong size is caught: N = 8 would give a quarter
        assert abs(fastest / flaxinit.s4d_inv().frequencies(4)[0] - 1) > 1


def test_bad_recurrent_arguments_get_a_clear_error():
    for call, message in (
        (lambda: flaxinit.forget_bias(order="abcd"), "order must be"),
        (lambda: flaxinit.chrono(2), "above 2"),
        (lambda: flaxinit.chrono(9)(KEY, (6,)), "multiple of 4"),
        (lambda: flaxinit.chrono(9)(KEY, (8,), jnp.complex64), "real"),
        (lambda: flaxinit.gated_orthogonal(0), "gates must be a positive integer"),
        (lambda: flaxinit.gated_orthogonal(3)(KEY, (4, 16)), "gates · units"),
        (lambda: flaxinit.lru_nu(0.9, 0.5), "r_min < r_max"),
        (lambda: flaxinit.lru_nu(0.9, 1.5), "states grow"),
        (lambda: flaxinit.lru_nu()(KEY, (4,), jnp.complex64), "real parameter"),
        (lambda: flaxinit.lru_theta(7), "max_phase must be"),
        (lambda: flaxinit.s4d_inv()(KEY, (4,), jnp.float32), "Ask for complex64"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
