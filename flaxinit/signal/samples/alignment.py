"""Several signals that meet entry by entry, brought to a common form."""

import math
from collections.abc import Sequence

import numpy as np

from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import CONSTANT, PLACE, WIDTH, Signal, squared


def aligned(signals: Sequence[Signal], limits: Limits, rng: np.random.Generator) -> list[Signal]:
    """Give signals held sizes and replicas that broadcast against each other."""
    rank = max(len(signal.shape) for signal in signals)
    shape = next(signal.shape for signal in signals if len(signal.shape) == rank)
    full = [signal if len(signal.shape) == rank else _scalar(signal, shape) for signal in signals]
    held = tuple(_common(full, axis) for axis in range(rank))
    varied = [signal for signal in full if signal.replicas > 1]
    leading = [signal for signal in varied if not signal.is_parameter]
    replicas = min((signal.replicas for signal in leading or varied), default=1)
    if varied and not leading and any(signal.origin is None for signal in full):
        # A parameter is held with enough replicas to read its law: more than a signal needs.
        replicas = min(replicas, limits.replicas(held[-1:]))
    return [resized(signal, held, replicas, rng) for signal in full]


def _scalar(signal: Signal, shape: tuple[int, ...]) -> Signal:
    data = signal.data.reshape(-1, *[1] * len(shape))
    return signal.with_data(data, shape=shape, roles=(CONSTANT,) * len(shape))


def _common(signals: Sequence[Signal], axis: int) -> int:
    """Return the held size that all take: a signal's size goes before a parameter's."""
    if any(signal.shape[axis] == 0 for signal in signals):
        return 0
    varied = [signal for signal in signals if signal.held[axis] > 1]
    leading = [signal for signal in varied if not signal.is_parameter] or varied
    places = [s for s in leading if s.roles[axis] == PLACE and s.held[axis] == s.shape[axis]]
    return min((signal.held[axis] for signal in places or leading), default=1)


def resized(
    signal: Signal, held: tuple[int, ...], replicas: int, rng: np.random.Generator
) -> Signal:
    """Return the signal with these held sizes; drawn entries that it lacks are resampled.

    Replicas that it lacks are repeated.
    """
    if signal.held == held and signal.replicas in (1, replicas):
        return signal
    if signal.is_parameter and (spread := _spread(signal, held, replicas)):
        return spread
    data, bases = signal.data, [b for b in signal.bases if b.data.shape == signal.data.shape]
    if signal.replicas not in (1, replicas):
        some = np.arange(replicas) % signal.replicas
        data = np.take(data, some, axis=0)
        bases = [b._replace(data=np.take(b.data, some, axis=0)) for b in bases]
    for axis, (have, want) in enumerate(zip(data.shape[1:], held, strict=True), start=1):
        constant = have == 1 and (signal.known or signal.roles[axis - 1] == CONSTANT)
        if have == want or constant:
            continue
        if have > want or signal.known or not have:
            some = np.arange(want) * have // max(want, 1)
            data = np.take(data, some, axis=axis)
            bases = [b._replace(data=np.take(b.data, some, axis=axis)) for b in bases]
        else:
            shape = list(data.shape)
            shape[axis] = want
            data, bases = rng.choice(data.reshape(-1), shape), []
    return signal.with_data(data, bases=tuple(bases) if len(bases) == len(signal.bases) else ())


def _spread(signal: Signal, held: tuple[int, ...], replicas: int) -> Signal | None:
    """Return a parameter with more entries along an axis; None if it lacks none.

    The order of entries depends on their number alone. So they stay in step with those of any
    function of the parameter that is held like it: λ and √(1 - λ²) of a recurrence are of one λ.
    Places stay what they are: powers of λ, one for each.
    """
    sizes, kept = [], []
    for axis, (role, have, want) in enumerate(zip(signal.roles, signal.held, held, strict=True)):
        constant = role == CONSTANT and have == 1
        sizes.append(1 if constant else want)
        if constant or (role == PLACE and have == want):
            kept.append(axis)
    if signal.known or all(n <= have for n, have in zip(sizes, signal.held, strict=True)):
        return None
    mixed = [axis for axis in range(len(sizes)) if axis not in kept]
    moved = np.transpose(signal.data, (0, *(axis + 1 for axis in (*mixed, *kept))))
    entries = moved.reshape(-1, *moved.shape[1 + len(mixed) :])
    order = np.random.default_rng(0).permutation(len(entries))
    wanted = (replicas, *(sizes[axis] for axis in mixed))
    data = entries[np.resize(order, math.prod(wanted))].reshape(*wanted, *entries.shape[1:])
    back = np.argsort([*mixed, *kept])
    return signal.with_data(np.transpose(data, (0, *(1 + back))))


def roles(signals: Sequence[Signal]) -> tuple[int, ...]:
    return tuple(max(each) for each in zip(*(signal.roles for signal in signals), strict=True))


def moments(signal: Signal, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and second moment at each place, over replicas and these axes."""
    over = (0, *(axis + 1 for axis in axes))
    data = signal.data.astype(np.float64) if signal.data.dtype.kind in "biu" else signal.data
    return (
        np.mean(data, axis=over, keepdims=True),
        np.mean(squared(data), axis=over, keepdims=True),
    )


def independent(signals: Sequence[Signal], result_roles: tuple[int, ...]) -> bool:
    """Return whether two drawn signals share no draw and the result has channels to average."""
    one, other = signals
    drawn = bool(one.sources) and bool(other.sources)
    return drawn and WIDTH in result_roles and not one.sources & other.sources
