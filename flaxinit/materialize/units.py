"""The trace of an init function: what an eager run compiles as a whole stays a whole.

``jnp.mean`` is a jitted function that JAX inlines into a trace, where nothing tells any more that
its sum and its quotient belong together. Eagerly they are one program, in which the compiler
multiplies by a reciprocal in place of the division, and the last bit is another. A function with
a derivative of its own, on the other hand, is no program of its own eagerly: its operations are.
"""

import functools
from typing import Any

import jax
from jax.core import Trace
from jax.extend.core import ClosedJaxpr, JaxprEqn, set_current_trace
from jax.extend.core.primitives import jit_p

from flaxinit.jaxpr import called
from flaxinit.materialize.atoms import aval
from flaxinit.materialize.brevity import brief
from flaxinit.materialize.segment import MOVES

# What the parameter `inline` of a jitted call says: since JAX 0.11 one of several ways.
_KINDS = getattr(jax, "Inline", None)
_INLINED, _KEPT = (_KINDS.JAX_EARLY, _KINDS.AUTO) if _KINDS else (True, False)


class Units(Trace):
    """Hands all operations to the trace of ``jax.make_jaxpr``, calls of several as one.

    It stands in front of that trace while an init function runs. What is inside a jitted call, or
    a loop, is traced apart: there JAX inlines as it does eagerly.
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
        if primitive is jit_p and params["inline"] == _INLINED and _is_unit(params["jaxpr"]):
            params = params | {"inline": _KEPT}
        return brief(self.parent_trace.process_primitive(primitive, tracers, params))

    def process_custom_jvp_call(self, primitive, fun, jvp, tracers, /, **options) -> Any:
        with set_current_trace(self):
            return fun.call_wrapped(*tracers)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, tracers, /, **options) -> Any:
        with set_current_trace(self):
            return fun.call_wrapped(*tracers)


@functools.lru_cache(1024)  # of few functions a model makes thousands of calls
def _is_unit(program: ClosedJaxpr) -> bool:
    """Whether a call computes in several operations: one alone is rounded as it always is."""
    computing = [e for e in program.eqns if e.primitive.name not in MOVES and not _only_weak(e)]
    inside = [body for body in map(called, computing) if body is not None]
    return len(computing) > 1 or any(map(_is_unit, inside))


def _only_weak(eqn: JaxprEqn) -> bool:
    """Whether an equation changes no more of a type than that it is weak."""
    converts = eqn.primitive.name == "convert_element_type"
    return converts and aval(eqn.invars[0]).dtype == aval(eqn.outvars[0]).dtype
