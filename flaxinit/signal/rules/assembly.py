"""Arrays put together: concatenated, or stacked by a loop."""

import math
from collections.abc import Sequence

import numpy as np

from flaxinit.signal.samples.alignment import aligned
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import CONSTANT, PLACE, Origin, Signal, expanded, joined


def concatenated(
    signals: Sequence[Signal], axis: int, limits: Limits, rng: np.random.Generator
) -> Signal:
    """Concatenate signals along an axis; if one is held in part, keep the same share of all."""
    signals = [signal for signal in signals if signal.shape[axis]] or list(signals[:1])
    if len(signals) == 1:
        return signals[0]
    shape = list(signals[0].shape)
    shape[axis] = sum(signal.shape[axis] for signal in signals)
    if _are_one_constant(signals, axis):
        return Signal(signals[0].data, tuple(shape), signals[0].roles, **joined(signals))
    shares = (signal.held[axis] / signal.shape[axis] for signal in signals if signal.held[axis] > 1)
    share = min(shares, default=1.0)
    # Each entry along the axis is aligned with all others, as if they met.
    cuts = []
    for signal in signals:
        whole = expanded(signal, [axis])
        count = max(1, math.ceil(signal.shape[axis] * share - 1e-9))
        cuts.append(whole.with_data(np.take(whole.data, np.arange(count), axis=axis + 1)))
    bare = [_entry(cut, axis, 0) for cut in cuts]
    like = aligned(bare, limits, rng)
    replicas = min((s.replicas for s in like if s.replicas > 1), default=1)
    held = [max(sizes) for sizes in zip(*(s.held for s in like), strict=True)]
    parts = []
    for cut in cuts:
        data = cut.data
        if cut.replicas not in (1, replicas):
            data = np.take(data, np.arange(replicas) % cut.replicas, axis=0)
        others = [i for i in range(data.ndim - 1) if i != axis]
        for i, want in zip(others, held, strict=True):
            if data.shape[i + 1] not in (1, want):
                data = np.take(data, np.arange(want) * data.shape[i + 1] // want, axis=i + 1)
        full = [*held[:axis], data.shape[axis + 1], *held[axis:]]
        parts.append(np.broadcast_to(data, (replicas, *full)))
    roles = [max(each) for each in zip(*(signal.roles for signal in signals), strict=True)]
    roles[axis] = roles[axis] or PLACE
    return Signal(np.concatenate(parts, axis + 1), tuple(shape), tuple(roles), **joined(signals))


def _are_one_constant(signals: Sequence[Signal], axis: int) -> bool:
    """Return whether entries along an axis are equal, those of all signals: as in zero biases."""
    first = signals[0].data
    constant = all(s.roles[axis] == CONSTANT and s.held[axis] == 1 for s in signals)
    return constant and all(np.array_equal(s.data, first) for s in signals[1:])


def along_new_axis(
    signals: Sequence[Signal], axis: int, limits: Limits, rng: np.random.Generator
) -> Signal:
    """Stack signals of one shape along a new axis."""
    lifted = [
        signal.with_data(
            np.expand_dims(signal.data, axis + 1),
            shape=(*signal.shape[:axis], 1, *signal.shape[axis:]),
            roles=(*signal.roles[:axis], CONSTANT, *signal.roles[axis:]),
        )
        for signal in signals
    ]
    return concatenated(lifted, axis, limits, rng)


def stacked(steps: Sequence[Signal], limits: Limits, rng: np.random.Generator) -> Signal:
    """Stack what a loop made; all slices of a parameter, in order, are that parameter again.

    The rows of a stack have the same replicas, held entries and roles. A row that had others is
    kept as it was: a later loop that reads it, as that of the gradient does, has to make of it
    what the first loop made.
    """
    made = along_new_axis(steps, 0, limits, rng)
    rows = tuple(_kept(step, made, n) for n, step in enumerate(steps))
    origin = _undone([step.origin for step in steps], made.origin)
    return made.with_data(made.data, origin=origin, rows=rows if any(rows) else ())


def _kept(step: Signal, stack: Signal, n: int) -> Signal | None:
    """Return a row as it was, or None if it can be cut from the stack."""
    same = stack.held[0] > 1 and step.data.shape == stack.data[:, n].shape
    if same and step.roles == stack.roles[1:] and not step.rows:
        return None
    return step.with_data(stack.data[:, n] if same else step.data, rows=step.rows)


def _undone(origins: Sequence[Origin | None], joint: Origin | None) -> Origin | None:
    """Return the parameter that has these rows in order, or the joint origin of other rows."""
    bare = set()
    for n, origin in enumerate(origins):
        if origin is None or len(origin) != 1:
            return joint
        ((number, steps),) = origin
        if not steps or steps[-1] != n:
            return joint
        bare.add((number, steps[:-1]))
    return frozenset(bare) if len(bare) == 1 else joint


def _entry(signal: Signal, axis: int, index: int) -> Signal:
    return signal.with_data(
        np.take(signal.data, index, axis=axis + 1),
        shape=(*signal.shape[:axis], *signal.shape[axis + 1 :]),
        roles=(*signal.roles[:axis], *signal.roles[axis + 1 :]),
    )
