"""Which dimension of its results a split dimension of an operation's operands becomes.

An operation on parts of arrays is the same operation on the whole ones if it works along no
dimension that is split, or, for a sum, if the parts of the sum are added up later.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flaxinit.signal.rules.along import ALONG
from flaxinit.signal.rules.functions import ELEMENTWISE
from flaxinit.signal.shards.layout import STACKED, refused

Shape = tuple[int, ...]
Places = Sequence[Any]  # for each operand a dimension, None or STACKED


class Path(NamedTuple):
    """The way of one mesh axis through an operation.

    Attributes:
        operands: the dimension of each operand that it splits; None if each device has all of it.
        result: the dimension of the results that it splits, or "sum", "max" or "min": what makes
            the whole of the devices' results.
    """

    operands: Places
    result: int | str


class Operation(NamedTuple):
    """An operation on one device: its parameters, and the shapes of its operands and results."""

    name: str
    params: dict[str, Any]
    operands: Sequence[Shape]
    results: Sequence[Shape]


def path(operation: Operation, places: Places) -> Path | None:
    """Return the way of a mesh axis through an operation; None if it has none.

    Args:
        operation: on one device.
        places: the dimension of each operand that the axis splits, None, or `STACKED`.
    """
    name = operation.name
    if name in _ALONE or name in ELEMENTWISE:
        return _elementwise(operation, places)
    if STACKED in places:
        return None
    if name in ALONG:
        axes = ALONG[name](operation.params)
        return _past(operation, places, axes)
    if name in _RULES:
        return _RULES[name](operation, places)
    return None


_ALONE = ("copy", "copy_p", "name", "optimization_barrier", "reduce_precision")


def _elementwise(operation: Operation, places: Places) -> Path | None:
    split = {place for place in places if place not in (None, STACKED)}
    if len(split) != 1:
        return None
    (dim,), whole = split, operation.results[0]
    # An operand of size 1 in a dimension, or a scalar, meets all entries of the others.
    repeated = [len(s) < len(whole) or s[dim] != whole[dim] for s in operation.operands]
    if any(r and place is not None for r, place in zip(repeated, places, strict=True)):
        return None
    return Path([None if r else dim for r in repeated], dim)


def _past(operation: Operation, places: Places, axes: Sequence[int]) -> Path | None:
    """Return the way past an operation that works along some axes, and keeps their order."""
    rank = len(operation.results[0])
    full = [len(shape) == rank for shape in operation.operands]
    split = {place for place in places if place is not None}
    if len(split) != 1 or split & set(axes):
        return None
    if any(p is not None and not f for p, f in zip(places, full, strict=True)):
        return None
    (dim,) = split
    return Path([dim if f else None for f in full], dim)


def _only(places: Places) -> int | None:
    """Return the dimension of the first operand, if no other one is split."""
    first, *others = places
    return None if any(place is not None for place in others) else first


def _dot_general(operation: Operation, places: Places) -> Path | None:
    summed, batch = operation.params["dimension_numbers"]
    pair = tuple(places)
    if pair in zip(*summed, strict=True):
        return Path(places, "sum")
    if pair in (batched := list(zip(*batch, strict=True))):
        return Path(places, batched.index(pair))
    if None not in pair:
        return None
    side = 0 if pair[1] is None else 1
    place, start = pair[side], len(batched)
    taken = [[*summed[n], *batch[n]] for n in (0, 1)]
    free = [[i for i in range(len(operation.operands[n])) if i not in taken[n]] for n in (0, 1)]
    if place not in free[side]:
        return None
    return Path(places, start + side * len(free[0]) + free[side].index(place))


def _convolution(operation: Operation, places: Places) -> Path | None:
    params = operation.params
    x_spec, w_spec, out_spec = params["dimension_numbers"]
    grouped = max(params["feature_group_count"], params["batch_group_count"]) > 1
    if grouped and (places[0] == x_spec[1] or places[1] in w_spec[:2]):
        raise refused("a grouped convolution (feature_group_count) whose channels are split")
    one = params["feature_group_count"] == params["batch_group_count"] == 1
    ways = {(x_spec[0], None): out_spec[0]} if params["batch_group_count"] == 1 else {}
    if one:
        ways |= {(None, w_spec[0]): out_spec[1], (x_spec[1], w_spec[1]): "sum"}
    way = ways.get(tuple(places))
    return None if way is None else Path(places, way)


def _transpose(operation: Operation, places: Places) -> Path | None:
    return Path(places, list(operation.params["permutation"]).index(places[0]))


def _broadcast_in_dim(operation: Operation, places: Places) -> Path | None:
    dim = _only(places)
    if dim is None:
        return None
    to = operation.params["broadcast_dimensions"][dim]
    repeats = operation.operands[0][dim] != operation.results[0][to]
    return None if repeats else Path(places, to)


def _reshape(operation: Operation, places: Places) -> Path | None:
    """Follow a dimension to the first one with as many entries before it.

    Samples that each device has one of stay apart when their dimension goes.
    """
    dim, (old, new) = _only(places), (operation.operands[0], operation.results[0])
    if dim is None:
        return None
    before = math.prod(old[:dim])
    same = [n for n in range(len(new)) if math.prod(new[:n]) == before]
    gone = before == old[dim] == 1 and new[:1] != (1,)
    return None if gone or not same else Path(places, same[0])


def _squeeze(operation: Operation, places: Places) -> Path | None:
    dim, gone = places[0], operation.params["dimensions"]
    if dim in gone:
        return None
    return Path(places, dim - sum(n < dim for n in gone))


def _reduction(kind: str | None) -> Callable[[Operation, Places], Path | None]:
    def rule(operation: Operation, places: Places) -> Path | None:
        (dim,), axes = places, operation.params["axes"]
        if dim in axes:
            return None if kind is None else Path(places, kind)
        return Path(places, dim - sum(n < dim for n in axes))

    return rule


def _whole(operation: Operation, places: Places) -> Path | None:
    """Follow a dimension that a slice takes all of."""
    dim = _only(places)
    if dim is None or operation.operands[0][dim] != operation.results[0][dim]:
        return None
    return Path(places, dim)


def _update(operation: Operation, places: Places) -> Path | None:
    """Follow a dimension that an update, a slice of the operand, has all of."""
    one, other, *starts = places
    dim = other if one is None else one
    if dim is None or any(start is not None for start in starts) or other not in (dim, None):
        return None
    if operation.operands[0][dim] != operation.operands[1][dim]:
        return None
    return Path([dim, dim, *starts], dim)


def _gather(operation: Operation, places: Places) -> Path | None:
    """Follow the places that look something up, and the channels of what they look up."""
    numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
    offset, (table, indices) = list(numbers.offset_dims), places
    if numbers.operand_batching_dims:
        return None
    if table is None:
        others = [n for n in range(len(operation.results[0])) if n not in offset]
        return Path(places, others[indices]) if indices < len(others) else None
    gone = numbers.collapsed_slice_dims
    if indices is not None or table in gone or sizes[table] != operation.operands[0][table]:
        return None
    return Path(places, offset[table - sum(n < table for n in gone)])


def _at(name: str) -> Callable[[Operation, Places], Path | None]:
    return lambda operation, places: _past(operation, places, [operation.params[name]])


_RULES: dict[str, Callable[[Operation, Places], Path | None]] = {
    "argmax": _reduction(None),
    "argmin": _reduction(None),
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _at("dimension"),
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "dynamic_slice": _whole,
    "dynamic_update_slice": _update,
    "gather": _gather,
    "reduce_and": _reduction(None),
    "reduce_max": _reduction("max"),
    "reduce_min": _reduction("min"),
    "reduce_or": _reduction(None),
    "reduce_prod": _reduction(None),
    "reduce_sum": _reduction("sum"),
    "reshape": _reshape,
    "rev": lambda operation, places: _past(operation, places, operation.params["dimensions"]),
    "slice": _whole,
    "split": _at("axis"),
    "squeeze": _squeeze,
    "transpose": _transpose,
}


def widened(operation: Operation, operands: Sequence[Shape], result: Shape) -> dict[str, Any]:
    """Return the parameters of an operation on whole arrays, given their shapes."""
    params: dict[str, Any] = {
        name: None if name in ("sharding", "out_sharding") else value
        for name, value in operation.params.items()
    }
    name, local = operation.name, operation.operands
    if name == "broadcast_in_dim":
        params["shape"] = result
    elif name == "reshape":
        params["new_sizes"] = result
    elif name == "dynamic_slice":
        params["slice_sizes"] = result
    elif name == "slice" and operands[0] != local[0]:
        sizes = zip(params["limit_indices"], local[0], operands[0], strict=True)
        params["limit_indices"] = tuple(n if a == b else b for n, a, b in sizes)
    elif name == "gather":
        gone = params["dimension_numbers"].collapsed_slice_dims
        sizes = enumerate(zip(params["slice_sizes"], local[0], operands[0], strict=True))
        params["slice_sizes"] = tuple(n if a == b or i in gone else b for i, (n, a, b) in sizes)
    return params
