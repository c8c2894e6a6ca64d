"""The keywords that say how a kernel's shape is read, and the error for any other keyword."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, TypeVar

from flaxinit.fans import Axes

Form = TypeVar("Form", bound=Callable[..., Any])

# What users of other libraries write, and what to write here.
ELSEWHERE = {
    "scale": "For a scale of your own use flaxinit.variance_scaling.",
    "gain": "For a gain of your own use flaxinit.variance_scaling(gain**2, ...).",
    "nonlinearity": "PyTorch's nonlinearity is the activation here.",
    "a": "A leaky ReLU of slope 0.2 is the activation 'where(x > 0, x, 0.2*x)'.",
}


class KernelOptions(TypedDict, total=False):
    """How a kernel's shape is read; the keywords shared by all variance-scaling forms."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    dtype: Any
    fan_in: float | None
    fan_out: float | None
    groups: int
    strides: Axes
    transposed: bool


def takes_options(form: Form, name: str | None = None) -> Form:
    """A form with ``**kernel: Unpack[KernelOptions]`` that refuses other arguments by its name.

    Args:
        form: the function. A method's first argument is called self or cls.
        name: what users call it, if that is not its own name.

    >>> @takes_options
    ... def he(activation="relu", **kernel): ...
    >>> he(in_axs=0)
    Traceback (most recent call last):
    TypeError: he takes no keyword 'in_axs'. Did you mean 'in_axis'? It takes activation, in_axis, \
out_axis, batch_axis, dtype, fan_in, fan_out, groups, strides, transposed.
    """
    form, name = (
        inspect.unwrap(form),
        name or form.__name__,
    )  # another name for it is one wrapper too
    own = [p for p in inspect.signature(form).parameters.values() if p.kind is not p.VAR_KEYWORD]
    ordered = [p.name for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    bound = [word for word in ordered if word in ("self", "cls")]
    takes = [p.name for p in own if p.name not in bound] + list(KernelOptions.__annotations__)

    @functools.wraps(form)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if len(args) > len(ordered):
            words = " and ".join(ordered[len(bound) :])
            raise TypeError(
                f"{name} takes {words} by position and the rest by name, but got "
                f"{len(args) - len(bound)} arguments by position. It returns an initializer: for "
                f"Flax write kernel_init=flaxinit.{name}(...)."
            )
        for word in kwargs.keys() - set(takes):
            hint = f" {ELSEWHERE[word]}" if word in ELSEWHERE else did_you_mean(word, takes)
            raise TypeError(f"{name} takes no keyword {word!r}.{hint} It takes {', '.join(takes)}.")
        return form(*args, **kwargs)

    checked.__name__ = checked.__qualname__ = name
    return checked  # pyright: ignore[reportReturnType]


def did_you_mean(word: str, choices: Iterable[str], most: int = 1) -> str:
    """A question about the nearest of `choices`, or nothing where none is near."""
    close = difflib.get_close_matches(word, list(choices), n=most)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
