"""What the variables of a jaxpr stand for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var


def aval(a: Var | Literal) -> Any:
    """The type of an atom: shape, dtype and what else JAX traces."""
    return a.aval  # an AbstractValue to type checkers; a ShapedArray here


def is_key(x: Any) -> bool:
    """Whether an atom, array or shape is of a typed PRNG key."""
    dtype = aval(x).dtype if isinstance(x, Var | Literal) else x.dtype
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def variables(eqn: JaxprEqn) -> list[Var]:
    """The variables that an equation reads."""
    return [a for a in eqn.invars if isinstance(a, Var)]


def size(v: Var) -> int:
    """Number of elements."""
    return int(np.prod(aval(v).shape, dtype=np.int64))


def value(literal: Literal) -> np.ndarray:
    """A literal with the dtype that the trace gave it."""
    return np.asarray(literal.val, aval(literal).dtype)
