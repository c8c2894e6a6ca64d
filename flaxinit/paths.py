"""The name of an array in a tree of parameters, the same in every report and error."""

from collections.abc import Sequence
from typing import Any

from jax.tree_util import FlattenedIndexKey, GetAttrKey, keystr


def name(path: Sequence[Any]) -> str:
    """Return a name such as ``params/Dense_0/kernel``, without the step into a box.

    >>> import jax
    >>> tree = {"params": {"Dense_0": {"kernel": 0.0, "bias": 0.0}}}
    >>> [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    ['params/Dense_0/bias', 'params/Dense_0/kernel']
    """
    return keystr(unboxed(path), simple=True, separator="/")


def unboxed(path: Sequence[Any]) -> tuple[Any, ...]:
    """Return the path without the step into a box: Flax's has a field, Haliax's has no name."""
    match path[-1:]:
        case [GetAttrKey(name="value")] | [FlattenedIndexKey(key=0)]:
            return tuple(path[:-1])
    return tuple(path)
