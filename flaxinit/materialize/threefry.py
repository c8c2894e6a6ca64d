"""JAX's random bits with the rounds of the hash written out.

On CPU JAX stages Threefry as a loop, which keeps programs of many samplers short. A loop over
arrays passes all of them through memory in each of its turns, and the sampler behind it in one
more. Written out, hash and sampler are one pass: several times as fast, and quicker to compile
lightly, since a loop is compiled as a program of its own. Integers have no rounding: the bits are
the same.
"""

import math
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


def threefry_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random words: the hash of each element's flat index, its two halves combined.

    Args:
      key: (2,) words.
      shape: of less than 2^32 elements, so that the upper word of the index is 0.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ PARITY
    index = jnp.zeros(shape, jnp.uint32)
    for dimension in range(len(shape)):
        stride = np.uint32(math.prod(shape[dimension + 1 :]))
        index += stride * lax.broadcasted_iota(jnp.uint32, shape, dimension)
    a, b = jnp.full(shape, keys[0]), index + keys[1]
    for i in range(INJECTIONS):
        for r in ROTATIONS[i % 2]:
            a = a + b
            b = (b << r) | (b >> (32 - r))
            b = a ^ b
        a = a + keys[(i + 1) % 3]
        b = b + keys[(i + 2) % 3] + np.uint32(i + 1)
    return a ^ b


def applies(eqn: JaxprEqn) -> bool:
    """Whether `eqn` draws bits that JAX would hash in a loop over these indices."""
    if eqn.primitive.name != "random_bits" or jax.default_backend() != "cpu":
        return False
    key, (bits,) = eqn.invars[0], eqn.outvars
    return (
        str(aval(key).dtype) == "key<fry>"
        and aval(key).shape == ()
        and eqn.params["bit_width"] <= 32
        and 0 < math.prod(aval(bits).shape) < 2**32
        and jax.config.jax_threefry_partitionable
    )


def draw_bits(eqn: JaxprEqn, key: Any) -> jax.Array:
    """The result of an equation to which this `applies`."""
    bits = threefry_bits(jax.random.key_data(key), eqn.params["shape"])
    return bits.astype(aval(eqn.outvars[0]).dtype)
