"""Samples of every initializer have the derived mean and variance."""

import itertools

import jax
import numpy as np
import pytest

import flaxinit
from benchmarks.bounds import PARENTS, Rounded, z_score
from flaxinit.catalogue import MOMENTS
from flaxinit.theory import CATALOGUE

FAN_IN, FAN_OUT = 256, 1024
# What each mode promises for E[φ²] = m and E[φ'²] = d, as the papers write it.
PROMISED = {
    "fan_in": lambda m, d: 1 / (FAN_IN * m),
    "fan_out": lambda m, d: 1 / (FAN_OUT * d),
    "fan_avg": lambda m, d: 2 / (FAN_IN * m + FAN_OUT * d),
    "fan_geo_avg": lambda m, d: 1 / np.sqrt(FAN_IN * m * FAN_OUT * d),
}
CASES = [
    case
    for case in itertools.product(MOMENTS, PROMISED, PARENTS, ("float32", "bfloat16"))
    if case[1] == "fan_in" or MOMENTS[case[0]][1] > 0  # a step has no gradient to keep
]
Z = z_score(2 * len(CASES))


def test_every_activation_is_a_case_in_each_mode():
    assert {activation for activation, *_ in CASES} == set(MOMENTS) == set(CATALOGUE)
    steep = {name for name, (_, derivative) in MOMENTS.items() if derivative > 0}
    for mode in PROMISED.keys() - {"fan_in"}:
        assert {name for name, asked, *_ in CASES if asked == mode} == steep


def errors(init, variance, distribution, dtype):
    """Errors of mean and variance in standard errors, against a promised variance."""
    exact = Rounded(PARENTS[distribution], np.sqrt(variance), dtype)
    # Rounding moves the variance by far less than a sample of this size resolves.
    assert abs(exact.moment(2) / variance - 1) < 1e-4
    sample = np.asarray(init(jax.random.key(0), (FAN_IN, FAN_OUT), dtype), np.float64).ravel()
    return exact.mean_error(sample), exact.variance_error(sample)


@pytest.mark.parametrize("activation", MOMENTS)
def test_samples_have_the_derived_moments(activation):
    for name, mode, distribution, dtype in CASES:
        if name != activation:
            continue
        init = flaxinit.he(activation, mode=mode, distribution=distribution)
        variance = PROMISED[mode](*MOMENTS[activation])
        assert init.variance((FAN_IN, FAN_OUT)) == pytest.approx(variance, rel=1e-12)
        assert max(errors(init, variance, distribution, dtype)) < Z, (mode, distribution, dtype)


def test_a_variance_three_percent_off_is_caught():
    for distribution, dtype in itertools.product(PARENTS, ("float32", "bfloat16")):
        init = flaxinit.variance_scaling(1.03, "fan_in", distribution)
        assert errors(init, 1 / FAN_IN, distribution, dtype)[1] > Z


def test_the_mean_of_jax_in_bfloat16_is_caught():
    init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
    assert errors(init, 1 / FAN_IN, "truncated_normal", "bfloat16")[0] > Z
