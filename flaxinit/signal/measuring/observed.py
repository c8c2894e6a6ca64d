"""The product of one kernel with the signal, observed: moments, cosines and sampling error.

One compiled function observes all products of one kind and shape.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.signal.measuring.measured import Measured

# Random columns in the estimate of a spread, so that its relative error is at most √(2/32) / 2.
_COLUMNS = 32
# A kernel's place among the operands of its product with the signal.
PRODUCTS = {
    ("dot_general", 0),
    ("dot_general", 1),
    ("conv_general_dilated", 1),
    ("ragged_dot_general", 1),
}


@dataclass(frozen=True)
class Geometry:
    """The roles of the axes of a product's operands and of its result.

    Attributes:
        fan_in: terms in one sum.
        outputs: of one kernel.
        own: axes of the kernel that count them; none where it cannot have fewer.
        channels: axes of the signal that count its channels.
        out: axes of the result that count the kernel's outputs.
        samples: axis of the result that counts samples; None if there is none.
        positions: its axes that count positions of a sample.
    """

    fan_in: float
    outputs: int
    own: tuple[int, ...]
    channels: tuple[int, ...]
    out: tuple[int, ...]
    samples: int | None
    positions: tuple[int, ...]


def geometry(equation, side: int, kernel: Any, signal: Any) -> Geometry:
    """Return the axes of a product; `side` is the kernel's place among its operands."""
    params = equation.params
    if equation.primitive.name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        out_axis, *in_axes = numbers.rhs_spec
        fan_in = math.prod(kernel.shape[axis] for axis in in_axes)
        samples, channels, *positions = numbers.out_spec
        grouped = params["feature_group_count"] * params["batch_group_count"] > 1
        return Geometry(
            fan_in / math.prod(params["lhs_dilation"]),
            kernel.shape[out_axis] // params["feature_group_count"],
            () if grouped else (out_axis,),
            (numbers.lhs_spec[1],),
            (channels,),
            samples,
            tuple(positions),
        )
    ragged = equation.primitive.name == "ragged_dot_general"
    numbers = (
        params["ragged_dot_dimension_numbers"].dot_dimension_numbers
        if ragged
        else params["dimension_numbers"]
    )
    summed, batch = numbers
    apart = batch[side]
    if ragged:
        apart = (*apart, *params["ragged_dot_dimension_numbers"].rhs_group_dimensions)
    own = [a for a in range(kernel.ndim) if a not in (*summed[side], *apart)]
    fan_in = math.prod(kernel.shape[axis] for axis in summed[side])
    theirs = [a for a in range(signal.ndim) if a not in (*summed[1 - side], *batch[1 - side])]
    start = len(batch[side])  # batch axes come first in the result, then the left operand's
    places = [start + n + (0 if side else len(own)) for n in range(len(theirs))]
    out = [start + n + (len(theirs) if side else 0) for n in range(len(own))]
    one = len(places) > 1 and signal.shape[theirs[0]] == 1  # a batch of one sample
    samples = None if ragged or one or not places else places[0]
    return Geometry(
        fan_in,
        math.prod(kernel.shape[axis] for axis in own),
        () if params.get("out_sharding") else tuple(own),
        (*batch[1 - side], *summed[1 - side]),
        tuple(out),
        samples,
        () if ragged else tuple(places if samples is None else places[1:]),
    )


@functools.lru_cache(maxsize=4)
def _signs(shape: tuple[int, ...], own: tuple[int, ...], outputs: int) -> np.ndarray:
    """Return random signs for some columns: kernels of as few outputs as have these together.

    They are an argument of the compiled function: it is compiled faster so.
    """
    fewer = list(shape)
    for axis in own:
        others = outputs // fewer[axis]
        fewer[axis] = min(fewer[axis], -(-_COLUMNS // others))
        outputs = others * fewer[axis]
    kernels = -(-_COLUMNS // outputs)
    return np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (kernels, *fewer))


@dataclass(frozen=True)
class Raw:
    """A measurement whose numbers are still on the device, as mean squares with a scale."""

    values: dict[str, Any]
    axes: Geometry
    shape: tuple[int, ...]  # of the kernel
    size: int  # of the result
    dtype: str

    def numbers(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return fields of `Measured` from the values, which were fetched."""
        kernel, signal, result = (values[name] for name in ("kernel", "signal", "result"))
        return {
            "kernel": square(kernel),
            "kernel_mean": mean(kernel),
            "signal_in": square(signal),
            "mean_in": mean(signal),
            "signal_out": square(result),
            "expected": square(kernel) * float(values["amplification"]) * float(signal[1]) ** 2,
            "spread": float(values["spread"]),
            "alive": float(values["alive"]),
            "positions": known(values["positions"]),
            "samples": known(values["samples"]),
        }


def product(equation, side: int, operands: Sequence[Any], result: Any) -> Raw:
    """Measure the product of a kernel, operands[side], with a signal."""
    kernel, signal = jnp.asarray(operands[side]), jnp.asarray(operands[1 - side])
    axes = geometry(equation, side, kernel, signal)
    params = equation.params | {
        "precision": jax.lax.Precision.HIGHEST,
        "preferred_element_type": None,
    }
    values = _observed(
        equation.primitive,
        tuple(params.items()),
        side,
        axes,
        kernel,
        signal,
        list(operands[2:]),
        jnp.asarray(result),
        _signs(kernel.shape, axes.own, axes.outputs),
    )
    return Raw(values, axes, kernel.shape, math.prod(result.shape), str(signal.dtype))


def merged(path: str, shape: tuple[int, ...], steps: Sequence[tuple[Raw, dict]]) -> Measured:
    """Average a loop's steps into one; spreads add up, since outputs share weights."""
    numbers = [raw.numbers(values) for raw, values in steps]
    total = sum(each["expected"] for each in numbers)
    means = {}
    for name in numbers[0]:
        some = [each[name] for each in numbers if each[name] is not None]
        means[name] = sum(some) / len(some) if some else None
    spread = sum(each["expected"] * each["spread"] for each in numbers) / total if total else 0.0
    raw, _ = steps[0]
    return Measured(
        path=path,
        shape=shape,
        fan_in=raw.axes.fan_in,
        outputs=raw.axes.outputs,
        entries=math.prod(raw.shape),
        dtype=raw.dtype,
        **means | {"spread": spread},
    )


def square(moments) -> float:
    """Return a mean square from what `moments` gave."""
    return float(moments[0]) * float(moments[1]) ** 2


def mean(moments) -> float:
    return float(moments[2]) * float(moments[1])


# In the place of a cosine that there is not: nan would stop a run under jax.debug_nans.
_NONE = 2.0


def known(value) -> float | None:
    return None if math.isnan(value) or value == _NONE else float(value)


def _unit(array):
    """Return x / max|x| in float32 or wider, and max|x|: squares of x may overflow or vanish."""
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    scale = jnp.max(jnp.abs(wide), initial=0)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
    return wide / scale, scale


def moments(array):
    """Return the mean square of x / max|x|, max|x|, and the mean of that quotient."""
    unit, scale = _unit(array)
    return jnp.mean(jnp.abs(unit) ** 2), scale, jnp.mean(unit).real


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _observed(primitive, params, side: int, axes: Geometry, kernel, signal, others, result, signs):
    unit, _ = _unit(signal)

    def apply(kernel, signal):
        pair = (signal, kernel) if side == 1 else (kernel, signal)
        return primitive.bind(*pair, *others, **dict(params))

    amplification, spread = _amplification(apply, signs.astype(unit.real.dtype), unit)
    # With more outputs, each a sum of its own, the mean strays less.
    spread *= math.sqrt(math.prod(signs.shape[1:]) / kernel.size)
    rest = tuple(axis for axis in range(signal.ndim) if axis not in axes.channels)
    positions, samples = _cosines(result, axes)
    return {
        "kernel": moments(kernel),
        "signal": moments(signal),
        "result": moments(result),
        "amplification": amplification,
        "spread": spread,
        "alive": jnp.mean(jnp.any(signal != 0, axis=rest)),
        "positions": positions,
        "samples": samples,
    }


def _amplification(apply, signs, signal):
    """Return E[y²] / E[W²] and its relative standard deviation over independent normal kernels.

    For one x, Σ y² = wᵀ A w is a quadratic form of all weights w, with mean tr(A) E[W²] and
    variance 2 tr(A²) E[W²]². The product of ones with x² has the sum tr(A). Random signs s have
    E|A s|² = tr(A²), where y = L w, A = LᵀL.
    """
    # XLA for CPUs returns garbage for products with large arrays of one number that it makes itself
    # (JAX 0.10.2 to 0.12); it does not know that these squares are 1.
    sums = apply(signs[0] ** 2, jnp.abs(signal) ** 2)
    trace = jnp.sum(sums)

    def squared(signs):
        signs = signs.astype(signal.dtype)
        y = apply(signs, signal)
        (product,) = jax.linear_transpose(lambda kernel: apply(kernel, signal), signs)(jnp.conj(y))
        return jnp.sum(jnp.abs(product / jnp.where(trace > 0, trace, 1)) ** 2)

    many = jax.lax.map(squared, signs) if len(signs) > 1 else squared(signs[0])
    return jnp.mean(sums), jnp.sqrt(2 * jnp.mean(many))


def _cosines(result, axes: Geometry):
    """Return mean cosines of the outputs at two positions, and at two samples, or `_NONE`."""
    unit, _ = _unit(result)
    y = jnp.moveaxis(unit, axes.out, range(len(axes.out)))
    places = [a for a in range(result.ndim) if a not in axes.out]
    norm = jnp.sqrt(jnp.sum(jnp.abs(y) ** 2, axis=tuple(range(len(axes.out))), keepdims=True))
    y = jnp.where(norm > 0, y / jnp.where(norm > 0, norm, 1), 0)

    def alike(axes_of: Sequence[int]):
        where = tuple(len(axes.out) + places.index(axis) for axis in axes_of)
        count = math.prod(y.shape[axis] for axis in where)
        if count < 2:
            return _NONE
        channels = tuple(range(len(axes.out)))
        total = jnp.sum(jnp.abs(jnp.sum(y, axis=where, keepdims=True)) ** 2, axis=channels)
        alone = jnp.sum(jnp.abs(y) ** 2, axis=(*channels, *where), keepdims=True)
        pairs = (jnp.mean(total) - jnp.mean(alone)) / (count * (count - 1))
        mean = jnp.mean(alone)
        cosine = pairs * count / jnp.where(mean == 0, 1, mean)
        return jnp.where(mean == 0, _NONE, cosine)

    return alike(axes.positions), alike([] if axes.samples is None else [axes.samples])
