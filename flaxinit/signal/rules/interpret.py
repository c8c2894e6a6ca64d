"""An interpreter that runs a program on signals, with one rule for each operation."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.rules import fallback
from flaxinit.signal.rules.along import ALONG, along
from flaxinit.signal.rules.assembly import along_new_axis, concatenated, stacked
from flaxinit.signal.rules.elementwise import elementwise
from flaxinit.signal.rules.gradients import gradient_of, of_convolution, of_kernel, of_table
from flaxinit.signal.rules.kernels import Kernels
from flaxinit.signal.rules.lookup import Rows, dynamic_slice, gather, scatter_add
from flaxinit.signal.rules.meeting import Meetings
from flaxinit.signal.rules.movement import MOVEMENTS, row, stepped
from flaxinit.signal.rules.observer import Observer
from flaxinit.signal.rules.products import axes_of, contracted
from flaxinit.signal.rules.ragged import ragged
from flaxinit.signal.rules.reduction import REDUCTIONS, reduced
from flaxinit.signal.rules.related import are_uncorrelated
from flaxinit.signal.samples.draws import bits
from flaxinit.signal.samples.limits import Limits, must_end
from flaxinit.signal.samples.signals import (
    CONSTANT,
    PLACE,
    PRODUCT,
    WIDTH,
    Signal,
    exact,
    is_key,
)
from flaxinit.signal.samples.whole import Partial, is_partial
from flaxinit.versions.jaxpr import IDENTITIES, called, closed, evaluate, run_while, unroll_scan


@dataclass
class Interpreter:
    """One run of a program.

    Attributes:
        limits: sizes of samples.
        rng: random numbers; the key is fixed.
        numbers: names draws.
        observer: is told of kernels and sums.
        partial: parameters that are held in part.
    """

    limits: Limits
    rng: np.random.Generator
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    observer: Observer = field(default_factory=Observer)
    partial: Partial = field(default_factory=Partial)

    def __post_init__(self):
        self.rows: Rows = {}
        self.tables: set[tuple[int, ...]] = set()  # shapes of parameters that were looked up
        kernels = Kernels(self.limits, self.rng)
        self.meetings = Meetings(kernels, self.rows, self.numbers, self.observer, self.partial)

    def run(self, program: ClosedJaxpr, operands: Sequence[Signal]) -> list[Signal]:
        """Run a program and return its results."""
        return evaluate(program, operands, self.equation, lambda atom, value: exact(value))

    def equation(self, equation, signals: list[Signal]) -> list[Signal]:
        name = equation.primitive.name
        if body := called(equation):
            return self.run(body, signals)
        if name in IDENTITIES:
            return signals
        found = self.control(equation, signals) or self.rule(equation, signals)
        if found is None:
            return self.without_rule(equation, signals)
        return [found] if isinstance(found, Signal) else found

    def without_rule(self, equation, signals: list[Signal]) -> list[Signal]:
        name = equation.primitive.name
        if name not in fallback.EXACT:
            self.partial.meet(name, signals)
        return fallback.run(equation, signals, self.limits, self.rng)

    def control(self, equation, signals: list[Signal]) -> list[Signal] | None:
        """Run a loop or a branch; the first entry of the sample decides which way it goes."""
        params = equation.params
        match equation.primitive.name:
            case "scan" if params["length"]:
                return unroll_scan(equation, signals, self.run, row, self.stacked)
            case "while":
                steps = itertools.count()

                def goes_on(test: ClosedJaxpr, operands: list[Signal]) -> bool:
                    must_end(next(steps))
                    return self.holds(test, operands)

                return run_while(equation, signals, goes_on, self.run)
            case "cond":
                which, *operands = signals
                branch = closed(params["branches"][int(which.data.flat[0])])
                results = self.run(branch, operands)
                return [replace(x, sampled=True) for x in results] if which.sources else results
        return None

    def holds(self, test: ClosedJaxpr, operands: list[Signal]) -> bool:
        return bool(self.run(test, operands)[0].data.flat[0])

    def stacked(self, steps: Sequence[Signal]) -> Signal:
        return stacked(steps, self.limits, self.rng)

    def rule(self, equation, signals: list[Signal]) -> list[Signal] | Signal | None:
        """Apply the rule for an operation; return None if there is none or it does not apply."""
        name, params = equation.primitive.name, equation.params
        if name == "random_bits":
            (out,) = equation.outvars  # there may be several keys
            return self.random_bits(tuple(out.aval.shape), params["bit_width"])
        if name.startswith("random_") or any(is_key(signal.data) for signal in signals):
            return None
        if name in MOVEMENTS:
            return MOVEMENTS[name](equation, signals)
        if name in REDUCTIONS:
            if name != "reduce_sum" and is_partial(signals[0], params["axes"]):
                self.partial.meet(name, signals)
            return reduced(equation, signals)
        if name in ALONG:
            return along(equation, signals)
        match name:
            case "dot_general":
                return self.dot_general(equation, signals)
            case "conv_general_dilated":
                return self.convolution(equation, signals)
            case "concatenate":
                return concatenated(signals, params["dimension"], self.limits, self.rng)
            case "stack":
                return along_new_axis(signals, params["axis"], self.limits, self.rng)
            case "ragged_dot_general":
                return ragged(equation, signals, self.run, self.limits, self.rng)
            case "gather":
                if signals[0].is_parameter:
                    self.tables.add(signals[0].shape)
                return gather(equation, signals, self.limits, self.rng, self.rows)
            case "dynamic_slice":
                return dynamic_slice(equation, signals)
            case "scatter-add" | "scatter_add":
                if signals[-1].backward and signals[0].shape in self.tables:
                    return of_table(equation, signals, self.limits)
                return scatter_add(equation, signals)
        return self.elementwise(equation, signals)

    def elementwise(self, equation, signals: Sequence[Signal]) -> Signal | None:
        result = elementwise(equation, signals, self.limits, self.rng)
        if result and result.origin and result.sources & self.partial.sources:
            self._meet_entries(equation.primitive.name, signals)
        if equation.primitive.name == "add" and result and not result.backward:
            one, other = signals
            apart = one.origin is other.origin is None and not one.sources & other.sources
            if apart and result.sources:
                self.observer.added(result, signals)
        return result

    def _meet_entries(self, operation: str, signals: Sequence[Signal]) -> None:
        """Note where entries of parameters meet others of them, or have known ones beside them.

        Of different slices of a parameter the same part is held, and of a mask all.
        """
        for one, other in itertools.combinations(signals, 2):
            if one.sources & other.sources and one.origin != other.origin:
                self.partial.meet(operation, signals)
        if any(signal.known and signal.data.size > 1 for signal in signals):
            self.partial.meet(operation, signals, needed=False)

    def random_bits(self, shape: tuple[int, ...], width: int) -> Signal:
        held, replicas = self.limits.bits(shape)
        roles = [WIDTH if axis == len(shape) - 1 else PLACE for axis in range(len(shape))]
        roles = [CONSTANT if n == 1 else role for n, role in zip(shape, roles, strict=True)]
        data = bits(self.rng, (replicas, *held), width, self.limits.alike)
        return Signal(data, shape, tuple(roles), frozenset({next(self.numbers)}))

    def dot_general(self, equation, signals: Sequence[Signal]) -> Signal:
        one, other = signals
        if not (one.of_kernel or other.of_kernel):
            if (side := _kernel(signals)) is not None:
                return self.meetings.dot_general(equation, signals, side)
            copied = gradient_of(equation, signals, self.meetings.uses.sizes)
            if copied is not None:
                apart = all(map(self.meetings.apart, signals))
                return of_kernel(equation, signals, self.limits, apart, copied)
        if None not in (one.origin, other.origin):
            if one.sources & other.sources:
                self.partial.meet("dot_general", signals)
            elif any(s.known and s.data.size > 1 for s in signals):  # a fixed matrix
                self.partial.meet("dot_general", signals, needed=False)
        summed = axes_of(equation, 0, len(one.shape)).summed
        drawn = one.sources and other.sources and not (one.backward or other.backward)
        if drawn and any(one.roles[axis] == WIDTH for axis in summed):
            self.observer.scored(one, other)
            self.meetings.random |= one.sources | other.sources
        result = contracted(equation, one, other, self.limits)
        if one.is_parameter and other.is_parameter and are_uncorrelated(one, other):
            result = replace(result, origin=stepped(result.origin, PRODUCT))
        return result

    def convolution(self, equation, signals: Sequence[Signal]) -> Signal | None:
        if _kernel(signals) == 1 and equation.params["batch_group_count"] == 1:
            return self.meetings.convolution(equation, signals)
        one, other = signals
        # The rule pairs real gradients; a product of complex signals is computed entry by entry.
        real = not any(np.iscomplexobj(signal.data) for signal in signals)
        if real and one.origin is other.origin is None and one.backward != other.backward:
            return of_convolution(equation, signals, self.limits, self.meetings.uses.sizes)
        return None


def _kernel(signals: Sequence[Signal]) -> int | None:
    """Return which of two operands is a parameter that meets a signal; None if neither is."""
    sides = [side for side, signal in enumerate(signals) if signal.is_parameter]
    if len(sides) != 1 or signals[1 - sides[0]].origin is not None:
        return None
    return sides[0]
