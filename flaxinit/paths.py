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
    if path and isinstance(path[-1], GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return keystr(tuple(path), simple=True, separator="/")
