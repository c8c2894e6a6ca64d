"""The shape in which each parameter is drawn, read off the program of its initialization.

A layer may draw a kernel in one shape and use it in another. An initializer counts its fan in the
shape that it is asked for, which is that of its random bits. In a ``shard_map`` it is asked for the
part of a device.
"""

from typing import Any

from jax.extend.core import ClosedJaxpr

from flaxinit.signal.reading.reader import is_orthonormal
from flaxinit.signal.shards.sources import NONE, Sources, followed


def drawn_shapes(program: ClosedJaxpr) -> list[tuple[int, ...] | None]:
    """Return the shape of the draws that each result is made of; None if of none, or of several.

    >>> import jax
    >>> def init(key):
    ...     return 2 * jax.random.normal(key, (6, 8)).reshape(6, 2, 4), jax.numpy.ones(3)
    >>> drawn_shapes(jax.make_jaxpr(init)(jax.random.key(0)))
    [(6, 8), None]
    """
    made = followed(program, [NONE] * len(program.jaxpr.invars), _drawn)
    return [next(iter(shapes)) if len(shapes) == 1 else None for shapes in made]


def _drawn(equation: Any, operands: list[Sources]) -> list[Sources] | None:
    name, results = equation.primitive.name, equation.outvars
    if name in ("random_bits", "threefry2x32"):
        return [frozenset({tuple(var.aval.shape)}) for var in results]
    if is_orthonormal(equation) and (NONE.union(*operands) or name != "qr"):
        first, *others = results
        return [frozenset({tuple(first.aval.shape)}), *[NONE] * len(others)]
    return None
