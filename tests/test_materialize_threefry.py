"""The hash with its rounds written out is JAX's hash."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_materialize_values import assert_same_bits

import flaxinit
from flaxinit.materialize import compile

KEY = jax.random.key(23)
DATA = np.uint32(0xFFFFFFFF)

KNOWN = {
    "bits of a vector": lambda key: jax.random.bits(key, (1001,)),
    "bits of an array": lambda key: jax.random.bits(key, (3, 5, 17)),
    "bits of a scalar": lambda key: jax.random.bits(key),
    "no bits": lambda key: jax.random.bits(key, (0, 16)),
    "bytes": lambda key: jax.random.bits(key, (33,), jnp.uint8),
    "halves": lambda key: jax.random.bits(key, (33,), jnp.uint16),
    "split": lambda key: jax.random.split(key, 5),
    "split into an array": lambda key: jax.random.split(key, (2, 3)),
    "fold in": lambda key: jax.random.fold_in(key, DATA),
}


def older(key):
    with jax.threefry_partitionable(False):
        return jax.random.bits(key, (9,))


OTHERS = {
    "older": older,  # the index of an element was hashed with that of another
    "a batch of keys": jax.vmap(jax.random.bits),
}


def equation(function, *arguments):
    (eqn,) = jax.make_jaxpr(function)(*arguments).eqns
    return eqn


@pytest.mark.parametrize("name", KNOWN)
def test_words_of_the_hash(name):
    eqn = equation(KNOWN[name], KEY)
    assert compile.hashes(eqn)
    values = [KEY, DATA][: len(eqn.invars)]
    (made,) = compile.stage(eqn, values)
    assert_same_bits(made, KNOWN[name](KEY))


def test_what_is_left_to_jax():
    keys = jax.random.split(KEY, 3)
    assert not compile.hashes(equation(older, KEY))
    assert not compile.hashes(equation(jax.vmap(jax.random.bits), keys))
    assert not compile.hashes(equation(jax.random.bits, jax.random.key(0, impl="rbg")))
    assert not compile.hashes(equation(lambda key: jax.random.bits(key, (8, 15)), KEY))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_left_to_jax_is_right(name):
    argument = KEY if name == "older" else jax.random.split(KEY, 3)
    assert_same_bits(flaxinit.fast_init(OTHERS[name])(argument), OTHERS[name](argument))


def test_samplers_have_no_loop():
    """The whole sampler is one pass over its result; JAX's own has a loop."""
    eqn = equation(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (8, 16)), KEY)

    def text(function):
        return jax.jit(function).lower(KEY).as_text()

    bounds = [np.float32(-2), np.float32(2)]
    assert "while" in text(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (8, 16)))
    assert "while" not in text(lambda key: compile.stage(eqn, [key, *bounds][: len(eqn.invars)]))
