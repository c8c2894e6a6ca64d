"""Flatten a program to a list of equations, each with the unit that an eager run compiles.

In an eager run JAX compiles each equation of an init function on its own, and a call of a jitted
function such as ``jax.random.normal`` as a whole. Floating-point results depend on that: if the two
products of ``sqrt(2) * x * stddev`` are fused, they become one, which rounds differently. So each
equation keeps its unit, and is compiled within it.
"""

import itertools
from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from flaxinit.versions.jaxpr import called, closed, evaluate

# These change no value, and `places` decides where each array goes.
_LAYOUTS = {"sharding_constraint", "device_put"}


@dataclass(frozen=True)
class Step:
    """An equation and, if it was inside a jitted call with several results, that call's number."""

    eqn: JaxprEqn
    unit: int | None


@dataclass(frozen=True)
class Flat:
    """A program as steps. Its inputs are `constants`, each with its value."""

    steps: list[Step]
    outputs: list[Var | Literal]
    constants: dict[Var, Any]


def flatten(jaxpr: Jaxpr, constants: dict[Var, Any]) -> Flat:
    """Inline calls that make several results; a jitted call with one result stays one equation."""
    constants = dict(constants)
    steps: list[Step] = []
    units = itertools.count()

    def inline(program: ClosedJaxpr, inputs: list, unit: int | None) -> list[Any]:
        def apply(eqn: JaxprEqn, inputs: list) -> list[Any]:
            if eqn.primitive.name in _LAYOUTS:
                return inputs
            inside = _inlined(eqn)
            if inside is not None:
                call = next(units) if unit is None and eqn.primitive.name == "jit" else unit
                return inline(inside, inputs, call)
            # A program called twice brings the same variables twice: rename them.
            outputs = [Var(v.aval) for v in eqn.outvars]
            steps.append(Step(eqn.replace(invars=inputs, outvars=outputs), unit))
            return outputs

        def constant(atom: Var | Literal, value: Any) -> Var | Literal:
            if isinstance(atom, Literal):
                return atom
            name = Var(atom.aval)
            constants[name] = value
            return name

        return evaluate(program, inputs, apply, constant)

    return Flat(steps, inline(closed(jaxpr), list(jaxpr.invars), None), constants)


def _inlined(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the program of a call whose equations become steps, None for other equations."""
    name = eqn.primitive.name
    of_devices = name in ("custom_partitioning", "shard_map")
    kept = of_devices or (name == "jit" and len(eqn.outvars) == 1)
    return None if kept else called(eqn)
