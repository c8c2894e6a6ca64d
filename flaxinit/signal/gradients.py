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

from flaxinit.signal.limits import Limits
from flaxinit.signal.movement import permuted
from flaxinit.signal.products import axes_of
from flaxinit.signal.signals import CONSTANT, WIDTH, Signal, expanded, joined
from flaxinit.signal.windows import Window, gram, gram_of_patches, patches

_FEW = 64  # channels, where there are too many places for a Gram matrix


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
    grams = []
    for side, signal in enumerate(signals):
        axes = axes_of(equation, side, len(signal.shape))
        whole = permuted(expanded(signal, axes.summed), (*axes.batch, *axes.summed, *axes.free))
        b, s = len(axes.batch), len(axes.summed)
        data = whole.data
        batch, places = math.prod(data.shape[1 : 1 + b]), math.prod(data.shape[1 + b : 1 + b + s])
        data = np.moveaxis(data.reshape(len(data), batch, places, -1), 1, 0)
        data = np.swapaxes(data, 1, 2).reshape(batch, places, -1)
        grams.append(data @ np.swapaxes(data, 1, 2) / data.shape[-1])
    square = float(np.mean(np.sum(grams[0] * grams[1], axis=(1, 2))))
    shape = tuple(equation.outvars[0].aval.shape)
    return summary(square, shape, signals, numbers, rng)


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
        seen = gram_of_patches(gram(x.data, rank), window, x.held[:-1])
        square = float(np.sum(seen * gram(slope.data, rank))) / taps
    else:
        few = max(1, limits.entries // before // _FEW)
        thin = [each.data[:few, ..., :_FEW] for each in (x, slope)]
        replicas = min((len(data) for data in thin if len(data) > 1), default=1)
        seen = patches(thin[0][:replicas, ..., None, :], window)
        seen = seen.reshape(len(seen), after, -1, taps)
        left = thin[1][:replicas].reshape(-1, after, thin[1].shape[-1]).swapaxes(1, 2)
        square = float(np.mean([np.mean((left @ seen[..., n]) ** 2) for n in range(taps)]))
    return summary(square, shape, signals, numbers, rng)


def summary(
    square: float,
    shape: tuple[int, ...],
    signals: Sequence[Signal],
    numbers: Iterator[int],
    rng: np.random.Generator,
) -> Signal:
    """Draw a few Gaussian entries with exactly this second moment to stand for all."""
    held = tuple(min(n, 4) for n in shape)
    data = rng.standard_normal((64, *held))
    data *= math.sqrt(square / float(np.mean(data**2)))
    roles = tuple(WIDTH if n > 1 else CONSTANT for n in shape)
    made = Signal(data, shape, roles, **joined(signals))
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
