"""How far one draw strays from the mean over draws, to first order.

A second moment q fluctuates from draw to draw because each kernel before it sums over a finite
number n of channels. With a_c the square of channel c of the signal that met the kernel,

    log q = log E[q] + Σ_k c_k ε_k,    ε_k = Σ_c (a_c / E[a] - 1) / n,    c_k = ∂ log q / ∂ log q_k,

over all kernels k before; c_k is the product of the slopes of the operations between. Here each
ε_k is the sample of its summands, one for each particle, over √n: the sum of such samples has the
variance of log q, whether two kernels see the same channels or not.

References: Hanin & Nica (2020), Products of many large random matrices and gradients in deep
neural networks.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

_NOTHING = np.zeros((1, 1))


@dataclass(frozen=True, eq=False)
class Fluctuation:
    """The logarithm of a second moment, as it differs from draw to draw.

    Attributes:
        summands: particles × samples; their mean square is the variance of the logarithm.
        sensitivity: the slope ∂ log q / ∂ log q₀, where q₀ is the second moment of the inputs.
        fixed: whether a norm gave q, the same in each draw and for inputs of any size.
            It ends where places are summed, whose correlations differ.

    >>> one = Fluctuation(np.array([[0.1], [-0.1]]))
    >>> round((one.scaled(2) + one).one, 6)  # three times the same
    0.09
    """

    summands: np.ndarray = field(default_factory=lambda: _NOTHING)
    sensitivity: float = 0.0
    fixed: bool = False

    def scaled(self, slope: float) -> "Fluctuation":
        return Fluctuation(slope * self.summands, slope * self.sensitivity, self.fixed)

    def __add__(self, other: "Fluctuation") -> "Fluctuation":
        mine, theirs = self.summands, other.summands
        for axis in (0, 1):  # of a smaller sample the particles are the first ones of the larger
            sizes = {n for n in (mine.shape[axis], theirs.shape[axis]) if n > 1}
            some = np.arange(min(sizes, default=1))
            mine, theirs = (
                x if x.shape[axis] in (1, len(some)) else np.take(x, some, axis)
                for x in (mine, theirs)
            )
        return Fluctuation(mine + theirs, self.sensitivity + other.sensitivity)

    @cached_property
    def one(self) -> float:
        """Variance of the logarithm of one sample's second moment, over draws."""
        return float(np.mean(self.summands**2))

    @cached_property
    def two(self) -> float:
        """Covariance of the logarithms at two samples."""
        count = self.summands.shape[1]
        if count == 1:
            return self.one
        total = float(np.mean(np.sum(self.summands, axis=1) ** 2))
        return min(self.one, max(0.0, (total / count - self.one) / (count - 1)))

    def variance(self, samples: int) -> float:
        """Return the variance of the logarithm of the mean over samples of a batch.

        The mean of correlated log-normals is taken as log-normal, with the variance that it has.
        """
        if samples == 1:
            return self.one
        pairs = self.two + math.log(samples - 1)
        return max(0.0, float(np.logaddexp(self.one, pairs)) - math.log(samples))


def total(parts: Iterable[Fluctuation]) -> Fluctuation:
    return sum(parts, Fluctuation())


def widest(parts: Iterable[Fluctuation]) -> Fluctuation:
    """Return the one that strays most, or is most sensitive if none strays."""
    return max(parts, key=_width, default=Fluctuation())


def _width(each: Fluctuation) -> tuple[float, float, bool]:
    return each.one, abs(each.sensitivity), each.fixed
