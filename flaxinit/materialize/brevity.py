"""Keep tracing linear in the depth of NNX models.

At every draw an NNX stream advances its counter, and to do so asks the traced value for its
sharding. A traced value has none; JAX says so with an error message for which it walks through
all equations so far, and nobody reads it. Forty-eight layers spend most of their tracing on that.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp

_brief: ContextVar[bool] = ContextVar("brief", default=False)


@contextlib.contextmanager
def brief_messages() -> Iterator[None]:
    """Within a trace: errors about traced values do not say where these come from."""
    _make_brief(type(jnp.zeros(())))
    token = _brief.set(True)
    try:
        yield
    finally:
        _brief.reset(token)


@functools.cache
def _make_brief(tracer: Any) -> None:
    """Give messages of a kind of tracer two lengths; once, for threads trace side by side.

    The method is private to JAX. Without it, nothing is changed and tracing is merely slower.
    """
    original = vars(tracer).get("_origin_msg")
    if callable(original):
        tracer._origin_msg = lambda *args: "" if _brief.get() else original(*args)
