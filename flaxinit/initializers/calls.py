"""Errors for wrong calls: they name the function, what it takes, and what to write instead."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from flaxinit.initializers.checks import did_you_mean, is_key

# What other libraries call an argument -> what to write here.
ELSEWHERE = {
    "gain": "PyTorch's gain is a factor on the standard deviation. Write orthogonal(scale=gain) or "
    'variance_scaling(gain**2, "fan_in", "normal"), or name the activation: he("tanh").',
    "nonlinearity": 'Name the activation that makes the layer\'s input: he("relu").',
    "a": 'For PyTorch\'s slope of a leaky ReLU write the function, he("max(x, 0.2*x)"); for the '
    "ends of an interval uniform(b, minval=a) or "
    "truncated_normal.from_parent(std, a, b, absolute=True).",
    "b": "For the ends of an interval write uniform(b, minval=a) or "
    "truncated_normal.from_parent(std, a, b, absolute=True).",
    "maxval": "The right end of the interval is uniform's scale: uniform(maxval, minval=minval).",
    "mean": "Draws have mean 0. Add a mean where the parameter is used.",
    "std": "Write stddev.",
    "val": "Write value.",
    "scale": "For a scale of your own use flaxinit.variance_scaling.",
    "seed": "An initializer has no seed of its own: call it with jax.random.key(seed) and a shape.",
}


def arguments(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included.

    Args:
        name: of the function that the user called.
        signature: of that function.
        args: what was passed by position.
        kwargs: what was passed by name.

    Raises:
        TypeError: they do not fit the signature; the message uses the caller's names.
    """
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        raise TypeError(_mistake(name, signature, args, kwargs)) from None
    if _as_initializer(args):
        raise TypeError(_not_called(name, signature))
    bound.apply_defaults()
    return bound.arguments


def _mistake(name, signature, args, kwargs) -> str:
    if _as_initializer(args) or {"key", "shape"} & kwargs.keys() - signature.parameters.keys():
        return _not_called(name, signature)
    names = list(signature.parameters)
    takes = f"It takes {', '.join(names)}."
    if unknown := [word for word in kwargs if word not in names]:
        word, hint = unknown[0], did_you_mean(unknown[0], names)
        if word in ELSEWHERE:
            hint = f" {ELSEWHERE[word]}"
        return f"{name} takes no keyword {word!r}.{hint} {takes}"
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    positional = names[: kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    if len(args) > len(positional):
        return (
            f"{name} takes {len(positional)} arguments by position ({', '.join(positional)}), got "
            f"{len(args)}. {takes}"
        )
    if twice := [word for word in positional[: len(args)] if word in kwargs]:
        return f"{name} got {twice[0]!r} twice, by position and by name."
    missing = [
        word for word in _required(signature) if word not in {*positional[: len(args)], *kwargs}
    ]
    return f"{name} needs {' and '.join(map(repr, missing))}. {takes}"


def is_shape(value: Any) -> bool:
    """Return whether `value` is a list or tuple of Python integers, as no key is."""
    return isinstance(value, list | tuple) and all(type(size) is int for size in value)


def wrong_form(init: Any, without_shape: bool) -> str:
    """Return the error text for a call that does not begin with a key and a shape."""
    got = "only one argument" if without_shape else "a shape in place of the key"
    return (
        f"{init!r} takes (key, shape, dtype=None, out_sharding=None), got {got}. For Haiku, which "
        "passes (shape, dtype), write w_init=flaxinit.for_haiku(init); for Keras "
        "kernel_initializer=flaxinit.for_keras(init)."
    )


def _required(signature: inspect.Signature) -> list[str]:
    empty = inspect.Parameter.empty
    return [n for n, parameter in signature.parameters.items() if parameter.default is empty]


def _as_initializer(args) -> bool:
    """Return whether these begin with a key and a shape, as when a layer calls its initializer."""
    return len(args) > 1 and is_key(args[0]) and isinstance(args[1], list | tuple)


def _not_called(name: str, signature: inspect.Signature) -> str:
    built = f"{name}({', '.join(_required(signature))})"
    return (
        f"{name} makes an initializer, which is then called with a key and a shape: "
        f"{built}(key, shape). For a layer write kernel_init={built}, not kernel_init={name}."
    )
