"""Gradients of parameters: a sample that has their exact second moment.

For a kernel that sees x and whose outputs have the gradient δ, with both independent,

    dW = Σ_i δ_i x_i,    E[dW²] = Σ_ij E[δ_i δ_j] E[x_i x_j],

where the sums run over places (Yang 2020: the transposed kernel may be taken as independent of the
kernel). A gradient is as large as its parameter, so the sample has a few entries of each axis. It
is made of such products, and not drawn: the gradients of several uses of a kernel are summed, and
they are correlated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from flaxinit.signal.rules.lookup import summed
from flaxinit.signal.rules.movement import permuted
from flaxinit.signal.rules.products import axes_of
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.draws import rescaled
from flaxinit.signal.samples.limits import Limits, must_fit
from flaxinit.signal.samples.signals import CONSTANT, WIDTH, Signal, expanded, joined, squared

# Entries of each axis that are held; of channels, where no Gram matrix has the second moment.
_HELD, _FEW = 16, 64
Sizes = tuple[tuple[Any, ...], ...]


class Copied(NamedTuple):
    """The sides of a kernel on which it repeats: of these its gradient has to be whole.

    There it is cut or summed into the gradient of what was repeated.
    """

    terms: bool = False
    outputs: bool = False

    def __or__(self, other: "Copied") -> "Copied":
        return Copied(self.terms or other.terms, self.outputs or other.outputs)


NOWHERE = Copied()


def sizes_of(
    x: Sequence[int],
    batch: Sequence[int],
    terms: Sequence[int],
    y: Sequence[int],
    outputs: Sequence[int],
) -> Sizes:
    """Return sizes of a kernel: of its batch and its terms, as x has them, and its outputs."""
    pairs = (x, batch), (x, terms), (y, outputs)
    return tuple(tuple(sorted(shape[axis] for axis in axes)) for shape, axes in pairs)


def sizes_of_window(kernel: Sequence[int], axes: Sequence[int]) -> Sizes:
    """Return sizes of a convolution's kernel; `axes` are of its outputs, its terms, its window."""
    outputs, terms, *window = (kernel[axis] for axis in axes)
    return ("window", *sorted(window)), (terms,), (outputs,)


def gradient_of(
    equation, signals: Sequence[Signal], kernels: Mapping[Sizes, Copied]
) -> Copied | None:
    """Return where a kernel repeats whose gradient a dot_general makes; None if it makes none.

    The kernel mixes channels.

    Args:
        equation: the dot_general.
        signals: that meet; of two in attention, one a gradient, the product is no kernel's.
        kernels: those that were met, by `sizes_of`.
    """
    one, other = signals
    if one.backward == other.backward or None not in (one.origin, other.origin):
        return None
    axes = [axes_of(equation, side, len(s.shape)) for side, s in enumerate(signals)]
    x, y = (0, 1) if other.backward else (1, 0)
    (batch, terms, _), (_, outputs, _) = axes[x], axes[y]
    copied = kernels.get(sizes_of(signals[x].shape, batch, terms, signals[y].shape, outputs))
    # A sum over channels is that of a kernel that mixes positions.
    summed = zip(axes[0].summed, axes[1].summed, strict=True)
    if any(max(one.roles[i], other.roles[j]) == WIDTH for i, j in summed):
        return None
    whole = all(
        signal.held[i] in (1, signal.shape[i])
        for signal, each in zip(signals, axes, strict=True)
        for i in (*each.batch, *each.summed)
    )
    return copied if whole else None


def of_kernel(
    equation,
    signals: Sequence[Signal],
    limits: Limits,
    apart: bool = False,
    copied: Copied = NOWHERE,
) -> Signal:
    """Return the gradient of a kernel in a dot_general.

    Args:
        equation: the dot_general.
        signals: that meet.
        limits: sizes of samples.
        apart: whether each replica has Gram matrices of its own.
        copied: where the kernel repeats.
    """
    shape = tuple(equation.outvars[0].aval.shape)
    replicas = min(signal.replicas for signal in signals) if apart else 1
    grams, groups, held, terms, mean = [], [], [], range(0), np.zeros(())
    start = len(axes_of(equation, 0, len(signals[0].shape)).batch)
    for side, signal in enumerate(signals):
        axes = axes_of(equation, side, len(signal.shape))
        whole = expanded(signal, (*axes.batch, *axes.summed))
        whole = permuted(whole, (*axes.batch, *axes.summed, *axes.free))
        b, s = len(axes.batch), len(axes.batch) + len(axes.summed)
        batch, places = math.prod(whole.held[:b]), math.prod(whole.held[b:s])
        must_fit(replicas * batch * places**2, "the gradient of a kernel", shape)
        some = whole.data[(slice(None), *(slice(_HELD),) * b)]
        some = some.reshape(*some.shape[: b + 1], places, *whole.held[s:])
        most = _most(signal, copied, limits, _HELD)
        some = _grouped(some, range(b + 2, some.ndim), most, signal.backward, apart)
        held.append(some.shape[b + 3 :])
        groups.append(some.reshape(*some.shape[: b + 3], -1))
        data = whole.data[:replicas] if replicas > 1 else whole.data
        data = data.reshape(len(data), batch, places, -1)
        data = np.moveaxis(data, 0, 1 if replicas > 1 else 2)
        data = data.reshape(replicas * batch, places, -1)
        # NumPy computes one half of X Xᵀ, if no copy is made of X.
        other = np.conj(data) if np.iscomplexobj(data) else data
        grams.append(data @ np.swapaxes(other, 1, 2) / data.shape[-1])
        if not signal.backward:
            terms = range(start, start + len(axes.free))
            mean = np.mean(data, axis=-1)
        start += len(axes.free)
    square = float(np.mean(np.sum((grams[0] * grams[1]).real, axis=(1, 2))))
    slopes = grams[0 if signals[0].backward else 1]
    common = np.einsum("bij,bi,bj->b", slopes, mean, np.conj(mean))
    common = float(np.mean(common.real))
    must_fit(math.prod(held[0] + held[1]), "the gradient of a kernel", shape)
    one, other = _paired(groups, limits.entries // _HELD if any(copied) else limits.entries)
    sample = np.swapaxes(one, -1, -2) @ other
    sample = sample.reshape(*sample.shape[:-2], *held[0], *held[1])
    return _gradient(sample, square, common, terms, shape, signals)


def of_convolution(
    equation, signals: Sequence[Signal], limits: Limits, kernels: Mapping[Sizes, Copied]
) -> Signal:
    """Return the gradient of a kernel in a convolution; its second moment is that of all taps."""
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
    gathered = max(before, after) <= limits.places
    each, room = (_HELD, limits.entries // taps) if gathered else (_FEW, limits.entries)
    copied = kernels.get(sizes_of_window(shape, (out_spec[1], out_spec[0], *out_spec[2:])))
    copied = copied or NOWHERE
    room = room // _HELD if any(copied) else room
    groups = [
        _grouped(s.data, [rank + 1], _most(s, copied, limits, each), s.backward) for s in (x, slope)
    ]
    seen, slopes = _paired(groups, room)
    seen = patches(seen[..., None, :], window).reshape(len(seen), after, -1, taps)
    slopes = np.swapaxes(slopes.reshape(len(slopes), after, -1), 1, 2)
    sample = np.stack([slopes @ seen[..., tap] for tap in range(taps)])  # taps, groups, δ, x
    if gathered:
        slopes = gram(slope.data, rank)
        seen = gram_of_patches(gram(x.data, rank), window, x.held[:-1])
        square = float(np.sum(seen * slopes)) / taps
        mean = np.mean(x.data, axis=(0, -1))[None, ..., None, None]
        mean = np.mean(patches(mean, window).reshape(-1, taps), axis=1)
        common = float(mean @ slopes @ mean)
    else:
        square, common = (
            float(np.mean(part**2)) for part in (sample, np.mean(sample, axis=(0, -1)))
        )
    sample = np.moveaxis(sample, (0, 2, 3), (3, 2, 1))  # groups, x, δ, taps
    sample = sample.reshape(*sample.shape[:3], *window.sizes)
    sample = np.transpose(sample, (0, *(1 + out_spec.index(axis) for axis in range(rank + 1))))
    terms = [axis for axis in range(len(shape)) if axis != out_spec[1]]
    return _gradient(sample, square, common, terms, shape, signals)


def _most(signal: Signal, copied: Copied, limits: Limits, few: int) -> int:
    """Return how many entries of an axis are held: all where the kernel repeats, else few."""
    whole = copied.outputs if signal.backward else copied.terms
    return limits.entries if whole else few


def _grouped(
    data: np.ndarray, axes: Sequence[int], most: int, slopes: bool = True, apart: bool = False
) -> np.ndarray:
    """Cut channels into groups: replicas × groups × others.

    Groups of a signal have the mean of all channels, and not one of their own: what it adds to a
    gradient, the same at all terms of a fan, may be large, and two uses of a kernel may cancel it.
    """
    over = (*(() if apart else (0,)), *axes)
    mean = np.mean(data, axis=over, keepdims=True)[:, None]
    data = data[:, None]
    for axis in (axis + 1 for axis in axes):
        size = min(data.shape[axis], most)
        data = data[(slice(None),) * axis + (slice(data.shape[axis] // size * size),)]
        data = data.reshape(*data.shape[:axis], -1, size, *data.shape[axis + 1 :])
        data = np.moveaxis(data, axis, 2)
        data = data.reshape(len(data), -1, *data.shape[3:])
    own = tuple(axis + 1 for axis in axes if data.shape[axis + 1] > 1)
    return data if slopes or not own else data + (mean - np.mean(data, axis=own, keepdims=True))


def _paired(groups: Sequence[np.ndarray], room: int) -> list[np.ndarray]:
    """Pair the groups of two signals, as many as there is room for; the fewer are repeated.

    They are of one replica, and a kernel's other uses have the same pairs.
    """
    replicas, pairs = (max(each.shape[axis] for each in groups) for axis in (0, 1))
    room = max(1, room // max(each[0, 0].size for each in groups))
    pairs = min(pairs, room)
    r, g = np.divmod(np.arange(min(replicas, room // pairs) * pairs), pairs)
    return [each[r % each.shape[0], g % each.shape[1]] for each in groups]


def _gradient(
    sample: np.ndarray,
    square: float,
    common: float,
    terms: Sequence[int],
    shape: tuple[int, ...],
    signals: Sequence[Signal],
) -> Signal:
    """Return a sample that is rescaled to exact moments.

    Args:
        sample: replicas × entries.
        square: their second moment.
        common: second moment of the mean over the terms of the fan, which standardized weights
            take away. It is large after ReLU, where all terms have one sign.
        terms: the axes of the fan.
        shape: of the gradient.
        signals: that it was made of.
    """
    if axes := tuple(axis + 1 for axis in terms if sample.shape[axis + 1] > 1):
        common = min(common, square)
        if not any(signal.known for signal in signals):
            # The mean of n terms strays by 1/n of their variance.
            common += (square - common) / math.prod(shape[axis] for axis in terms)
        mean = np.mean(sample, axis=axes, keepdims=True)
        sample = _scaled(sample - mean, square - common) + _scaled(mean, common)
    else:
        sample = _scaled(sample, square)
    roles = tuple(WIDTH if n > 1 else CONSTANT for n in shape)
    return replace(Signal(sample, shape, roles, **joined(signals)), of_kernel=True)


def _scaled(sample: np.ndarray, square: float) -> np.ndarray:
    return rescaled(sample, np.full((1,) * sample.ndim, square), tuple(range(sample.ndim)))


def of_table(equation, signals: Sequence[Signal], limits: Limits) -> Signal | None:
    """Return the gradient of a table whose rows were looked up; None for another scatter.

    Few rows of a table have a gradient. The sample has sums of them with random signs, which each
    row keeps wherever it is looked up: the mean product of two sums is that of the two gradients.
    """
    found, target = summed(equation, signals), signals[0]
    if found is None:
        return None
    axis, rows, sums, _ = found
    if not rows.size:
        return replace(target, **joined(signals))
    square = float(np.mean(squared(sums))) * len(rows) / target.shape[axis]
    held = min(target.shape[axis], _HELD)
    few = _grouped(sums, range(2, sums.ndim), _HELD)
    few = few.reshape(-1, *few.shape[2:])[: max(1, limits.entries // held // len(rows))]
    choice = [np.random.default_rng(int(row)).choice((-1.0, 1.0), (len(few), held)) for row in rows]
    sample = np.stack(choice, axis=-1) @ few.reshape(len(few), len(rows), -1)
    sample = np.moveaxis(sample.reshape(len(few), held, *few.shape[2:]), 1, 1 + axis)
    return _gradient(sample, square, 0.0, (), target.shape, signals)
