"""One flat list of equations, each with the unit in which an eager run compiles it.

Run eagerly, JAX compiles each equation of an init function on its own, and a call of a jitted
function (``jax.random.normal``, say) as a whole. Floating-point results depend on that: fused
together, ``sqrt(2) * x * stddev`` becomes one product with another rounding. The unit that an
equation belongs to is therefore kept, and respected when the equation is compiled again.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

# Calls that an eager run evaluates equation by equation, and the parameter with their body.
_TRANSPARENT = {
    "call": "call_jaxpr",
    "checkpoint": "jaxpr",  # remat, as older versions of JAX call it
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
}

# They change no value, and where each array goes is decided for the program as a whole.
_LAYOUTS = {"sharding_constraint", "device_put"}


@dataclass(frozen=True)
class Step:
    """An equation and, if it was inside a jitted call with several results, that call's number."""

    eqn: JaxprEqn
    unit: int | None


@dataclass(frozen=True)
class Flat:
    steps: list[Step]
    outputs: list[Var | Literal]
    constants: dict[Var, Any]


def flatten(jaxpr: Jaxpr, constants: dict[Var, Any]) -> Flat:
    """Inline calls that make several results; a jitted call with one result stays one equation."""
    constants = dict(constants)
    steps: list[Step] = []
    units = itertools.count()
    outputs = _inline(jaxpr, {v: v for v in constants}, None, units, steps, constants)
    return Flat(steps, outputs, constants)


def _inline(
    jaxpr: Jaxpr, env: dict, unit: int | None, units: Iterator[int], steps: list, constants: dict
) -> list[Var | Literal]:
    def read(a):
        return a if isinstance(a, Literal) else env[a]

    for eqn in jaxpr.eqns:
        inputs = [read(a) for a in eqn.invars]
        inside = body(eqn)
        if eqn.primitive.name in _LAYOUTS:
            outputs = inputs
        elif inside is None:
            # A jaxpr called twice brings the same variables twice: rename them.
            outputs = [Var(v.aval) for v in eqn.outvars]
            steps.append(Step(eqn.replace(invars=inputs, outvars=outputs), unit))
        else:
            inner = next(units) if unit is None and eqn.primitive.name == "jit" else unit
            names = dict(zip(inside.jaxpr.invars, inputs, strict=True))
            for v, x in zip(inside.jaxpr.constvars, inside.consts, strict=True):
                names[v] = Var(v.aval)
                constants[names[v]] = x
            outputs = _inline(inside.jaxpr, names, inner, units, steps, constants)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def body(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """What is inlined in place of a call, None for an equation that stays."""
    name = eqn.primitive.name
    if name == "jit" and len(eqn.outvars) > 1:
        return eqn.params["jaxpr"]
    if name in _TRANSPARENT:
        inside = eqn.params[_TRANSPARENT[name]]
        return inside if isinstance(inside, ClosedJaxpr) else ClosedJaxpr(inside, ())
    return None
