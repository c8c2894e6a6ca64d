"""Statistics of arrays: by NumPy where they are small, else compiled, on their devices.

XLA compiles a program for each shape, which takes longer than to run hundreds of small ones.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SMALL = 2**18  # entries, at most, that NumPy sums within a millisecond


def statistic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function of ``numpy`` or ``jax.numpy``, arrays of one size, and settings.

    Args:
        function: (module, arrays, settings) -> any tree of arrays.

    Returns:
        (arrays, settings) -> the same.
    """
    compiled = jax.jit(functools.partial(function, jnp), static_argnums=1)

    @functools.wraps(function)
    def run(arrays: tuple[jax.Array, ...], settings: Hashable = None):
        if all(x.size <= _SMALL and getattr(x, "is_fully_addressable", True) for x in arrays):
            with np.errstate(all="ignore"):  # as JAX has it
                return function(np, tuple(map(np.asarray, arrays)), settings)
        return compiled(arrays, settings)

    return run


class Moments(NamedTuple):
    """Sums over u = x / max|x|, since squares of x may overflow or vanish."""

    entries: int
    squares: Any  # Σ|u|²
    sum: Any  # Σ Re u
    scale: Any  # max|x|

    @property
    def square(self) -> float:
        """The mean square of x; 0 of an array without entries."""
        return float(self.squares) * float(self.scale) ** 2 / max(1, self.entries)

    @property
    def mean(self) -> float:
        """The mean of x, or of its real part."""
        return float(self.sum) * float(self.scale) / max(1, self.entries)


def moments(array: jax.Array) -> Moments:
    return Moments(array.size, *_sums((array,)))


@statistic
def _sums(numpy, arrays, _):
    unit, scale = scaled(numpy, *arrays)
    return numpy.sum(squared(numpy, unit)), numpy.sum(unit).real, scale


def squared(numpy, array):
    """Return |x|²."""
    return numpy.square(numpy.abs(array) if numpy.iscomplexobj(array) else array)


def scaled(numpy, array):
    """Return x / max|x| in float32 or wider, and max|x|; 1 instead of 0 and infinity."""
    x = wide(array)
    scale = numpy.max(numpy.abs(x), initial=0)
    scale = numpy.where((scale > 0) & numpy.isfinite(scale), scale, 1)
    return x / scale, scale


def wide(array):
    """Widen to float32 at least."""
    dtype = np.promote_types(array.dtype, np.float32)  # JAX promotes no 8 bits
    return array if array.dtype == dtype else array.astype(dtype)
