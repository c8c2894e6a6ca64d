"""JAX's threefry in one pass over memory.

On a CPU `jax.random` runs the twenty rounds of threefry as a loop over whole arrays: five trips
to memory and back, and three times the result in temporaries. Here the rounds are written out as
plain arithmetic, so XLA fuses them with what uses the bits, and stores only the result. The bits
are the same.

References: Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl, threefry_prng_impl as jax_threefry
from jaxtyping import Array, PRNGKeyArray, UInt, UInt32

import flaxinit.versions.compat  # noqa: F401 - raises an error if JAX is too old

# Threefry-2x32 with twenty rounds: five groups of four rotations, of two kinds in turn, and the
# constant in the third word of the key schedule (Salmon et al. 2011).
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
GROUPS = 5
PARITY = np.uint32(0x1BD11BDA)

# Entries of 32 bits in a vector register of 512 bits. If the last of several axes has fewer entries
# and the hash is in the same loop, the compiler vectorizes arithmetic differently, and values made
# from the bits may differ from JAX's in the last bits.
ROW = 16


def typed(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return a typed key unchanged, and a legacy uint32 key as a typed one."""
    known = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if known else jax.random.wrap_key_data(key)


def one_pass(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return a key from which `jax.random` draws the same random bits in one pass.

    Args:
        key: a typed key or a legacy uint32 one.

    Returns:
        A typed key. A key of another generator than threefry is returned unchanged.

    >>> key = jax.random.key(3)
    >>> bool(jax.random.bits(one_pass(key)) == jax.random.bits(key))
    True
    """
    key = typed(key)
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_ONE_PASS)


def hash_counts(
    key: UInt32[Array, "2"], high: UInt32[Array, "..."], low: UInt32[Array, "..."]
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Hash 64-bit counts with Threefry-2x32, each given and returned as two words."""

    @functools.cache  # few operations, because a model may stage many samplers
    def words(n: int) -> Array:
        return lax.broadcast(np.uint32(n), low.shape)

    schedule = [
        lax.broadcast(word, low.shape) for word in (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    ]
    high, low = lax.add(high, schedule[0]), lax.add(low, schedule[1])
    for group in range(1, GROUPS + 1):
        for distance in ROTATIONS[(group - 1) % 2]:
            high = lax.add(high, low)
            left = lax.shift_left(low, words(distance))
            right = lax.shift_right_logical(low, words(32 - distance))
            low = lax.bitwise_xor(high, lax.bitwise_or(left, right))
        high = lax.add(high, schedule[group % 3])
        low = lax.add(low, lax.add(schedule[(group + 1) % 3], words(group)))
    return high, low


def _counts(shape: tuple[int, ...]) -> UInt32[Array, "..."] | None:
    """Return the row-major index of each entry, which JAX hashes.

    Return None to leave the array to JAX: if it is empty, has 2³² entries or more, or if
    ``jax_threefry_partitionable=False`` asks for the older way to count.
    """
    if not (jax.threefry_partitionable.value and 0 < math.prod(shape) < 2**32):
        return None
    # One iota for each axis, not one reshaped iota: this way a device counts only its own shard.
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]))
        index = index + stride * lax.broadcasted_iota(jnp.uint32, shape, axis)
    return index


def _random_bits(key: UInt32[Array, "2"], width: int, shape: tuple[int, ...]) -> UInt[Array, "..."]:
    index = _counts(shape)
    if index is None:
        return jax_threefry.random_bits(key, width, shape)
    high, low = hash_counts(key, jnp.zeros_like(index), index)
    if width == 64:
        return high.astype(jnp.uint64) << np.uint64(32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{width}")


def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    index = _counts(shape)
    if index is None:
        return jax_threefry.split(key, shape)
    return jnp.stack(hash_counts(key, jnp.zeros_like(index), index), axis=-1)


def _fold_in(key: UInt32[Array, "2"], data: int | Array) -> UInt32[Array, "2"]:
    data = jnp.asarray(data, jnp.uint32)
    return jnp.stack(hash_counts(key, jnp.zeros_like(data), data), axis=-1)


_ONE_PASS = define_prng_impl(
    key_shape=jax_threefry.key_shape,
    seed=jax_threefry.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32 in one pass",
    tag="fry1",
)
