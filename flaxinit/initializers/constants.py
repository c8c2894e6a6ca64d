"""Initializers that draw nothing: constant, zeros, ones."""

import dataclasses
from typing import Annotated, Any, Self

import jax.numpy as jnp
import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import AnyAxes, Deterministic
from flaxinit.initializers.checks import DType, checked_scale, drawn_dtype


def _checked_value(name: str, value: Any) -> Any:
    """Return a finite number, or a read-only array of them; a traced value as it is."""
    if sampling.is_traced(value) and jnp.issubdtype(value.dtype, jnp.number):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # such as a key, or rows of different lengths
        array = np.array(None)
    if not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(
            f"constant({name}) needs a number or an array of numbers that are known when it is "
            f"built, got {value!r}."
        )
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    array = array.astype(np.complex128 if is_complex else np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"constant({name}) must be finite, got {value!r}.")
    array.flags.writeable = False  # a value that is hashed may not change
    return array.item() if array.ndim == 0 else array


class constant(Deterministic, AnyAxes):
    """Fill with a value: ``W = value``, and ``Var W = 0``.

    Args:
        value: a number, or an array that broadcasts to the shape.
        dtype: default dtype if the call gives none.

    Raises:
        TypeError: a value that is not numeric.
        ValueError: a value that is not finite, a dtype that is not floating; when called, a complex
            value for a real dtype, a shape to which the value does not broadcast.

    >>> constant(0.5)(None, (2,)).tolist()
    [0.5, 0.5]
    """

    value: Annotated[Any, _checked_value]
    dtype: DType = None

    def times(self, factor: float) -> Self:
        """Return the same constant with its value multiplied, as in `Initializer.times`."""
        multiple: Any = checked_scale("factor", factor, minimum=0.0)
        value = self.value
        if sampling.is_traced(multiple, value):  # JAX may be told to promote no dtypes
            compute = drawn_dtype(None)
            if jnp.iscomplexobj(value):
                compute = np.promote_types(compute, np.complex64)
            multiple, value = (jnp.asarray(n).astype(compute) for n in (multiple, value))
        return dataclasses.replace(self, value=multiple * value)

    def check_shape(self, shape):
        of_value = np.shape(self.value)
        matched = zip(reversed(of_value), reversed(shape), strict=False)
        if len(of_value) > len(shape) or any(own not in (1, size) for own, size in matched):
            raise ValueError(
                f"The value of a constant has shape {of_value}, which does not broadcast to the "
                f"shape {shape}: sizes are matched from the last axis on, and must agree or be 1."
            )

    def draw(self, key, shape, dtype, out_sharding):
        value = sampling.array_module(self.value).asarray(self.value)
        if jnp.iscomplexobj(value) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{dtype.name} cannot hold the complex constant {self.value!r}.")
        if not sampling.is_traced(value):
            sampling.check_representable(dtype, 0.0, float(np.abs(value).max(initial=0.0)))
        return sampling.full(
            value.astype(dtype), shape=shape, dtype=dtype, out_sharding=out_sharding
        )

    def __call__(
        self, key=None, shape=None, dtype=None, out_sharding=None, out_axis=None, *, in_axis=None
    ) -> Any:
        """Fill an array; without a key and a shape, return the initializer, of this dtype if given.

        So ``zeros()`` replaces Flax's ``zeros_init()``, and ``zeros`` replaces JAX's ``zeros``.
        """
        if key is None and shape is None and out_sharding is None:
            return self if dtype is None else constant(self.value, dtype)
        return super().__call__(key, shape, dtype, out_sharding, out_axis, in_axis=in_axis)

    def __repr__(self):
        if sampling.is_traced(self.value):
            return super().__repr__()
        return {zeros: "zeros", ones: "ones"}.get(self) or super().__repr__()

    def __reduce__(self):
        return constant, (self.value, self.dtype)  # the array in a copy is read-only too

    def _identity(self):
        _, value, dtype = super()._identity()
        array = np.asarray(value)
        return array.dtype, array.shape, array.tobytes(), dtype


Constant = constant
zeros = constant(0.0)
ones = constant(1.0)
zeros_init, ones_init = zeros, ones  # Flax's names; it writes zeros_init()
