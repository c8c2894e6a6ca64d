"""Sums and extrema over axes. A held entry stands for its share of the true ones.

So it does in a sum of channels that is near its mean, as that of a norm is. A sum of gradients of
channels need not be: of m held gradients g and n true ones,

    E[(Σ_m g)²] = m E[g²] + m(m - 1) E[g g'],    E[(Σ_n g)²] = n E[g²] + n(n - 1) E[g g'].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from flaxinit.signal.samples.signals import WIDTH, Signal, expanded, squared
from flaxinit.signal.samples.whole import is_partial

_REDUCED: dict[str, Callable[..., np.ndarray]] = {
    "reduce_and": np.all,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_or": np.any,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "argmax": np.argmax,
    "argmin": np.argmin,
}
REDUCTIONS = frozenset(_REDUCED)


def reduced(equation, signals: Sequence[Signal]) -> Signal:
    name, (signal,) = equation.primitive.name, signals
    axes = tuple(equation.params["axes"])
    kept = [axis for axis in range(len(signal.shape)) if axis not in axes]
    partial = [axis for axis in axes if signal.held[axis] not in (1, signal.shape[axis])]
    if name == "reduce_prod" or name.startswith("arg"):
        signal = expanded(signal, axes)
    over = tuple(axis + 1 for axis in axes)
    argument = over[0] if name.startswith("arg") else over
    with np.errstate(all="ignore"):
        data = _REDUCED[name](signal.data, axis=argument) if over else signal.data
        if name == "reduce_sum":
            data = data * _true_terms(signal, axes, data)
    dtype = equation.outvars[0].aval.dtype
    return signal.with_data(
        data.astype(dtype) if dtype.kind in "biu" else data,
        shape=tuple(signal.shape[axis] for axis in kept),
        roles=tuple(signal.roles[axis] for axis in kept),
        strays=replace(signal.carried, fixed=False),
        # The maximum of a part of a width axis is not that of all of it.
        sampled=signal.sampled or bool(partial and name not in ("reduce_sum",)),
    )


def _true_terms(signal: Signal, axes: Sequence[int], total: np.ndarray) -> float:
    """Return the ratio of a sum's true size to that of the sum over the held entries."""
    drawn = [
        axis
        for axis in axes
        if signal.backward and (signal.roles[axis] == WIDTH or is_partial(signal, [axis]))
    ]
    held, true = (math.prod(sizes[i] for i in drawn) for sizes in (signal.held, signal.shape))
    if held == true:
        return signal.share(axes)
    others = tuple(axis for axis in axes if axis not in drawn)
    terms = np.sum(signal.data, axis=tuple(axis + 1 for axis in others))
    square, of_sum = (float(np.mean(squared(each))) for each in (terms, total))
    # Gradients are taken to be independent where E[g g'] is no more than chance makes it: one entry
    # says nothing of it, and over all terms its error would grow with the square of their number.
    common = of_sum - held * square
    least = _CHANCE * math.sqrt(2 / total.size) * held * square
    common = common / (held * (held - 1)) if held > 1 and abs(common) > least else 0.0
    wanted = max(0.0, true * (square + (true - 1) * common))
    return signal.share(others) * math.sqrt(wanted / of_sum) if of_sum else 1.0


# Standard errors of a mean square.
_CHANCE = 4
