"""Layouts that an init function itself asks for, in calls of JAX."""

from collections.abc import Sequence

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jax.sharding import AbstractMesh, Mesh, NamedSharding, Sharding, SingleDeviceSharding

from flaxinit.materialize.atoms import aval
from flaxinit.materialize.partition import Partition
from flaxinit.materialize.transfer import devices


def stated(jaxpr: Jaxpr, mesh: Mesh) -> list[Sharding | None]:
    """The sharding in which each output is left, None where nothing is said.

    A layout on a mesh without devices is one on `mesh`, the mesh that is set.
    """
    makers = {v: (eqn, i) for eqn in jaxpr.eqns for i, v in enumerate(eqn.outvars)}
    return [
        _stated(*makers[a], mesh) if isinstance(a, Var) and a in makers else None
        for a in jaxpr.outvars
    ]


def _stated(eqn: JaxprEqn, index: int, mesh: Mesh) -> Sharding | None:
    match eqn.primitive.name:
        case "jit":
            layout = eqn.params["out_shardings"][index]
            if not isinstance(layout, Sharding):
                return stated(eqn.params["jaxpr"].jaxpr, mesh)[index]
        case "sharding_constraint":
            layout = eqn.params["sharding"]
        case "reshard":
            layout = eqn.params["dst_sharding"]
        case "shard_map":
            layout = NamedSharding(eqn.params["mesh"], eqn.params["out_specs"][index])
        case "device_put":
            layout = eqn.params["devices"][index]
        case _:
            return None
    if isinstance(layout, jax.Device):
        return SingleDeviceSharding(layout)
    if isinstance(layout, NamedSharding) and isinstance(layout.mesh, AbstractMesh):
        return NamedSharding(mesh, layout.spec) if layout.mesh.shape == mesh.shape else None
    return layout if isinstance(layout, NamedSharding | SingleDeviceSharding) else None


def check_layouts(
    parts: Partition,
    outputs: list[Var | Literal],
    shardings: list[Sharding | None],
    paths: tuple[str, ...],
) -> None:
    """Refuse a draw that is made on other devices than those on which its result is placed."""
    place = {
        a: (sharding, path)
        for a, sharding, path in zip(outputs, shardings, paths, strict=True)
        if isinstance(a, Var)
    }
    inside: dict[int, set[Mesh | AbstractMesh]] = {}
    for draw in parts.draws:
        placed = [place[v] for v in draw.outputs]
        sharding, path = next((p for p in placed if p[0] is not None), placed[0])
        for mesh in _meshes([step.eqn for step in draw.steps], inside):
            if not _fits(mesh, sharding):
                where = "JAX's default device" if sharding is None else sharding
                raise ValueError(
                    f"{path or 'the result'}: the init function makes it on {mesh}, but its place "
                    f"is {where}. Give out_shardings on the same devices, or leave layouts out of "
                    "the init function (out_sharding=, with_sharding_constraint, shard_map)."
                )


def _meshes(
    eqns: Sequence[JaxprEqn], inside: dict[int, set[Mesh | AbstractMesh]]
) -> set[Mesh | AbstractMesh]:
    """The meshes that equations name; `inside` remembers those of jaxprs, which layers share."""
    found: set[Mesh | AbstractMesh] = set()
    for eqn in eqns:
        layouts = [x for p in eqn.params.values() for x in (p if isinstance(p, tuple) else (p,))]
        found.update(x.mesh for x in layouts if isinstance(x, NamedSharding))
        found.update(aval(v).sharding.mesh for v in eqn.outvars if _is_explicit(v))
        if eqn.primitive.name == "shard_map":
            found.add(eqn.params["mesh"])
        for jaxpr in jaxprs_in_params(eqn.params):
            if id(jaxpr) not in inside:
                inside[id(jaxpr)] = _meshes(jaxpr.eqns, inside)
            found |= inside[id(jaxpr)]
    return {mesh for mesh in found if not mesh.empty}


def _is_explicit(v: Var) -> bool:
    return bool(aval(v).sharding.mesh.explicit_axes)


def _fits(mesh: Mesh | AbstractMesh, sharding: Sharding | None) -> bool:
    count = 1 if sharding is None else len(sharding.device_set)
    if isinstance(mesh, AbstractMesh):
        return mesh.size == count
    return sharding is not None and devices(NamedSharding(mesh, jax.P())) == devices(sharding)
