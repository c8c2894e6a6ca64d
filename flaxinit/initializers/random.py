"""Initializers whose distribution does not depend on the shape."""

import dataclasses
import math
from typing import Annotated

import jax.numpy as jnp

from flaxinit import sampling
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.checks import DType, NonNegative, known_number


class normal(Initializer):
    """Draw from ``N(0, stddev²)``.

    Args:
        stddev: standard deviation of the values, at least 0.
        dtype: default dtype if the call gives none; complex values have ``E|w|² = stddev²``.

    Raises:
        ValueError: a negative or infinite stddev, a dtype that is not floating.

    >>> normal(0.02).variance((3, 4))
    0.0004
    """

    stddev: NonNegative = 0.01
    dtype: DType = None

    def _variance(self, shape):
        return self.stddev**2

    def draw(self, key, shape, dtype, out_sharding):
        ends = sampling.ENDS["normal"]
        largest = self.stddev * sampling.reach(dtype, "normal", ends)
        sampling.check_representable(dtype, self.stddev, largest)
        return sampling.draw(
            key,
            sampling.real(dtype, self.stddev),
            ends,
            shape=shape,
            dtype=dtype,
            distribution="normal",
            out_sharding=out_sharding,
        )


class truncated_normal(Initializer):
    """Draw from a normal cut to an interval, with the standard deviation you ask for.

    ``w = stddev · z / σ(lower, upper)``, where z is a standard normal cut to
    ``(lower, upper)`` and σ its standard deviation. **``stddev`` is that of the values after the
    cut.** In ``jax.nn.initializers.truncated_normal`` it is the parent's, so at the default ends
    the values have only 0.88 of it. Ends that are not symmetric give a mean other than 0, as in
    JAX.

    Args:
        stddev: standard deviation of the values, at least 0.
        dtype: default dtype if the call gives none; real.
        lower: left end, in standard deviations of the parent.
        upper: right end, in the same unit.

    Raises:
        ValueError: ends in the wrong order or so far out that they hold under 1/1000 of the
            parent (float32's uniforms would leave few distinct values there); a negative
            stddev; a dtype that is not floating.

    >>> truncated_normal(0.02).std((3, 4))
    0.02
    """

    stddev: NonNegative = 0.01
    dtype: DType = None
    lower: Annotated[float, known_number] = -2.0  # may be infinite
    upper: Annotated[float, known_number] = 2.0

    def __post_init__(self):
        # A uniform of 24 bits leaves 1e-3 · 2^24 ≈ 17,000 distinct values in such an interval.
        if not sampling.normal_mass(self.lower, self.upper) >= 1e-3:
            raise ValueError(
                f"(lower, upper) = ({self.lower}, {self.upper}) must be in order and hold at "
                "least 1/1000 of a standard normal."
            )

    def _variance(self, shape):
        return self.stddev**2

    def draw(self, key, shape, dtype, out_sharding):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"The interval (lower, upper) has no counterpart for {dtype.name}. Use "
                "flaxinit.normal(stddev), or variance_scaling(scale, mode, 'truncated_normal'), "
                "which cuts the modulus."
            )
        parent = math.sqrt(sampling.truncated_moments(self.lower, self.upper)[1])
        factor = self.stddev / parent
        ends = (self.lower, self.upper)
        largest = factor * sampling.reach(dtype, "normal", ends)
        sampling.check_representable(dtype, self.stddev, largest)
        return sampling.draw(
            key,
            sampling.real(dtype, factor),
            ends,
            shape=shape,
            dtype=dtype,
            distribution="truncated_normal",
            out_sharding=out_sharding,
        )


class uniform(Initializer):
    """Draw uniformly from ``[minval, scale)``.

    The variance is ``(scale - minval)²/12``. The default interval ``[0, scale)`` is JAX's and
    has mean ``scale/2``; weights want ``uniform(a, minval=-a)``. In low precision the values are
    rounded to nearest, so ``scale`` itself may be drawn.

    Args:
        scale: right end of the interval.
        dtype: default dtype if the call gives none; real.
        minval: left end of the interval.

    Raises:
        ValueError: ends in the wrong order or not finite, a dtype that is not floating; when
            called, ends too near to each other or too far apart for the dtype.

    >>> round(uniform(0.05, minval=-0.05).std((3, 4)), 6)
    0.028868
    """

    scale: float = 0.01
    dtype: DType = None
    _: dataclasses.KW_ONLY
    minval: float = 0.0

    def __post_init__(self):
        if not sampling.is_traced(self.scale, self.minval) and self.minval > self.scale:
            raise ValueError(
                f"uniform draws from [minval, scale), but minval={self.minval} is above "
                f"scale={self.scale}."
            )

    def _variance(self, shape):
        return (self.scale - self.minval) ** 2 / 12

    def draw(self, key, shape, dtype, out_sharding):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"An interval has no counterpart for {dtype.name}. Use variance_scaling(scale, "
                "mode, 'uniform'), which draws from a disk."
            )
        if not sampling.is_traced(self.scale, self.minval):
            self._check_resolved(dtype)
        return sampling.draw(
            key,
            sampling.real(dtype, 1),
            (self.minval, self.scale),
            shape=shape,
            dtype=dtype,
            distribution="uniform",
            out_sharding=out_sharding,
        )

    def _check_resolved(self, dtype):
        stddev, largest = self.std(()), max(abs(self.scale), abs(self.minval))
        sampling.check_representable(dtype, stddev, largest)
        # The draw computes the width too, and its values are spaced as at the end farther from 0.
        sampling.check_representable(sampling.real_dtype(dtype), 0.0, self.scale - self.minval)
        step = float(jnp.finfo(dtype).eps) * 2.0 ** (math.frexp(largest)[1] - 1)
        if 0 < stddev < step:
            raise ValueError(
                f"{dtype.name} has steps of {step:.3g} at {largest:.3g}, too wide for a standard "
                f"deviation of {stddev:.3g}. Draw in a wider dtype, or draw around 0 and add the "
                "middle in the forward pass."
            )


Normal = normal
TruncatedNormal = truncated_normal
Uniform = uniform
