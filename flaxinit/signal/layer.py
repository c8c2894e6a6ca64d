"""One kernel at work: its measured moments, their forecast, and how far chance takes them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# Random columns in the estimate of a spread, so that its relative error is at most √(2/32) / 2.
_COLUMNS = 32


@dataclass(frozen=True)
class Layer:
    """A product of one kernel with the signal, y = W x.

    In a loop it is the mean over the steps. In a ``shard_map`` it is the mean over the devices, of
    what each multiplies: a kernel whose inputs are divided has the fan_in of one device's part.

    Attributes:
        path: where the kernel is in the parameters: several paths where it is computed from
            several, as ``w + a @ b`` is. A loop's slices of stacked kernels are numbered: ``w[2]``.
        shape: of the parameter; of the kernel, where that has another size.
        fan_in: the number of terms summed into one output, without the zeros that a strided
            transposed convolution puts between its inputs, with those at the borders.
        kernel: mean of W².
        signal_in: mean of x².
        signal_out: mean of y².
        forecast: expectation of signal_out, given x, where the weights are independent of x and
            of each other, with mean 0 and this E[W²]: σ_w² E[x²], less what falls on padding.
        spread: standard deviation of signal_out over draws of such weights, if normal, over its
            expectation. The ratio to the forecast, which knows the draw's E[W²], strays less.
        outputs: the number of outputs that see the same inputs.
    """

    path: str
    shape: tuple[int, ...]
    fan_in: float
    kernel: float
    signal_in: float
    signal_out: float
    forecast: float
    spread: float
    outputs: int

    @property
    def sigma_w2(self) -> float:
        """fan_in · E[W²], the factor that the theory calls σ_w²."""
        return self.fan_in * self.kernel

    @property
    def ratio(self) -> float:
        """E[y²] over its forecast; nan where that is 0, as for a kernel of zeros."""
        return self.signal_out / self.forecast if self.forecast else math.nan

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


def product(path: str, shape, primitive, params, side: int, operands, result) -> Layer:
    """Measure the layer of a dot_general or convolution whose kernel is operands[side]."""
    kernel, signal = jnp.asarray(operands[side]), jnp.asarray(operands[1 - side])
    if primitive.name == "dot_general":
        summed, batch = (axes[side] for axes in params["dimension_numbers"])
        fan_in = math.prod(kernel.shape[axis] for axis in summed)
        outputs = kernel.size // (fan_in * math.prod(kernel.shape[axis] for axis in batch))
    else:
        out_axis, *in_axes = params["dimension_numbers"].rhs_spec
        fan_in = math.prod(kernel.shape[axis] for axis in in_axes)
        fan_in /= math.prod(params["lhs_dilation"])
        outputs = kernel.shape[out_axis] // params["feature_group_count"]
    unit, scale, _ = _scaled(signal)
    # Arguments of the compiled function: XLA for CPUs (JAX 0.10.2) returns garbage for products
    # with large arrays of a constant.
    ones = np.ones(kernel.shape, unit.real.dtype)
    draws = (-(-_COLUMNS // outputs), *kernel.shape)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], ones.dtype), draws)
    amplification, spread = _amplification(
        primitive, tuple(params.items()), side, ones, signs, unit
    )
    square = _second_moment(kernel)
    return Layer(
        path=path,
        shape=shape,
        fan_in=fan_in,
        kernel=square,
        signal_in=_second_moment(signal),
        signal_out=_second_moment(result),
        forecast=square * float(amplification) * float(scale) * float(scale),
        spread=float(spread),
        outputs=outputs,
    )


def mean(layers: Sequence[Layer]) -> Layer:
    """Average a loop's steps into one layer; spreads add up, since outputs share weights."""
    names = ("kernel", "signal_in", "signal_out", "forecast")
    means = {name: sum(getattr(layer, name) for layer in layers) / len(layers) for name in names}
    total = sum(layer.forecast for layer in layers)
    spread = sum(layer.forecast * layer.spread for layer in layers) / total if total else 0.0
    return replace(layers[0], **means, spread=spread)


def _second_moment(array) -> float:
    _, scale, moment = _scaled(array)
    return float(moment) * float(scale) * float(scale)


@jax.jit
def _scaled(array):
    """Return x / max|x| in float32 or wider, max|x|, and the mean square of that quotient.

    The squares of x itself may overflow or vanish.
    """
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    scale = jnp.max(jnp.abs(wide), initial=0)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
    return wide / scale, scale, jnp.mean(jnp.abs(wide / scale) ** 2)


@partial(jax.jit, static_argnames=("primitive", "params", "side"))
def _amplification(primitive, params, side: int, ones, signs, signal):
    """Return E[y²] / E[W²] and its relative standard deviation over independent normal kernels.

    For one x, Σ y² = wᵀ A w is a quadratic form of all weights w, with mean tr(A) E[W²] and
    variance 2 tr(A²) E[W²]². The product of ones with x² has the sum tr(A). Random signs s have
    E|A s|² = tr(A²), and A s is the gradient of |y|²/2 at w = s.
    """
    params = dict(params) | {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": None}

    def apply(kernel, signal):
        pair = (signal, kernel) if side == 1 else (kernel, signal)
        return primitive.bind(*pair, **params)

    sums = apply(ones, jnp.abs(signal) ** 2)
    trace = jnp.sum(sums)

    def squared(signs):
        y, pull = jax.vjp(lambda kernel: apply(kernel, signal), signs.astype(signal.dtype))
        (gradient,) = pull(jnp.conj(y))
        return jnp.sum(jnp.abs(gradient / jnp.where(trace > 0, trace, 1)) ** 2)

    return jnp.mean(sums), jnp.sqrt(2 * jnp.mean(jax.lax.map(squared, signs)))
