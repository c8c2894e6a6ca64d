"""Variance scaling: Var W is a scale over a fan."""

import dataclasses
import math
from collections.abc import Sequence, Set
from typing import Annotated, Any, Literal, Self, Unpack

import jax.numpy as jnp

from flaxinit import sampling
from flaxinit.fans import Axes, compute_fans, integers
from flaxinit.initializers.checks import (
    AxisSet,
    Count,
    DType,
    KnownPositive,
    NonNegative,
    checked_choice,
    checked_count,
    checked_scale,
)
from flaxinit.initializers.entrywise import Entrywise, around_zero
from flaxinit.initializers.options import KernelOptions
from flaxinit.sampling import Distribution

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
MODES: tuple[str, ...] = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


def _checked_strides(name: str, value: Any) -> int | tuple[int, ...]:
    try:
        numbers = integers(value)
    except TypeError:
        numbers = None
    if not isinstance(numbers, tuple) or isinstance(value, Set):  # which has no order
        return checked_count(name, value)
    return tuple(checked_count(name, number) for number in numbers)


Strides = Annotated[Axes, _checked_strides]


class variance_scaling(Entrywise):
    """Draw with a variance that depends on the kernel's shape.

    With ``s = scale`` for the forward signal and ``s' = backward_scale`` for the gradients::

        fan_in       Var W = s / fan_in
        fan_out      Var W = s' / fan_out
        fan_avg      Var W = 2 / (fan_in/s + fan_out/s')
        fan_geo_avg  Var W = sqrt(s/fan_in · s'/fan_out)

    With ``s' = s`` (the default) these are JAX's formulas, and float32 draws equal those of a
    jitted ``jax.nn.initializers.variance_scaling``. The variance is the same for every
    distribution: the truncated normal, cut at two standard deviations of its parent, is
    corrected for the cut, and the uniform has half-width ``sqrt(3 Var W)``. Complex weights are
    isotropic with ``E|w|² = Var W``.

    Args:
        scale: s, the factor on the variance; finite, at least 0.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        in_axis: axis or axes of the inputs in the kernel.
        out_axis: axis or axes of the outputs in the kernel.
        batch_axis: axis or axes of independent kernels, left out of both fans.
        dtype: default dtype if the call gives none; default JAX's default float.
        backward_scale: s', default s. If the mode uses one fan, its scale is stored in ``scale``,
            so ``dataclasses.replace(init, scale=...)`` replaces what is drawn.
        fan_in: number of inputs; give it if the layer reshapes its kernel before drawing it.
        fan_out: number of outputs, for the same case.
        groups: ``feature_group_count`` of a convolution, see `flaxinit.fans.compute_fans`.
        strides: of a convolution, see `flaxinit.fans.compute_fans`.
        transposed: whether the convolution is transposed, see `flaxinit.fans.compute_fans`.

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

    scale: NonNegative
    mode: Mode
    distribution: Distribution
    in_axis: AxisSet = -2
    out_axis: AxisSet = -1
    batch_axis: AxisSet = ()
    dtype: DType = None
    _: dataclasses.KW_ONLY
    backward_scale: NonNegative | None = None
    fan_in: KnownPositive | None = None
    fan_out: KnownPositive | None = None
    groups: Count = 1
    strides: Strides = 1
    transposed: bool = False

    def __post_init__(self):
        backward = self.backward_scale
        if backward is None:
            return
        if self.mode == "fan_out":
            object.__setattr__(self, "scale", backward)
        equal = not sampling.is_traced(self.scale, backward) and self.scale == backward
        if equal or self.mode in ("fan_in", "fan_out"):
            object.__setattr__(self, "backward_scale", None)

    @classmethod
    def from_moments(
        cls,
        moments: tuple[float, float],
        mode: Mode = "fan_in",
        distribution: Distribution = "truncated_normal",
        *,
        activation: str = "the activation",
        **kernel: Unpack[KernelOptions],
    ) -> Self:
        """Compensate for an activation: ``s = 1/E[φ(z)²]`` and ``s' = 1/E[φ'(z)²]``.

        Args:
            moments: ``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1). One that the mode does not use may
                be zero (a step function has no gradient), infinite or nan (not known).
            mode: as above.
            distribution: as above.
            activation: its name in errors.
            **kernel: the other arguments of `variance_scaling`.

        Raises:
            ValueError: an unknown mode, or one that uses a moment that is zero, infinite or nan.

        >>> variance_scaling.from_moments((0.5, 0.5))
        variance_scaling(2.0, 'fan_in', 'truncated_normal')
        """
        checked_choice("mode", mode, MODES)
        forward, backward = moments
        used = {"fan_in": (forward,), "fan_out": (backward,)}.get(mode, moments)
        if any(map(math.isnan, used)):
            raise ValueError(
                f"mode={mode!r} needs the gradient of {activation}, which JAX cannot "
                "differentiate. Use mode='fan_in', which keeps the forward signal, or a loop of "
                "fixed length (lax.fori_loop, lax.scan): lax.while_loop has no gradient."
            )
        if not all(math.isfinite(moment) and moment > 0 for moment in used):
            raise ValueError(
                f"mode={mode!r} needs a weight variance that makes up for {activation}, but "
                f"E[φ(z)²] = {forward:g} and E[φ'(z)²] = {backward:g} for z ~ N(0, 1), so no "
                "finite one does. Choose another mode, or pass a scale of your own to "
                "flaxinit.variance_scaling."
            )
        # If the mode uses one fan, both are the scale of that fan.
        scale, other = (1 / used[0], 1 / used[-1])
        return cls(scale, mode, distribution, backward_scale=other, **kernel)

    def fans(self, shape: Sequence[int]) -> tuple[float, float]:
        """Return ``(fan_in, fan_out)`` of a kernel of this shape, as this initializer reads it."""
        return self._fan("fan_in", shape), self._fan("fan_out", shape)

    def _fan(self, name: str, shape: Sequence[int]) -> float:
        given = getattr(self, name)
        if given is not None:
            return given
        fan_in, fan_out = compute_fans(
            shape,
            self.in_axis,
            self.out_axis,
            self.batch_axis,
            groups=self.groups,
            strides=self.strides,
            transposed=self.transposed,
        )
        return fan_in if name == "fan_in" else fan_out

    def check_shape(self, shape):
        self._used_fans(shape)

    def _used_fans(self, shape: tuple[int, ...]) -> list[float]:
        """Return the fan that the mode names, or both fans."""
        names = (self.mode,) if self.mode in ("fan_in", "fan_out") else ("fan_in", "fan_out")
        return [self._fan(name, shape) for name in names]

    def _variance(self, shape):
        fans = self._used_fans(shape)
        if len(fans) == 1:
            return self.scale / fans[0]
        fan_in, fan_out = fans
        # With fan_out times s/s' the rest is JAX's formula, and rounds as it does.
        fan_out *= self._scale_ratio()
        if self.mode == "fan_avg":
            return self.scale / ((fan_in + fan_out) / 2)
        return self.scale / sampling.root(fan_in * fan_out)

    def _scale_ratio(self):
        """Return ``s/s'``; infinite if one of them is 0, which makes the variance 0."""
        scale, backward = self.scale, self.backward_scale
        if backward is None:
            return 1.0
        if sampling.is_traced(scale, backward):
            return jnp.where((scale > 0) & (backward > 0), scale / backward, math.inf)
        return scale / backward if scale > 0 and backward > 0 else math.inf

    def times(self, factor: float) -> Self:
        """Return this initializer with its values multiplied by a factor, as `Initializer.times`.

        >>> variance_scaling(2.0, "fan_in", "normal").times(0.5)
        variance_scaling(0.5, 'fan_in', 'normal')
        """
        square = checked_scale("factor", factor, minimum=0.0) ** 2
        backward = None if self.backward_scale is None else self.backward_scale * square
        return dataclasses.replace(self, scale=self.scale * square, backward_scale=backward)

    def parent(self, shape, dtype):
        return around_zero(self._variance(shape), self.distribution, dtype)


VarianceScaling = variance_scaling
