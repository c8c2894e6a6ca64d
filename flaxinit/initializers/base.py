"""The base class of initializers: values with JAX's call signature and a stated variance."""

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform, get_type_hints

import numpy as np
from jaxtyping import Array, Inexact

from flaxinit import sampling
from flaxinit.fans import Axes, checked_shape
from flaxinit.initializers.calls import arguments, is_shape, wrong_form
from flaxinit.initializers.checks import (
    check_divides,
    check_key,
    check_of,
    checked_axes,
    checked_scale,
    drawn_dtype,
)

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True)
def declared(cls: Class) -> Class:
    """Make a frozen dataclass that checks its fields when it is built.

    The type of a field selects its check, see `checks.check_of`. These checks run before
    ``__post_init__``, which only checks conditions on several fields. Errors name the class.
    """
    dataclasses.dataclass(frozen=True, repr=False, eq=False)(cls)
    build = cls.__init__
    with contextlib.suppress(NameError):  # a string may name what is not defined here
        build.__annotations__ = get_type_hints(build) | {"return": None}  # no checks in help()
    signature = inspect.signature(cls)
    checks = {f.name: check for f in dataclasses.fields(cls) if (check := check_of(f.type))}

    @functools.wraps(build)
    def checked(self, *args, **kwargs):
        values = arguments(cls.__name__, signature, args, kwargs)
        for name, check in checks.items():
            values[name] = check(name, values[name])
        build(self, **values)

    cls.__init__ = checked
    return cls


class Value:
    """Base class of objects that are compared, hashed and printed by their fields."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def _identity(self) -> tuple[Any, ...]:
        """Return what is compared and hashed."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in values.items():
            if sampling.is_traced(value):
                raise TypeError(
                    f"{type(self).__name__} with a traced {name} cannot be hashed or compared, "
                    "since its value is only known when the program runs. Compute it with Python's "
                    "math or NumPy instead of jax.numpy."
                )
        return type(self), *values.values()

    def __eq__(self, other):
        if not isinstance(other, type(self)):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())

    def __repr__(self) -> str:
        """Return the call that builds an equal value, without defaults and long arrays."""
        positional, keyword = [], []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.dtype):
                value = value.name
            known = not sampling.is_traced(value) and not isinstance(value, np.ndarray)
            if known and value == field.default:
                continue
            text = _written(value)
            if field.default is dataclasses.MISSING and not field.kw_only:
                positional.append(text)
            else:
                keyword.append(f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(positional + keyword)})"


def _written(value: Any) -> str:
    if isinstance(value, np.ndarray):
        short = value.size <= 16 and len(text := repr(value.tolist())) <= 120
        return text if short else f"<{value.dtype} array of shape {value.shape}>"
    infinite = isinstance(value, float) and math.isinf(value)
    return f"float('{value}')" if infinite else repr(value)


@dataclass_transform(frozen_default=True)
class Initializer(Value):
    """Base class of all initializers. A subclass defines both the draw and its variance.

    `draw` makes the values and `_variance` states their variance; the tests compare the two.
    `check_shape` says which shapes fit. `declared` makes each subclass a frozen dataclass; one of
    its fields is ``dtype``.

    Numbers that scale a draw may be traced, as in ``jax.jit``, ``nn.scan`` or ``jax.vmap``. Such an
    initializer draws and states a traced variance, but cannot be hashed or compared.

    A subclass has a lower-case name, like a function. Users call it as they call one of
    `jax.nn.initializers`, and errors, `help` and the repr show the name that they wrote. `scales`
    names the fields to which its values are proportional; `times` multiplies them.

    >>> from flaxinit import he, normal
    >>> isinstance(he(), Initializer), normal(0.02).times(2).std((8, 8))
    (True, 0.04)
    """

    dtype: Any
    scales: ClassVar[tuple[str, ...]] = ()
    needs_key = True
    __array_ufunc__ = None  # NumPy's scalars leave a product to `__rmul__`

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        declared(cls)

    def __call__(
        self,
        key: Any,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        out_sharding: sampling.OutSharding | Axes = None,
        out_axis: Axes | None = None,
        *,
        in_axis: Axes | None = None,
    ) -> Inexact[Array, "..."]:
        """Draw an array.

        Layers that know their kernel's axes may pass them: ``init(key, shape, dtype, in_axis,
        out_axis)`` is ``init.with_axes(in_axis, out_axis)(key, shape, dtype)``. The input axis
        then stands where JAX has the sharding, which is passed by name.

        Args:
            key: a typed key or a legacy uint32 one; may be None if nothing is random.
            shape: of the array; if one of its sizes is 0, the array is empty.
            dtype: floating or complex; default the initializer's own, else JAX's default float.
            out_sharding: a NamedSharding, or a PartitionSpec over the mesh that is set.
            out_axis: axis or axes of the outputs, in place of the initializer's own.
            in_axis: axis or axes of the inputs; goes with ``out_axis``.

        Returns:
            The array, laid out as ``out_sharding`` asks.
        """
        if shape is None or is_shape(key):
            raise TypeError(wrong_form(self, shape is None))
        axes: tuple[Any, Any] = in_axis, out_axis
        layout: Any = out_sharding
        if in_axis is None and out_axis is not None:  # all by position
            axes, layout = (out_sharding, out_axis), None
        if axes != (None, None):
            return self.with_axes(*axes)(key, shape, dtype, layout)
        shape = checked_shape(shape)
        self.check_shape(shape)
        dtype = drawn_dtype(self.dtype if dtype is None else dtype)
        if key is not None or self.needs_key:
            check_key(key)
        check_divides(shape, layout)
        with sampling.mesh_context(layout):
            if 0 in shape:
                return sampling.full(0, shape=shape, dtype=dtype, out_sharding=layout)
            return self.draw(key, shape, dtype, layout)

    def draw(self, key, shape: tuple[int, ...], dtype: np.dtype, out_sharding) -> Array:
        """Make the values; shape and dtype have been checked and no size is 0."""
        raise NotImplementedError  # every initializer draws in its own way

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if this initializer cannot fill the shape; it may be an empty one."""

    def variance(self, shape: Sequence[int]) -> float:
        """Return the variance of one entry, ``E|w - E w|²``, of an array of this shape.

        It is the variance before the values are rounded to the dtype; `flaxinit.sampling` says how
        much rounding changes it. It is traced if the initializer's scale is.
        """
        shape = checked_shape(shape)
        self.check_shape(shape)
        if 0 in shape:
            raise ValueError(f"An array of shape {shape} has no entries, and so no variance.")
        return self._variance(shape)

    def _variance(self, shape: tuple[int, ...]) -> float:
        raise NotImplementedError  # every initializer states its own variance

    def std(self, shape: Sequence[int]) -> float:
        """Return the standard deviation of one entry of an array of this shape."""
        return sampling.root(self.variance(shape))

    def with_axes(self, in_axis: Axes, out_axis: Axes) -> Self:
        """Return the same initializer for a kernel with these axes of inputs and outputs.

        An initializer whose values do not depend on the axes returns itself.

        Raises:
            TypeError: an initializer that reads a kernel's axes in another way.

        >>> from flaxinit import lecun
        >>> lecun().with_axes(0, (1, 2)) == lecun(in_axis=0, out_axis=(1, 2))
        True
        """
        if {"in_axis", "out_axis"} <= self.__dataclass_fields__.keys():
            return dataclasses.replace(self, in_axis=in_axis, out_axis=out_axis)
        raise TypeError(
            f"{self!r} takes no in_axis and out_axis. Call it as init(key, shape, dtype), if its "
            "reading of the shape fits the layer."
        )

    def to_config(self) -> dict[str, Any]:
        """Return plain data, for JSON or YAML, from which `flaxinit.get` makes an equal one.

        Raises:
            TypeError: a traced scale, whose value is only known when the program runs.

        >>> from flaxinit import get, normal
        >>> normal(0.02, "bfloat16").to_config()
        {'name': 'normal', 'stddev': 0.02, 'dtype': 'bfloat16'}
        >>> get(normal(0.02).to_config()) == normal(0.02)
        True
        """
        from flaxinit.initializers.config import to_config  # which needs this class

        return to_config(self)

    def times(self, factor: float) -> Self:
        """Return this initializer with its values multiplied by a factor, as ``factor * init``.

        Args:
            factor: finite, at least 0; may be traced.

        Raises:
            TypeError: an initializer without a scale.
            ValueError: a factor that is negative or not finite.

        >>> from flaxinit import normal
        >>> normal(0.02).times(0.5) == 0.5 * normal(0.02) == normal(0.01)
        True
        """
        factor = checked_scale("factor", factor, minimum=0.0)
        if not self.scales:
            raise TypeError(
                f"{self!r} has no scale that a factor could multiply. Multiply the parameter where "
                "it is used."
            )
        return dataclasses.replace(
            self, **{name: factor * getattr(self, name) for name in self.scales}
        )

    def __mul__(self, factor: float) -> Self:
        return self.times(factor)

    __rmul__ = __mul__


class Deterministic(Initializer):
    """An initializer that draws nothing: it needs no key, and its variance is 0."""

    needs_key = False

    def _variance(self, shape):
        return 0.0


class AnyAxes(Initializer):
    """An initializer whose values do not depend on which axes are inputs and which outputs."""

    def with_axes(self, in_axis, out_axis):
        checked_axes("in_axis", in_axis)
        checked_axes("out_axis", out_axis)
        return self


def checked_initializer(name: str, value: Any) -> Any:
    """Return `value` if it is an initializer, or another function that may be one."""
    if isinstance(value, Initializer):
        return value
    if isinstance(value, str | Mapping):
        hint = f" Write flaxinit.get({value!r})."
    elif str(getattr(value, "__module__", "")).startswith("flaxinit."):
        hint = f" Call it: {getattr(value, '__name__', 'init')}(...)."
    elif callable(value):
        return value
    else:
        hint = ""
    raise TypeError(f"{name} must be an initializer such as flaxinit.he(), got {value!r}.{hint}")
