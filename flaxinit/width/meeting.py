"""Meetings of parameters with the signal."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NoReturn

from flaxinit.width.interpreter import Equation, Interpreter
from flaxinit.width.uses import Use
from flaxinit.width.values import ONE, Value, product

_REMEDY = "Write this part of the model with matrix products, convolutions, lookups and sums."


def refuse(walk: Interpreter, value: Value, why: str, remedy: str = _REMEDY) -> NoReturn:
    names = ", ".join(walk.names[n] for n in value.parts)
    raise ValueError(f"mup cannot tell how {names} should scale with the width: {why}. {remedy}")


def require_fixed(walk: Interpreter, value: Value, axes: Iterable[int], numbers: str) -> None:
    """Refuse a value of parameters if one of these axes, which only numbers things, grows."""
    for n in axes:
        for grown in {part.axes[n] for part in value.parts.values()} - {ONE}:
            refuse(
                walk,
                value,
                f"its axis {n} grows {float(grown):.4g}-fold, and it numbers {numbers}. That is "
                "neither a width nor summed over",
                "Build the base with as many of them as the model has.",
            )


def settled(walk: Interpreter, equation: Equation, n: int, value: Value) -> Value:
    """Turn a value of parameters into a signal, with one use for each parameter in it."""
    if not value.parametric:
        return value
    how = "gather" if value.looked_up else equation.name
    scales, behind = {}, 0
    for number, part in value.parts.items():
        produced = product(part.axes)
        use = Use(number, how, ONE, produced, value.looked_up, value.size, part.bent)
        # Whatever reads the rows that were looked up reads one value: their lookup is one use.
        place = (*equation.place, n) if part.lookup is None else (part.lookup, produced)
        bit = walk.use(use, place)
        scales[bit] = value.size
        behind |= 1 << bit
    return Value(signal=True, size=value.size, scales=scales, behind=behind)


def meeting(
    walk: Interpreter,
    equation: Equation,
    kernel: Value,
    signal: Value,
    summed: Sequence[int],
    free: Sequence[int],
    axes: Sequence[Fraction],
    shared: bool = True,
) -> Value:
    """Multiply the signal by a kernel, with one use for each parameter in the kernel."""
    # A parameter behind the signal is scaled for its size; without one, the kernel is.
    if signal.scales:
        walk.consumed(signal, equation.place, equation.name)
    scale = kernel.size * (1.0 if signal.scales else signal.size)
    scales, behind = {}, signal.behind
    for number, part in kernel.parts.items():
        contracted, produced = (product(part.axes[n] for n in group) for group in (summed, free))
        contracts = shared
        if contracted != 1 and not signal.behind:
            walk.sourceless.add(number)
        if part.inner is not None:
            # Of two kernels that are multiplied first, the one that meets the signal produces the
            # axis between them, and the other sums over it.
            if any(part.axes[n] != 1 for n in summed):
                produced *= part.inner
            else:
                contracted *= part.inner
        elif len(kernel.parts) > 1 and any(
            axes[n] != 1 and part.axes[n] == 1 for n in (*summed, *free)
        ):
            # A gain on a kernel: it is repeated along an axis that grows, and sums over nothing.
            contracted, produced, contracts = ONE, contracted * produced, False
        how, alone = equation.name, len(kernel.parts) == 1
        use = Use(number, how, contracted, produced, contracts, scale, part.bent, alone=alone)
        bit = walk.use(use, equation.place)
        scales[bit] = scale
        behind |= 1 << bit
    made = Value(signal=True, size=scale, scales=scales, behind=behind)
    walk.products[equation.place] = tuple(kernel.parts), made
    return made
