"""Operations that keep what is known of a reduction over devices, which is to be made after them.

The reduction of what an operation makes of the parts is what it makes of the reduction, if it is
linear in them.
"""

from collections.abc import Callable, Sequence

from flaxinit.signal.shards.layout import MOVED, Sharded, Total

_LINEAR = {"add", "add_any", "cumsum", "imag", "neg", "real", "reduce_sum", "sub"}
_SCALED = {"div", "dot_general", "mul"}
# They move entries, some by operands that all devices have: (how many operands) -> what is moved.
_MOVED: dict[str, Callable[[int], range]] = {
    **dict.fromkeys((*MOVED, "concatenate", "pad", "split", "unstack"), range),
    "dynamic_slice": lambda count: range(1),
    "dynamic_update_slice": lambda count: range(2),
    "gather": lambda count: range(1),
    "select_n": lambda count: range(1, count),
}


def linear(name: str, operands: Sequence[Sharded], total: Total) -> Sequence[int]:
    """Return the operands, by number, in which an operation is linear; none if it is not.

    Args:
        name: of the operation.
        operands: of it. Those in which it is not linear are the same for all devices that reduce.
        total: of one of the operands.
    """
    count = len(operands)
    if name in _MOVED:
        found = _MOVED[name](count)
    elif total.kind == "sum" and name in _LINEAR:
        found = range(count)
    elif total.kind == "sum" and name in _SCALED:
        found = range(1) if name == "div" or operands[0].total else range(1, 2)
    else:
        return ()
    others = (x for n, x in enumerate(operands) if n not in found)
    return () if any(x.total or total.axes & x.layout.axes for x in others) else found
