"""Values that are moved rather than drawn: keys and scalars to draws, counters to the result."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from flaxinit.materialize.atoms import aval, size, unwrapped, variables
from flaxinit.materialize.flatten import Flat


def place(value: Any, sharding: Sharding | None) -> jax.Array:
    """`value`, no key, on the devices of `sharding`; None leaves it where it is."""
    if not isinstance(value, jax.Array):
        value = np.array(value)  # a copy: JAX may go on reading the caller's memory
    if sharding is None or sharding.is_fully_addressable or is_spread(value):
        return jnp.asarray(value) if sharding is None else jax.device_put(value, sharding)
    # On a mesh of several processes each puts its own shards; no collective is needed.
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def origins(flat: Flat) -> dict[Var, Sharding]:
    """Where an eager run makes what it computes from arrays that were put on devices."""
    committed = {v: unwrapped(x) for v, x in flat.constants.items() if isinstance(x, jax.Array)}
    found = {v: x.sharding for v, x in committed.items() if x.committed and not is_spread(x)}
    for step in flat.steps:
        homes = [found[v] for v in variables(step.eqn) if v in found]
        if homes:
            found.update(dict.fromkeys(step.eqn.outvars, homes[0]))
    return found


def host_values(needed: set[Var], env: Mapping[Var, Any]) -> dict[Var, Any]:
    """The values of `needed` on the host, keys as words; what is spread over devices stays there.

    These are keys, scalars and small constants. From the host they can be passed to devices of
    any mesh, which an array on one device of one process cannot.
    """
    plain = {v: unwrapped(env[v]) for v in needed}
    local = [v for v, x in plain.items() if not is_spread(x)]
    return plain | dict(zip(local, jax.device_get([plain[v] for v in local]), strict=True))


def is_spread(x: Any) -> bool:
    """Whether `x` is an array in parts on several devices."""
    return isinstance(x, jax.Array) and len(x.devices()) > 1 and not x.is_fully_replicated


def everywhere(sharding: Sharding | None) -> Sharding | None:
    """The sharding that copies to all devices of `sharding`."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
    return sharding  # one device


def split(sharding: Sharding | None, shape: tuple[int, ...]) -> Sharding | None:
    """A sharding for another `shape` in as many parts, along the first dimension that divides."""
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
    """Whether one computation can use both placements: on the same devices in the same order."""
    return a is not None and b is not None and devices(a) == devices(b)


def devices(sharding: Sharding) -> Any:
    """The devices of a sharding in the order in which a computation takes them."""
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return list(sharding.mesh.devices.flat)
    return list(sharding.device_set) if len(sharding.device_set) == 1 else sharding


def local_bytes(v: Var, sharding: Sharding | None) -> int:
    """Bytes of an array on one device that holds a part of it."""
    if sharding is None:
        return size(v) * aval(v).dtype.itemsize
    shape = sharding.shard_shape(aval(v).shape)
    return int(np.prod(shape, dtype=np.int64)) * aval(v).dtype.itemsize
