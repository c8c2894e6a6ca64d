"""Operations that devices do apart, each on arrays of its own: on whole arrays, a stack of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from flaxinit.signal.rules.functions import ELEMENTWISE
from flaxinit.signal.shards.cut import PRODUCTS
from flaxinit.signal.shards.following import Operation, Places, path
from flaxinit.signal.shards.layout import STACKED


def kept(operation: Operation, places: Places) -> int | None:
    """Return the dimension that devices which each do something else split before and after.

    Samples times a number of their device are samples; the scores of a device's queries with keys
    that come and go are of its queries. A head that has a dimension again is one of several.
    """
    if operation.name == "broadcast_in_dim" and places == [STACKED]:
        shape, old = operation.results[0], operation.params["broadcast_dimensions"]
        new = [n for n, size in enumerate(shape) if n not in old]
        return new[0] if len(new) == 1 and shape[new[0]] == 1 else None
    if operation.name == "dot_general":
        one, other = (None if place == STACKED else place for place in places)
        ways = [path(operation, pair) for pair in ((one, None), (None, other))]
        dims = [way.result for way in ways if way and isinstance(way.result, int)]
        return dims[0] if dims else None
    if operation.name not in ELEMENTWISE:
        return None
    shape = operation.results[0]
    pairs = zip(places, operation.operands, strict=True)
    split = {p for p, s in pairs if p not in (None, STACKED) and s == shape}
    return split.pop() if len(split) == 1 else None


def in_parts(operation: Operation, places: Places) -> set[int]:
    """Return the operands that an operation without a way takes in parts.

    A product does so with rows that it contracts. An array of which each device has one row, such
    as a layer, is whole to other operations.
    """
    if operation.name in PRODUCTS:
        summed = _contracted(operation)
        return {n for n, place in enumerate(places) if place in summed[n]}
    pairs = enumerate(zip(places, operation.operands, strict=True))
    return {n for n, (p, s) in pairs if s and (p is None or (p != STACKED and s[p] > 1))}


def _contracted(operation: Operation) -> Sequence[Sequence[int]]:
    """Return, of each operand of a product, the dimensions that may be summed over."""
    if operation.name == "dot_general":
        return operation.params["dimension_numbers"][0]
    every: list[Sequence[int]] = [range(len(shape)) for shape in operation.operands]
    if operation.name == "conv_general_dilated" and operation.params["feature_group_count"] == 1:
        out = operation.params["dimension_numbers"][1][0]
        every[1] = [n for n in every[1] if n != out]
    return every


def owned(
    operation: Operation, places: Sequence[Mapping[str, int | None]]
) -> list[tuple[int, str]]:
    """Return the operands of a product of which each device along an axis has one of its own.

    Args:
        operation: on one device.
        places: of each operand, by mesh axis.

    Returns:
        Pairs of the number of the operand and the mesh axis.
    """
    if operation.name not in PRODUCTS:
        return []
    batch: Any = [()] * len(places)
    if operation.name == "dot_general":
        batch = operation.params["dimension_numbers"][1]
    pairs = [(n, axis) for n, each in enumerate(places) for axis in each]
    return [(n, axis) for n, axis in pairs if places[n][axis] in (STACKED, *batch[n])]
