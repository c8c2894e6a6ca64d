"""Sums and extrema over axes. A held entry stands for its share of the true ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from flaxinit.signal.samples.signals import Signal, expanded

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
            data = data * signal.share(axes)
    dtype = equation.outvars[0].aval.dtype
    return signal.with_data(
        data.astype(dtype) if dtype.kind in "biu" else data,
        shape=tuple(signal.shape[axis] for axis in kept),
        roles=tuple(signal.roles[axis] for axis in kept),
        strays=replace(signal.carried, fixed=False),
        # The maximum of a part of a width axis is not that of all of it.
        sampled=signal.sampled or bool(partial and name not in ("reduce_sum",)),
    )
