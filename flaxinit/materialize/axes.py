"""Axes of meshes: Auto, which the compiler propagates, in place of Explicit, which types name.

On explicit axes, the default of ``jax.make_mesh``, shardings are part of types. Where arrays go is
decided here for a program as a whole, so that its types must not say it as well.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, Sharding

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

    @functools.cache  # layers share the bodies of their calls
    def found(jaxpr: Jaxpr) -> bool:
        return any(map(is_explicit, jaxpr.invars + jaxpr.constvars)) or any(
            any(map(is_explicit, eqn.outvars)) or any(map(found, jaxprs_in_params(eqn.params)))
            for eqn in jaxpr.eqns
        )

    return found(jaxpr)


def without_types(jaxpr: Jaxpr, constants: dict[Var, Any]) -> tuple[Jaxpr, dict[Var, Any]]:
    """The program as it is traced where all axes are Auto."""

    def parameter(x: Any) -> Any:
        match x:
            case Jaxpr():
                return body(x)
            case ClosedJaxpr():
                return x.replace(jaxpr=body(x.jaxpr))
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

    @functools.cache  # layers share the bodies of their calls
    def body(jaxpr: Jaxpr) -> Jaxpr:
        atoms: dict[Var, Var | Literal] = {}

        def bind(variables):
            made = [Var(aval(v).update(sharding=None)) if is_explicit(v) else v for v in variables]
            atoms.update(zip(variables, made, strict=True))
            return made

        def read(a):
            return a if isinstance(a, Literal) else atoms[a]

        constvars, invars = bind(jaxpr.constvars), bind(jaxpr.invars)
        eqns = []
        for eqn in jaxpr.eqns:
            inputs = list(map(read, eqn.invars))
            if eqn.primitive.name in _CASTS:
                atoms[eqn.outvars[0]] = inputs[0]
                continue
            eqns.append(
                eqn.replace(
                    invars=inputs,
                    outvars=bind(eqn.outvars),
                    params=parameters(eqn),
                    ctx=_context(eqn.ctx),
                )
            )
        outvars = list(map(read, jaxpr.outvars))
        return jaxpr.replace(constvars=constvars, invars=invars, eqns=eqns, outvars=outvars)

    plain = body(jaxpr)
    renamed = zip(jaxpr.constvars + jaxpr.invars, plain.constvars + plain.invars, strict=True)
    return plain, {new: constants[old] for old, new in renamed}


@functools.cache
def _context(settings: Any) -> Any:
    """The settings of an equation, without its mesh."""
    threefry = jax.threefry_partitionable(settings.threefry_partitionable)
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())), threefry:
        return jax.make_jaxpr(jnp.negative)(0.0).eqns[0].ctx
