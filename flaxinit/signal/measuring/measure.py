"""An interpreter that runs a model by equations and measures the signal at every kernel.

The model is a function of its parameters and inputs; its jaxpr shows where each parameter meets
the signal, whatever library the layers come from. Where the program is that of the gradient, the
transposed kernels meet what comes back.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.measuring.held import Held, kernel_of, made, parts, row, stacked
from flaxinit.signal.measuring.measured import Measured
from flaxinit.signal.measuring.moments import Moments, moments, statistic, wide
from flaxinit.signal.measuring.observed import Raw, merged, product
from flaxinit.signal.measuring.progress import Advance
from flaxinit.signal.samples.signals import NOTHING, Origin
from flaxinit.trees.paths import part
from flaxinit.versions.jaxpr import (
    bind,
    called,
    closed,
    evaluate,
    run_while,
    unroll_scan,
)

Use = tuple[tuple[int, ...], Origin]


@dataclass
class Run:
    """One run of a model.

    The place of an equation is its number in each enclosing program, the same in each step of a
    loop.

    Attributes:
        names: of the parameters.
        shapes: of the parameters.
        advance: is called after each equation of the whole program.
        found: the products of each kernel at one place, in order of use.
        met: the operation in which another parameter meets the signal.
        gradients: of the outputs of each kernel at one place.
        weights: sums of weights, as in attention, and the kernel met before.
        chosen: uses of kernels whose rows the inputs chose.
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    advance: Advance
    found: dict[Use, list[Raw]] = field(default_factory=dict)
    met: dict[int, str] = field(default_factory=dict)
    gradients: dict[Use, list[Moments]] = field(default_factory=dict)
    weights: list[tuple[str, Any]] = field(default_factory=list)
    chosen: set[Use] = field(default_factory=set)
    latest: dict[Origin, list[Use]] = field(default_factory=dict)  # uses of a kernel

    def program(self, program: ClosedJaxpr, operands: Sequence[Held], place=()) -> list[Held]:
        numbers = itertools.count()
        return evaluate(
            program,
            operands,
            lambda equation, held: self.equation(equation, held, (*place, next(numbers))),
            lambda atom, value: Held(value),
        )

    def equation(self, equation, held: list[Held], place) -> list[Held]:
        name, params = equation.primitive.name, equation.params
        values = [each.value for each in held]
        weights = any(each.origin or each.rows for each in held)
        signal = any(each.origin is None for each in held)
        if weights:
            if body := called(equation):
                return self.program(body, held, place)
            if name == "cond":
                taken = int(values[0])
                return self.program(closed(params["branches"][taken]), held[1:], (*place, taken))
        if weights and signal:  # a loop may hold products with the signal
            if name == "while":
                return run_while(
                    equation,
                    held,
                    lambda test, held: bool(self.program(test, held, (*place, 0))[0].value),
                    lambda body, held: self.program(body, held, (*place, 1)),
                )
            if name == "scan" and params["length"]:
                step = functools.partial(self.program, place=place)
                return unroll_scan(equation, held, step, row, stacked)
        results = bind(equation, values)
        if signal:
            self.meet(equation, held, results[0], place)
        if len(place) == 1:
            self.advance()
        return parts(equation, held, results) or made(equation, held, results)

    def meet(self, equation, held: list[Held], result, place) -> None:
        """Measure the kernel if the equation multiplies a signal by it, else note the equation."""
        side = kernel_of(equation, held)
        if side is None:
            for number, _ in NOTHING.union(*(each.origin or NOTHING for each in held)):
                self.met.setdefault(number, equation.primitive.name)
            self.note_weights(equation, held)
            return
        origin = held[side].origin or held[side].rows or NOTHING
        signal = held[1 - side]
        if signal.back:  # the transposed kernel: uses are met in the reverse order
            if waiting := self.latest.get(origin):
                self.gradients.setdefault(waiting.pop(), []).append(moments(signal.value))
            return
        raw = product(equation, side, [each.value for each in held], result)
        self.found.setdefault((place, origin), []).append(raw)
        self.latest.setdefault(origin, []).append((place, origin))
        if held[side].rows:
            self.chosen.add((place, origin))

    def note_weights(self, equation, held: list[Held]) -> None:
        """Note the weights of attention: values that sum to 1 and multiply a signal."""
        if equation.primitive.name != "dot_general":
            return
        if not self.found or any(h.origin is not None or h.back for h in held):
            return
        summed, _ = equation.params["dimension_numbers"]
        *_, (_, origin) = self.found
        for each, axes in zip(held, summed, strict=True):
            if math.prod(each.value.shape[axis] for axis in axes) > 1:
                self.weights.append((self.path(origin), _weights(each.value, tuple(axes))))

    def attention(self) -> tuple[tuple[str, float, float | None], ...]:
        """Return the weights that sum to 1: the kernel before, Σp², and n Σp² - 1."""
        return tuple(
            (path, float(squares), float(uneven) if several else None)
            for path, (whole, squares, uneven, several) in jax.device_get(self.weights)
            if whole
        )

    def path(self, origin: Origin) -> str:
        return ", ".join(
            self.names[number] + part(steps) for number, steps in sorted(origin, key=str)
        )

    def shape(self, origin: Origin, kernel: tuple[int, ...], rows: bool) -> tuple[int, ...]:
        """Return the parameter's shape if the kernel has all its entries, else the kernel's."""
        (number, _), *others = origin
        shape = self.shapes[number]
        same = not others and math.prod(shape) == math.prod(kernel)
        return tuple(shape if same or rows else kernel)


@functools.partial(jax.jit, static_argnums=1)
def _weights(x, axes: tuple[int, ...]):
    """Return whether x sums to 1 over these axes, and how its weights are spread over them.

    With n weights p that are not 0, Σp² lies between 1/n, where they are equal, and 1. Returned
    are the mean of Σp², and that of n Σp² - 1 where n > 1.
    """
    x = wide(x)
    sums = jnp.sum(x, axis=axes)
    # Sums of n rounded numbers; half precision leaves 2⁻⁸ of each.
    whole = jnp.all(jnp.abs(sums - 1) < 2**-6) & jnp.all(x >= 0)
    count = jnp.sum(x > 0, axis=axes)
    squares = jnp.sum(x * x, axis=axes)
    several = count > 1
    uneven = jnp.sum(jnp.where(several, count * squares - 1, 0)) / jnp.maximum(jnp.sum(several), 1)
    return whole, jnp.mean(squares), uneven, jnp.any(several)


def finished(run: Run, params: Sequence[Any], slopes: Sequence[Any]) -> tuple[Measured, ...]:
    """Return what a run measured, kernel by kernel in order of use.

    Args:
        run: a finished run.
        params: the parameters.
        slopes: their gradients; empty if these were not computed.
    """
    uses = list(run.found)
    found = jax.device_get([run.found[use] for use in uses])
    back = jax.device_get([run.gradients.get(use, []) for use in uses])
    rows: dict[Any, Measured] = {}
    for use, raws, gradients in zip(uses, found, back, strict=True):
        _, origin = use
        path = run.path(origin)
        shape = run.shape(origin, raws[0].shape, use in run.chosen)
        row = merged(path, shape, raws)
        # A checkpoint repeats, for the gradient, what was met before.
        key = path, f"{row.signal_in:.6g}", f"{row.signal_out:.6g}"
        if slopes and key in rows:
            row = rows[key]
        if gradients:
            row = replace(row, gradient_out=sum(each.square for each in gradients) / len(gradients))
        if slopes and len(origin) == 1:
            ((number, steps),) = origin
            size = sum(raw.result.entries for raw in raws)
            row = _with_slope(row, _part(slopes[number], steps), _part(params[number], steps), size)
        rows[key if slopes else use] = row
    return tuple(rows.values())


def _with_slope(row: Measured, slope: Any, kernel: Any, size: int) -> Measured:
    """Add the gradient of a parameter; `size` counts the entries of y."""
    if slope is None or slope.shape != kernel.shape or not slope.size:
        return row
    moment, product = jax.device_get((moments(slope), _product((slope, kernel))))
    outer = math.sqrt(size * (row.gradient_out or 0) * row.signal_out)
    along = float(product) / outer if outer else None
    return replace(row, gradient_parameter=moment.square, along=along)


@statistic
def _product(numpy, arrays, _):
    slope, kernel = map(wide, arrays)
    return numpy.sum(slope * kernel).real


def _part(array: Any, steps: Sequence[Any]) -> Any:
    """Return a part of a parameter; None if its axes changed before it was cut."""
    cuts = [step for step in steps if not isinstance(step, int)]
    if [step[0] for step in cuts] != sorted({step[0] for step in cuts}):
        return None
    for step in steps:
        if isinstance(step, int):
            array = array[step]
        else:
            axis, start, stop, stride = step
            array = array[(slice(None),) * axis + (slice(start, stop, stride),)]
    return array
