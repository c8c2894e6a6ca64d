"""A mark in an optimizer's state, which tells that a part of it applies the factors of `mup`."""

import sys
from typing import Any, NamedTuple


class ScaledByMup(NamedTuple):
    """The state of a transformation that applies the factors: that of what it consists of."""

    inner: Any


def once(transformation):
    """Mark a transformation that applies the factors, and refuse an optimizer with two of them.

    Raises:
        ValueError: at ``update``, if a parameter would be scaled twice.
    """
    import optax

    transformation = optax.with_extra_args_support(transformation)

    def init(params):
        return ScaledByMup(transformation.init(params))

    def update(updates, state, params=None, **extra):
        if _marks(_whole(state)) > 1:
            raise ValueError(
                "The updates would be multiplied by the factors of mup twice: optimizer() applies "
                "them, and so does scale(). Use one of them, once in an optimizer. If each is for "
                "parameters of its own, put them into optax.multi_transform."
            )
        updates, inner = transformation.update(updates, state.inner, params, **extra)
        return updates, ScaledByMup(inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _whole(state: Any) -> Any:
    """Return the state of the whole optimizer whose part is at work.

    Optax tells a part nothing of the others. Only its callers, which all name it `state`, know it.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "optax":
            state = frame.f_locals.get("state", state)
        frame = frame.f_back
    return state


def _marks(state: Any) -> int:
    """Return how many marked parts a parameter passes through, one behind the other.

    >>> _marks((ScaledByMup(()), (), {"a": ScaledByMup(())}))
    2
    """
    if isinstance(state, ScaledByMup):
        return 1 + _marks(state.inner)
    if hasattr(state, "inner_states"):  # of optax.multi_transform, each for its own parameters
        return max(map(_marks, state.inner_states.values()), default=0)
    parts = state.values() if isinstance(state, dict) else state
    return sum(map(_marks, parts)) if isinstance(state, dict | tuple | list) else 0
