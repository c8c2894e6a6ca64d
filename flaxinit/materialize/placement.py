"""Where each array goes: what the caller says, else what the model itself says.

Flax is not imported. A model that carries Flax's partitioning metadata has loaded the modules
that give it its meaning, and those are asked.
"""

import sys
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from flaxinit import paths as names
from flaxinit.sampling import uneven

OutShardings = Any  # a pytree prefix of shardings, a function of path and shape, or None


def checked_out_shardings(out_shardings: OutShardings) -> OutShardings:
    """A function, or a plain tree of shardings; what cannot be one is refused before the trace."""
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
    """A shape may say where it goes: those of ``nnx.get_abstract_model`` do."""
    if not (isinstance(x, jax.ShapeDtypeStruct) and isinstance(x.sharding, NamedSharding)):
        return x
    return x.sharding if isinstance(x.sharding.mesh, Mesh) else x.sharding.spec


def _is_rule(out_shardings: OutShardings) -> bool:
    """A function from path and shape; a tree may be callable too, as modules are, and a mesh is."""
    is_leaf = jax.tree_util.all_leaves([out_shardings])
    return callable(out_shardings) and is_leaf and not isinstance(out_shardings, Mesh)


def place_outputs(
    out_shardings: OutShardings,
    tree: Any,
    paths: tuple[str, ...],
    stated: list[Sharding | None],
    mesh: Mesh,
) -> list[Sharding | None]:
    """One sharding for each array of `tree`, None for where JAX leaves it if no mesh is set.

    Args:
      out_shardings: what the caller asks for.
      tree: the result, with a jax.ShapeDtypeStruct for each array.
      paths: their names.
      stated: where the init function itself leaves each array.
      mesh: the mesh that is set, or an empty one.

    Returns:
      Shardings that fit the arrays and have devices of this process.
    """
    is_struct = lambda x: isinstance(x, jax.ShapeDtypeStruct)  # noqa: E731
    structs = [x for x in jax.tree.leaves(tree) if is_struct(x)]
    if out_shardings is None:
        chosen = _from_model(tree, mesh, paths, stated)
    elif _is_rule(out_shardings):
        chosen = [_ruled(out_shardings, path, x) for path, x in zip(paths, structs, strict=True)]
    else:
        chosen = _from_prefix(out_shardings, tree)
    return [
        _checked(path, x, choice, mesh)
        for path, x, choice in zip(paths, structs, chosen, strict=True)
    ]


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


def _from_model(
    tree: Any, mesh: Mesh, paths: tuple[str, ...], stated: list[Sharding | None]
) -> list[Sharding | None]:
    """Flax's partitioning boxes and variables, else what the init function itself states.

    Without either, copies on all devices of the mesh if there is one.
    """
    nnx = sys.modules.get("flax.nnx")

    def is_box(x):
        return hasattr(x, "get_partition_spec") or (nnx is not None and isinstance(x, nnx.Variable))

    boxes = [
        (box, x)
        for box in jax.tree.leaves(tree, is_leaf=is_box)
        for x in jax.tree.leaves(box)
        if isinstance(x, jax.ShapeDtypeStruct)
    ]
    meshes = [_own_mesh(box) for box, _ in boxes]
    mesh = next((m for m in [mesh, *meshes] if m is not None and not m.empty), mesh)
    if mesh.empty:
        return stated
    chosen = []
    for (box, _), own, path, layout in zip(boxes, meshes, paths, stated, strict=True):
        try:
            said = _spec(box, own or mesh) if is_box(box) else None
        except ValueError as error:
            raise ValueError(f"{path}: the model's partitioning metadata: {error}") from None
        chosen.append(said or layout or NamedSharding(mesh, PartitionSpec()))
    return chosen


def _own_mesh(box: Any) -> Mesh | None:
    if hasattr(box, "get_metadata"):  # an nnx.Variable
        mesh = box.get_metadata("mesh", None)
    else:
        mesh = getattr(box, "mesh", None)
    return mesh if isinstance(mesh, Mesh) else None


def _spec(box: Any, mesh: Mesh) -> Sharding | None:
    """The sharding that a box or variable asks for, logical names resolved by Flax's rules."""
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


def _checked(path: str, x: jax.ShapeDtypeStruct, choice: Any, mesh: Mesh) -> Sharding | None:
    """A sharding that can hold `x`, or an error that names the array; None is the default."""
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
