"""The shape in which each parameter is drawn, read off the program of its initialization.

A layer may draw a kernel in one shape and use it in another. An initializer counts its fan in the
shape that it is asked for, which is that of its random bits. In a ``shard_map`` it is asked for the
part of a device.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr

from flaxinit.signal.reading.reader import is_orthonormal
from flaxinit.versions.jaxpr import called, closed, evaluate, scan_operands, while_operands

_Shapes = frozenset[tuple[int, ...]]  # of the draws that an array is made of


def drawn_shapes(program: ClosedJaxpr) -> list[tuple[int, ...] | None]:
    """Return the shape of the draws that each result is made of; None if of none, or of several.

    >>> import jax
    >>> def init(key):
    ...     return 2 * jax.random.normal(key, (6, 8)).reshape(6, 2, 4), jax.numpy.ones(3)
    >>> drawn_shapes(jax.make_jaxpr(init)(jax.random.key(0)))
    [(6, 8), None]
    """
    made = _run(program, [frozenset()] * len(program.jaxpr.invars))
    return [next(iter(shapes)) if len(shapes) == 1 else None for shapes in made]


def _run(program: ClosedJaxpr, operands: Sequence[_Shapes]) -> list[_Shapes]:
    return evaluate(program, operands, _equation, lambda atom, value: frozenset())


def _equation(equation: Any, operands: list[_Shapes]) -> list[_Shapes]:
    name, results = equation.primitive.name, equation.outvars
    if name in ("random_bits", "threefry2x32"):
        return [frozenset({tuple(var.aval.shape)}) for var in results]
    joint = frozenset().union(*operands)
    if is_orthonormal(equation) and (joint or name != "qr"):
        first, *others = results
        return [frozenset({tuple(first.aval.shape)}), *(frozenset() for _ in others)]
    if name == "scan":
        constants, carry, rows = scan_operands(equation, operands)
        body = closed(equation.params["jaxpr"])
        return _settled(carry, lambda carry: _run(body, [*constants, *carry, *rows]))
    if name == "while":
        _, body, _, fixed, carry = while_operands(equation, operands)
        return _settled(carry, lambda carry: _run(body, [*fixed, *carry]))
    if name == "cond":
        which, *others = operands
        cases = [_run(closed(branch), others) for branch in equation.params["branches"]]
        return [which.union(*each) for each in zip(*cases, strict=True)]
    if body := called(equation):
        return _run(body, operands)
    return [joint] * len(results)


def _settled(carry: list[_Shapes], step: Callable[[list[_Shapes]], list[_Shapes]]) -> list[_Shapes]:
    """Return what the steps of a loop make, and pass on, of all that earlier steps made."""
    while True:
        results = step(carry)
        wider = [a | b for a, b in zip(carry, results, strict=False)]
        if wider == carry:
            return [*carry, *results[len(carry) :]]
        carry = wider
