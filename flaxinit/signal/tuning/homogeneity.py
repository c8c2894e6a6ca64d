"""Homogeneity: the power of a parameter's scale with which each value of a program grows.

If a parameter W is replaced by s W with s > 0, a value that becomes s^d times itself has degree d
in W. Programs are made of few kinds of operations, and each kind has one rule:

    sums, maxima        the common degree of the operands
    products            the sum of the degrees
    powers              a multiple
    other functions     0 if all operands have degree 0; unknown (nan) if not

The outputs of a norm have degree 0 in the kernel before it, and so has all that follows: a factor
on this kernel does nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flaxinit.versions.jaxpr import is_key

# A parameter by number, with the rows that loops take of it. Several in a set are scaled together.
Key = tuple[int, tuple[int, ...]]
Group = frozenset[Key]
Place = tuple[int, ...]


def named(names: Sequence[str], key: Key) -> str:
    """Return the path of a parameter, with the rows that loops take of it.

    >>> named(["layers/kernel"], (0, (3,)))
    'layers/kernel[3]'
    """
    number, steps = key
    return names[number] + "".join(f"[{step}]" for step in steps)


@dataclass(frozen=True)
class Value:
    """What is known of a value, whatever its entries are.

    Attributes:
        degrees: in the scale of each group of parameters; 0 where a group is missing.
        signal: whether inputs take part.
        zero: whether all entries are 0 at initialization.
        number: the value of a constant scalar.
        end: the latest parameters in whose common scale it has degree 1.
        met: the kernels that inputs passed on the way.
        makers: the last of them.
        stream: the place where the residual stream that it is part of began.
        root: the kernels that were met where this stream began.
        start: the place since which it was changed by nothing but additions of branches.
        whole: the kernel that made it, or the parameter that it is, if no other operation followed.
    """

    degrees: Mapping[Group, float] = field(default_factory=dict)
    signal: bool = False
    zero: bool = False
    number: float | None = None
    end: Group | None = None
    met: frozenset[Key] = frozenset()
    makers: frozenset[Key] = frozenset()
    stream: Place | None = None
    root: frozenset[Key] | None = None
    start: Place | None = None
    whole: Key | None = None

    @property
    def is_parameter(self) -> bool:
        return not self.signal and bool(self.degrees)

    @property
    def is_constant(self) -> bool:
        return not self.signal and not self.degrees

    def degree(self, group: Group) -> float:
        return self.degrees.get(group, 0.0)


def constant(value: Any) -> Value:
    """Return what is known of a constant."""
    if hasattr(value, "dtype") and is_key(value):
        return Value()
    array = np.asarray(value)
    number = float(np.real(array)) if array.ndim == 0 else None
    return Value(zero=not np.any(array), number=number)


def row(value: Value, step: int) -> Value:
    """Return the part of a stacked value that one step of a loop reads."""
    if not value.is_parameter:
        return value
    taken = {
        frozenset((number, (*steps, step)) for number, steps in group): degree
        for group, degree in value.degrees.items()
    }
    number, steps = value.whole or (-1, ())
    return replace(value, degrees=taken, whole=value.whole and (number, (*steps, step)))


def joined(values: Sequence[Value]) -> Value:
    """Return a value of unknown degrees with all else that follows from its operands."""
    signals = [value for value in values if value.signal]
    streams = {value.stream: value.root for value in signals if value.stream is not None}
    stream, root = next(iter(streams.items())) if len(streams) == 1 else (None, None)
    return Value(
        signal=bool(signals),
        met=frozenset().union(*(value.met for value in signals)),
        makers=frozenset().union(*(value.makers for value in signals)),
        stream=stream,
        root=root,
    )


def alike(values: Sequence[Value]) -> dict[Group, float]:
    """Return the degrees of a sum or a maximum.

    A bias of 0 and an infinite mask fit any degree. A constant that is far smaller than the other
    operands changes nothing. NaN stands for what does not happen. A signal of 0 counts as any
    other, because it will not stay 0.
    """
    nothing = [(value.zero and not value.signal) or _is_aside(value, values) for value in values]
    counted = [value for value, n in zip(values, nothing, strict=True) if not n]
    found = {group: set() for value in values for group in value.degrees}
    for group, each in found.items():
        if any(group in value.degrees for value in counted):
            each |= {value.degree(group) for value in counted}
    return {group: each.pop() if len(each) == 1 else math.nan for group, each in found.items()}


def _is_aside(value: Value, others: Sequence[Value]) -> bool:
    """Return whether a constant is not finite, or there only to keep a divisor from 0."""
    if value.number is None or not value.is_constant:
        return False
    small = 0 < value.number <= _EPSILON and any(other.degrees for other in others)
    return small or not math.isfinite(value.number)


# The largest default of a norm's epsilon among common libraries (Keras).
_EPSILON = 1e-3


def _power(params: Mapping[str, Any], values: Sequence[Value], name: str) -> float | None:
    match name:
        case "integer_pow":
            return params["y"]
        case "pow":
            return values[1].number if values[1].is_constant else None
    return _POWERS.get(name)


_POWERS = {"square": 2.0, "sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1 / 3}
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general"}
_SUMS = {
    *("add", "add_any", "sub", "max", "min", "concatenate", "stack", "pad", "rem", "nextafter"),
    *("scatter", "scatter-add", "scatter_add", "dynamic_update_slice"),
}
# They keep the degree of their first operand; others are indices.
_KEPT = {
    *("reshape", "transpose", "squeeze", "slice", "rev", "broadcast_in_dim", "split", "unstack"),
    *("gather", "dynamic_slice", "expand_dims", "neg", "abs", "copy", "copy_p", "real", "imag"),
    *("convert_element_type", "reduce_precision", "stop_gradient", "conj", "optimization_barrier"),
    *("reduce_sum", "reduce_max", "reduce_min", "cumsum", "cummax", "cummin", "sort", "top_k"),
    *("reduce_window_max", "reduce_window_min", "reduce_window_sum", "sharding_constraint"),
    *("mesh_cast", "reshard"),
}
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge", "argmax", "argmin", "sign", "atan2"}
_MOVES = {
    *("reshape", "transpose", "squeeze", "broadcast_in_dim", "convert_element_type", "copy"),
    *("sharding_constraint", "optimization_barrier", "reduce_precision"),
}


def moves(name: str) -> bool:
    """Return whether an operation changes no entry."""
    return name in _MOVES


def applied(name: str, params: Mapping[str, Any], values: Sequence[Value]) -> Value:
    """Return what is known of the results of an operation, its `end` aside.

    >>> w, x = Value({frozenset({(0, ())}): 1.0}), Value(signal=True)
    >>> y = applied("dot_general", {}, [x, w])
    >>> square = applied("reduce_sum", {}, [applied("square", {}, [y])])
    >>> list(applied("mul", {}, [y, applied("rsqrt", {}, [square])]).degrees.values())
    [0.0]
    """
    degrees, zero, number = _degrees(name, params, values)
    return replace(joined(values), degrees=degrees, zero=zero, number=number)


def _degrees(name, params, values) -> tuple[dict[Group, float], bool, float | None]:
    """Return degrees, whether all entries are 0, and the number of a scalar that is only moved."""
    first = values[0] if values else Value()
    if name in _PRODUCTS:
        groups = {group for value in values for group in value.degrees}
        total = {group: math.fsum(value.degree(group) for value in values) for group in groups}
        return total, any(value.zero for value in values), None
    if name == "div":
        groups = {group for value in values for group in value.degrees}
        return (
            {group: first.degree(group) - values[1].degree(group) for group in groups},
            first.zero,
            None,
        )
    if (power := _power(params, values, name)) is not None:
        scaled = {group: degree * power for group, degree in first.degrees.items()}
        return scaled, first.zero and power > 0, None
    if name in _SUMS:
        degrees = alike(values)
        if name == "concatenate" and (group := side_by_side(values)):
            degrees[group] = 1.0
        return degrees, all(value.zero for value in values), None
    if name in _KEPT:
        return dict(first.degrees), first.zero, first.number if name in _MOVES else None
    if name == "select_n":
        which, *cases = values
        degrees = alike(cases)
        degrees.update({group: math.nan for group in which.degrees if which.degree(group)})
        return degrees, all(case.zero for case in cases), None
    if name in _COMPARISONS:
        return {g: 0.0 if d == d else d for g, d in alike(values).items()}, False, None
    groups = {group for value in values for group in value.degrees}
    changed = {g for g in groups if any(value.degree(g) for value in values)}
    unknown = {group: math.nan if group in changed else 0.0 for group in groups}
    return unknown, name in _ODD and first.zero, None


def side_by_side(values: Sequence[Value]) -> Group | None:
    """Return the parameters that scale all parts of a concatenated kernel; None if none do."""
    linear = [[g for g, degree in value.degrees.items() if degree == 1] for value in values]
    if not all(value.is_parameter for value in values) or not all(linear):
        return None
    return frozenset().union(*(max(groups, key=len) for groups in linear))


# Functions that are 0 at 0.
_ODD = {"tanh", "sin", "sinh", "asinh", "atan", "erf", "expm1", "log1p", "sign", "tan", "asin"}
