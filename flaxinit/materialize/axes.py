"""Axes of meshes: Auto, which the compiler propagates, in place of Explicit, which types name.

On explicit axes, the default of ``jax.make_mesh``, shardings are part of types. Where arrays go is
decided here for a program as a whole, so that its types must not say it as well.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, Sharding

from flaxinit.jaxpr import closed, equations, evaluate
from flaxinit.materialize.atoms import aval

# They change a type and no value.
_CASTS = {"reshard", "mesh_cast"}


def auto_mesh(mesh: Any) -> Any:
    """`mesh` with axes of type Auto."""
    types = (AxisType.Auto,) * len(mesh.axis_names)
    if isinstance(mesh, AbstractMesh):
        return mesh.update(axis_types=types)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def auto(sharding: Sharding | None) -> Sharding | None:
    """The same placement on a mesh whose axes the compiler propagates."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(auto_mesh(sharding.mesh), sharding.spec, memory_kind=sharding.memory_kind)


def is_explicit(v: Var | Literal) -> bool:
    """Whether the type of an atom says how it is laid out."""
    sharding = getattr(aval(v), "sharding", None)
    return sharding is not None and bool(sharding.mesh.explicit_axes)


def has_types(jaxpr: Jaxpr) -> bool:
    """Whether any type in a program says how an array is laid out."""
    made = (v for eqn in equations(jaxpr) for v in eqn.outvars)
    return any(map(is_explicit, itertools.chain(jaxpr.invars, made)))


def without_types(jaxpr: Jaxpr, constants: dict[Var, Any]) -> tuple[Jaxpr, dict[Var, Any]]:
    """The program as it is traced where all axes are Auto."""

    def parameter(x: Any) -> Any:
        match x:
            case Jaxpr() | ClosedJaxpr():
                return body(x)
            case Mesh() | AbstractMesh() if x.explicit_axes:
                return auto_mesh(x)
            case NamedSharding() if x.mesh.explicit_axes:
                return auto(x)
        return tuple(map(parameter, x)) if type(x) is tuple else x

    def parameters(eqn: JaxprEqn) -> dict[str, Any]:
        name, params = eqn.primitive.name, eqn.params
        if name == "shard_map":  # on the axes inside, which are Manual, it is as it is
            return params | {"mesh": parameter(params["mesh"])}
        # What a result is typed as; in a constraint, what it asks for.
        types = set() if name == "sharding_constraint" else {"sharding", "out_sharding"}
        return {k: None if k in types else parameter(x) for k, x in params.items()}

    def untyped(v: Var) -> Var:
        return Var(aval(v).update(sharding=None)) if is_explicit(v) else v

    @functools.cache  # layers share the bodies of their calls
    def body(program: Jaxpr | ClosedJaxpr) -> Jaxpr | ClosedJaxpr:
        constvars: list[Var] = []
        eqns: list[JaxprEqn] = []

        def constant(atom: Var | Literal, _: Any) -> Var | Literal:
            if isinstance(atom, Literal):
                return atom
            constvars.append(untyped(atom))
            return constvars[-1]

        def apply(eqn: JaxprEqn, inputs: list) -> list[Any]:
            if eqn.primitive.name in _CASTS:
                return inputs
            outputs = list(map(untyped, eqn.outvars))
            new = {"invars": inputs, "outvars": outputs, "params": parameters(eqn)}
            eqns.append(eqn.replace(**new, ctx=_context(eqn.ctx)))
            return outputs

        whole = closed(program)
        invars = list(map(untyped, whole.jaxpr.invars))
        outvars = evaluate(whole, invars, apply, constant)
        plain = whole.jaxpr.replace(constvars=constvars, invars=invars, eqns=eqns, outvars=outvars)
        return ClosedJaxpr(plain, whole.consts) if isinstance(program, ClosedJaxpr) else plain

    plain: Any = body(jaxpr)
    renamed = zip(jaxpr.invars, plain.invars, strict=True)
    return plain, {new: constants[old] for old, new in renamed}


@functools.cache
def _context(settings: Any) -> Any:
    """The settings of an equation, without its mesh."""
    threefry = jax.threefry_partitionable(settings.threefry_partitionable)
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())), threefry:
        return jax.make_jaxpr(jnp.negative)(0.0).eqns[0].ctx
