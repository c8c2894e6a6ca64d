"""Variance scaling: Var W is a scale over a fan."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from flaxinit import sampling
from flaxinit.fans import Axes, checked_fans, compute_fans
from flaxinit.initializers.contract import (
    Initializer,
    checked_axes,
    checked_choice,
    checked_count,
    checked_dtype,
    checked_flag,
    checked_number,
    freeze,
)
from flaxinit.sampling import Distribution

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
MODES: tuple[str, ...] = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


class KernelOptions(TypedDict, total=False):
    """How a kernel's shape is read; the keywords shared by all variance-scaling forms."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    dtype: Any
    fan_in: float | None
    fan_out: float | None
    groups: int
    strides: Axes
    transposed: bool


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Draw with a variance that depends on the kernel's shape.

    With ``s = scale`` for the forward signal and ``s' = backward_scale`` for the gradients::

        fan_in       Var W = s / fan_in
        fan_out      Var W = s' / fan_out
        fan_avg      Var W = 2 / (fan_in/s + fan_out/s')
        fan_geo_avg  Var W = sqrt(s/fan_in · s'/fan_out)

    With ``s' = s`` (the default) these are JAX's, and float32 draws agree with
    ``jax.nn.initializers.variance_scaling`` bit for bit. The variance is the same for every
    distribution: the truncated normal, cut at two standard deviations of its parent, is
    corrected for the cut and the uniform has half-width ``sqrt(3 Var W)``. Complex weights are
    isotropic with ``E|w|² = Var W``.

    Args:
        scale: s, the factor on the variance; finite, at least 0.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        in_axis: axis or axes of the inputs in the kernel.
        out_axis: axis or axes of the outputs in the kernel.
        batch_axis: axis or axes of independent kernels, left out of both fans.
        dtype: drawn where the call names none; default JAX's default float.
        backward_scale: s', default s.
        fan_in: number of inputs, where the layer reshapes its kernel before drawing it.
        fan_out: number of outputs, likewise.
        groups: ``feature_group_count`` of a convolution, see `flaxinit.fans.compute_fans`.
        strides: of a convolution, likewise.
        transposed: whether the convolution is transposed, likewise.

    Raises:
        ValueError: an unknown mode or distribution, a negative or infinite scale, a dtype that
            is not floating; when called, a shape that lacks the axes.

    >>> init = variance_scaling(2.0, "fan_in", "truncated_normal")
    >>> init.variance((256, 128))
    0.0078125
    >>> init
    variance_scaling(2.0, 'fan_in', 'truncated_normal')

    References: Glorot, Bengio (2010); He, Zhang, Ren, Sun (2015).
    """

    scale: float
    mode: Mode
    distribution: Distribution
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    dtype: Any = None
    _: dataclasses.KW_ONLY
    backward_scale: float | None = None
    fan_in: float | None = None
    fan_out: float | None = None
    groups: int = 1
    strides: Axes = 1
    transposed: bool = False

    def __post_init__(self):
        scale = checked_number("scale", self.scale, minimum=0.0)
        backward = scale if self.backward_scale is None else self.backward_scale
        freeze(
            self,
            scale=scale,
            backward_scale=checked_number("backward_scale", backward, minimum=0.0),
            mode=checked_choice("mode", self.mode, MODES),
            distribution=checked_choice("distribution", self.distribution, sampling.DISTRIBUTIONS),
            dtype=checked_dtype(self.dtype),
            groups=checked_count("groups", self.groups),
            strides=_positive_integers("strides", self.strides),
            transposed=checked_flag("transposed", self.transposed),
        )
        for name in ("in_axis", "out_axis", "batch_axis"):
            freeze(self, **{name: checked_axes(name, getattr(self, name))})
        for name in ("fan_in", "fan_out"):
            fan = getattr(self, name)
            if fan is not None:
                fan = checked_number(name, fan, minimum=0.0)
                if fan == 0:
                    raise ValueError(f"{name} must be positive, got 0.")
                freeze(self, **{name: fan})

    def fans(self, shape: Sequence[int]) -> tuple[float, float]:
        """``(fan_in, fan_out)`` of a kernel of this shape, as this initializer reads it."""
        if self.fan_in is not None and self.fan_out is not None:
            return self.fan_in, self.fan_out
        fan_in, fan_out = compute_fans(
            shape,
            self.in_axis,
            self.out_axis,
            self.batch_axis,
            groups=self.groups,
            strides=self.strides,
            transposed=self.transposed,
        )
        return self.fan_in or fan_in, self.fan_out or fan_out

    def variance(self, shape: Sequence[int]) -> float:
        fan_in, fan_out = checked_fans(shape, self.fans(shape))
        backward: Any = self.backward_scale  # a number since __post_init__
        if self.mode == "fan_in":
            return self.scale / fan_in
        if self.mode == "fan_out":
            return backward / fan_out
        if 0 in (self.scale, backward):
            return 0.0  # the limit of either mean
        # Outputs counted in units of inputs; what remains is JAX's formula, rounding and all.
        fan_out *= self.scale / backward
        if self.mode == "fan_avg":
            return self.scale / ((fan_in + fan_out) / 2)
        return self.scale / math.sqrt(fan_in * fan_out)

    def times(self, factor: float) -> "VarianceScaling":
        """The same initializer with its standard deviation multiplied by a factor.

        >>> variance_scaling(2.0, "fan_in", "normal").times(0.5)
        variance_scaling(0.5, 'fan_in', 'normal')
        """
        square = checked_number("factor", factor) ** 2
        backward: Any = self.backward_scale
        return dataclasses.replace(
            self, scale=self.scale * square, backward_scale=backward * square
        )

    def draw(self, key, shape, dtype, out_sharding):
        return sampling.scaled(
            key, self.variance(shape), self.distribution, shape, dtype, out_sharding
        )

    def _default(self, field):
        return self.scale if field.name == "backward_scale" else field.default


def _positive_integers(name: str, value: Any) -> int | tuple[int, ...]:
    numbers = checked_axes(name, value)
    if any(n < 1 for n in ((numbers,) if isinstance(numbers, int) else numbers)):
        raise ValueError(f"{name} must be positive, got {value!r}.")
    return numbers


variance_scaling = VarianceScaling
