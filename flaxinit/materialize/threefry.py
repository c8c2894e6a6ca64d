"""Where an equation hashes, its rounds are written out: one pass that is quick to compile.

JAX stages the hash of Threefry as a loop on CPU, which is compiled as a program of its own and
passes whole arrays through memory in each of its turns. The bits are the same.
"""

from typing import Any

import jax
from jax.extend.core import JaxprEqn

from flaxinit.materialize.atoms import aval
from flaxinit.threefry import one_pass

# Entries of 32 bits in a vector register of 512 bits. Where the last of several axes is shorter,
# the compiler divides the arithmetic after the hash otherwise, if both are in one loop, and
# rounds it otherwise: there the hash stays the loop that it is eagerly.
SHORT = 16


def applies(eqn: JaxprEqn) -> bool:
    """Whether `eqn` hashes with one key of JAX's own Threefry, and JAX would stage a loop."""
    if eqn.primitive.name not in ("random_bits", "random_split", "random_fold_in"):
        return False
    key, shape = aval(eqn.invars[0]), eqn.params.get("shape", ())
    if eqn.primitive.name == "random_bits" and len(shape) > 1 and shape[-1] < SHORT:
        return False
    return (
        str(key.dtype) == "key<fry>"
        and key.shape == ()
        and getattr(eqn.ctx, "threefry_partitionable", False)
        and jax.default_backend() == "cpu"
    )


def hashed(eqn: JaxprEqn, key: Any, *data: Any) -> jax.Array:
    """The result of an equation to which this `applies`."""
    key = one_pass(key)
    match eqn.primitive.name:
        case "random_bits":
            return jax.random.bits(key, eqn.params["shape"], f"uint{eqn.params['bit_width']}")
        case "random_split":
            made = jax.random.split(key, eqn.params["shape"])
        case _:
            made = jax.random.fold_in(key, *data)
    return jax.random.wrap_key_data(jax.random.key_data(made), impl="threefry2x32")
