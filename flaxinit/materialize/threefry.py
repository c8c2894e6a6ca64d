"""JAX's Threefry with its rounds written out.

On CPU JAX stages the hash as a loop, which keeps programs of many samplers short. A loop over
arrays passes all of them through memory in each of its turns, and is compiled as a program of its
own. Written out, hash and sampler are one pass that holds nothing but its result: several times as
fast, and compiled in half the time. Integers have no rounding: the bits are the same.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from flaxinit.materialize.atoms import aval

# Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3": Threefry of
# two 32-bit words and twenty rounds; a key word is added after every fourth.
ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
INJECTIONS = 5
PARITY = np.uint32(0x1BD11BDA)


def threefry(key: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two words that `key`, of shape (2,), makes of each index, words whose upper half is 0."""

    @functools.cache
    def words(n: int) -> jax.Array:
        return lax.broadcast(np.uint32(n), index.shape)

    keys = [lax.broadcast(k, index.shape) for k in (key[0], key[1], key[0] ^ key[1] ^ PARITY)]
    a, b = keys[0], lax.add(index, keys[1])
    for i in range(INJECTIONS):
        for r in ROTATIONS[i % 2]:
            a = lax.add(a, b)
            left, right = lax.shift_left(b, words(r)), lax.shift_right_logical(b, words(32 - r))
            b = lax.bitwise_xor(a, lax.bitwise_or(left, right))
        a = lax.add(a, keys[(i + 1) % 3])
        b = lax.add(b, lax.add(keys[(i + 2) % 3], words(i + 1)))
    return a, b


def applies(eqn: JaxprEqn) -> bool:
    """Whether `eqn` uses the hash in a way that is known here, and JAX would stage a loop."""
    key = aval(eqn.invars[0]) if eqn.primitive.name in _FORMS else None
    return (
        key is not None
        and str(key.dtype) == "key<fry>"
        and key.shape == ()
        and eqn.params.get("bit_width", 32) <= 32
        and math.prod(eqn.params.get("shape", ())) < 2**32
        and getattr(eqn.ctx, "threefry_partitionable", False)
        and jax.default_backend() == "cpu"
    )


def hashed(eqn: JaxprEqn, key: Any, *data: Any) -> jax.Array:
    """The result of an equation to which this `applies`."""
    return _FORMS[eqn.primitive.name](eqn, jax.random.key_data(key), *data)


def _bits(eqn: JaxprEqn, words: jax.Array) -> jax.Array:
    a, b = threefry(words, _flat_index(eqn.params["shape"]))
    return lax.bitwise_xor(a, b).astype(aval(eqn.outvars[0]).dtype)


def _split(eqn: JaxprEqn, words: jax.Array) -> jax.Array:
    return _key(threefry(words, _flat_index(eqn.params["shape"])))


def _fold_in(eqn: JaxprEqn, words: jax.Array, data: Any) -> jax.Array:
    return _key(threefry(words, jnp.asarray(data, jnp.uint32)))


_FORMS: dict[str, Callable] = {
    "random_bits": _bits,
    "random_split": _split,
    "random_fold_in": _fold_in,
}


def _key(words: tuple[jax.Array, jax.Array]) -> jax.Array:
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")


def _flat_index(shape: tuple[int, ...]) -> jax.Array:
    """The position of each element in row-major order."""
    index = jnp.zeros(shape, jnp.uint32)
    for dimension in range(len(shape)):
        stride = np.uint32(math.prod(shape[dimension + 1 :]))
        index += stride * lax.broadcasted_iota(jnp.uint32, shape, dimension)
    return index
