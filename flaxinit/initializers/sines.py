"""Networks of sines."""

from collections.abc import Sequence

from flaxinit import sampling
from flaxinit.fans import compute_fans
from flaxinit.initializers.checks import AxisSet, DType, Positive
from flaxinit.initializers.entrywise import Entrywise, around_zero


class siren(Entrywise):
    """Draw the kernels of a network of ``sin(ω · (W x + b))``.

    The sine of a uniform phase has second moment 1/2. So ``ω W x`` has variance 1 if ``Var W =
    2/(fan_in · ω²)``; the kernel is uniform with half-width ``√(6/fan_in)/ω``. The inputs of the
    first layer are coordinates in (-1, 1). Its kernel is uniform with half-width ``1/fan_in`` and
    ``Var W = 1/(3 fan_in²)``, so ω sets the range of frequencies.

    The phases of a wide layer are Gaussian, and at variance q ``E sin² = (1 - e^(-2q))/2``. From
    layer to layer q approaches 0.797, the solution of ``q = 1 - e^(-2q)``.

    Args:
        omega: ω, positive.
        first: whether this is the first layer.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: an ω that is not positive; when called, a shape without those axes.

    >>> siren(30.0).variance((600, 10)) == 2 / (600 * 900)
    True

    References: Sitzmann, Martel, Bergman, Lindell, Wetzstein (2020).
    """

    omega: Positive = 30.0
    first: bool = False
    in_axis: AxisSet = -2
    out_axis: AxisSet = -1
    dtype: DType = None

    def check_shape(self, shape):
        self._fan_in(shape)

    def _fan_in(self, shape: tuple[int, ...]) -> float:
        return compute_fans(shape, self.in_axis, self.out_axis)[0]

    def _variance(self, shape):
        fan_in = self._fan_in(shape)
        return 1 / (3 * fan_in**2) if self.first else 2 / (fan_in * self.omega**2)

    def parent(self, shape, dtype):
        return around_zero(self._variance(shape), "uniform", dtype)

    def half_width(self, shape: Sequence[int]) -> float:
        """Return the largest magnitude that is drawn."""
        return sampling.root(3 * self.variance(shape))
