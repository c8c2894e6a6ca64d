"""The trace under which an init function runs: a call that an eager run compiles stays a call.

``jnp.mean`` is a jitted function. JAX inlines it into a trace, and then nothing tells that its sum
and its quotient belong together. In an eager run they are one program, in which the compiler
multiplies by a reciprocal instead of dividing, and the last bit differs. A function with a custom
derivative is the opposite: an eager run compiles its operations one by one.
"""

import functools
from typing import Any

import jax
from jax.core import Trace, Tracer
from jax.extend.core import ClosedJaxpr, JaxprEqn, set_current_trace
from jax.extend.core.primitives import jit_p

from flaxinit.versions.jaxpr import MOVES, aval, called

# The parameter `inline` of a jitted call: a bool, since JAX 0.11 one of several values.
_KINDS = getattr(jax, "Inline", None)
_INLINED, _KEPT = (_KINDS.JAX_EARLY, _KINDS.AUTO) if _KINDS else (True, False)
_LONG_MESSAGES = jax.__version_info__ < (0, 11)


class EagerCalls(Trace):
    """Hands all operations to the trace of ``jax.make_jaxpr``; a call of several stays one.

    It stands in front of that trace while an init function runs. The inside of a jitted call or of
    a loop has a trace of its own, and JAX inlines there as in an eager run.
    """

    __slots__ = ("parent_trace",)

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent_trace: Any = parent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parent_trace, name)

    def stage_value(self, val: Any) -> Any:
        return self.parent_trace.stage_value(val)

    def process_primitive(self, primitive: Any, tracers: Any, params: Any, /) -> Any:
        if primitive is jit_p and params["inline"] == _INLINED and _is_program(params["jaxpr"]):
            params = params | {"inline": _KEPT}
        results = self.parent_trace.process_primitive(primitive, tracers, params)
        return _brief(results) if _LONG_MESSAGES else results

    def process_custom_jvp_call(self, primitive, fun, jvp, tracers, /, **options) -> Any:
        with set_current_trace(self):
            return fun.call_wrapped(*tracers)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, tracers, /, **options) -> Any:
        with set_current_trace(self):
            return fun.call_wrapped(*tracers)


@functools.lru_cache(1024)  # a model makes thousands of calls of few functions
def _is_program(program: ClosedJaxpr) -> bool:
    """Return whether a call computes in several operations; one alone rounds as it always does."""
    computing = [e for e in program.eqns if e.primitive.name not in MOVES and not _only_weak(e)]
    inside = [body for body in map(called, computing) if body is not None]
    return len(computing) > 1 or any(map(_is_program, inside))


def _only_weak(eqn: JaxprEqn) -> bool:
    """Return whether an equation changes only whether a type is weak."""
    converts = eqn.primitive.name == "convert_element_type"
    return converts and aval(eqn.invars[0]).dtype == aval(eqn.outvars[0]).dtype


# An NNX stream advances its counter at every draw, and asks the traced value for its sharding. A
# traced value has none. JAX 0.10 says so in a message that nobody reads, and walks through all
# equations so far to write it: ten seconds for forty-eight layers. Values of a class that answers
# briefly keep the time linear in the depth; JAX itself is not changed.


def _brief(results: Any) -> Any:
    for x in results if isinstance(results, list | tuple) else [results]:
        if isinstance(x, Tracer):
            x.__class__ = _brief_class(type(x))
    return results


@functools.cache
def _brief_class(kind: type) -> type:
    named = {"__slots__": (), "sharding": property(_no_sharding)}
    return kind if "sharding" in vars(kind) else type(kind.__name__, (kind,), named)


def _no_sharding(x: Tracer) -> Any:
    raise AttributeError("A traced value has no sharding.")
