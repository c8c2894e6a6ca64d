"""Layouts that an init function itself asks for, in calls of JAX."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var
from jax.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from flaxinit.compat import jaxprs_in_params
from flaxinit.jaxpr import called, equations
from flaxinit.materialize.atoms import aval
from flaxinit.materialize.axes import is_explicit
from flaxinit.materialize.schedule import Call
from flaxinit.materialize.transfer import devices


def stated(jaxpr: Jaxpr, mesh: Mesh) -> list[Sharding | None]:
    """The sharding in which each output is left, None where nothing is said.

    A layout on a mesh without devices is one on `mesh`, the mesh that is set.
    """

    @functools.cache  # of a call with many outputs each asks for its own
    def of_outputs(jaxpr: Jaxpr) -> list[Sharding | None]:
        makers = {v: (eqn, i) for eqn in jaxpr.eqns for i, v in enumerate(eqn.outvars)}
        return [
            of_output(*makers[a]) if isinstance(a, Var) and a in makers else typed(a)
            for a in jaxpr.outvars
        ]

    def typed(a: Var | Literal) -> Sharding | None:
        return _on_devices(aval(a).sharding, mesh) if is_explicit(a) else None

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
                inside = None  # there an array is a part
            case "device_put":
                layout = eqn.params["devices"][index]
        found = _on_devices(layout, mesh)
        if found is None and inside is not None:
            found = of_outputs(inside.jaxpr)[index]
        return found or typed(eqn.outvars[index])

    return of_outputs(jaxpr)


def _on_devices(layout: Any, mesh: Mesh) -> Sharding | None:
    """A layout as a sharding that places every dimension, None if it is not one."""
    if isinstance(layout, jax.Device):
        return SingleDeviceSharding(layout)
    if isinstance(layout, NamedSharding):
        if PartitionSpec.UNCONSTRAINED in layout.spec:
            return None
        if isinstance(layout.mesh, AbstractMesh):
            fits = layout.mesh.shape == mesh.shape
            return (
                NamedSharding(mesh, layout.spec, memory_kind=layout.memory_kind) if fits else None
            )
        return layout
    return layout if isinstance(layout, SingleDeviceSharding) else None


def check_layouts(calls: list[Call], names: dict[Var, str]) -> None:
    """Refuse a draw that names other devices than those on which it is made."""
    inside = functools.cache(lambda program: _meshes(equations(program)))  # layers share these
    for call in calls:
        eqns = [step.eqn for step in call.draw.steps]
        found = _meshes(eqns).union(*(inside(x) for e in eqns for x in jaxprs_in_params(e.params)))
        for mesh in found:
            if not _fits(mesh, call.home):
                where = "JAX's default device" if call.home is None else call.home
                raise ValueError(
                    f"{names[call.draw.outputs[0]] or 'the result'}: the init function makes it on "
                    f"{mesh}, but its place is {where}. Give out_shardings on the same devices, or "
                    "leave layouts out of the init function (out_sharding=, "
                    "with_sharding_constraint, shard_map)."
                )


def _meshes(eqns: Iterable[JaxprEqn]) -> set[Mesh | AbstractMesh]:
    """The meshes that equations name."""
    found: set[Mesh | AbstractMesh] = set()
    for eqn in eqns:
        layouts = [x for p in eqn.params.values() for x in (p if isinstance(p, tuple) else (p,))]
        found.update(x.mesh for x in layouts if isinstance(x, NamedSharding))
        found.update(aval(v).sharding.mesh for v in eqn.outvars if is_explicit(v))
        if eqn.primitive.name == "shard_map":
            found.add(eqn.params["mesh"])
    return {mesh for mesh in found if not mesh.empty}


def _fits(mesh: Mesh | AbstractMesh, sharding: Sharding | None) -> bool:
    count = 1 if sharding is None else len(sharding.device_set)
    if isinstance(mesh, AbstractMesh):
        return mesh.size == count
    return sharding is not None and devices(sharding) == list(mesh.devices.flat)
