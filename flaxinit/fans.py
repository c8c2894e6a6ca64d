"""The fans of a kernel, from its shape and axes.

``fan_in`` is the number of terms summed into one output. ``fan_out`` is the number of outputs that
one input feeds, and so the number of terms summed into the gradient of one input.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Axes = int | Iterable[int]


def compute_fans(
    shape: Sequence[int],
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    *,
    groups: int = 1,
    strides: Axes = 1,
    transposed: bool = False,
) -> tuple[float, float]:
    """Return the fans of a dense or convolutional kernel.

    ``fan_in`` is the product of all axes except ``out_axis`` and ``batch_axis``; ``fan_out`` is the
    product of all except ``in_axis`` and ``batch_axis``. A kernel of g groups is stored with its
    input axis already divided by g, so only ``fan_out`` is divided here. With stride s, an input
    meets one of s kernel positions; in a transposed convolution, an output does.

    Args:
        shape: of the kernel.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes of independent kernels (experts, stacked layers).
        groups: ``feature_group_count`` of a convolution.
        strides: of the convolution: one number for each spatial axis, or one for all.
        transposed: whether the convolution is transposed (``ConvTranspose``).

    Returns:
        ``(fan_in, fan_out)``: whole numbers, unless strides divide them.

    Raises:
        ValueError: if the shape does not have an axis, or an axis is counted twice.

    >>> compute_fans((3, 3, 64, 128))
    (576.0, 1152.0)
    >>> compute_fans((3, 3, 1, 64), groups=64, strides=2)
    (9.0, 2.25)
    """
    shape, in_axis, out_axis = checked_shape(shape), integers(in_axis), integers(out_axis)
    if len(shape) < 2 and (in_axis, out_axis) == (-2, -1):
        raise ValueError(
            f"A fan needs a kernel with an input and an output axis, but the shape is "
            f"{shape}. For a bias or another vector use flaxinit.zeros, "
            "flaxinit.constant(value) or flaxinit.normal(stddev), or pass in_axis and out_axis."
        )
    ins = axis_set("in_axis", in_axis, shape)
    outs = axis_set("out_axis", out_axis, shape)
    batch = axis_set("batch_axis", batch_axis, shape)
    # in_axis and out_axis may coincide: Flax's Embed asks for (num_embeddings, features) with
    # both 0, which makes fan_in the number of features.
    if batch & (ins | outs):
        raise ValueError(
            f"batch_axis={batch_axis} shares an axis with in_axis={in_axis} or out_axis={out_axis} "
            f"of the shape {shape}: an axis counts either as batch or as a fan."
        )
    spatial = len(shape) - len(ins | outs | batch)
    steps = integers(strides)
    steps = [steps] * spatial if isinstance(steps, int) else steps
    if len(steps) != spatial:
        raise ValueError(
            f"strides={strides} has {len(steps)} entries, but the shape {shape} has "
            f"{spatial} spatial axes (those not in in_axis, out_axis or batch_axis)."
        )
    step = math.prod(steps)
    fan_in = math.prod(n for axis, n in enumerate(shape) if axis not in outs | batch)
    fan_out = math.prod(n for axis, n in enumerate(shape) if axis not in ins | batch) / groups
    return (fan_in / step, fan_out) if transposed else (float(fan_in), fan_out / step)


def integer(value: Any) -> int:
    """Return `value` as a Python integer. Raise TypeError if it is not one; True is not."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def integers(value: Any) -> int | tuple[int, ...]:
    """Return an integer, or the integers of an iterable such as a list, a range or an array.

    >>> integers(range(2)), integers(3)
    ((0, 1), 3)
    """
    try:
        return integer(value)
    except TypeError:
        if isinstance(value, Mapping):
            raise
        return tuple(map(integer, value))


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return `shape` as a tuple of sizes."""
    try:
        sizes = tuple(map(integer, shape))
    except TypeError:
        raise TypeError(
            f"shape must be a sequence of integers, got {shape!r}. Write (n,) for a vector."
        ) from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"The sizes of a shape must be at least 0, got {sizes}.")
    return sizes


def axis_set(name: str, axes: Axes, shape: Sequence[int]) -> set[int]:
    """Return axis numbers of a shape, all counted from the front."""
    axes = integers(axes)
    numbers = (axes,) if isinstance(axes, int) else axes
    for axis in numbers:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"{name}={axes} is out of range: the shape {tuple(shape)} has {len(shape)} axes, "
                f"numbered {-len(shape)} to {len(shape) - 1}."
            )
    found = {axis % len(shape) for axis in numbers}
    if len(found) < len(numbers):
        raise ValueError(f"{name}={axes} names an axis of the shape {tuple(shape)} twice.")
    return found
