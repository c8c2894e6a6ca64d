"""Draws in every dtype follow the exact distribution, rounded once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks.bounds import PARENTS, STATISTICS, Rounded, ks_bound, ks_distance, z_score
from flaxinit import normal, sampling, truncated_normal, variance_scaling
from flaxinit.versions.compat import enable_x64

N, MANY = 2**18, 2**22  # values that a case draws, and a slow one
# Complex values are sorted twice and counted, which takes 6 s of processor time for 2²².
MANY_COMPLEX = 2**20
FAN_IN = 4096
LOW = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
REAL = ("float64", "float32", *LOW)
COMPLEX = ("complex64", "complex128")


def cases(dtypes, many):
    """Each dtype with each distribution, and each dtype once with many values."""
    few = [(N, *case) for case in itertools.product(dtypes, PARENTS)]
    once = zip(dtypes, itertools.cycle(PARENTS), strict=False)
    return few + [pytest.param(many, *case, marks=pytest.mark.slow) for case in once]


CASES, COMPLEX_CASES = cases(REAL, MANY), cases(COMPLEX, MANY_COMPLEX)
FAMILY = len(CASES) * len(STATISTICS)
COMPLEX_FAMILY = len(COMPLEX_CASES) * 6
Z = z_score(FAMILY)


def scale_for(dtype) -> float:
    """1/√fan_in where the dtype can hold it; unit scale in 8 bits."""
    return 1.0 if np.dtype(dtype).itemsize == 1 else FAN_IN**-0.5


def initializer(distribution, dtype, module=None, factor=1.0):
    """Return an initializer of the variance that is asked for, times a factor."""
    build = variance_scaling if module is None else module.variance_scaling
    return build(factor * scale_for(dtype) ** 2 * FAN_IN, "fan_in", distribution)


def drawn(init, dtype, n=N, seed=0):
    with enable_x64(True):
        sample = init(jax.random.key(seed), (FAN_IN, n // FAN_IN), jnp.dtype(dtype))
        return np.asarray(sample).ravel()


def failures(raw: np.ndarray, distribution: str, dtype) -> set[str]:
    """Return the statistics by which a sample is not from the distribution."""
    shares = Rounded(PARENTS[distribution], scale_for(dtype), dtype).shares(raw, FAMILY)
    return {name for name, share in shares.items() if not share < 1}


@pytest.mark.parametrize(("n", "dtype", "distribution"), CASES)
def test_real_draws_follow_their_distribution(n, dtype, distribution):
    sample = drawn(initializer(distribution, dtype), dtype, n)
    assert failures(sample, distribution, dtype) == set()


@pytest.mark.parametrize(
    ("dtype", "distribution", "caught"),
    [
        ("bfloat16", "truncated_normal", {"mean", "distribution", "distinct", "largest"}),
        ("bfloat16", "normal", {"mean", "variance", "distribution", "distinct"}),
        ("bfloat16", "uniform", {"mean", "distribution", "distinct"}),
        ("float8_e4m3fn", "normal", {"distribution"}),
    ],
)
def test_jax_in_low_precision_is_caught(dtype, distribution, caught):
    sample = drawn(initializer(distribution, dtype, jax.nn.initializers), dtype, MANY)
    assert failures(sample, distribution, dtype) >= caught


@pytest.mark.parametrize("dtype", LOW)
def test_low_precision_is_float32_rounded_once(dtype):
    for distribution in PARENTS:
        init = initializer(distribution, dtype)
        wide = np.asarray(init(jax.random.key(1), (FAN_IN, 64), jnp.float32))
        low = np.asarray(init(jax.random.key(1), (FAN_IN, 64), jnp.dtype(dtype)))
        np.testing.assert_array_equal(low, wide.astype(low.dtype))


# |w|² in units of the variance: exponential, exponential cut at the parent's 4, uniform.
POWERS = {
    "normal": stats.expon(),
    "truncated_normal": stats.truncexpon(4, scale=1 / stats.truncexpon(4).mean()),
    "uniform": stats.uniform(0, 2),
}


def complex_failures(sample: np.ndarray, distribution: str) -> set[str]:
    """Return the statistics by which a sample is not isotropic with this variance."""
    n, power, z = sample.size, POWERS[distribution], z_score(COMPLEX_FAMILY)
    bits = {"complex64": 23, "complex128": 52}[sample.dtype.name]
    scaled = sample / scale_for(sample.dtype)
    squares, angles = np.abs(scaled) ** 2, np.angle(scaled)
    circle = stats.uniform(-np.pi, 2 * np.pi)
    distance = ks_bound(n, COMPLEX_FAMILY)
    tail = stats.norm.sf(z)
    held = {
        "variance": abs(squares.mean() - 1) < z * np.sqrt(power.var() / n),
        "modulus": ks_distance(np.sort(squares), power.cdf) < distance,
        "angle": ks_distance(np.sort(angles), circle.cdf) < distance,
        "largest": tail < power.cdf(squares.max()) ** n < 1 - tail,
        # Two uniforms of 23 or 52 bits make a value: pairs that agree are Poisson distributed.
        "distinct": n - np.unique(sample).size <= stats.poisson(n**2 / 2 / 4.0**bits).isf(tail),
        # Modulus and angle are independent: E w² = 0, with E|w²|² = E|w|⁴.
        "independence": abs(np.mean(scaled**2)) < z * np.sqrt((power.var() + 1) / n),
    }
    return {name for name, holds in held.items() if not holds}


@pytest.mark.parametrize(("n", "dtype", "distribution"), COMPLEX_CASES)
def test_complex_draws_are_isotropic_with_the_stated_variance(n, dtype, distribution):
    sample = drawn(initializer(distribution, dtype), dtype, n)
    assert sample.dtype == dtype
    assert complex_failures(sample, distribution) == set()


@pytest.mark.parametrize("distribution", PARENTS)
@pytest.mark.parametrize("dtype", [*REAL, *COMPLEX])
def test_a_variance_two_percent_off_is_caught(dtype, distribution):
    """Negative control: the fewer values of the quick cases are enough for that."""
    sample = drawn(initializer(distribution, dtype, factor=1.02), dtype)
    if dtype in COMPLEX:
        assert "variance" in complex_failures(sample, distribution)
    else:
        assert "variance" in failures(sample, distribution, dtype)


def skewed(sample):
    """Its angles are not uniform."""
    return np.abs(sample) * np.exp(1j * np.angle(sample) * 0.98).astype(sample.dtype)


def tied(sample):
    """Turn a sample: the larger the modulus, the nearer to the real axis."""
    turned = np.where(np.abs(sample.real) < np.abs(sample.imag), 1j * sample, sample)
    large = np.abs(sample) > np.median(np.abs(sample))
    return np.where(large, turned, 1j * turned).astype(sample.dtype)


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (skewed, "angle"),
        (tied, "independence"),
        (lambda sample: np.tile(sample[: N // 2], 2), "distinct"),
        (lambda sample: np.append(sample[1:], 0.2), "largest"),
        (lambda sample: np.abs(sample) ** 0.99 * sample / np.abs(sample), "modulus"),
    ],
)
def test_what_is_not_isotropic_is_caught(change, caught):
    sample = drawn(initializer("truncated_normal", "complex128"), "complex128")
    assert caught in complex_failures(change(sample), "truncated_normal")


def test_jax_complex_truncated_normal_misses_its_variance():
    """The disk cut at 2 keeps E|w|² = 1 - 4/(e⁴ - 1) of its parent, not 0.9531²."""
    init = initializer("truncated_normal", "complex64", jax.nn.initializers)
    assert "variance" in complex_failures(drawn(init, "complex64"), "truncated_normal")


@pytest.mark.parametrize("ends", [(-2, 2), (-1, 3), (0, np.inf), (-np.inf, 0.5), (1.5, 2.5)])
def test_truncated_normal_has_the_stddev_asked_for(ends):
    lower, upper = ends
    exact = stats.truncnorm(lower, upper)
    mean, variance = sampling.truncated_moments(lower, upper)
    assert mean == pytest.approx(exact.mean(), rel=1e-9)
    assert variance == pytest.approx(exact.var(), rel=1e-9)
    init = truncated_normal(0.5, lower=lower, upper=upper)
    n = 2**18
    sample = np.asarray(init(jax.random.key(2), (n,)), np.float64) * exact.std() / 0.5
    assert stats.kstest(sample, exact.cdf).statistic < ks_bound(n, 5)
    error = np.sqrt((exact.stats("k") + 2) / n) * exact.var()  # k is the excess
    assert abs(sample.var() - exact.var()) < z_score(5) * error
    assert sample.min() > lower and sample.max() < upper


def test_the_constant_of_the_cut_is_jaxs():
    assert np.sqrt(sampling.truncated_moments(-2, 2)[1]) == pytest.approx(0.87962566103423978)


@pytest.mark.parametrize("distribution", PARENTS)
@pytest.mark.parametrize("dtype", [*LOW, "float8_e3m4", "float8_e4m3b11fnuz"])
def test_rounding_moves_the_variance_by_no_more_than_stated(dtype, distribution):
    info = jnp.finfo(dtype)
    step = max(float(info.smallest_subnormal), float(jnp.finfo("float32").tiny))
    moved = {}
    for steps in np.geomspace(1, 64, 200):
        rounded = Rounded(PARENTS[distribution], steps * step, dtype)
        moved[steps] = abs(rounded.moment(2) / (steps * step) ** 2 - 1)
    assert max(moved.values()) < 0.14
    assert max(error for steps, error in moved.items() if steps >= 3) < 0.04
    if info.bits == 16:
        assert max(error for steps, error in moved.items() if steps >= 16) < 0.001


def test_a_dtype_that_cannot_hold_the_distribution_says_so():
    for dtype in LOW:
        step = float(jnp.finfo(dtype).smallest_subnormal)
        with pytest.raises(ValueError, match=rf"{dtype} cannot represent a standard deviation"):
            normal(step / 2)(jax.random.key(0), (8,), jnp.dtype(dtype))
        largest = float(jnp.finfo(dtype).max)
        with pytest.raises(ValueError, match=rf"{dtype} cannot represent values up to"):
            normal(largest / 4)(jax.random.key(0), (8,), jnp.dtype(dtype))
    # 0 is a distribution that every dtype holds.
    assert not normal(0.0)(jax.random.key(0), (8,), jnp.float8_e4m3fn).any()
