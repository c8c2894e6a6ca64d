"""Layouts that the caller asks for with ``out_shardings``, and a model with Flax's metadata.

This module does not import Flax. A model with partitioning metadata has already loaded the modules
of Flax that interpret it; they are found among the loaded modules.
"""

import sys
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from flaxinit.sampling import uneven
from flaxinit.trees import paths as names

OutShardings = Any  # a pytree prefix of shardings, a function of path and shape, or None


def checked_out_shardings(out_shardings: OutShardings) -> OutShardings:
    """Return a function or a plain tree of shardings; refuse all else, before the trace."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(out_shardings, nnx.Pytree):
        out_shardings = nnx.state(out_shardings)
    if _is_rule(out_shardings):
        return out_shardings
    out_shardings = jax.tree.map(_of_shape, out_shardings)
    for path, leaf in jax.tree_util.tree_leaves_with_path(out_shardings):
        _check_type(names.name(path), leaf)
    return out_shardings


def _of_shape(x: Any) -> Any:
    """Return the sharding of a shape that has one, as in ``nnx.get_abstract_model``."""
    if not (isinstance(x, jax.ShapeDtypeStruct) and isinstance(x.sharding, NamedSharding)):
        return x
    return x.sharding if isinstance(x.sharding.mesh, Mesh) else x.sharding.spec


def _is_rule(out_shardings: OutShardings) -> bool:
    """Return whether this is a function of path and shape; modules and meshes are callable too."""
    is_leaf = jax.tree_util.all_leaves([out_shardings])
    return callable(out_shardings) and is_leaf and not isinstance(out_shardings, Mesh)


def requested(out_shardings: OutShardings, tree: Any, paths: tuple[str, ...]) -> list[Any]:
    """Return what the caller asks for each array of `tree`; None is the default.

    Args:
        out_shardings: as `checked_out_shardings` returns it.
        tree: the result, with a jax.ShapeDtypeStruct for each array.
        paths: the names of the arrays.
    """
    if not _is_rule(out_shardings):
        return _from_prefix(out_shardings, tree)
    return [_ruled(out_shardings, path, x) for path, x in zip(paths, structs(tree), strict=True)]


def structs(tree: Any) -> list[jax.ShapeDtypeStruct]:
    """Return the shapes of the arrays in a result."""
    return [x for x in jax.tree.leaves(tree) if isinstance(x, jax.ShapeDtypeStruct)]


def _ruled(rule: Any, path: str, x: jax.ShapeDtypeStruct) -> Any:
    try:
        return rule(path, x)
    except Exception as error:
        raise ValueError(
            f"{path or 'the result'}: out_shardings, called with this path and {x}, raised "
            f"{type(error).__name__}: {error}. It must take both and return a sharding, a "
            "PartitionSpec or None."
        ) from error


def _from_prefix(prefix: Any, tree: Any) -> list[Any]:
    # To JAX None is a subtree without leaves; here it is a leaf that stands for the default.
    default = object()
    prefix = jax.tree.map(
        lambda x: default if x is None else x, prefix, is_leaf=lambda x: x is None
    )
    try:
        full = jax.tree.leaves(jax.tree.broadcast(prefix, tree))
    except ValueError as error:
        # JAX names the two trees by its own argument names.
        detail = str(error).replace("broadcast_prefix prefix_tree", "out_shardings")
        raise ValueError(
            "out_shardings must have the structure of what init_fn returns, or be a prefix of it "
            "(one sharding for a whole subtree), or a function from path and shape to sharding. "
            f"{detail}"
        ) from None
    return [
        None if choice is default else choice
        for choice, x in zip(full, jax.tree.leaves(tree), strict=True)
        if isinstance(x, jax.ShapeDtypeStruct)
    ]


def metadata(tree: Any, paths: tuple[str, ...], mesh: Mesh) -> tuple[list[Sharding | None], Mesh]:
    """Return what Flax's partitioning boxes and variables ask for each array of `tree`.

    A box without a mesh of its own uses `mesh`, the mesh that is set, or else the first mesh that
    another box has; that mesh is returned too. Without any mesh, nothing is asked for.
    """
    nnx = sys.modules.get("flax.nnx")

    def is_box(x):
        return hasattr(x, "get_partition_spec") or (nnx is not None and isinstance(x, nnx.Variable))

    leaves = jax.tree.leaves(tree, is_leaf=is_box)
    boxes = [box for box in leaves for _ in structs(box)]  # one for each array
    own = list(map(_own_mesh, boxes))
    mesh = next((m for m in [mesh, *own] if m is not None and not m.empty), mesh)
    asked: list[Sharding | None] = []
    for box, its, path in zip(boxes, own, paths, strict=True):
        try:
            asked.append(None if mesh.empty or not is_box(box) else _spec(box, its or mesh))
        except ValueError as error:
            raise ValueError(f"{path}: the model's partitioning metadata: {error}") from None
    return asked, mesh


def _own_mesh(box: Any) -> Mesh | None:
    if hasattr(box, "get_metadata"):  # an nnx.Variable
        mesh = box.get_metadata("mesh", None)
    else:
        mesh = getattr(box, "mesh", None)
    return mesh if isinstance(mesh, Mesh) else None


def _spec(box: Any, mesh: Mesh) -> Sharding | None:
    """Return the sharding that a box or variable asks for; Flax's rules resolve logical names."""
    if not hasattr(box, "get_partition_spec"):  # an nnx.Variable
        spec = box.get_metadata("out_sharding", None)
        if not isinstance(spec, Sharding):
            spec = sys.modules["flax.nnx"].spmd.get_var_pspec(box)
        if not spec:
            return None
    else:
        spec = box.get_partition_spec()
        if hasattr(box, "rules"):  # LogicallyPartitioned: names of dimensions, not of mesh axes
            linen = sys.modules["flax.linen"]
            rules = box.rules or linen.get_logical_axis_rules()
            if any(spec) and not rules:
                raise ValueError(
                    f"no rules say which axes of the mesh its logical names {spec} are. Call "
                    "inside `with nn.logical_axis_rules(rules):`, or give out_shardings "
                    "(PartitionSpec() for copies on all devices)."
                )
            spec = linen.logical_to_mesh_axes(spec, rules)
    return spec if isinstance(spec, Sharding) else NamedSharding(mesh, spec)


def checked(path: str, x: jax.ShapeDtypeStruct, choice: Any, mesh: Mesh) -> Sharding | None:
    """Return a sharding that can hold `x`, None for the default; errors name the array."""
    if choice is None and mesh.empty:
        return None
    choice = PartitionSpec() if choice is None else choice
    path = path or "the result"
    _check_type(path, choice)
    if isinstance(choice, PartitionSpec):
        if mesh.empty:
            raise ValueError(
                f"{path}: out_shardings has {choice}, but no mesh is set. Give a "
                "jax.sharding.NamedSharding(mesh, spec), or call inside `with jax.set_mesh(mesh):`."
            )
        try:
            choice = NamedSharding(mesh, choice)
        except ValueError as error:
            raise ValueError(
                f"{path}: {str(error).rstrip('.')}. An entry names an axis of the mesh, or several "
                "in a tuple, or is None."
            ) from None
    if isinstance(choice, NamedSharding):
        _check_divides(path, x, choice)
    if not choice.addressable_devices:
        raise ValueError(
            f"{path}: none of the devices of {choice} belongs to this process "
            f"({jax.process_index()} of {jax.process_count()}). Build the mesh from jax.devices(), "
            "which lists the devices of all processes, and call fast_init in each of them."
        )
    return choice


def _check_type(path: str, choice: Any) -> None:
    abstract = isinstance(choice, NamedSharding) and not isinstance(choice.mesh, Mesh)
    known = isinstance(choice, NamedSharding | SingleDeviceSharding | PartitionSpec)
    if abstract or not known:
        raise TypeError(
            f"{path or 'out_shardings'}: a sharding must be a jax.sharding.NamedSharding on a mesh "
            f"of devices, a SingleDeviceSharding, a PartitionSpec or None; received {choice!r}."
        )


def _check_divides(path: str, x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> None:
    spec, mesh = sharding.spec, sharding.mesh
    if len(spec) > len(x.shape):
        raise ValueError(
            f"{path}: {spec} has {len(spec)} entries, the array has shape {x.shape}. "
            "Give at most one entry for each dimension."
        )
    if PartitionSpec.UNCONSTRAINED in spec:
        dimension = tuple(spec).index(PartitionSpec.UNCONSTRAINED)
        raise ValueError(
            f"{path}: {spec} leaves dimension {dimension} unconstrained; name "
            "its mesh axes, or None for a copy on each."
        )
    if found := uneven(x.shape, spec, mesh):
        dimension, why = found
        raise ValueError(f"{path}: dimension {dimension} {why}")
