"""The product of one kernel with the signal, observed: moments, cosines and sampling error."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.signal.measuring.measured import Measured
from flaxinit.signal.measuring.moments import Moments, moments, scaled, squared, statistic, wide

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
def _signs(shape: tuple[int, ...], own: tuple[int, ...], outputs: int, dtype: Any) -> np.ndarray:
    """Return random signs for kernels that have `_COLUMNS` outputs together: one if it may.

    They are an argument of the compiled function: it is compiled faster so.
    """
    columns = [1 if axis in own else n for axis, n in enumerate(shape)]
    if own:
        columns[own[0]] = outputs = _COLUMNS
    kernels = -(-_COLUMNS // outputs)
    signs = np.random.default_rng(0).choice([-1, 1], (kernels, *columns))
    return signs.astype(np.promote_types(dtype, np.float32))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Raw:
    """A measurement whose numbers may still be on the device.

    Attributes:
        kernel: moments of the kernel.
        signal: of the signal that it meets.
        result: of their product.
        alive: share of the signal's channels that are not 0 everywhere.
        cosines: what `_cosines` returns.
        form: tr(A) and tr(A²) of `_form`.
        share: of the kernel's outputs, how many these stand for.
        axes: of the product.
        shape: of the kernel.
        dtype: of the signal.
    """

    kernel: Moments
    signal: Moments
    result: Moments
    alive: Any
    cosines: tuple[Any, Any]
    form: tuple[Any, Any]
    share: float = field(metadata={"static": True})
    axes: Geometry = field(metadata={"static": True})
    shape: tuple[int, ...] = field(metadata={"static": True})
    dtype: str = field(metadata={"static": True})

    def numbers(self) -> dict[str, Any]:
        """Return fields of `Measured`."""
        trace, square = map(float, self.form)
        positions, samples = map(_known, self.cosines)
        per_weight = trace * float(self.signal.scale) ** 2 / (self.result.entries * self.share)
        return {
            "kernel": self.kernel.square,
            "kernel_mean": self.kernel.mean,
            "signal_in": self.signal.square,
            "mean_in": self.signal.mean,
            "signal_out": self.result.square,
            "expected": self.kernel.square * per_weight,
            # With more outputs, each a sum of its own, the mean strays less.
            "spread": math.sqrt(2 * square * self.share) / trace if trace else 0.0,
            "alive": float(self.alive),
            "positions": positions,
            "samples": samples,
        }


def product(equation, side: int, operands: Sequence[Any], result: Any) -> Raw:
    """Measure the product of a kernel, operands[side], with a signal."""
    kernel, signal = jnp.asarray(operands[side]), jnp.asarray(operands[1 - side])
    result = jnp.asarray(result)
    axes = geometry(equation, side, kernel, signal)
    params = equation.params | {
        "precision": jax.lax.Precision.HIGHEST,
        "preferred_element_type": None,
    }
    signs = _signs(kernel.shape, axes.own, axes.outputs, signal.dtype)
    given = moments(signal)
    return Raw(
        moments(kernel),
        given,
        moments(result),
        _alive((signal,), axes.channels),
        _cosines((result,), axes),
        _form(
            equation.primitive,
            tuple(params.items()),
            side,
            signs,
            signal,
            given.scale,
            list(operands[2:]),
        ),
        math.prod(signs.shape[1:]) / kernel.size,
        axes,
        kernel.shape,
        str(signal.dtype),
    )


def merged(path: str, shape: tuple[int, ...], steps: Sequence[Raw]) -> Measured:
    """Average a loop's steps into one; spreads add up, since outputs share weights."""
    numbers = [raw.numbers() for raw in steps]
    total = sum(each["expected"] for each in numbers)
    means = {}
    for name in numbers[0]:
        some = [each[name] for each in numbers if each[name] is not None]
        means[name] = sum(some) / len(some) if some else None
    spread = sum(each["expected"] * each["spread"] for each in numbers) / total if total else 0.0
    raw = steps[0]
    return Measured(
        path=path,
        shape=shape,
        fan_in=raw.axes.fan_in,
        outputs=raw.axes.outputs,
        entries=math.prod(raw.shape),
        dtype=raw.dtype,
        **means | {"spread": spread},
    )


# In the place of a cosine that there is not: nan would stop a run under jax.debug_nans.
_NONE = 2.0


def _known(value) -> float | None:
    return None if math.isnan(value) or value == _NONE else float(value)


@statistic
def _alive(numpy, arrays, channels: tuple[int, ...]):
    """Return the share of channels that are not 0 everywhere."""
    (x,) = arrays
    rest = tuple(axis for axis in range(x.ndim) if axis not in channels)
    return numpy.mean(numpy.any(x != 0, axis=rest))


@statistic
def _cosines(numpy, arrays, axes: Geometry):
    """Return mean cosines of the outputs at two positions, and at two samples, or `_NONE`.

    For n vectors y of norm 1, |Σ y|² = n + n (n - 1) · cosine.
    """
    y, _ = scaled(numpy, *arrays)
    norm = numpy.sqrt(numpy.sum(squared(numpy, y), axis=axes.out, keepdims=True))
    y = y / numpy.where(norm > 0, norm, 1)
    alone = numpy.sum(norm > 0)

    def alike(places: tuple[int, ...]):
        count = math.prod(y.shape[axis] for axis in places)
        if count < 2:
            return _NONE
        total = numpy.sum(squared(numpy, numpy.sum(y, axis=places)))
        cosine = (total / numpy.maximum(alone, 1) - 1) / (count - 1)
        return numpy.where(alone > 0, cosine, _NONE)

    return alike(axes.positions), alike(() if axes.samples is None else (axes.samples,))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _form(primitive, params, side: int, signs, signal, scale, others):
    """Return tr(A) and tr(A²) of the quadratic form Σ|y|² = wᴴ A w of a kernel's weights w.

    Over independent normal weights it has the mean tr(A) E[W²] and the variance 2 tr(A²) E[W²]².
    The product of ones with |x|² has the sum tr(A). Random signs s have E|A s|² = tr(A²), where
    y = L w, A = LᴴL.

    Args:
        primitive: of the product.
        params: of the primitive.
        side: the kernel's place.
        signs: random signs, in the place of kernels.
        signal: the signal, of which x is a multiple.
        scale: the signal divided by x.
        others: further operands.
    """
    x = wide(signal) / scale

    def apply(kernel, signal):
        pair = (signal, kernel) if side == 1 else (kernel, signal)
        return primitive.bind(*pair, *others, **dict(params))

    def squared(signs):
        y = apply(signs, x)
        (product,) = jax.linear_transpose(lambda kernel: apply(kernel, x), signs)(jnp.conj(y))
        return jnp.sum(jnp.abs(product) ** 2)

    # XLA for CPUs returns garbage for products with large arrays of one number that it makes itself
    # (JAX 0.10.2 to 0.12); it does not know that these squares are 1.
    trace = jnp.sum(apply(signs[0] ** 2, jnp.abs(x) ** 2))
    many = jax.lax.map(squared, signs) if len(signs) > 1 else squared(signs[0])
    return trace.real, jnp.mean(many)
