"""Keep tracing linear in the depth of NNX models.

At every draw an NNX stream advances its counter, and to do so asks the traced value for its
sharding. A traced value has none; JAX says so with an error message for which it walks through
all equations so far, and nobody reads it. Forty-eight layers spend most of their tracing on that.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp


@contextlib.contextmanager
def brief_messages() -> Iterator[None]:
    """Within a trace: errors about traced values do not say where these come from.

    The method is private to JAX. Without it, nothing is changed and tracing is merely slower.
    """
    tracer: Any = type(jnp.zeros(()))
    original = vars(tracer).get("_origin_msg")
    if original is None:
        yield
        return
    tracer._origin_msg = lambda self: ""
    try:
        yield
    finally:
        tracer._origin_msg = original
