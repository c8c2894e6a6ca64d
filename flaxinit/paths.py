"""The name of an array in a tree of parameters, the same in every report and error."""

from collections.abc import Sequence
from typing import Any

from jax.tree_util import GetAttrKey, keystr


def name(path: Sequence[Any]) -> str:
    """Return a name such as ``params/Dense_0/kernel``, without the field of Flax's box.

    >>> import jax
    >>> tree = {"params": {"Dense_0": {"kernel": 0.0, "bias": 0.0}}}
    >>> [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    ['params/Dense_0/bias', 'params/Dense_0/kernel']
    """
    return keystr(unboxed(path), simple=True, separator="/")


def unboxed(path: Sequence[Any]) -> tuple[Any, ...]:
    """Return the path without the field in which Flax boxes an array."""
    boxed = path and isinstance(path[-1], GetAttrKey) and path[-1].name == "value"
    return tuple(path[:-1] if boxed else path)
