"""Pipelines: each device has a stage, and hands what it makes of the data on to the next device.

At each tick of a pipeline some stages are idle. What they make then is not part of the signal, but
on whole arrays it looks like it. So pipelines are refused. A program has one if data meet a
parameter, of which each device has a part of its own, and are handed on to meet it once more.
"""

from typing import Any, NamedTuple

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.cut import PRODUCTS
from flaxinit.signal.shards.layout import refused
from flaxinit.signal.shards.sources import NONE, Sources, followed
from flaxinit.versions.jaxpr import equations

# The names of arrays in a program, before that of a mesh axis.
_OWN = "flaxinit: each device has its own along "
_HANDED_ON = "flaxinit: handed on along "


def own(value: Any, axis: str) -> Any:
    """Mark an operand of a product, of which each device along an axis has one of its own."""
    return checkpoint_name(value, _OWN + axis)


def handed_on(value: Any, axis: str) -> Any:
    """Mark an array that came from other devices along an axis."""
    return checkpoint_name(value, _HANDED_ON + axis)


def _mark(equation: Any) -> str:
    return equation.params["name"] if equation.primitive.name == "name" else ""


def has_stages(program: ClosedJaxpr) -> bool:
    return any(_mark(each).startswith((_OWN, _HANDED_ON)) for each in equations(program))


class _Own(NamedTuple):
    """Says of an array that each device along an axis has one of its own."""

    axis: str


class _Parameter(NamedTuple):
    """Says of an array that it depends on a parameter.

    Attributes:
        number: of the parameter.
        loops: that read its rows one by one.
    """

    number: int
    loops: int = 0


class _Stage(NamedTuple):
    """Says of data that they met the devices' own parts of a parameter, and if they passed on."""

    axis: str
    parameter: _Parameter
    passed: bool = False

    def is_again(self, other: "_Stage") -> bool:
        """Return whether data that passed on from the other stage are back at this parameter.

        They are not if both are rows of one loop, such as layers: each step reads another one.
        """
        (number, loops), (before, outer) = self.parameter, other.parameter
        again = number == before and (outer < loops or not loops)
        return again and other.passed and self.axis == other.axis


def check_pipelines(program: ClosedJaxpr, parameters: int) -> None:
    """Raise an error if a program has a pipeline.

    Args:
        program: on whole arrays.
        parameters: the number of its first operands that are parameters.
    """

    def met(equation, operands: list[Sources]) -> list[Sources] | None:
        mark, joint = _mark(equation), NONE.union(*operands)
        if mark.startswith(_OWN):
            return [joint | {_Own(mark.removeprefix(_OWN))}]
        before = [x for x in joint if isinstance(x, _Stage)]
        if mark.startswith(_HANDED_ON):
            axis = mark.removeprefix(_HANDED_ON)
            return [joint | {x._replace(passed=True) for x in before if x.axis == axis}]
        if equation.primitive.name not in PRODUCTS or "data" not in joint:
            return None
        stages = {stage for x in operands if "data" not in x for stage in _stages(x)}
        for stage in stages:
            if any(map(stage.is_again, before)):
                raise refused(
                    f"a pipeline over {stage.axis!r}: ppermute hands on what a stage makes of the "
                    "data, and what stages make while they are idle is no signal",
                    f"Give a model that applies its stages one after the other, without "
                    f"{stage.axis!r}.",
                )
        return [joint | stages]

    count = len(program.jaxpr.invars)
    sources = [frozenset({_Parameter(n) if n < parameters else "data"}) for n in range(count)]
    followed(program, sources, met, row=_row, left=_left)


def _stages(kernel: Sources) -> set[_Stage]:
    axes = [x.axis for x in kernel if isinstance(x, _Own)]
    return {_Stage(axis, x) for axis in axes for x in kernel if isinstance(x, _Parameter)}


def _row(x: Sources) -> Sources:
    return frozenset(_in_loops(each, 1) if isinstance(each, _Parameter) else each for each in x)


def _left(x: Sources) -> Sources:
    return frozenset(
        each._replace(parameter=_in_loops(each.parameter, -1)) if isinstance(each, _Stage) else each
        for each in x
    )


def _in_loops(parameter: _Parameter, more: int) -> _Parameter:
    return parameter._replace(loops=max(0, parameter.loops + more))
