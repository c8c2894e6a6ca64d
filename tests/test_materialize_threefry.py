"""The hash with its rounds written out is JAX's hash."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_materialize_values import assert_same_bits

import flaxinit
from flaxinit.materialize import compile
from flaxinit.versions.threefry import ROW, one_pass

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


ROUNDED = {
    "normal": jax.random.normal,
    "exponential": jax.random.exponential,
    "logistic": jax.random.logistic,
}


def rounds_alike(name, shape):
    """Whether what is made of the bits in one program is the same if the hash is in one pass."""
    draw = jax.jit(ROUNDED[name], static_argnums=1)
    return np.array_equal(draw(KEY, shape), draw(one_pass(KEY), shape))


@pytest.mark.parametrize("name", ROUNDED)
def test_long_rows_round_alike(name):
    assert all(rounds_alike(name, (37, n)) for n in (ROW, ROW + 1, 2 * ROW + 3))


@pytest.mark.parametrize("name", ROUNDED)
def test_short_rows_of_a_model_round_alike(name):
    """There the hash stays JAX's loop."""
    for shape in [(37, ROW - 1), (37, ROW // 2), (37, 3)]:
        draw = lambda key, shape=shape: ROUNDED[name](key, shape)
        assert_same_bits(flaxinit.fast_init(draw)(KEY), draw(KEY))


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="seen in compilers since JAX 0.12")
def test_short_rows_in_one_pass_do_not_round_alike():
    """Negative control: without the limit models would differ in the last bits."""
    assert not all(rounds_alike(name, (37, n)) for name in ROUNDED for n in (3, ROW - 1))
