"""ragged_dot: rows that are sorted into groups, each with a kernel of its own.

Group by group it is a dot_general of the group's rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.rules.assembly import along_new_axis, concatenated
from flaxinit.signal.rules.movement import cut, row
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import Signal, exact

Run = Callable[[ClosedJaxpr, Sequence[Signal]], list[Signal]]


def ragged(
    equation, signals: Sequence[Signal], run: Run, limits: Limits, rng: np.random.Generator
) -> Signal | None:
    """Run an equation group by group; return None if its rows are not on the first axis.

    Sizes of groups that depend on a signal are those of its first held entries.
    """
    numbers = equation.params["ragged_dot_dimension_numbers"]
    contracted, batch = numbers.dot_dimension_numbers
    by_kernel = tuple(numbers.rhs_group_dimensions) == (0,)
    plain = tuple(numbers.lhs_ragged_dimensions) == (0,) and not any(map(len, batch))
    if not plain or equation.params["group_offset"] is not None:
        return None
    if not by_kernel and 0 not in contracted[0]:
        return None
    if by_kernel:
        contracted = contracted[0], tuple(axis - 1 for axis in contracted[1])
    one, other, sizes = signals
    shape = equation.outvars[0].aval.shape
    ends = accumulate(sizes.data.reshape(-1)[: sizes.shape[0]].astype(int), initial=0)
    made = []
    for group, (start, stop) in enumerate(pairwise(ends)):
        if start == stop:
            made += [] if by_kernel else [exact(np.zeros(shape[1:]))]
            continue
        pair = (
            cut(one, 0, start, stop),
            row(other, group) if by_kernel else cut(other, 0, start, stop),
        )
        kinds = [
            jax.ShapeDtypeStruct(each.shape, atom.aval.dtype)
            for each, atom in zip(pair, equation.invars, strict=False)
        ]
        product = jax.make_jaxpr(lambda x, w: lax.dot_general(x, w, (contracted, ((), ()))))(*kinds)
        made += run(product, pair)
    if by_kernel and (rest := shape[0] - sum(each.shape[0] for each in made)):
        made.append(exact(np.zeros((rest, *shape[1:]))))
    join = concatenated if by_kernel else along_new_axis
    result = join(made, 0, limits, rng)
    return replace(result, sampled=True) if sizes.sources else result
