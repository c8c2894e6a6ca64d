"""What the variables of a jaxpr stand for."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from flaxinit.jaxpr import equations, is_wide


def aval(a: Var | Literal) -> Any:
    """The type of an atom: shape, dtype and what else JAX traces."""
    return a.aval  # an AbstractValue to type checkers; a ShapedArray here


def is_key(x: Any) -> bool:
    """Whether an atom, array or shape is of a typed PRNG key."""
    dtype = aval(x).dtype if isinstance(x, Var | Literal) else x.dtype
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def unwrapped(x: Any) -> Any:
    """The words of an array of keys; any other array as it is."""
    return jax.random.key_data(x) if is_key(x) else x


def wrapped(words: Any, dtype: Any) -> Any:
    """The inverse of `unwrapped`, for an array of `dtype`."""
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return words
    return jax.random.wrap_key_data(words, impl=_impl(dtype))


def weakly(x: jax.Array, kind: Any) -> jax.Array:
    """`x` with the weak type that the trace gave it, as of ``jnp.full((3,), 0.5)``."""
    if not kind.weak_type or x.weak_type:
        return x
    spec = jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=True, sharding=x.sharding)
    return jax.jit(lambda x: x, out_shardings=x.sharding).lower(spec).compile()(x)


@functools.cache
def _impl(dtype: Any) -> str:
    """The name of the PRNG of a key dtype; JAX tells it of arrays and tracers only."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), jax.ShapeDtypeStruct((), dtype))
    return found[0]


def has_64_bits(jaxpr: Jaxpr) -> bool:
    """Whether numbers of 64 bits occur that the settings of the caller do not allow."""
    return any(is_wide(a) for eqn in equations(jaxpr) for a in (*eqn.invars, *eqn.outvars))


def variables(eqn: JaxprEqn) -> list[Var]:
    """The variables that an equation reads."""
    return [a for a in eqn.invars if isinstance(a, Var)]


def size(v: Var) -> int:
    """Number of elements."""
    return math.prod(aval(v).shape)


def value(literal: Literal) -> np.ndarray:
    """A literal with the dtype that the trace gave it."""
    return np.asarray(literal.val, aval(literal).dtype)
