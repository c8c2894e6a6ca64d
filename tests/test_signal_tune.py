"""Tuned draws: what a factor on each kernel keeps, held against real draws."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit

X = jax.random.normal(jax.random.key(7), (8, 256))
X = X / jnp.sqrt(jnp.mean(X**2, axis=-1, keepdims=True))  # all samples of one length


def plain(activation, depth, width=256):
    return nn.Sequential([each for _ in range(depth) for each in (nn.Dense(width), activation)])


def ends(activation, factors, draws):
    """Return E[y²] of the first and of the last kernel in some draws of LeCun's variance."""

    @jax.jit
    def one(key):
        def layer(h, x):
            key, factor = x
            y = h @ (factor * jax.random.normal(key, (256, 256)) / 16)
            return activation(y), jnp.mean(y**2)

        keys = jax.random.split(key, len(factors))
        _, squares = jax.lax.scan(layer, X, (keys, jnp.array(factors)))
        return squares[jnp.array([0, -1])]

    return np.stack([one(jax.random.key(n)) for n in range(draws)])


@pytest.mark.parametrize(
    ("activation", "level"), [(nn.relu, None), (nn.tanh, None), (nn.gelu, 400.0)]
)
def test_a_hundred_layers_keep_the_signal(activation, level):
    init = flaxinit.tune(plain(activation, 100), X, level=level)
    first, last = ends(activation, list(init.factors.values()), 64).T
    error = 3 * np.std(last, ddof=1) / np.sqrt(len(last))
    assert abs(np.mean(last) - np.mean(first)) <= max(0.1 * np.mean(first), error)
