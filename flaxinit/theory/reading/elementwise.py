"""Primitives that arrange or gather numbers: none may tell the inputs apart, or mix them."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from sympy import Add, And, Expr, Ge, Le, Max, Min, Mul, Or, false, true
from sympy.logic.boolalg import Boolean

from flaxinit.theory.reading.cells import Cells, apply, count, first
from flaxinit.theory.reading.entries import (
    LENGTH,
    are_numbers,
    bind,
    check_size,
    each,
    not_elementwise,
    shape_of,
)
from flaxinit.theory.reading.rules import RULES


def _move(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    """A primitive that only moves entries: JAX moves their numbers instead.

    Entry e of input i has the number e · LENGTH + i, so that the result tells where each came from.
    """
    data = operands[:1] if equation.primitive.name in _INDEXED else operands
    places = operands[len(data) :]
    if not are_numbers(places):
        return [_look_up(equation, data[0], *places)]
    entries = np.concatenate([operand.ravel() for operand in data])
    varies = np.array([bool(entry.free_symbols) for entry in entries])
    count, numbered = 0, []
    for atom, operand in zip(equation.invars, data, strict=False):
        numbers = LENGTH * (count + np.arange(operand.size, dtype=float).reshape(operand.shape))
        numbered.append(numbers + _inputs(atom.aval.shape))
        count += operand.size
    for atom, place in zip(equation.invars[len(data) :], places, strict=True):
        numbered.append(np.broadcast_to(place.astype(atom.aval.dtype), atom.aval.shape))
    results = []
    for var, result in zip(equation.outvars, bind(equation, numbered), strict=True):
        shape, moved = shape_of(var), np.asarray(result)
        if not np.all(moved >= 0):  # nan, or the like, where JAX fills in
            raise ValueError(
                f"this function reads a table outside of it (primitive {equation.primitive.name!r})"
            )
        entry, source = np.divmod(moved.astype(int), LENGTH)
        axes = tuple(axis for axis, n in enumerate(var.aval.shape) if n == LENGTH)
        kept = entry[tuple(slice(1) if axis in axes else slice(None) for axis in range(moved.ndim))]
        astray = varies[entry] & (source != _inputs(var.aval.shape) if axes else True)
        if np.any(astray) or np.any(entry != kept):
            raise mixes(equation)
        check_size(kept)
        results.append(entries[kept.ravel()].reshape(shape))
    return results


def _look_up(equation, table: np.ndarray, *places: np.ndarray) -> np.ndarray:
    """A table read at one place that depends on the input: at each place that it can be."""
    place = places[0].flat[0]
    shape = shape_of(equation.outvars[0])
    if not (
        isinstance(place, Cells)
        and place.are_numbers
        and len(places) == places[0].size == math.prod(shape) == 1
    ):
        raise ValueError(
            f"this function looks up numbers at places that depend on its input (primitive "
            f"{equation.primitive.name!r}), which is not read; write the choice as nested jnp.where"
        )

    @functools.cache
    def at(number: Expr):
        (found,) = _move(equation, [table, np.full(places[0].shape, number, object)])
        return found.item()

    result = np.empty(shape, object)
    result[...] = apply(at, [place])
    return result


def _inputs(shape: tuple[int, ...]) -> np.ndarray:
    """The number of the input at every place of an array; 0 where there is no such axis."""
    numbers = np.zeros(shape)
    for axis, n in enumerate(shape):
        if n == LENGTH:
            numbers += np.arange(LENGTH).reshape([-1] + [1] * (len(shape) - axis - 1))
    return numbers


def mixes(equation) -> ValueError:
    """The error for a primitive that looks at several inputs at once."""
    return not_elementwise(f"this one mixes its inputs (primitive {equation.primitive.name!r})")


def _along(equation, *axes: int) -> None:
    """Refuses a primitive that acts along the axis of the inputs."""
    if any(equation.invars[0].aval.shape[axis] == LENGTH for axis in axes):
        raise mixes(equation)


def _reduce(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    axes = equation.params["axes"]
    _along(equation, *axes)
    rows = _in_front(operands[0], axes)
    return [each(_REDUCING[equation.primitive.name], list(rows), rows.shape[1:])]


def _in_front(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The array with some of its axes as one, before the others."""
    front = np.moveaxis(array, axes, range(len(axes)))
    return front.reshape(-1, *front.shape[len(axes) :])


def _contract(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    """A product of matrices, none of which has the inputs along the axis that is summed."""
    axes, batch = equation.params["dimension_numbers"]
    if any(batch) or any(equation.invars[0].aval.shape[axis] == LENGTH for axis in axes[0]):
        raise mixes(equation)
    left, right = map(_in_front, operands, axes)
    count = len(left)

    def product(*entries: Expr) -> Expr:
        return Add(*[a * b for a, b in zip(entries[:count], entries[count:], strict=True)])

    shape = (*left.shape[1:], *right.shape[1:])
    left = left.reshape(*left.shape, *[1] * (right.ndim - 1))
    right = right.reshape(count, *[1] * (left.ndim - right.ndim), *right.shape[1:])
    return [each(product, [*left, *right], shape)]


def _accumulate(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    axis = equation.params["axis"]
    _along(equation, axis)
    rule = _ACCUMULATING[equation.primitive.name]
    step = -1 if equation.params["reverse"] else 1
    rows = np.moveaxis(operands[0], axis, 0)[::step]
    shape = rows.shape[1:]
    sums = list(itertools.accumulate(rows, lambda a, b: each(rule, (a, b), shape)))
    return [np.moveaxis(np.stack(sums[::step]), 0, axis)]


def _arg_extreme(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    """The first place whose entry is at least (at most) every other."""
    (axis,) = equation.params["axes"]
    _along(equation, axis)
    beats = Ge if equation.primitive.name == "argmax" else Le

    def place(*entries):
        if beats is Ge and all(isinstance(entry, Boolean) for entry in entries):
            return first(entries)
        if all(entry.is_number for entry in entries):
            return entries.index((max if beats is Ge else min)(entries))
        best = [And(*[beats(a, b) for b in entries]) for a in entries]
        return best.index(true) if true in best else first(best)

    rows = list(np.moveaxis(operands[0], axis, 0))
    return [each(place, rows, rows[0].shape)]


def _select(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    return [pick(equation.outvars[0], *operands)]


def pick(var, *operands: np.ndarray) -> np.ndarray:
    """One of several cases, by a condition or a number."""
    counts = np.issubdtype(var.aval.dtype, np.integer)

    def picked(which, *cases):
        if counts and isinstance(which, Boolean) and which not in (true, false):
            return apply(picked, [count(which), *cases])
        return RULES["select_n"](which, *cases)

    return each(picked, operands, shape_of(var))


# Primitives whose operands after the first say where to look.
_INDEXED = ("dynamic_slice", "gather")
_MOVING = (
    *("broadcast_in_dim", "concatenate", "dynamic_slice", "expand_dims", "gather", "pad"),
    *("reshape", "rev", "slice", "split", "squeeze", "stack", "transpose", "unstack"),
)
# What a reduction repeats.
_REDUCING = {
    **{"reduce_sum": Add, "reduce_prod": Mul, "reduce_max": Max, "reduce_min": Min},
    **{"reduce_and": And, "reduce_or": Or},
}
_ACCUMULATING = {"cumsum": Add, "cumprod": Mul, "cummax": Max, "cummin": Min}
STRUCTURE: dict[str, Callable] = {
    **dict.fromkeys(_MOVING, _move),
    **dict.fromkeys(_REDUCING, _reduce),
    **dict.fromkeys(_ACCUMULATING, _accumulate),
    **dict.fromkeys(("argmax", "argmin"), _arg_extreme),
    "dot_general": _contract,
    # Where arrays go, and when, changes no number.
    **dict.fromkeys(
        ("device_put", "mesh_cast", "optimization_barrier", "reshard", "sharding_constraint"),
        lambda equation, operands: operands,
    ),
    "select_n": _select,
}
