"""Initializers that draw nothing: constant, zeros, ones."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flaxinit import sampling
from flaxinit.initializers.contract import Deterministic, checked_dtype, freeze


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Constant(Deterministic):
    """Fill with a value.

    Args:
        value: a number, or an array that broadcasts to the shape.
        dtype: filled where the call names none.

    Raises:
        TypeError: a value that is not numeric.
        ValueError: a value that is not finite, a dtype that is not floating; when called, a complex
            value for a real dtype, a shape to which the value does not broadcast.

    >>> constant(0.5)(None, (2,)).tolist()
    [0.5, 0.5]
    """

    value: Any
    dtype: Any = None

    def __post_init__(self):
        if isinstance(self.value, Tracer):
            raise TypeError("constant(value) needs a value that is known, got a traced array.")
        value = np.asarray(self.value)
        if not jnp.issubdtype(value.dtype, jnp.number):
            raise TypeError(
                f"constant(value) needs a number or an array of numbers, got {self.value!r}."
            )
        is_complex = jnp.issubdtype(value.dtype, jnp.complexfloating)
        value = value.astype(np.complex128 if is_complex else np.float64)
        if not np.isfinite(value).all():
            raise ValueError(f"constant(value) must be finite, got {self.value!r}.")
        value.flags.writeable = False  # a value, which has a hash
        freeze(
            self,
            value=value.item() if value.ndim == 0 else value,
            dtype=checked_dtype(self.dtype),
        )

    def check_shape(self, shape):
        of_value = np.shape(self.value)
        try:
            fits = np.broadcast_shapes(of_value, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"The value of a constant has shape {of_value}, which does not broadcast to the "
                f"shape {shape}: sizes are matched from the last axis on, and must agree or be 1."
            )

    def draw(self, key, shape, dtype, out_sharding):
        value = np.asarray(self.value)
        if value.dtype.kind == "c" and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{dtype.name} cannot hold the complex constant {self.value!r}.")
        sampling.check_representable(dtype, 0.0, float(np.abs(value).max(initial=0.0)))
        return sampling.full(
            value.astype(dtype), shape=shape, dtype=dtype, out_sharding=out_sharding
        )

    def _identity(self):
        value = np.asarray(self.value)
        return value.dtype, value.shape, value.tobytes(), self.dtype

    def __eq__(self, other):
        if not isinstance(other, Constant):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())


class _Filled(Constant):
    """A constant that is itself the public name, as ``jax.nn.initializers.zeros`` is.

    Called with no arguments it returns itself, so that ``zeros()`` works where Flax has
    ``zeros_init()``.
    """

    def __call__(self, key=None, shape=None, dtype=None, out_sharding=None) -> Any:
        if shape is None and key is None:
            return self if dtype is None else Constant(self.value, dtype)
        if shape is None:
            raise TypeError(f"{self!r} takes (key, shape, dtype=None, out_sharding=None).")
        return super().__call__(key, shape, dtype, out_sharding)

    def __repr__(self):
        return "ones" if self.value else "zeros"

    def __reduce__(self):
        return repr(self)


constant = Constant
zeros = _Filled(0.0)
ones = _Filled(1.0)
