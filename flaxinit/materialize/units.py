"""Inlined calls stay calls, for eagerly each is compiled as a whole.

``jnp.mean`` is a jitted function that JAX inlines into a trace, where nothing tells any more that
its sum and its quotient belong together. Eagerly they are one program, in which the compiler
multiplies by a reciprocal in place of the division, and the last bit is another.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from jax.extend.core import JaxprEqn, jaxprs_in_params
from jax.extend.core.primitives import jit_p

from flaxinit.materialize.atoms import aval
from flaxinit.materialize.segment import MOVES

# The trace of an init function itself: what is inside a call belongs to that call.
_own: ContextVar[Any] = ContextVar("own", default=None)


@contextlib.contextmanager
def kept_calls(trace: Any) -> Iterator[None]:
    """Within it, this trace keeps calls of several operations together."""
    _keep_calls()
    token = _own.set(trace)
    try:
        yield
    finally:
        _own.reset(token)


@functools.cache
def _keep_calls() -> None:
    """Ask JAX to leave them; once for all threads, and without effect on any other trace.

    How a call is traced is private to JAX. Where that has moved, calls are inlined as before.
    """
    with contextlib.suppress(ImportError, KeyError):
        from jax._src.interpreters.partial_eval import custom_staging_rules as rules

        stage = rules[jit_p]

        def staged(trace: Any, source: Any, *values: Any, **params: Any) -> Any:
            inlined = trace is _own.get() and params.get("inline") and params.get("jaxpr")
            if inlined and _operations(inlined) > 1:
                params["inline"] = False
            return stage(trace, source, *values, **params)

        rules[jit_p] = staged


@functools.lru_cache(1024)  # of few functions a model makes thousands of calls
def _operations(jaxpr: Any) -> int:
    """How many operations of a call compute something: one alone is rounded as it always is."""
    inner = [_operations(j) for eqn in jaxpr.eqns for j in jaxprs_in_params(eqn.params)]
    computing = [e for e in jaxpr.eqns if e.primitive.name not in MOVES and not _only_weak(e)]
    return max(len(computing), sum(inner))


def _only_weak(eqn: JaxprEqn) -> bool:
    """Whether an equation changes no more of a type than that it is weak."""
    converts = eqn.primitive.name == "convert_element_type"
    return converts and aval(eqn.invars[0]).dtype == aval(eqn.outvars[0]).dtype
