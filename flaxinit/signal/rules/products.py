"""dot_general: contractions of two signals, and the layout of one with a kernel.

The product of two drawn signals is a finite sum, taken term by term in each replica. The product
with a kernel is in `kernels`.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from flaxinit.signal.rules.movement import permuted
from flaxinit.signal.samples.limits import Limits, must_fit
from flaxinit.signal.samples.signals import WIDTH, Signal, expanded, joined


class Axes(NamedTuple):
    """The axes of one operand of a dot_general."""

    batch: tuple[int, ...]
    free: tuple[int, ...]
    summed: tuple[int, ...]


def axes_of(equation, side: int, rank: int) -> Axes:
    summed, batch = (tuple(each[side]) for each in equation.params["dimension_numbers"])
    free = tuple(axis for axis in range(rank) if axis not in (*summed, *batch))
    return Axes(batch, free, summed)


def contracted(equation, left: Signal, right: Signal, limits: Limits) -> Signal:
    """Contract two signals (or constants), replica by replica.

    If they are independent, the one with fewer replicas is repeated: any two of them are a pair.
    """
    shape = tuple(equation.outvars[0].aval.shape)
    common = joined([left, right])
    halves = left, right
    independent = bool(left.sources and right.sources) and not left.sources & right.sources
    several = [s.replicas for s in halves if s.replicas > 1]
    replicas = min(several, default=1)
    if independent and several:
        most = limits.entries // max(1, *(s.data.size // s.replicas for s in halves))
        replicas = max(replicas, min(max(several), most))
    arrays, frees, roles, share = [], [], [], 1.0
    parts = [axes_of(equation, side, len(s.shape)) for side, s in enumerate((left, right))]
    left, right = _matched(left, right, parts)
    for signal, axes in zip((left, right), parts, strict=True):
        signal = permuted(signal, (*axes.batch, *axes.free, *axes.summed))
        data = signal.data
        if signal.replicas not in (1, replicas):
            data = np.take(data, np.arange(replicas) % signal.replicas, axis=0)
        b, f = len(axes.batch), len(axes.free)
        frees.append(signal.held[b : b + f])
        roles.append(signal.roles[b : b + f])
        flat = math.prod(signal.held[b : b + f]), math.prod(signal.held[b + f :])
        arrays.append(data.reshape(data.shape[0], *signal.held[:b], *flat))
    for i, j in zip(parts[0].summed, parts[1].summed, strict=True):
        share *= left.shape[i] / max(left.held[i], right.held[j])
    # A sum of independent products has as many times the variance as it has terms, not the
    # square of that.
    if independent:
        share = math.sqrt(share)
    first, second = arrays
    # Terms that are constant on one side are summed on the other.
    terms = max(first.shape[-1], second.shape[-1])
    if first.shape[-1] != terms:
        second = second.sum(-1, keepdims=True)
    elif second.shape[-1] != terms:
        first = first.sum(-1, keepdims=True)
    entries = max(map(len, arrays)) * math.prod(left.held[i] for i in parts[0].batch)
    must_fit(entries * first.shape[-2] * second.shape[-2], "dot_general", shape)
    with np.errstate(all="ignore"):
        data = first @ np.swapaxes(second, -1, -2) * share
    kept = tuple(
        max(left.roles[i], right.roles[j])
        for i, j in zip(parts[0].batch, parts[1].batch, strict=True)
    )
    held = (*data.shape[1 : 1 + len(kept)], *frees[0], *frees[1])
    result = (*kept, *roles[0], *roles[1])
    product = Signal(data.reshape(data.shape[0], *held), shape, result, **common)
    mixed = [s for s, each in zip(halves, roles, strict=True) if WIDTH in each]
    # Weights times a signal, as in attention, keep its level; a score is a level of its own.
    level = mixed[0].level if len(mixed) == 1 else product.second_moment()
    return replace(product, level=level, strays=replace(product.strays, fixed=False))


def _matched(left: Signal, right: Signal, parts) -> tuple[Signal, Signal]:
    """Hold batch and summed axes alike, unless one side is constant along all summed axes."""
    batch, summed = (
        list(zip(*each, strict=True))
        for each in ((part.batch for part in parts), (part.summed for part in parts))
    )
    for i, j in (*batch, *summed):
        if 1 not in (left.held[i], right.held[j]):
            size = min(left.held[i], right.held[j])
            left, right = _first(left, i, size), _first(right, j, size)
    held = [(left.held[i], right.held[j]) for i, j in summed]
    constant = any(all(pair[side] == 1 for pair in held) for side in (0, 1))
    if not constant:
        most = [max(pair) for pair in held]
        left = expanded(left, parts[0].summed, most)
        right = expanded(right, parts[1].summed, most)
    return left, right


def _first(signal: Signal, axis: int, size: int) -> Signal:
    have = signal.held[axis]
    if have == size:
        return signal
    return signal.with_data(np.take(signal.data, np.arange(size) * have // size, axis=axis + 1))
