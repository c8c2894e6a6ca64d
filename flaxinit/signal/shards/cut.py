"""Kernels that a product takes in parts of their rows: what is said of a part is not of the whole.

Rows of which each device contracts some, and a sum over the devices that follows, are one
contraction. If the sum does not follow, or is not recognized, the fan is that of one part.
"""

from typing import Any

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.layout import refused
from flaxinit.signal.shards.sources import NONE, Sources, followed
from flaxinit.versions.jaxpr import equations, part

_CUT = "flaxinit: in parts"  # the name of an array in a program
PRODUCTS = {"conv_general_dilated", "dot_general", "ragged_dot", "ragged_dot_general"}


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

    def met(equation, operands: list[Sources]) -> list[Sources] | None:
        name, joint = equation.primitive.name, NONE.union(*operands)
        kernels = [x for x in operands if "data" not in x]
        in_parts = any({"cut", "parameters"} <= x for x in kernels)
        if name in PRODUCTS and "data" in joint and in_parts:
            raise refused(
                f"partial sums of a product ({name}): each device takes a part of a parameter, and "
                "no psum or psum_scatter that follows at once is seen to add up all of its rows",
                "Where a part is chosen by index, choose it from what the whole parameter makes; "
                "or give the model without shard_map, if its signal is the same.",
            )
        return [joint | {"cut"}] if is_cut(equation) and "data" not in joint else None

    count = len(program.jaxpr.invars)
    sources = [frozenset({"parameters" if n < parameters else "data"}) for n in range(count)]
    followed(program, sources, met, part)
