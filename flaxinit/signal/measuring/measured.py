"""The measured moments of one kernel, beside their expectations and their sampling error."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measured:
    """What was measured at a product of one kernel with the signal, y = W x.

    In a loop each number is the mean over the steps. The parts of a kernel on the devices of a
    ``shard_map`` are one kernel.

    Attributes:
        path: where the kernel is in the parameters: several paths where it is computed from
            several, as ``w + a @ b`` is. Parts are numbered: ``w[2]``.
        shape: of the parameter; of the kernel, where that has another size.
        fan_in: the number of terms in the sum of one output. Zeros at the borders count; those that
            a strided transposed convolution puts between its inputs do not.
        outputs: the number of outputs that see the same inputs.
        entries: of the kernel.
        kernel: mean of W².
        kernel_mean: mean of W.
        signal_in: mean of x².
        mean_in: mean of x.
        alive: share of the inputs' channels that are not 0 in the whole batch.
        signal_out: mean of y².
        positions: mean cosine of the outputs at two positions of a sample; None if there is one.
            It is that of one draw: with n channels and a correlation c, its expectation is
            c - c (1 - c²) / 2n to first order.
        samples: the same at two samples.
        expected: expectation of signal_out given x, for weights of mean 0 and this E[W²] that are
            independent of x and of each other: σ_w² E[x²], less what falls on padding.
        spread: standard deviation of signal_out over draws of such weights, if normal, divided by
            its expectation. `ratio` varies less, because `expected` uses this draw's E[W²].
        gradient_out: mean of δ², where δ is the gradient of y for a unit Gaussian gradient of the
            model's output; None if it was not computed or does not reach y.
        gradient_parameter: mean of dW², where dW is the gradient of the parameter.
        along: Σ W dW over √(Σ (δ y)²): 0 if a factor on the kernel changes nothing.
        dtype: of x.
    """

    path: str
    shape: tuple[int, ...]
    fan_in: float
    outputs: int
    entries: int
    kernel: float
    kernel_mean: float
    signal_in: float
    mean_in: float
    alive: float
    signal_out: float
    positions: float | None
    samples: float | None
    expected: float
    spread: float
    dtype: str
    gradient_out: float | None = None
    gradient_parameter: float | None = None
    along: float | None = field(default=None, repr=False)

    @property
    def sigma_w2(self) -> float:
        """fan_in · E[W²], the factor that the theory calls σ_w²."""
        return self.fan_in * self.kernel

    @property
    def ratio(self) -> float:
        """E[y²] over its expectation; nan where that is 0, as for a kernel of zeros."""
        return self.signal_out / self.expected if self.expected else math.nan

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the ratios between which independent normal weights stay, with chance 1 - level.

        Given x, the ratio is Σ λ z² with Σ λ = 1 and z ~ N(0, 1). Its tails are

            P(Σ λ z² - 1 > 2 |λ| √t + 2 max(λ) t), P(Σ λ z² - 1 < -2 |λ| √t) ≤ exp(-t),

        where |λ| is spread / √2 and max(λ) ≤ |λ| / √outputs, since each output has the same λ.

        References:
            Laurent and Massart, "Adaptive estimation of a quadratic functional by model
            selection", Annals of Statistics 28, 2000, lemma 1.
        """
        t, norm = math.log(2 / level), self.spread / math.sqrt(2)
        below = 2 * norm * math.sqrt(t)
        return 1 - below, 1 + below + 2 * norm * t / math.sqrt(self.outputs)

    def is_outside(self, level: float) -> bool:
        """Return whether the ratio is outside of its bounds."""
        low, high = self.bounds(level)
        return self.ratio < low or self.ratio > high
