"""The name of an array in a tree of parameters: one text for each, wherever it is named."""

from collections.abc import Sequence
from typing import Any

from jax.tree_util import GetAttrKey, keystr


def name(path: Sequence[Any]) -> str:
    """``params/Dense_0/kernel``, without the field in which Flax boxes an array.

    >>> import jax
    >>> tree = {"params": {"Dense_0": {"kernel": 0.0, "bias": 0.0}}}
    >>> [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    ['params/Dense_0/bias', 'params/Dense_0/kernel']
    """
    if path and isinstance(path[-1], GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return keystr(tuple(path), simple=True, separator="/")
