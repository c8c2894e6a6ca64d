"""Questions about a sharding, and shardings made from others."""

import math
from typing import Any

import jax
from jax.extend.core import Var
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from flaxinit.versions.jaxpr import aval, size


def auto_mesh(mesh: Any) -> Any:
    """Return `mesh` with axes of type Auto, which the compiler propagates and types do not name."""
    types = (AxisType.Auto,) * len(mesh.axis_names)
    if isinstance(mesh, AbstractMesh):
        return mesh.update(axis_types=types)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def auto(sharding: Sharding | None) -> Sharding | None:
    """Return the same placement on a mesh with axes of type Auto."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(auto_mesh(sharding.mesh), sharding.spec, memory_kind=sharding.memory_kind)


def everywhere(sharding: Sharding | None) -> Sharding | None:
    """Return the sharding that copies an array to all devices of `sharding`."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
    return sharding  # one device


def split(sharding: Sharding | None, shape: tuple[int, ...]) -> Sharding | None:
    """Split another `shape` into as many parts, along the first dimension that they divide."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    entries = [e for e in sharding.spec if e is not None]
    axes = tuple(axis for e in entries for axis in (e if isinstance(e, tuple) else (e,)))
    parts = math.prod(sharding.mesh.shape[axis] for axis in axes)
    for dimension, n in enumerate(shape):
        if axes and n % parts == 0:
            spec = PartitionSpec(*[None] * dimension, axes)
            return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
    return everywhere(sharding)


def same_devices(a: Sharding | None, b: Sharding | None) -> bool:
    """Return whether one program can use both: same devices, same order."""
    return a is not None and b is not None and devices(a) == devices(b)


def devices(sharding: Sharding) -> Any:
    """Return the devices of a sharding in the order in which a program takes them."""
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return list(sharding.mesh.devices.flat)
    return list(sharding.device_set) if len(sharding.device_set) == 1 else sharding


def is_spread(x: Any) -> bool:
    """Return whether `x` is an array in parts on several devices."""
    return isinstance(x, jax.Array) and len(x.devices()) > 1 and not x.is_fully_replicated


def local_bytes(v: Var, sharding: Sharding | None) -> int:
    """Return the bytes of an array on one device that holds a part of it."""
    entries = size(v) if sharding is None else math.prod(sharding.shard_shape(aval(v).shape))
    return entries * aval(v).dtype.itemsize
