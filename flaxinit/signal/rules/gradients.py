"""Gradients of parameters, as second moments alone: a gradient is as large as its parameter.

For a kernel that sees x and whose outputs have the gradient δ, with both independent,

    dW = Σ_i δ_i x_i,    E[dW²] = Σ_ij E[δ_i δ_j] E[x_i x_j],

where the sums run over places (Yang 2020: the transposed kernel may be taken as independent of the
kernel).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from flaxinit.signal.rules.movement import permuted
from flaxinit.signal.rules.products import axes_of
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.limits import Limits, must_fit
from flaxinit.signal.samples.signals import CONSTANT, WIDTH, Signal, expanded, joined

_FEW = 64  # channels, where there are too many places for a Gram matrix
# Of a gradient: a sum over a part of its terms strays by as many times more as there are of them.
_HELD, _ENTRIES = 16, 2**16


def is_gradient(equation, signals: Sequence[Signal], limits: Limits) -> bool:
    """Return whether a dot_general makes a kernel's gradient that is too large to compute."""
    one, other = signals
    if one.backward == other.backward or None not in (one.origin, other.origin):
        return False
    entries = 1
    for side, signal in enumerate(signals):
        axes = axes_of(equation, side, len(signal.shape))
        if any(signal.roles[axis] == WIDTH for axis in axes.summed):
            return False
        entries *= math.prod(signal.held[axis] for axis in axes.free)
    return entries * max(one.replicas, other.replicas) > limits.places**2


def of_kernel(
    equation, signals: Sequence[Signal], numbers: Iterator[int], rng: np.random.Generator
) -> Signal:
    """Return the gradient of a kernel in a dot_general."""
    grams, start = [], len(axes_of(equation, 0, len(signals[0].shape)).batch)
    terms, mean = range(0), np.zeros(())
    for side, signal in enumerate(signals):
        axes = axes_of(equation, side, len(signal.shape))
        whole = permuted(expanded(signal, axes.summed), (*axes.batch, *axes.summed, *axes.free))
        b, s = len(axes.batch), len(axes.summed)
        data = whole.data
        batch, places = math.prod(data.shape[1 : 1 + b]), math.prod(data.shape[1 + b : 1 + b + s])
        data = np.moveaxis(data.reshape(len(data), batch, places, -1), 1, 0)
        data = np.swapaxes(data, 1, 2).reshape(batch, places, -1)
        must_fit(batch * places**2, "the gradient of a kernel", equation.outvars[0].aval.shape)
        grams.append(data @ np.swapaxes(data, 1, 2) / data.shape[-1])
        if not signal.backward:
            terms = range(start, start + len(axes.free))
            mean = np.mean(data, axis=-1)
        start += len(axes.free)
    square = float(np.mean(np.sum(grams[0] * grams[1], axis=(1, 2))))
    slopes = grams[0 if signals[0].backward else 1]
    common = float(np.mean(np.einsum("bij,bi,bj->b", slopes, mean, mean)))
    shape = tuple(equation.outvars[0].aval.shape)
    return summary(square, shape, signals, numbers, rng, common, terms)


def of_convolution(
    equation,
    signals: Sequence[Signal],
    limits: Limits,
    numbers: Iterator[int],
    rng: np.random.Generator,
) -> Signal:
    """Return the gradient of a kernel in a convolution, the mean over the places of its window."""
    params, shape = equation.params, tuple(equation.outvars[0].aval.shape)
    x_spec, w_spec, out_spec = params["dimension_numbers"]
    x, slope = (
        expanded(permuted(s, (spec[1], *spec[2:], spec[0])), range(len(s.shape) - 1))
        for s, spec in zip(signals, (x_spec, w_spec), strict=True)
    )
    # JAX slides the gradient over the signal, one step for each place of the kernel's window.
    window = Window(
        tuple(shape[axis] for axis in out_spec[2:]),
        tuple(params["rhs_dilation"]),
        tuple(tuple(pair) for pair in params["padding"]),
        tuple(params["lhs_dilation"]),
        tuple(params["window_strides"]),
    )
    before, after = (math.prod(each.held[:-1]) for each in (x, slope))
    taps, rank = math.prod(window.sizes), len(x_spec) - 1
    if max(before, after) <= limits.places:
        slopes = gram(slope.data, rank)
        seen = gram_of_patches(gram(x.data, rank), window, x.held[:-1])
        square = float(np.sum(seen * slopes)) / taps
        each = np.mean(x.data, axis=(0, -1))[None, ..., None, None]
        mean = np.mean(patches(each, window).reshape(-1, taps), axis=1)
        common = float(mean @ slopes @ mean)
    else:
        few = max(1, limits.entries // before // _FEW)
        thin = [each.data[:few, ..., :_FEW] for each in (x, slope)]
        replicas = min((len(data) for data in thin if len(data) > 1), default=1)
        seen = patches(thin[0][:replicas, ..., None, :], window)
        seen = seen.reshape(len(seen), after, -1, taps)
        left = thin[1][:replicas].reshape(-1, after, thin[1].shape[-1]).swapaxes(1, 2)
        products = np.stack([left @ seen[..., n] for n in range(taps)])
        square, common = (
            float(np.mean(each**2)) for each in (products, np.mean(products, axis=(0, -1)))
        )
    terms = [axis for axis in range(len(shape)) if axis != out_spec[1]]
    return summary(square, shape, signals, numbers, rng, common, terms)


def summary(
    square: float,
    shape: tuple[int, ...],
    signals: Sequence[Signal],
    numbers: Iterator[int],
    rng: np.random.Generator,
    common: float = 0.0,
    terms: Sequence[int] = (),
) -> Signal:
    """Draw a few Gaussian entries to stand for all.

    Args:
        square: their second moment, which they have exactly.
        shape: of the gradient.
        signals: that it was made of.
        numbers: names draws.
        rng: random numbers.
        common: second moment of the mean over the terms of the fan, which standardized weights
            take away. It is large after ReLU, where all terms have one sign.
        terms: the axes of the fan.
    """
    held = tuple(min(n, _HELD) for n in shape)
    roles = tuple(WIDTH if n > 1 else CONSTANT for n in shape)
    each, mean = rng.standard_normal((max(1, _ENTRIES // math.prod(held)), *held)), 0.0
    if axes := tuple(axis + 1 for axis in terms if held[axis] > 1):
        each -= np.mean(each, axis=axes, keepdims=True)
        mean = rng.standard_normal([1 if n in axes else size for n, size in enumerate(each.shape)])
        mean *= math.sqrt(min(common, square) / float(np.mean(mean**2)))
        square -= min(common, square)
    each *= math.sqrt(square / float(np.mean(each**2)))
    made = Signal(each + mean, shape, roles, **joined(signals))
    return replace(made, sources=frozenset({next(numbers)}))


def of_table(
    equation, signals: Sequence[Signal], numbers: Iterator[int], rng: np.random.Generator
) -> Signal | None:
    """Return the gradient of a table whose rows were looked up; None for another scatter."""
    target, indices, updates = signals
    numbered = equation.params["dimension_numbers"]
    shape = tuple(equation.outvars[0].aval.shape)
    (axis, *more) = numbered.scatter_dims_to_operand_dims
    simple = not more and tuple(numbered.inserted_window_dims) == (axis,)
    if not simple or np.any(target.data) or indices.sources:
        return None
    window = tuple(numbered.update_window_dims)
    places = [i for i in range(len(updates.shape)) if i not in window]
    full = permuted(expanded(updates, places), (*places, *window))
    rows = np.broadcast_to(indices.data[0, ..., 0], indices.shape[:-1]).reshape(-1)
    data = full.data.reshape(full.replicas, len(rows), -1)
    total = 0.0
    for row in np.unique(rows):
        total += float(np.mean(np.sum(data[:, rows == row], axis=1) ** 2))
    return summary(total / shape[axis], shape, signals, numbers, rng)
