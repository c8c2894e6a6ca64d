"""Initializers as plain data: the names, numbers, texts and lists that JSON and YAML hold."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import flaxinit
from flaxinit import sampling
from flaxinit.catalogue import ALIASES, CATALOGUE
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.calls import arguments
from flaxinit.initializers.checks import did_you_mean

DTYPE = inspect.Parameter("dtype", inspect.Parameter.KEYWORD_ONLY, default=None)
FILLED = inspect.Signature([DTYPE])  # what goes with the name of a filled array, such as zeros
INFINITE = {"inf": math.inf, "-inf": -math.inf}  # JSON has no infinite numbers


def get(config: Any) -> Initializer:
    """Return the initializer that a name or a configuration describes; no code is evaluated.

    Args:
        config: a name such as ``"he_uniform"``; a mapping of ``"name"`` and of arguments by their
            names (a dict, or a node of OmegaConf or ml_collections); or an initializer, which is
            returned as it is.

    Returns:
        The initializer; ``init.to_config()`` describes it again.

    Raises:
        ValueError: an unknown name, a mapping without a name.
        TypeError: a value that is neither a name nor a mapping, a wrong or missing argument.

    >>> get("he_uniform")
    variance_scaling(2.0, 'fan_in', 'uniform')
    >>> get({"name": "normal", "stddev": 0.02, "dtype": "bfloat16"})
    normal(stddev=0.02, dtype='bfloat16')
    """
    if isinstance(config, Initializer):
        return config
    if isinstance(config, str):
        return _made(config, {})
    if not _is_mapping(config):
        raise TypeError(
            'A configuration is a name such as "he_uniform", or a mapping such as '
            f'{{"name": "he", "activation": "gelu"}}; got {config!r}.'
        )
    fields = {key: _read(config[key]) for key in config}
    if not isinstance(name := fields.pop("name", None), str):
        raise ValueError(
            'A configuration names its initializer under "name", as in {"name": "he", '
            f'"activation": "gelu"}}; got {config!r}.'
        )
    return _made(name, fields)


def to_config(init: Initializer) -> dict[str, Any]:
    """Return an initializer's name and its fields that are not the defaults, as plain data.

    A dtype becomes its name, an array a list of lists, a complex number or array its parts under
    ``"real"`` and ``"imag"``, an infinite number ``"inf"`` or ``"-inf"``.
    """
    default = inspect.signature(type(init)).parameters
    fields = {name: getattr(init, name) for name in default}
    changed = {
        name: _written(name, value)
        for name, value in fields.items()
        if isinstance(value, np.ndarray)
        or sampling.is_traced(value)
        or value != default[name].default
    }
    return {"name": type(init).__name__, **changed}


@functools.cache
def forms() -> dict[str, Initializer | Callable[..., Initializer]]:
    """Return what a configuration may name: public initializers and functions that make one."""
    rooms = "flaxinit.initializers.", "flaxinit.kernels"
    names = [name for name, home in vars(flaxinit)["_HOME"].items() if home.startswith(rooms)]
    public = {name: getattr(flaxinit, name) for name in names}
    public |= {name: getattr(flaxinit.recipes, name) for name in flaxinit.recipes.__all__}
    return {name: form for name, form in public.items() if _is_form(form)}


def _is_form(form: Any) -> bool:
    made = form if isinstance(form, type) else getattr(form, "__annotations__", {}).get("return")
    is_class = isinstance(made, type) and issubclass(made, Initializer) and made is not Initializer
    return is_class or isinstance(form, Initializer)


def _made(name: str, fields: dict[str, Any]) -> Initializer:
    form = forms().get(name)
    if form is None:
        hint = did_you_mean(name.lower(), forms(), most=3)
        if name in CATALOGUE or name in ALIASES:
            hint = f' It is an activation: {{"name": "he", "activation": "{name}"}}.'
        raise ValueError(f"No initializer is called {name!r}.{hint}")
    if not isinstance(form, Initializer):
        arguments(name, inspect.signature(form), (), fields)
        return form(**fields)
    return dataclasses.replace(form, **arguments(name, FILLED, (), fields)) if fields else form


def _is_mapping(config: Any) -> bool:
    """Return whether `config` has keys and items; not every library's type is a `Mapping`."""
    return isinstance(config, Mapping) or (hasattr(config, "keys") and hasattr(config, "items"))


def _read(value: Any) -> Any:
    """Make a field from plain data."""
    if isinstance(value, str):
        return INFINITE.get(value, value)
    if _is_mapping(value):
        if set(value) != {"real", "imag"}:
            return get(value)
        real, imag = (np.asarray(_read(value[part]), float) for part in ("real", "imag"))
        return np.stack([real, imag], axis=-1).view(complex)[..., 0]  # a sum would lose -0's sign
    if isinstance(value, Initializer | np.ndarray | bytes) or not hasattr(value, "__iter__"):
        return value
    return [_read(item) for item in value]


def _written(name: str, value: Any) -> Any:
    """Turn a field into plain data."""
    if isinstance(value, Initializer):
        return to_config(value)
    if isinstance(value, tuple):
        return [_written(name, item) for item in value]
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, complex) or (isinstance(value, np.ndarray) and value.dtype.kind == "c"):
        return {part: _written(name, getattr(value, part)) for part in ("real", "imag")}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        f"{name} is {value!r}, which no configuration can hold: only numbers, texts, lists and "
        "initializers of flaxinit can be written."
    )
