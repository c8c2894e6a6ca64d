"""Primitives that arrange or combine entries. They must not mix inputs, nor tell them apart.

`entries` explains how one axis of an array stands for the inputs.
"""

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
    """Apply a primitive that only moves entries, by letting JAX move numbers that label them.

    Entry e of input i has the label ``e · LENGTH + i``; an entry that is the same for every input
    has i = 0. From the result's labels we read where each of its entries came from. With two
    inputs (LENGTH = 2), take ``jnp.stack([x, x**2])[::-1]``: row 0 holds entry 0, x, and row 1
    holds entry 1, x²::

        labels              JAX reverses the rows    divmod by 2: (entry, input)
        row 0:  0  1        row 0:  2  3             row 0:  (1, 0)  (1, 1)
        row 1:  2  3        row 1:  0  1             row 1:  (0, 0)  (0, 1)

    Along each row the entry is constant and the inputs are 0, 1: row 0 is x², row 1 is x, and one
    expression stands for each row. Had JAX reversed the columns, row 0 would read (0, 1) (0, 0):
    the inputs are 1, 0, so the function mixes its inputs, and that is an error.
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
        if not np.all(moved >= 0):  # JAX fills in nan, or a negative number
            raise ValueError(
                "This function reads a table outside of its bounds (primitive "
                f"{equation.primitive.name!r}). Clip the index."
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
    """Read a table at a place that depends on the input, for each place that it can be."""
    place = places[0].flat[0]
    shape = shape_of(equation.outvars[0])
    if not (
        isinstance(place, Cells)
        and place.are_numbers
        and len(places) == places[0].size == math.prod(shape) == 1
    ):
        raise ValueError(
            "This function looks up numbers at places that depend on its input (primitive "
            f"{equation.primitive.name!r}), which is not read. Write the choice as nested "
            "jnp.where."
        )

    @functools.cache
    def at(number: Expr):
        (found,) = _move(equation, [table, np.full(places[0].shape, number, object)])
        return found.item()

    result = np.empty(shape, object)
    result[...] = apply(at, [place])
    return result


def _inputs(shape: tuple[int, ...]) -> np.ndarray:
    """Return the index of the input at every place of an array; 0 if no axis has the inputs."""
    numbers = np.zeros(shape)
    for axis, n in enumerate(shape):
        if n == LENGTH:
            numbers += np.arange(LENGTH).reshape([-1] + [1] * (len(shape) - axis - 1))
    return numbers


def mixes(equation) -> ValueError:
    """Return the error for a primitive that looks at several inputs at once."""
    return not_elementwise(f"this one mixes its inputs (primitive {equation.primitive.name!r})")


def _along(equation, *axes: int) -> None:
    """Refuse a primitive that acts along the axis of the inputs."""
    if any(equation.invars[0].aval.shape[axis] == LENGTH for axis in axes):
        raise mixes(equation)


def _reduce(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    axes = equation.params["axes"]
    _along(equation, *axes)
    rows = _in_front(operands[0], axes)
    return [each(_REDUCING[equation.primitive.name], list(rows), rows.shape[1:])]


def _in_front(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Merge some axes of an array into one, and put it before the others."""
    front = np.moveaxis(array, axes, range(len(axes)))
    return front.reshape(-1, *front.shape[len(axes) :])


def _contract(equation, operands: list[np.ndarray]) -> list[np.ndarray]:
    """Multiply matrices, unless the sum runs over the axis of the inputs."""
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
    """Return the first place whose entry is at least (for argmin, at most) every other."""
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
    """Choose one of several cases, by a condition or a number."""
    counts = np.issubdtype(var.aval.dtype, np.integer)

    def picked(which, *cases):
        if counts and isinstance(which, Boolean) and which not in (true, false):
            return apply(picked, [count(which), *cases])
        return RULES["select_n"](which, *cases)

    return each(picked, operands, shape_of(var))


# Primitives whose operands after the first say where to read.
_INDEXED = ("dynamic_slice", "gather")
_MOVING = (
    *("broadcast_in_dim", "concatenate", "dynamic_slice", "expand_dims", "gather", "pad"),
    *("reshape", "rev", "slice", "split", "squeeze", "stack", "transpose", "unstack"),
)
# The operation that each reduction repeats.
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
    # These change where arrays are and when they are computed, but not their values.
    **dict.fromkeys(
        ("device_put", "mesh_cast", "optimization_barrier", "reshard", "sharding_constraint"),
        lambda equation, operands: operands,
    ),
    "select_n": _select,
}
