"""What Flax calls: an initializer is a value with JAX's call signature and its own theory."""

import dataclasses
import difflib
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact

from flaxinit import sampling
from flaxinit.fans import checked_shape, integer


class Initializer:
    """Base of all initializers; each is a frozen dataclass with a field ``dtype``.

    A subclass says what it draws twice: `draw` makes the values and `_variance` states their
    variance, which the tests hold against each other. `check_shape` says which shapes it fits.
    """

    dtype: Any

    def __call__(
        self,
        key: Any,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: sampling.OutSharding = None,
    ) -> Inexact[Array, "..."]:
        """Draw an array.

        Args:
            key: a typed key or a legacy uint32 one; None where nothing is drawn.
            shape: of the array; if one of its sizes is 0 the array is empty.
            dtype: floating or complex; default the initializer's own, else JAX's default float.
            out_sharding: a NamedSharding, or a PartitionSpec over the mesh that is set.

        Returns:
            The array, laid out as ``out_sharding`` asks.
        """
        shape = checked_shape(shape)
        self.check_shape(shape)
        dtype = drawn_dtype(self.dtype if dtype is None else dtype)
        if key is not None or not isinstance(self, Deterministic):
            check_key(key)
        check_divides(shape, out_sharding)
        with sampling.mesh_context(out_sharding):
            if 0 in shape:
                return sampling.full(0, shape=shape, dtype=dtype, out_sharding=out_sharding)
            return self.draw(key, shape, dtype, out_sharding)

    def draw(self, key, shape: tuple[int, ...], dtype: np.dtype, out_sharding) -> Array:
        """Make the values; shape and dtype have been checked and no size is 0."""
        raise NotImplementedError  # every initializer draws in its own way

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for a shape, empty or not, that this initializer does not fit."""

    def variance(self, shape: Sequence[int]) -> float:
        """The variance of one entry, ``E|w - E w|²``, of an array of this shape.

        It is that before the one rounding to the dtype; `flaxinit.sampling` says what that moves.
        """
        shape = checked_shape(shape)
        self.check_shape(shape)
        if 0 in shape:
            raise ValueError(f"An array of shape {shape} has no entries, and so no variance.")
        return self._variance(shape)

    def _variance(self, shape: tuple[int, ...]) -> float:
        raise NotImplementedError  # and states its own theory

    def std(self, shape: Sequence[int]) -> float:
        """The standard deviation of one entry of an array of this shape."""
        return math.sqrt(self.variance(shape))

    def __repr__(self) -> str:
        """The call that builds an equal value, defaults left out."""
        positional, keyword = [], []
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.tolist()
            if isinstance(value, np.dtype):
                value = value.name
            if value == field.default:
                continue
            infinite = isinstance(value, float) and math.isinf(value)
            text = f"float('{value}')" if infinite else repr(value)
            if field.default is dataclasses.MISSING and not field.kw_only:
                positional.append(text)
            else:
                keyword.append(f"{field.name}={text}")
        return f"{public_name(type(self))}({', '.join(positional + keyword)})"


class Deterministic(Initializer):
    """An initializer that draws nothing: it needs no key, and its variance is 0."""

    def _variance(self, shape):
        return 0.0


def public_name(cls: type) -> str:
    """``VarianceScaling`` -> ``variance_scaling``: the spelling users write."""
    name = cls.__name__
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def freeze(self: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is being built."""
    for name, value in values.items():
        object.__setattr__(self, name, value)


def known_number(name: str, value: Any) -> float:
    """`value` as a float, if it is a real number that is no tracer."""
    try:
        array = np.asarray(value)
        if array.ndim or array.dtype.kind in "bcSU":  # some of which float would read
            raise TypeError
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number that is known when the initializer is built, "
            f"got {value!r} of type {type(value).__name__}."
        ) from error


def checked_number(name: str, value: Any, *, minimum: float = -math.inf) -> float:
    """`value` as a finite float of at least `minimum`."""
    number = known_number(name, value)
    if not math.isfinite(number) or number < minimum:
        rule = "finite" if minimum == -math.inf else f"finite and at least {minimum:g}"
        raise ValueError(f"{name} must be {rule}, got {value!r}.")
    return number


def checked_count(name: str, value: Any) -> int:
    """`value` as a positive integer, of Python or of NumPy."""
    try:
        number = integer(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return number


def checked_flag(name: str, value: Any) -> bool:
    """`value` if it is True or False: a string such as "no" would count as true."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}.")


def checked_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`."""
    if value in choices:
        return value
    hint = did_you_mean(str(value), choices)
    raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.{hint}")


def did_you_mean(word: str, choices: Iterable[str], most: int = 1) -> str:
    """A question about the nearest of `choices`, or nothing where none is near."""
    close = difflib.get_close_matches(word, list(choices), n=most)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def checked_axes(name: str, axes: Any) -> int | tuple[int, ...]:
    """An axis number, or a tuple of none or several of them in order: they are a set."""
    try:
        if isinstance(axes, list | tuple):
            numbers = tuple(sorted(map(integer, axes)))
            return numbers[0] if len(numbers) == 1 else numbers
        return integer(axes)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer or a sequence of integers, got {axes!r}."
        ) from None


def checked_dtype(dtype: Any) -> np.dtype | None:
    """`dtype` as a NumPy dtype, if it is floating or complex."""
    if dtype is None or dtype is float:  # JAX's default float, as in jax.numpy
        return None
    try:
        checked = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={dtype!r} is not a dtype.") from None
    if not jnp.isdtype(checked, ("real floating", "complex floating")):
        raise ValueError(
            f"Weights are drawn in a floating or complex dtype of JAX, got {checked}. Draw in "
            "float32 and convert with .astype."
        )
    if float(jnp.finfo(checked).min) >= 0:
        raise ValueError(f"{checked.name} holds no negative numbers. Draw in another dtype.")
    return checked


def drawn_dtype(dtype: Any) -> np.dtype:
    """The dtype that JAX will give the array: 64 bits need jax_enable_x64."""
    asked = checked_dtype(dtype)
    given = jnp.dtype(jax.dtypes.canonicalize_dtype(float if asked is None else asked))
    if asked is not None and given != asked:
        warnings.warn(
            f"{asked.name} was asked for, but jax_enable_x64 is off: drawing {given.name}.",
            stacklevel=3,
        )
    return given


def check_key(key: Any) -> None:
    """Raise TypeError for what is not one key, such as a seed."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not ((typed and shape == ()) or (dtype == np.uint32 and len(shape) == 1)):
        kind = f"an array {dtype} of shape {shape}" if dtype is not None else repr(key)
        many = shape and (typed or dtype == np.uint32)
        hint = " For several draws use jax.vmap." if many else ""
        raise TypeError(f"A draw needs one key, jax.random.key(seed); got {kind}.{hint}")


def check_divides(shape: tuple[int, ...], out_sharding: sampling.OutSharding) -> None:
    """Raise ValueError for a layout in unequal parts, in place of which JAX may make copies."""
    spec: Any = getattr(out_sharding, "spec", out_sharding)
    if not isinstance(spec, PartitionSpec):
        return
    mesh = getattr(out_sharding, "mesh", None) or jax.sharding.get_abstract_mesh()
    if found := sampling.uneven(shape, spec, mesh):
        dimension, why = found
        raise ValueError(f"out_sharding={out_sharding}: dimension {dimension} of {shape} {why}")
