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


def part(steps: Sequence[Any]) -> str:
    """Return the index of a part of an array, as NumPy writes it.

    Args:
        steps: from the array to its part: the number of a row, or (axis, start, stop, stride).

    >>> part([2]), part([(1, 0, 64, 1)]), part([(0, 1, 2, 1), (1, 0, 8, 2)])
    ('[2]', '[:,0:64]', '[1][:,0:8:2]')
    """
    return "".join(f"[{step}]" if isinstance(step, int) else _cut(*step) for step in steps)


def _cut(axis: int, start: int, stop: int, stride: int) -> str:
    one = start if stop - start == 1 else f"{start}:{stop}"
    return f"[{':,' * axis}{one}{'' if stride == 1 else f':{stride}'}]"
