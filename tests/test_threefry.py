"""Bits in one pass are JAX's, for every shape, width, generator and layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.extend.random import threefry_2x32

from flaxinit.versions.compat import enable_x64
from flaxinit.versions.threefry import hash_counts, one_pass

WIDTHS = ("uint8", "uint16", "uint32", "uint64")
SHAPE = (512, 384)


# Random123's own test vectors for threefry2x32 of 20 rounds: key, counter, result.
VECTORS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "count", "hashed"), VECTORS)
def test_published_vectors(key, count, hashed):
    key, count = (jnp.array(words, jnp.uint32) for words in (key, count))
    np.testing.assert_array_equal(hash_counts(key, *count), hashed)
    np.testing.assert_array_equal(threefry_2x32(key, count), hashed)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shape", [(), (7,), (300, 5), (2, 1, 3, 4), (2, 0, 3)])
def test_bits_are_jaxs(shape, width):
    with enable_x64(True):
        for key in (jax.random.key(3), jax.random.PRNGKey(3), jax.random.key(3, impl="rbg")):
            ours = jax.random.bits(one_pass(key), shape, width)
            np.testing.assert_array_equal(ours, jax.random.bits(key, shape, width))


@pytest.mark.slow
@settings(deadline=None, max_examples=10)  # each shape compiles
@given(st.lists(st.integers(1, 6), max_size=5), st.integers(0, 2**63 - 1))
def test_bits_are_jaxs_for_every_shape_and_seed(shape, seed):
    key = jax.random.key(seed)
    ours, theirs = (jax.random.bits(k, tuple(shape)) for k in (one_pass(key), key))
    np.testing.assert_array_equal(ours, theirs)


def test_many_keys_at_once_and_keys_made_of_keys():
    keys = jax.random.split(jax.random.key(1), 3)
    ours = jax.vmap(lambda key: jax.random.uniform(one_pass(key), (4, 5)))(keys)
    np.testing.assert_array_equal(ours, jax.vmap(lambda key: jax.random.uniform(key, (4, 5)))(keys))
    for derived in (lambda key: jax.random.split(key)[1], lambda key: jax.random.fold_in(key, 9)):
        words = (jax.random.key_data(derived(key)) for key in (one_pass(keys[0]), keys[0]))
        np.testing.assert_array_equal(*words)


def test_the_older_way_to_count_is_jaxs_too():
    key = jax.random.key(2)
    with jax.threefry_partitionable(False):
        older = jax.random.bits(key, (9,))
        np.testing.assert_array_equal(jax.random.bits(one_pass(key), (9,)), older)
    assert (older != jax.random.bits(key, (9,))).any()


def program(draw):
    return jax.jit(lambda: draw(jax.random.key(0))).lower().compile()


def test_the_rounds_are_fused_and_store_nothing():
    ours = program(lambda key: jax.random.normal(one_pass(key), SHAPE))
    assert "while" not in ours.as_text()
    assert ours.memory_analysis().temp_size_in_bytes < np.prod(SHAPE)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX's loop is the CPU's")
def test_jaxs_loop_is_seen_to_store():
    theirs = program(lambda key: jax.random.normal(key, SHAPE))
    assert "while" in theirs.as_text()
    assert theirs.memory_analysis().temp_size_in_bytes >= 4 * np.prod(SHAPE)


@pytest.mark.parametrize("shape", [(2**16, 2**16), (1, 2**17, 2**16)])
def test_counts_above_32_bits_are_left_to_jax(shape):
    draw = jax.make_jaxpr(lambda key: jax.random.bits(one_pass(key), shape))
    assert draw(jax.random.key(0)).out_avals[0].shape == shape
    # Without a 64-bit count, entries 2^32 apart would be equal.
    lowered = jax.jit(lambda key: jax.random.bits(one_pass(key), shape)).lower(jax.random.key(0))
    assert "ui64" in lowered.as_text()
