"""Arrays whose types say over which axes of a mesh they are split, and programs that do not say it.

A program on whole arrays does not say where its results are, which JAX accepts on automatic axes
of a mesh, but not on explicit ones.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding


def traced_without_mesh(function: Callable, *arrays: Any) -> tuple[ClosedJaxpr, Any]:
    """Trace a function on arrays whose types do not say where they are; return the shapes, too."""

    def shape(x):
        dtype = jax.dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True)
        return jax.ShapeDtypeStruct(x.shape, dtype)

    shapes = jax.tree.map(shape, arrays)
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
        return jax.make_jaxpr(function, return_shape=True)(*shapes)


@contextlib.contextmanager
def on_automatic_axes(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield arrays on automatic axes of their mesh, and make it the current one."""
    meshes = [*map(_mesh, arrays), jax.sharding.get_mesh()]
    explicit = [mesh for mesh in meshes if mesh and _is_explicit(mesh)]
    with jax.set_mesh(_on_automatic(explicit[0])) if explicit else contextlib.nullcontext():
        yield list(map(automatic, arrays))


def _mesh(array: Any) -> Any:
    sharding = getattr(array, "sharding", None)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None


def automatic(array: Any) -> Any:
    """Return an array on automatic axes of its mesh. No entry is moved."""
    mesh = _mesh(array)
    if not mesh or not _is_explicit(mesh):
        return array
    return jax.device_put(array, NamedSharding(_on_automatic(mesh), array.sharding.spec))


def _is_explicit(mesh: Any) -> bool:
    return AxisType.Explicit in mesh.axis_types


def _on_automatic(mesh: Any) -> Mesh:
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
