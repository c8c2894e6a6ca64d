"""The keywords that say how a kernel's shape is read, for all forms of variance scaling.

This module does not load JAX, so the theory can use its decorator without loading JAX.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from flaxinit.fans import Axes

Form = TypeVar("Form", bound=Callable[..., Any])


class KernelOptions(TypedDict, total=False):
    """The keywords of every form of variance scaling that say how a kernel's shape is read."""

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
    """Check the keywords of a form with ``**kernel: Unpack[KernelOptions]``; errors name the form.

    Args:
        form: a function, or a method with self.
        name: what users call it; default its own name.

    >>> @takes_options
    ... def he(activation="relu", **kernel): ...
    >>> he(in_axs=0)
    Traceback (most recent call last):
    TypeError: he takes no keyword 'in_axs'. Did you mean 'in_axis'? It takes activation, in_axis, \
out_axis, batch_axis, dtype, fan_in, fan_out, groups, strides, transposed.
    """
    name = name or form.__name__
    form = inspect.unwrap(form)  # a form with a second name is wrapped only once
    own = [p for p in inspect.signature(form).parameters.values() if p.kind is not p.VAR_KEYWORD]
    bound = bool(own) and own[0].name == "self"
    options = [
        inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=None)
        for word in KernelOptions.__annotations__
    ]
    signature = inspect.Signature([*own[bound:], *options])

    @functools.wraps(form)
    def checked(*args: Any, **kwargs: Any) -> Any:
        from flaxinit.initializers.calls import arguments  # loads JAX, as the form itself does

        arguments(name, signature, args[bound:], kwargs)
        return form(*args, **kwargs)

    checked.__name__ = checked.__qualname__ = name
    return checked  # pyright: ignore[reportReturnType]
