"""What the values of a program depend on, read off its equations."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr

from flaxinit.versions.jaxpr import called, closed, evaluate, scan_operands, while_operands

Sources = frozenset[Any]  # what an array depends on, by names of the caller's
NONE: Sources = frozenset()


def followed(
    program: ClosedJaxpr,
    operands: Sequence[Sources],
    met: Callable[[Any, list[Sources]], list[Sources] | None] = lambda equation, operands: None,
    body: Callable[[ClosedJaxpr], ClosedJaxpr] = lambda program: program,
    row: Callable[[Sources], Sources] = lambda x: x,
    left: Callable[[Sources], Sources] = lambda x: x,
) -> list[Sources]:
    """Return what the results of a program depend on.

    Args:
        program: its equations.
        operands: what each depends on.
        met: an equation and its operands -> what each of its results depends on; None if that
            follows from the operands, or from the program that it calls.
        body: a program that is called -> what is followed of it.
        row: what the rows of an array depend on that a ``scan`` reads one by one.
        left: what its results depend on once it is left.
    """

    def run(program, operands):
        return evaluate(body(program), operands, equation, lambda atom, value: NONE)

    def equation(each, operands: list[Sources]) -> list[Sources]:
        name = each.primitive.name
        if (own := met(each, operands)) is not None:
            return own
        if name == "scan":
            constants, carry, rows = scan_operands(each, operands)
            inside = closed(each.params["jaxpr"])
            rows = list(map(row, rows))
            results = settled(carry, lambda carry: run(inside, [*constants, *carry, *rows]))
            return list(map(left, results))
        if name == "while":
            _, inside, _, fixed, carry = while_operands(each, operands)
            return settled(carry, lambda carry: run(inside, [*fixed, *carry]))
        if name == "cond":
            which, *others = operands
            cases = [run(closed(branch), others) for branch in each.params["branches"]]
            return [which.union(*case) for case in zip(*cases, strict=True)]
        if inside := called(each):
            return run(inside, operands)
        return [NONE.union(*operands)] * len(each.outvars)

    def settled(carry: list[Sources], step: Callable) -> list[Sources]:
        """Return what the steps of a loop make, and pass on, of all that earlier steps made."""
        while True:
            results = step(carry)
            wider = [a | b for a, b in zip(carry, results, strict=False)]
            if wider == carry:
                return [*carry, *results[len(carry) :]]
            carry = wider

    return run(program, operands)
