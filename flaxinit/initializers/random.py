"""Initializers whose distribution does not depend on the shape."""

import dataclasses
import math
from typing import Annotated, Any, Self

import jax.numpy as jnp

from flaxinit import sampling
from flaxinit.initializers.base import AnyAxes
from flaxinit.initializers.checks import (
    DType,
    NonNegative,
    checked_flag,
    checked_number,
    checked_scale,
    known_number,
)
from flaxinit.initializers.entrywise import Entrywise, Parent


class normal(AnyAxes, Entrywise):
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
    scales = ("stddev",)

    def _variance(self, shape):
        return self.stddev**2

    def parent(self, shape, dtype):
        ends = sampling.ENDS["normal"]
        largest = self.stddev * sampling.reach(dtype, "normal", ends)
        sampling.check_representable(dtype, self.stddev, largest)
        return Parent("normal", sampling.real(dtype, self.stddev), ends)


class truncated_normal(AnyAxes, Entrywise):
    """Draw from a normal cut to an interval, with the standard deviation you ask for.

    ``w = stddev · z / σ(lower, upper)``, where z is a standard normal cut to
    ``(lower, upper)`` and σ its standard deviation. **``stddev`` is that of the values after the
    cut.** In ``jax.nn.initializers.truncated_normal``, Keras, timm and PyTorch it is the parent's:
    at the default ends the values have only 0.88 of it, so 0.02 there gives a standard deviation of
    0.0176. `from_parent` takes theirs. Ends that are not symmetric give a mean other
    than 0, as in JAX.

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

    References: Johnson, Kotz, Balakrishnan (1994), Continuous univariate distributions, volume 1,
    section 10.1.
    """

    stddev: NonNegative = 0.01
    dtype: DType = None
    lower: Annotated[float, known_number] = -2.0  # may be infinite
    upper: Annotated[float, known_number] = 2.0
    scales = ("stddev",)

    def __post_init__(self):
        # A uniform of 24 bits leaves 1e-3 · 2^24 ≈ 17,000 distinct values in such an interval.
        if not sampling.normal_mass(self.lower, self.upper) >= 1e-3:
            raise ValueError(
                f"(lower, upper) = ({self.lower}, {self.upper}) must be in order and hold at "
                "least 1/1000 of a standard normal."
            )

    @classmethod
    def from_parent(
        cls,
        stddev: float = 0.01,
        lower: float = -2.0,
        upper: float = 2.0,
        *,
        absolute: bool = False,
        dtype: Any = None,
    ) -> Self:
        """Build the initializer from the standard deviation of the normal before the cut.

        ``from_parent(s)`` is JAX's ``truncated_normal(s)``, and ``from_parent(s, a, b,
        absolute=True)`` is ``trunc_normal_(std=s, a=a, b=b)`` of PyTorch and timm.

        Args:
            stddev: of the parent, at least 0.
            lower: left end, in standard deviations of the parent.
            upper: right end, in the same unit.
            absolute: whether the ends are values instead; they then need a known, positive stddev.
            dtype: default dtype if the call gives none; real.

        Raises:
            ValueError: as `truncated_normal`.

        >>> round(truncated_normal.from_parent(0.02).std((3, 4)), 6)
        0.017593
        >>> truncated_normal.from_parent(0.02, -2, 2, absolute=True).std((3, 4))
        0.02
        """
        if checked_flag("absolute", absolute):
            unit = checked_number("stddev", stddev, above=0.0)
            lower, upper = (
                known_number(name, end) / unit for name, end in (("lower", lower), ("upper", upper))
            )
        ends = cls(lower=lower, upper=upper)
        return cls(
            checked_scale("stddev", stddev, minimum=0.0) * ends._kept(),
            dtype,
            ends.lower,
            ends.upper,
        )

    def _kept(self) -> float:
        """Return the standard deviation that a standard normal has after the cut."""
        return math.sqrt(sampling.truncated_moments(self.lower, self.upper)[1])

    def _variance(self, shape):
        return self.stddev**2

    def parent(self, shape, dtype):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"The interval (lower, upper) has no counterpart for {dtype.name}. Use "
                "flaxinit.normal(stddev), or variance_scaling(scale, mode, 'truncated_normal'), "
                "which cuts the modulus."
            )
        factor = self.stddev / self._kept()
        ends = (self.lower, self.upper)
        largest = factor * sampling.reach(dtype, "normal", ends)
        sampling.check_representable(dtype, self.stddev, largest)
        return Parent("truncated_normal", sampling.real(dtype, factor), ends)


class uniform(AnyAxes, Entrywise):
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
    scales = ("scale", "minval")

    def __post_init__(self):
        if not sampling.is_traced(self.scale, self.minval) and self.minval > self.scale:
            raise ValueError(
                f"uniform draws from [minval, scale), but minval={self.minval} is above "
                f"scale={self.scale}."
            )

    def _variance(self, shape):
        return (self.scale - self.minval) ** 2 / 12

    def parent(self, shape, dtype):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"An interval has no counterpart for {dtype.name}. Use variance_scaling(scale, "
                "mode, 'uniform'), which draws from a disk."
            )
        if not sampling.is_traced(self.scale, self.minval):
            self._check_resolved(dtype)
        return Parent("uniform", sampling.real(dtype, 1), (self.minval, self.scale))

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
