"""Operations along some axes that leave the others alone: JAX runs them on the sample."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.signal.samples.limits import must_fit
from flaxinit.signal.samples.signals import CONSTANT, PLACE, Signal, expanded, joined, wide
from flaxinit.versions.compat import enable_x64
from flaxinit.versions.jaxpr import bind


def _windows(params: dict[str, Any]) -> list[int]:
    """Return the axes along which a window sees more than one entry."""
    names = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    each = [params[name] for name in names] + [
        [sum(map(abs, pair)) + 1 for pair in params["padding"]]
    ]
    return [axis for axis, numbers in enumerate(zip(*each, strict=True)) if set(numbers) != {1}]


def _one(name: str) -> Callable[[dict[str, Any]], list[int]]:
    return lambda params: [params[name]]


_PADDED = {"pad": lambda params: [i for i, n in enumerate(params["padding_config"]) if any(n)]}
# The axes along which a primitive works, by its parameters.
ALONG: dict[str, Callable[[dict[str, Any]], list[int]]] = {
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _windows),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _one("axis")),
    "sort": _one("dimension"),
    "top_k": _one("axis"),
    **_PADDED,
}


def along(equation, signals: Sequence[Signal]) -> list[Signal] | None:
    """Return the results, or None if an axis that the operation works along is held in part."""
    params = equation.params
    axes = ALONG[equation.primitive.name](params)
    full = len(signals[0].shape)
    signals = [expanded(s, axes) if len(s.shape) == full else s for s in signals]
    operands = [signal for signal in signals if len(signal.shape) == full]
    if any(signal.held[axis] != signal.shape[axis] for signal in operands for axis in axes):
        return None
    replicas = min((s.replicas for s in operands if s.replicas > 1), default=1)
    held = [max(sizes) for sizes in zip(*(s.held for s in operands), strict=True)]
    for var in equation.outvars:
        others = (n for axis, n in enumerate(held) if axis not in axes)
        along_them = (var.aval.shape[axis] for axis in axes)
        entries = replicas * math.prod(others) * math.prod(along_them)
        must_fit(entries, equation.primitive.name, var.aval.shape)
    arrays = []
    for signal, atom in zip(signals, equation.invars, strict=True):
        data = signal.data[:replicas] if len(signal.shape) == full else signal.data[0]
        if len(operands) > 1 and len(signal.shape) == full:
            data = np.broadcast_to(data, (replicas, *held))
        floating = jnp.issubdtype(atom.aval.dtype, jnp.floating)
        arrays.append(np.asarray(data, None if floating else atom.aval.dtype))
    many = [0 if len(signal.shape) == full else None for signal in signals]
    # What is sorted out is compared with what it came from: all 64 bits of it.
    with enable_x64(True):
        results = jax.vmap(lambda *arrays: bind(equation, arrays), many)(*arrays)
    common = joined(signals)
    if equation.primitive.name != "pad":
        common["strays"] = replace(common["strays"], fixed=False)
    roles = [max(each) for each in zip(*(s.roles for s in operands), strict=True)]
    made = []
    for out, var in zip(results, equation.outvars, strict=True):
        shape = tuple(var.aval.shape)
        kept = tuple(
            CONSTANT if shape[axis] == 1 else PLACE if role == CONSTANT and axis in axes else role
            for axis, role in enumerate(roles)
        )
        made.append(Signal(wide(np.asarray(out)), shape, kept, **common))
    return made
