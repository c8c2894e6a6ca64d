"""The initializers of research code: each against the statement in its docstring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bounds import PARENTS, Rounded, ks_bound, z_score
from scipy import stats

import flaxinit

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
    """Inputs with the arcsine distribution, as the sine of a uniform phase has."""
    width, batch, omega = 1024, 64, 30.0
    x = np.sin(np.random.default_rng(0).uniform(-np.pi, np.pi, (batch, width)))
    phases = omega * x @ np.asarray(flaxinit.siren(omega)(KEY, (width, width)), np.float64)
    # Given x, a column's mean over the batch has expectation 2 mean(x²); columns are independent.
    columns, expected = np.mean(phases**2, axis=0), 2 * np.mean(x**2)
    assert abs(columns.mean() - expected) < z_score(CASES) * columns.std() / np.sqrt(width)
    assert abs(expected - 1) < z_score(CASES) * np.sqrt(0.5 / x.size)  # Var(2 sin²) = 1/2


def test_factors_multiply_the_standard_deviation():
    init = flaxinit.he("gelu", mode="fan_avg")
    for factor in (
        flaxinit.residual_factor(12, branches=2),
        flaxinit.fixup_factor(12, depth=3),
        flaxinit.deepnorm_factors(12).weights,
        flaxinit.tfixup_factor(12, "decoder"),
    ):
        scaled = init.times(factor)
        assert scaled.std((30, 40)) == pytest.approx(factor * init.std((30, 40)))
    for call in (
        lambda: flaxinit.residual_factor(0),
        lambda: flaxinit.fixup_factor(3, depth=1),
        lambda: flaxinit.tfixup_factor(3, "middle"),
        lambda: flaxinit.deepnorm_factors(1.5),
    ):
        with pytest.raises(ValueError):
            call()


def test_residual_factor_doubles_the_stream():
    layers, width = 24, 512
    kernel = flaxinit.lecun().times(flaxinit.residual_factor(layers))
    x = np.random.default_rng(1).standard_normal(width)
    start = np.mean(x**2)
    norm = x / np.sqrt(start)  # branches see a normalised input, as after a layer norm
    for key in jax.random.split(KEY, layers):
        x = x + norm @ np.asarray(kernel(key, (width, width)), np.float64)
        norm = x / np.sqrt(np.mean(x**2))
    # Given the start, each entry gains N(0, 1): its square's mean has variance 2/width, and the
    # cross term 2 mean(x·gain) has 4 start/width.
    bound = z_score(CASES) * np.sqrt((2 + 4 * start) / width)
    assert abs(np.mean(x**2) - start - 1) < bound


@pytest.mark.parametrize("order", ["ifgo", "fiog"])
def test_gate_biases(order):
    bias = np.asarray(flaxinit.forget_bias(2.0, order)(KEY, (20,))).reshape(4, 5)
    assert (bias[order.index("f")] == 2).all() and np.count_nonzero(bias) == 5
    init = flaxinit.chrono(50, order)
    n = 2**18
    bias = np.asarray(init(KEY, (4 * n,)), np.float64).reshape(4, n)
    forget = bias[order.index("f")]
    np.testing.assert_array_equal(bias[order.index("i")], -forget)
    assert not bias[order.index("g")].any() and not bias[order.index("o")].any()
    memory = stats.uniform(1, 48)
    assert stats.kstest(np.exp(forget), memory.cdf).statistic < ks_bound(n, CASES)
    spread = np.sqrt(np.var((forget - forget.mean()) ** 2) / n)
    assert abs(forget.var() - init.variance((4,))) < z_score(CASES) * spread


def test_bad_gates_get_a_clear_error():
    for call, message in (
        (lambda: flaxinit.forget_bias(order="abcd"), "order must be"),
        (lambda: flaxinit.chrono(2), "above 2"),
        (lambda: flaxinit.chrono(9)(KEY, (6,)), "multiple of 4"),
        (lambda: flaxinit.siren(0), "omega must be positive"),
        (lambda: flaxinit.chrono(9)(KEY, (8,), jnp.complex64), "real"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
