"""Checks of arguments: each returns the value in a standard form, or raises an error that names it.

A check is a function of a name and a value. The declared type of a field selects its check, see
`check_of`.
"""

import difflib
import functools
import math
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from flaxinit import sampling
from flaxinit.catalogue import ALIASES, CATALOGUE
from flaxinit.fans import Axes, integer, integers
from flaxinit.sampling import is_traced

Check = Callable[[str, Any], Any]


def known_number(name: str, value: Any) -> float:
    """Return `value` as a float if it is a real number and not a tracer."""
    try:
        array = np.asarray(value)
        if array.ndim or array.dtype.kind in "bcSU":  # float() accepts some of these
            raise TypeError
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError) as error:
        hint = " Compute it with Python or NumPy, not with jax.numpy." if is_traced(value) else ""
        if (activation := _activation(value)) is not None:
            hint = (
                f" The factor for an activation is flaxinit.gain({activation}) on a deviation, and "
                "the square of that on a variance."
            )
        raise TypeError(
            f"{name} must be a number that is known when the initializer is built, "
            f"got {value!r} of type {type(value).__name__}.{hint}"
        ) from error


def _activation(value: Any) -> str | None:
    """Return how to write an activation that was passed as a number; None for other values."""
    if isinstance(value, str):
        return repr(value) if value in CATALOGUE or value in ALIASES else None
    is_function = callable(value) and not isinstance(value, type)
    return getattr(value, "__name__", None) if is_function else None


def checked_number(
    name: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    above: float = -math.inf,
    maximum: float = math.inf,
) -> float:
    """Return `value` as a finite float in ``[minimum, maximum]`` that is more than `above`."""
    number = known_number(name, value)
    if math.isfinite(number) and above < number and minimum <= number <= maximum:
        return number
    rules = {
        "positive" if above == 0 else f"above {above:g}": above > -math.inf,
        "finite": maximum == math.inf,
        f"at least {minimum:g}": minimum > -math.inf,
        f"at most {maximum:g}": maximum < math.inf,
    }
    rule = " and ".join(rule for rule, holds in rules.items() if holds)
    raise ValueError(f"{name} must be {rule}, got {value!r}.")


def checked_scale(name: str, value: Any, **limits: float) -> Any:
    """Check a factor on a draw as `checked_number` does; of a traced one check only the type."""
    if not is_traced(value):
        return checked_number(name, value, **limits)
    if value.shape or not jnp.isdtype(value.dtype, ("integral", "real floating")):
        raise TypeError(f"{name} must be a real number, got {value.aval}.")
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(sampling.real_dtype(value.dtype if floating else drawn_dtype(None)))


def checked_count(name: str, value: Any) -> int:
    """Return `value` as an int if it is a positive integer of Python or NumPy."""
    try:
        number = integer(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return number


def checked_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False; a string such as "no" would count as true."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}.")


# What other libraries call a choice of ours.
_SYNONYMS = {"mean": "avg", "gaussian": "normal", "backward": "fan_out", "forward": "fan_in"}


def checked_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if value in choices:
        return value
    hint = did_you_mean(_SYNONYMS.get(str(value), str(value)), choices)
    raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.{hint}")


def did_you_mean(word: str, choices: Iterable[str], most: int = 1) -> str:
    """Return a question that names the nearest of `choices`, or no text if none is near."""
    close = difflib.get_close_matches(word, list(choices), n=most)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def checked_axes(name: str, axes: Any) -> int | tuple[int, ...]:
    """Return one axis number, or a sorted tuple of none or several: axes are a set."""
    try:
        numbers = integers(axes)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer or a sequence of integers, got {axes!r}."
        ) from None
    if isinstance(numbers, int):
        return numbers
    return numbers[0] if len(numbers) == 1 else tuple(sorted(numbers))


def checked_axis(name: str, axis: Any) -> int:
    """Return the number of one axis."""
    axes = checked_axes(name, axis)
    if isinstance(axes, int):
        return axes
    raise ValueError(f"{name} must be one axis, got {axis!r}.")


def checked_dtype(name: str, dtype: Any) -> np.dtype | None:
    """Return `dtype` as a NumPy dtype if it is floating or complex; None is JAX's default float."""
    if dtype is None or dtype is float:  # as in jax.numpy
        return None
    try:
        checked = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}={dtype!r} is not a dtype.") from None
    if not jnp.isdtype(checked, ("real floating", "complex floating")):
        raise ValueError(
            f"Weights are drawn in a floating or complex dtype of JAX, got {checked}. Draw in "
            "float32 and convert with .astype."
        )
    if float(jnp.finfo(checked).min) >= 0:
        raise ValueError(f"{checked.name} holds no negative numbers. Draw in another dtype.")
    return checked


def drawn_dtype(dtype: Any) -> np.dtype:
    """Return the dtype that JAX will give the array: 64 bits need jax_enable_x64."""
    asked = checked_dtype("dtype", dtype)
    given = jnp.dtype(jax.dtypes.canonicalize_dtype(float if asked is None else asked))
    if asked is not None and given != asked:
        warnings.warn(
            f"{asked.name} was asked for, but jax_enable_x64 is off: drawing {given.name}.",
            stacklevel=3,
        )
    return given


def is_key(value: Any) -> bool:
    """Return whether `value` is one key, typed or legacy."""
    return _key_shape(value) == ()


def check_key(key: Any) -> None:
    """Raise TypeError unless `key` is one key; a seed, for example, is not."""
    if is_key(key):
        return
    hint = " For several draws use jax.vmap." if _key_shape(key) else ""
    if type(key).__name__ == "Rngs":  # of NNX, which is not imported here
        hint = " Rngs are a source of keys: pass rngs.params()."
    array = isinstance(key, jax.Array | np.ndarray)
    kind = f"an array {key.dtype} of shape {key.shape}" if array else repr(key)
    if "\n" in kind:  # a tree, printed over many lines
        kind = f"an object of type {type(key).__name__}"
    raise TypeError(f"A draw needs one key, jax.random.key(seed); got {kind}.{hint}")


def _key_shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array of keys, each of one row if legacy; None for other values."""
    if not isinstance(value, jax.Array | np.ndarray):
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.shape
    return value.shape[:-1] if value.dtype == np.uint32 and value.ndim else None


def check_divides(shape: tuple[int, ...], out_sharding: sampling.OutSharding) -> None:
    """Raise ValueError for a layout in unequal parts: JAX may replace it by copies."""
    spec: Any = getattr(out_sharding, "spec", out_sharding)
    if not isinstance(spec, PartitionSpec):
        return
    mesh = getattr(out_sharding, "mesh", None) or jax.sharding.get_abstract_mesh()
    if found := sampling.uneven(shape, spec, mesh):
        dimension, why = found
        raise ValueError(f"out_sharding={out_sharding}: dimension {dimension} of {shape} {why}")


# Types of fields, besides float, bool and Literal. A type checker sees only the first argument.
# A float may be traced, a known number may not.
NonNegative = Annotated[float, functools.partial(checked_scale, minimum=0.0)]
Positive = Annotated[float, functools.partial(checked_scale, above=0.0)]
KnownPositive = Annotated[float, functools.partial(checked_number, above=0.0)]
Count = Annotated[int, checked_count]
Axis = Annotated[int, checked_axis]
AxisSet = Annotated[Axes, checked_axes]
# A type checker wants the union. OmegaConf has none of classes, so it refuses an initializer, which
# it would otherwise turn into a config of its fields.
DType = Annotated[DTypeLike | None, checked_dtype]


def check_of(kind: Any) -> Check | None:
    """Return the check of a field that is declared with this type; None if it takes any value.

    >>> check_of(NonNegative | None)("stddev", 2)
    2.0
    """
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0]
    if get_origin(kind) is Literal:
        return functools.partial(checked_choice, choices=get_args(kind))
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        (given,) = set(get_args(kind)) - {type(None)}
        check = check_of(given)
        return check and (lambda name, value: None if value is None else check(name, value))
    return {float: checked_scale, bool: checked_flag}.get(kind)
