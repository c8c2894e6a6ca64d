"""Layouts that a program states: where it leaves its outputs, which meshes it names.

On explicit axes, the default of ``jax.make_mesh``, shardings are part of types. `places` decides
where each array goes, so shardings are read from the types and then removed from them.
"""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from flaxinit.materialize.shardings import auto, auto_mesh
from flaxinit.versions.jaxpr import aval, called, closed, equations, evaluate

# These change a type but no value.
_CASTS = {"reshard", "mesh_cast"}


def stated(jaxpr: Jaxpr, mesh: Mesh) -> list[Sharding | None]:
    """Return the sharding in which a program leaves each output, None where it states none.

    `mesh` is the mesh that is set. A layout on a mesh without devices is taken to be on it.
    """

    @functools.cache  # every output of a call asks again
    def of_outputs(jaxpr: Jaxpr) -> list[Sharding | None]:
        makers = {v: (eqn, i) for eqn in jaxpr.eqns for i, v in enumerate(eqn.outvars)}
        return [
            of_output(*makers[a]) if isinstance(a, Var) and a in makers else typed(a)
            for a in jaxpr.outvars
        ]

    def typed(a: Var | Literal) -> Sharding | None:
        return _on_devices(aval(a).sharding, mesh) if _is_explicit(a) else None

    def of_output(eqn: JaxprEqn, index: int) -> Sharding | None:
        layout, inside = None, called(eqn)
        match eqn.primitive.name:
            case "jit":
                layout = eqn.params["out_shardings"][index]
            case "sharding_constraint":
                layout = eqn.params["sharding"]
            case "reshard":
                layout = eqn.params["dst_sharding"]
                if concrete := eqn.params["concrete_mesh"]:
                    layout = NamedSharding(concrete, layout.spec)
            case "shard_map":
                layout = NamedSharding(eqn.params["mesh"], eqn.params["out_specs"][index])
                inside = None  # inside, an array is only a shard
            case "device_put":
                layout = eqn.params["devices"][index]
        found = _on_devices(layout, mesh)
        if found is None and inside is not None:
            found = of_outputs(inside.jaxpr)[index]
        return found or typed(eqn.outvars[index])

    return of_outputs(jaxpr)


def _on_devices(layout: Any, mesh: Mesh) -> Sharding | None:
    """Return a layout as a sharding that places every dimension, None if it is not one."""
    if isinstance(layout, jax.Device):
        return SingleDeviceSharding(layout)
    if isinstance(layout, SingleDeviceSharding):
        return layout
    if not isinstance(layout, NamedSharding) or PartitionSpec.UNCONSTRAINED in layout.spec:
        return None
    if isinstance(layout.mesh, Mesh):
        return layout
    if layout.mesh.shape != mesh.shape:
        return None
    return NamedSharding(mesh, layout.spec, memory_kind=layout.memory_kind)


def meshes(eqns: Iterable[JaxprEqn]) -> set[Mesh | AbstractMesh]:
    """Return the meshes that equations name."""
    found: set[Mesh | AbstractMesh] = set()
    for eqn in eqns:
        layouts = [x for p in eqn.params.values() for x in (p if isinstance(p, tuple) else (p,))]
        found.update(x.mesh for x in layouts if isinstance(x, NamedSharding))
        found.update(aval(v).sharding.mesh for v in eqn.outvars if _is_explicit(v))
        if eqn.primitive.name == "shard_map":
            found.add(eqn.params["mesh"])
    return {mesh for mesh in found if not mesh.empty}


def _is_explicit(a: Var | Literal) -> bool:
    """Whether the type of an atom says how it is laid out."""
    sharding = getattr(aval(a), "sharding", None)
    return sharding is not None and bool(sharding.mesh.explicit_axes)


def has_types(jaxpr: Jaxpr) -> bool:
    """Return whether any type in a program says how an array is laid out."""
    made = (v for eqn in equations(jaxpr) for v in eqn.outvars)
    return any(map(_is_explicit, itertools.chain(jaxpr.invars, made)))


def without_types(jaxpr: Jaxpr, constants: dict[Var, Any]) -> tuple[Jaxpr, dict[Var, Any]]:
    """Return the program that a trace on Auto axes would give, and its constants."""

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
        if name == "shard_map":  # its body stays as it is: there axes are Manual
            return params | {"mesh": parameter(params["mesh"])}
        # These parameters say the type of a result. In a constraint they say where it goes.
        types = set() if name == "sharding_constraint" else {"sharding", "out_sharding"}
        return {k: None if k in types else parameter(x) for k, x in params.items()}

    def untyped(v: Var) -> Var:
        return Var(aval(v).update(sharding=None)) if _is_explicit(v) else v

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
            eqns.append(eqn.replace(**new, ctx=_without_mesh(eqn.ctx)))
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
def _without_mesh(settings: Any) -> Any:
    """Return the settings of an equation without its mesh."""
    threefry = jax.threefry_partitionable(settings.threefry_partitionable)
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())), threefry:
        return jax.make_jaxpr(jnp.negative)(0.0).eqns[0].ctx
