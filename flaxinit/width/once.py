"""A mark in an optimizer's state: which parameters have the factors of `mup` on their rates."""

import sys
from typing import Any, NamedTuple

import jax

from flaxinit.trees import paths


class ScaledByMup(NamedTuple):
    """The state of a transformation that applies the factors.

    Attributes:
        parameters: a tree like its parameters, without numbers.
        inner: the state of what it consists of.
    """

    parameters: Any
    inner: Any


def once(transformation):
    """Mark a transformation that applies the factors; refuse two of them for one parameter.

    Raises:
        ValueError: at ``update``, if a parameter would be scaled twice.
    """
    import optax

    transformation = optax.with_extra_args_support(transformation)

    def init(params):
        marks = jax.tree.map(lambda _: optax.EmptyState(), params)
        return ScaledByMup(marks, transformation.init(params))

    def update(updates, state, params=None, **extra):
        _check(_whole(state))
        updates, inner = transformation.update(updates, state.inner, params, **extra)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _whole(state: Any) -> Any:
    """Return the state of the whole optimizer whose part is at work.

    Optax hands a part nothing of the others: only its callers, which all name it `state`, know it.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "optax":
            state = frame.f_locals.get("state", state)
        frame = frame.f_back
    return state


def _check(state: Any) -> None:
    import optax

    def marked(x):
        return isinstance(x, ScaledByMup)

    def mark(x):
        return isinstance(x, optax.EmptyState)

    found: set[str] = set()
    for part in filter(marked, jax.tree.leaves(state, is_leaf=marked)):
        leaves = jax.tree_util.tree_leaves_with_path(part.parameters, is_leaf=mark)
        names = {paths.name(path) for path, _ in leaves}
        if twice := sorted(found & names):
            raise ValueError(
                f"The updates of {twice[0]} would be multiplied by the factors of mup twice: "
                "optimizer() applies them, and so does scale(). Use one of both, once in an "
                "optimizer."
            )
        found |= names
