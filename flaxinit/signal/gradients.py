"""Gradients of parameters, as second moments alone: a gradient is as large as its parameter.

For a kernel that sees x and whose outputs have the gradient δ, with both independent,

    dW = Σ_i δ_i x_i,    E[dW²] = Σ_ij E[δ_i δ_j] E[x_i x_j],

where the sums run over places (Yang 2020: the transposed kernel may be taken as independent of the
kernel).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.jaxpr import bind
from flaxinit.signal.limits import Limits
from flaxinit.signal.movement import permuted
from flaxinit.signal.products import axes_of
from flaxinit.signal.signals import CONSTANT, WIDTH, Signal, expanded, joined

_FEW = 64  # entries of an axis, where some stand for all


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


def of_convolution(equation, signals: Sequence[Signal]) -> Signal:
    """Return the gradient of a kernel in a convolution, at some of its channels."""
    x_spec, w_spec, out_spec = equation.params["dimension_numbers"]
    axes = (x_spec[0], w_spec[0])  # of the channels that came in, and of those that went out
    groups = equation.params["batch_group_count"]
    each = [signal.shape[axis] // groups for signal, axis in zip(signals, axes, strict=True)]
    held = [signal.held[axis] for signal, axis in zip(signals, axes, strict=True)]
    if groups > 1:  # of the groups some are kept, each whole
        most = min(h // n for h, n in zip(held, each, strict=True))
        groups = max(1, min(most, _FEW // max(each)))
        counts = [groups * n for n in each]
    else:
        counts = [min(_FEW, h) for h in held]
    equation = equation.replace(params=equation.params | {"batch_group_count": groups})
    thin = []
    for signal, axis, count in zip(signals, axes, counts, strict=True):
        others = [i for i in range(len(signal.shape)) if i != axis]
        thin.append(np.take(expanded(signal, others).data, np.arange(count), axis=axis + 1))
    replicas = min((len(data) for data in thin if len(data) > 1), default=1)
    scales = [float(np.max(np.abs(data))) or 1.0 for data in thin]  # JAX has 32 bits
    arrays = [
        jnp.asarray(data[:replicas] / scale, jnp.float32)
        for data, scale in zip(thin, scales, strict=True)
    ]
    arrays = [jnp.broadcast_to(array, (replicas, *array.shape[1:])) for array in arrays]
    data = jax.vmap(lambda *operands: bind(equation, operands)[0])(*arrays)
    shape = tuple(equation.outvars[0].aval.shape)
    roles = [CONSTANT] * len(shape)
    for axis in out_spec[:2]:
        roles[axis] = WIDTH
    data = np.asarray(data, np.float64) * math.prod(scales)
    return Signal(data, shape, tuple(roles), **joined(signals))


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
