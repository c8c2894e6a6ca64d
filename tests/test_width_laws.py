"""The law of a parameter is read off the program that draws it, whatever its size."""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from flaxinit.signal.reading.laws import laws, read
from flaxinit.signal.reading.model import programs
from flaxinit.signal.reading.reader import ONE, of_sphere
from flaxinit.signal.rules.functions import PLAIN
from flaxinit.signal.samples.signals import exact

KEY = jax.eval_shape(lambda: jax.random.key(0))
# Of the midpoint rule, for the variance of a normal.
ERROR = math.log(ONE.particles) / ONE.particles


def law(draw):
    (found,) = laws(jax.make_jaxpr(draw)(KEY), 1)
    return found


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        (flaxinit.he("relu"), 2 / 512),
        (flaxinit.lecun(distribution="uniform"), 1 / 512),
        (flaxinit.normal(0.02), 0.02**2),
        (flaxinit.truncated_normal(0.1), 0.1**2),
        (flaxinit.orthogonal(), 1 / 1024),
        (nn.initializers.orthogonal(), 1 / 1024),
        (nn.initializers.lecun_normal(), 1 / 512),
        (nn.initializers.xavier_uniform(), 2 / (512 + 1024)),
        (nn.initializers.normal(0.02), 0.02**2),
        (nn.initializers.zeros, 0),
    ],
    ids=lambda value: getattr(value, "__qualname__", repr(value)),
)
def test_variances_are_those_of_the_initializer(init, variance):
    found = law(lambda key: init(key, (512, 1024), jnp.float32))
    assert found.centered and not found.unread
    assert found.square == pytest.approx(variance, rel=ERROR)
    assert found.drawn == (variance > 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_other_dtypes_have_theirs(dtype):
    found = law(lambda key: flaxinit.normal(0.5)(key, (512, 512), dtype))
    rounding = 0 if dtype == "complex64" else float(jnp.finfo(dtype).eps)
    # Of independent real and imaginary parts the quantiles are paired at random.
    chance = 4 / math.sqrt(ONE.particles) if dtype == "complex64" else 0
    assert found.square == pytest.approx(0.25, rel=ERROR + rounding + chance)


def test_no_array_of_the_parameter_size_is_made():
    """A million by a million entries."""
    found = law(lambda key: 3 * jax.random.uniform(key, (10**6, 10**6)) - 1)
    assert (found.mean, found.square) == pytest.approx((0.5, 1.0), rel=ERROR)
    assert not found.centered


def test_stacks_and_loops_of_draws_have_the_law_of_each():
    stacked = lambda key: jax.vmap(lambda k: jax.random.normal(k, (8, 8)))(jax.random.split(key, 3))
    scanned = lambda key: jax.lax.scan(
        lambda k, _: (jax.random.split(k)[0], jax.random.normal(k, (8, 8))), key, length=3
    )[1]
    joined = lambda key: jnp.concatenate(
        [jax.random.normal(k, (8, 8)) for k in jax.random.split(key)]
    )
    for draw in (stacked, scanned, joined):
        assert law(draw).square == pytest.approx(1, rel=ERROR)


def test_constants_that_differ_are_known():
    found = law(lambda key: jnp.linspace(0.0, 1.0, 1001))
    assert not found.drawn
    exact = np.linspace(0.0, 1.0, 1001)
    assert (found.mean, found.square) == pytest.approx((0.5, np.mean(exact**2)), rel=1e-6)


def test_large_orthogonal_matrices_are_read():
    """The square of an entry has the law Beta(1/2, (n-1)/2), which is not a normal's for few n."""
    stack = flaxinit.orthogonal(batch_axis=0)
    for draw in (
        lambda key: nn.initializers.orthogonal()(key, (10**6, 100), jnp.float32),
        lambda key: flaxinit.orthogonal()(key, (100, 10**6), jnp.float32),
        lambda key: stack(key, (3, 10**6, 100), jnp.bfloat16),
        lambda key: jax.vmap(lambda k: flaxinit.orthogonal()(k, (10**6, 8)))(jax.random.split(key)),
    ):
        found = law(draw)
        assert found.drawn and found.centered and found.square == pytest.approx(1e-6, rel=1e-12)
    for n in (1, 2, 3, 50):
        entries = of_sphere(n, 2**14)
        if n > 1:
            fourth = 3 / (n * (n + 2))  # of a uniform point on the sphere
            assert np.mean(entries**4) == pytest.approx(fourth, rel=ERROR * 8)
        assert np.mean(entries**2) == pytest.approx(1 / n, rel=1e-12)


def test_a_forecast_and_mup_read_the_same_laws():
    """The sample of whole arrays and the sample of one entry: the same program, read twice."""
    init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
    model = nn.Sequential([nn.Dense(96, kernel_init=init), nn.Dense(7, kernel_init=init)])
    x = np.ones((2, 48), np.float32)
    programs_ = programs(model, [x], {})
    for n, found in enumerate(laws(programs_.init, 4)):
        signals = read(programs_, [x], [exact(x)], itertools.count(), np.random.default_rng(0))
        assert signals[n].second_moment() == pytest.approx(found.square, rel=ERROR)
        assert bool(signals[n].sources) == found.drawn


def test_every_elementwise_operation_is_run_as_in_jax():
    """Functions that NumPy lacks, against JAX, at numbers where each is defined."""
    cases = {
        **{name: [0.5] for name in ("bessel_i0e", "bessel_i1e", "digamma", "lgamma", "erf_inv")},
        **{name: [1.5, 0.5] for name in ("igamma", "igammac", "zeta")},
        "polygamma": [1.0, 0.5],
        "regularized_incomplete_beta": [1.5, 0.5, 0.25],
    }
    for name, numbers in cases.items():
        wanted = getattr(jax.lax, "betainc" if "beta" in name else name)(*numbers)
        assert PLAIN[name](*map(np.float64, numbers)) == pytest.approx(float(wanted), rel=1e-5)
    assert list(PLAIN["population_count"](np.array([0, 1, 255, 2**31]))) == [0, 1, 8, 1]


def rejected(key):
    """Draw from the part of a normal above 1, by rejection."""

    def again(state):
        key, _ = state
        key, here = jax.random.split(key)
        return key, jax.random.normal(here, ())

    return jax.lax.while_loop(lambda state: state[1] < 1, again, (key, jnp.zeros(())))[1]


@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda key: jnp.sort(jax.random.normal(key, (64,))), "meet in sort"),
        (
            lambda key: jnp.concatenate(
                [jax.random.normal(key, (8,)), 2 * jax.random.normal(key, (8,))]
            ),
            "parts are drawn from different laws",
        ),
        (lambda key: jax.random.normal(key, (64,)) * jnp.arange(64.0), "meet in mul"),
        (lambda key: jnp.cumsum(jax.random.normal(key, (64,))), "meet in cumsum"),
        (lambda key: jax.random.gamma(key, 2.0, (64,)), "made of a key by random_gamma"),
        (rejected, "depends on the condition of a loop"),
        (
            lambda key: jax.lax.cond(jax.random.bernoulli(key), jnp.sin, jnp.cos, jnp.ones(64)),
            "its draw depends on a condition",
        ),
    ],
    ids=["sorted", "parts", "scaled", "summed", "gamma", "loop", "branch"],
)
def test_what_cannot_be_read_says_why(draw, why):
    found = law(draw)
    assert why in found.unread and math.isnan(found.square)
