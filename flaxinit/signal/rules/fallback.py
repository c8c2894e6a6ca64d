"""Operations without a rule: JAX runs them on the sample, replica by replica.

The result is a sample with its noise. It is marked as sampled, unless entries are only moved, or
summed with known weights.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.signal.samples.alignment import resized
from flaxinit.signal.samples.limits import Limits, TooLargeError, must_fit
from flaxinit.signal.samples.signals import (
    CONSTANT,
    PLACE,
    WIDTH,
    Signal,
    exact,
    expanded,
    in_part,
    is_key,
    joined,
    wide,
)
from flaxinit.versions.jaxpr import bind

# Exact on a sample, as elementwise operations are. A convolution comes here with a fixed filter.
EXACT = (
    "conv_general_dilated",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "scatter",
    "tile",
)


def run(
    equation, signals: Sequence[Signal], limits: Limits, rng: np.random.Generator
) -> list[Signal]:
    """Run an equation with each operand held whole, and return its results.

    Raises:
        TooLargeError: if an operand is held in part and too large to be held whole.
    """
    constant = [[i for i in range(len(x.shape)) if not in_part(x, i)] for x in signals]
    signals = [expanded(signal, axes) for signal, axes in zip(signals, constant, strict=True)]
    if any(signal.held != signal.shape for signal in signals):
        signals = [_whole(signal, equation.primitive.name, limits, rng) for signal in signals]
    many = [signal.replicas > 1 for signal in signals]
    replicas = min((s.replicas for s in signals if s.replicas > 1), default=1)
    arrays = [
        _narrow(signal.data[:replicas] if each else signal.data[0], atom.aval.dtype)
        for signal, each, atom in zip(signals, many, equation.invars, strict=True)
    ]
    name = equation.primitive.name
    try:
        if any(many):
            axes = [0 if each else None for each in many]
            for var in equation.outvars:
                must_fit(replicas * math.prod(var.aval.shape), name, var.aval.shape)
            results = jax.vmap(lambda *arrays: bind(equation, arrays), axes)(*arrays)
        else:
            results = [result[None] for result in bind(equation, arrays)]
    except TooLargeError:
        raise
    except Exception as error:
        error.add_note(
            f"This came up while {name} was run on a sample, for want of a rule, under jax.vmap. "
            'Write it with operations of JAX, or give a callback vmap_method="expand_dims".'
        )
        raise
    common = joined(signals)
    exactly = name in EXACT
    common["sampled"] |= bool(common["sources"]) and not exactly
    return [
        exact(result[0], common["origin"])
        if is_key(result)
        else Signal(
            wide(np.asarray(result)), result.shape[1:], _roles(result.shape[1:], signals), **common
        )
        for result in results
    ]


def _whole(signal: Signal, name: str, limits: Limits, rng: np.random.Generator) -> Signal:
    size = math.prod(signal.shape)
    if size > limits.whole:
        raise TooLargeError(
            f"forecast has no rule for {name}, and an array of shape {signal.shape} is too large "
            "to run it on a sample. Forecast a narrower model."
        )
    replicas = max(1, min(signal.replicas, limits.entries // size))
    return resized(signal, signal.shape, replicas, rng)


def _narrow(array: Any, dtype: Any) -> Any:
    return array if is_key(array) else jnp.asarray(np.asarray(array), dtype)


def _roles(shape: tuple[int, ...], signals: Sequence[Signal]) -> tuple[int, ...]:
    """Take each role from an operand of this rank and size; if none fits, channels come last."""
    drawn = any(signal.sources for signal in signals)
    roles = []
    for axis, size in enumerate(shape):
        same = [
            s.roles[axis] for s in signals if len(s.shape) == len(shape) and s.shape[axis] == size
        ]
        last = WIDTH if drawn and axis == len(shape) - 1 else PLACE
        roles.append(CONSTANT if size == 1 else max(same, default=CONSTANT) or last)
    return tuple(roles)
