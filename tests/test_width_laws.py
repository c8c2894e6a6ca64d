"""The law of a parameter is read off the program that draws it, whatever its size."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from flaxinit.width.laws import _POINTS, laws

KEY = jax.eval_shape(lambda: jax.random.key(0))
# Of the midpoint rule, for the variance of a normal.
ERROR = math.log(_POINTS) / _POINTS


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
    chance = 4 / math.sqrt(_POINTS) if dtype == "complex64" else 0
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
    ],
    ids=["sorted", "parts", "scaled", "summed"],
)
def test_what_cannot_be_read_says_why(draw, why):
    found = law(draw)
    assert why in found.unread and math.isnan(found.square)
