"""A value that is measured, and where it comes from: parameters, their parts, inputs, gradients."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from flaxinit.signal.measuring.observed import PRODUCTS
from flaxinit.signal.samples.signals import NOTHING, Origin
from flaxinit.versions.jaxpr import MOVES


class Held(NamedTuple):
    """A value, and where it comes from.

    Attributes:
        value: the array.
        origin: the parameters that it is computed from; None if it needs the inputs.
        rows: parameters whose rows the inputs chose to make it, as for experts.
        back: whether it is a gradient.
        moved: whether its axes or entries differ from the parameter's.
    """

    value: Any
    origin: Origin | None = NOTHING
    rows: Origin | None = None
    back: bool = False
    moved: bool = False


def kernel_of(equation, held: Sequence[Held]) -> int | None:
    """Return the place of the kernel among the operands of its product with a signal, or None."""
    name = equation.primitive.name
    sides = [side for side, each in enumerate(held) if each.origin]
    if not sides and name == "dot_general":  # rows that the inputs chose, a matrix for each
        batch = equation.params["dimension_numbers"][1]
        sides = [side for side, each in enumerate(held) if each.rows and batch[side]]
    others = [each for side, each in enumerate(held) if side not in sides]
    if len(sides) != 1 or (name, sides[0]) not in PRODUCTS or others[0].origin is not None:
        return None
    return sides[0]


def parts(equation, held: Sequence[Held], results) -> list[Held] | None:
    """Return parts of a parameter, which are kernels of their own; None if it was not cut."""
    if not held:  # as of iota
        return None
    whole, name, params = held[0], equation.primitive.name, equation.params
    if not whole.origin or whole.moved or any(each.origin is None for each in held):
        return None
    if name == "slice":
        steps = params["strides"] or (1,) * whole.value.ndim
        cuts = [list(zip(params["start_indices"], params["limit_indices"], steps, strict=True))]
    elif name == "dynamic_slice":
        sizes, most = params["slice_sizes"], whole.value.shape
        starts = [int(each.value) for each in held[1:]]
        starts = [min(max(0, a), n - size) for a, n, size in zip(starts, most, sizes, strict=True)]
        cuts = [[(a, a + size, 1) for a, size in zip(starts, sizes, strict=True)]]
    elif name in ("split", "unstack"):
        axis, sizes = params["axis"], params.get("sizes", (1,) * len(results))
        ends = [int(end) for end in np.cumsum([0, *sizes])]
        every = [(0, n, 1) for n in whole.value.shape]
        cuts = [
            [(a, b, 1) if n == axis else each for n, each in enumerate(every)]
            for a, b in itertools.pairwise(ends)
        ]
    else:
        return None
    return [
        whole._replace(value=result, origin=_cut(whole, cut))
        for result, cut in zip(results, cuts, strict=True)
    ]


def _cut(whole: Held, cut: Sequence[tuple[int, int, int]]) -> Origin:
    sizes = whole.value.shape
    steps = tuple((n, *each) for n, each in enumerate(cut) if each != (0, sizes[n], 1))
    return frozenset((number, (*before, *steps)) for number, before in whole.origin or NOTHING)


_KEEPS = {"convert_element_type", "copy", "squeeze"}  # the axes of a parameter, if not the size


def made(equation, held: Sequence[Held], results) -> list[Held]:
    name = equation.primitive.name
    origin = union([each.origin for each in held])
    rows = None
    if origin is None:
        if name == "gather" and held[0].origin:
            rows = held[0].origin
        elif len(held) == 1 and (name in MOVES or name in _KEEPS):
            rows = held[0].rows
    back = any(each.back for each in held)
    moved = name not in _KEEPS or held[0].moved
    return [Held(result, origin, rows, back, moved) for result in results]


def union(origins: Sequence[Origin | None]) -> Origin | None:
    known = [origin for origin in origins if origin is not None]
    return NOTHING.union(*known) if len(known) == len(origins) else None


def row(held: Held, step: int) -> Held:
    origin = held.origin and frozenset((number, (*steps, step)) for number, steps in held.origin)
    return held._replace(value=held.value[step], origin=origin)


def stacked(steps: Sequence[Held]) -> Held:
    """Stack the results of a loop's steps; the stack is no longer a slice of a parameter."""
    value = jnp.stack([each.value for each in steps])
    origin = union([each.origin for each in steps])
    whole = origin and frozenset((number, ()) for number, _ in origin)
    return Held(value, whole, back=any(each.back for each in steps), moved=True)
