"""Kernels that a product takes in parts of their rows: what is said of a part is not of the whole.

Rows of which each device contracts some, and a sum over the devices that follows, are one
contraction. If the sum does not follow, or is not recognized, the fan is that of one part.
"""

from collections.abc import Sequence
from typing import Any

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.layout import refused
from flaxinit.versions.jaxpr import (
    called,
    closed,
    equations,
    evaluate,
    part,
    scan_operands,
    while_operands,
)

_CUT = "flaxinit: in parts"  # the name of an array in a program
PRODUCTS = {"conv_general_dilated", "dot_general", "ragged_dot", "ragged_dot_general"}

_Source = frozenset[str]  # of an array: "data", "parameters", "cut"
_NONE: _Source = frozenset()


def cut(value: Any) -> Any:
    """Mark an array as one that devices hold in parts which no operation on whole arrays takes."""
    return checkpoint_name(value, _CUT)


def is_cut(equation: Any) -> bool:
    return equation.primitive.name == "name" and equation.params["name"] == _CUT


def has_cuts(program: ClosedJaxpr) -> bool:
    return any(map(is_cut, equations(program)))


def check_products(program: ClosedJaxpr, parameters: int) -> None:
    """Raise an error if a product of data takes a parameter in parts.

    Args:
        program: on whole arrays, without what no result needs: a sum that follows has replaced its
            parts.
        parameters: the number of its first operands that are parameters.
    """
    count = len(program.jaxpr.invars)
    sources = [frozenset({"parameters" if n < parameters else "data"}) for n in range(count)]
    _run(program, sources)


def _run(program: ClosedJaxpr, operands: Sequence[_Source]) -> list[_Source]:
    return evaluate(part(program), operands, _equation, lambda atom, value: _NONE)


def _equation(equation: Any, operands: list[_Source]) -> list[_Source]:
    name = equation.primitive.name
    joint = _NONE.union(*operands)
    if name in PRODUCTS:
        kernels = [x for x in operands if "data" not in x]
        if "data" in joint and any({"cut", "parameters"} <= x for x in kernels):
            raise refused(
                f"partial sums of a product ({name}): each device contracts a part of a "
                "parameter's rows, and no psum or psum_scatter that follows at once adds them up"
            )
    if is_cut(equation) and "data" not in joint:
        return [joint | {"cut"}]
    if name == "scan":
        constants, carry, rows = scan_operands(equation, operands)
        body = closed(equation.params["jaxpr"])
        return _settled(body, constants, carry, rows)
    if name == "while":
        _, body, _, fixed, carry = while_operands(equation, operands)
        return _settled(body, fixed, carry, [])
    if name == "cond":
        which, *others = operands
        cases = [_run(closed(branch), others) for branch in equation.params["branches"]]
        return [which.union(*each) for each in zip(*cases, strict=True)]
    if body := called(equation):
        return _run(body, operands)
    return [joint] * len(equation.outvars)


def _settled(
    body: ClosedJaxpr, fixed: list[_Source], carry: list[_Source], rows: list[_Source]
) -> list[_Source]:
    """Return where the results of a loop come from."""
    while True:
        results = _run(body, [*fixed, *carry, *rows])
        wider = [a | b for a, b in zip(carry, results, strict=False)]
        if wider == carry:
            return [*carry, *results[len(carry) :]]
        carry = wider
