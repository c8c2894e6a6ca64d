"""Gaussian kernels by their largest singular value."""

import math

from flaxinit.fans import axis_set, compute_fans
from flaxinit.initializers.checks import AxisSet, DType, NonNegative
from flaxinit.initializers.entrywise import Entrywise, around_zero


class spectral_normal(Entrywise):
    """Draw a normal kernel whose largest singular value is about ``scale · √(outputs/fan_in)``.

    A Gaussian matrix of standard deviation σ with m rows and n columns has a largest singular value
    of expectation at most ``σ (√m + √n)``, and close to it in large matrices. So::

        Var W = scale² (outputs/fan_in) / (√fan_in + √outputs)²

    Weights and updates of this norm keep the size of features at every width. With Muon, whose
    updates have equal singular values, `flaxinit.semi_orthogonal` has this norm exactly, in all
    singular values.

    Args:
        scale: factor on the norm; at least 0.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes of independent kernels.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: a negative or infinite scale; when called, a shape without those axes.

    >>> spectral_normal().std((100, 400)) == 2 / (10 + 20)
    True

    References: Yang, Simon, Bernstein (2023), A Spectral Condition for Feature Learning; Davidson,
    Szarek (2001), for the bound.
    """

    scale: NonNegative = 1.0
    in_axis: AxisSet = -2
    out_axis: AxisSet = -1
    batch_axis: AxisSet = ()
    dtype: DType = None
    scales = ("scale",)

    def check_shape(self, shape):
        self._sizes(shape)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[float, int]:
        fan_in, _ = compute_fans(shape, self.in_axis, self.out_axis, self.batch_axis)
        outs = axis_set("out_axis", self.out_axis, shape)
        return fan_in, math.prod(shape[axis] for axis in outs)

    def _variance(self, shape):
        fan_in, outputs = self._sizes(shape)
        norm = self.scale * math.sqrt(outputs / fan_in)
        return (norm / (math.sqrt(fan_in) + math.sqrt(outputs))) ** 2

    def parent(self, shape, dtype):
        return around_zero(self._variance(shape), "normal", dtype)
