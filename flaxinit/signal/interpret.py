"""Runs a program on signals: one rule for each operation."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.jaxpr import bind, called, closed, evaluate, run_while, unroll_scan
from flaxinit.signal.alignment import aligned, independent, resized
from flaxinit.signal.along import ALONG, along
from flaxinit.signal.draws import bits
from flaxinit.signal.elementwise import elementwise
from flaxinit.signal.gradients import is_gradient, of_convolution, of_kernel, of_table
from flaxinit.signal.kernels import Kernels
from flaxinit.signal.limits import Limits
from flaxinit.signal.lookup import Rows, dynamic_slice, gather
from flaxinit.signal.meeting import Meetings, Observer
from flaxinit.signal.movement import MOVEMENTS, row
from flaxinit.signal.products import contracted
from flaxinit.signal.reduction import REDUCTIONS, concatenated, reduced
from flaxinit.signal.signals import (
    CONSTANT,
    PLACE,
    WIDTH,
    Signal,
    exact,
    expanded,
    is_key,
    is_whole,
    joined,
    wide,
)


@dataclass
class Interpreter:
    """One run of a program.

    Attributes:
        limits: sizes of samples.
        rng: random numbers; the key is fixed.
        numbers: names draws.
        observer: is told of kernels and sums.
    """

    limits: Limits = Limits()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    observer: Observer = field(default_factory=Observer)

    def __post_init__(self):
        self.rows: Rows = {}
        self.meetings = Meetings(
            Kernels(self.limits, self.rng), self.rows, self.numbers, self.observer
        )
        self.drawn: dict[int, tuple[int, ...]] = {}

    def run(self, program: ClosedJaxpr, operands: Sequence[Signal]) -> list[Signal]:
        return evaluate(program, operands, self.equation, lambda atom, value: exact(value))

    def equation(self, equation, signals: list[Signal]) -> list[Signal]:
        name = equation.primitive.name
        if body := called(equation):
            return self.run(body, signals)
        if name == "scan":
            return unroll_scan(equation, signals, self.run, row, self.stack)
        if name == "while":
            return run_while(
                equation,
                signals,
                lambda test, held: bool(self.run(test, held)[0].data.all()),
                self.run,
            )
        if name == "cond":
            taken = int(signals[0].data.reshape(-1)[0])
            return self.run(closed(equation.params["branches"][taken]), signals[1:])
        if name == "optimization_barrier":
            return signals
        if name == "random_bits":
            return [self.random_bits(equation)]
        if any(is_key(signal.data) for signal in signals) or name.startswith("random_"):
            return self.known(equation, signals)
        if name in MOVEMENTS:
            result = MOVEMENTS[name](equation, signals)
            return result if isinstance(result, list) else [result]
        if name in REDUCTIONS:
            return [reduced(equation, signals)]
        if name in ("dot_general", "conv_general_dilated"):
            return self.product(equation, signals)
        if name == "concatenate":
            return [self.concatenate(equation, signals)]
        if name == "gather":
            found = gather(equation, signals, self.limits, self.rng, self.rows)
            return [found] if found else self.known(equation, signals)
        if name in ("scatter-add", "scatter_add") and signals[-1].backward:
            found = of_table(equation, signals, self.numbers, self.rng)
            return [found] if found else self.known(equation, signals)
        if name == "dynamic_slice" and (found := dynamic_slice(equation, signals)):
            return [found]
        if name in ALONG and (results := along(equation, signals)):
            return results
        if (result := elementwise(equation, signals, self.limits, self.rng)) is not None:
            both = name in ("add", "add_any") and all(s.origin is None for s in signals)
            if both and not result.backward and independent(signals, result.roles):
                self.observer.added(result)
            return [result]
        return self.known(equation, signals)

    def known(self, equation, signals: Sequence[Signal]) -> list[Signal]:
        """Run by JAX, on each replica: exact on a sample whose axes are all held whole."""
        name = equation.primitive.name
        signals = [expanded(signal, range(len(signal.shape))) for signal in signals]
        if not all(map(is_whole, signals)):
            signals = [self.whole(signal, name) for signal in signals]
        many = [signal.replicas > 1 for signal in signals]
        replicas = min((s.replicas for s in signals if s.replicas > 1), default=1)
        arrays = [
            _narrow(signal.data[:replicas] if each else signal.data[0], atom.aval.dtype)
            for signal, each, atom in zip(signals, many, equation.invars, strict=True)
        ]

        def one(*arrays):
            return bind(equation, arrays)

        axes = [0 if each else None for each in many]
        results = jax.vmap(one, axes)(*arrays) if any(many) else [x[None] for x in one(*arrays)]
        common = joined(signals)
        common["sampled"] |= bool(common["sources"])
        made = []
        for out in results:
            if is_key(out):
                made.append(exact(out[0], common["origin"]))
                continue
            data = wide(np.asarray(out))
            shape = data.shape[1:]
            made.append(Signal(data, shape, _roles(shape, signals), **common))
        return made

    def whole(self, signal: Signal, name: str) -> Signal:
        """A signal at its true size, if that is small, for an operation that knows no other."""
        size = math.prod(signal.shape)
        if size > self.limits.whole:
            raise ValueError(
                f"forecast has no rule for {name}, and an array of shape {signal.shape} is too "
                "large to run it on a sample. Forecast a narrower model."
            )
        replicas = max(1, min(signal.replicas, self.limits.entries // size))
        return resized(signal, signal.shape, replicas, self.rng)

    def stack(self, steps: Sequence[Signal]) -> Signal:
        lifted = [
            step.with_data(
                step.data[:, None], shape=(1, *step.shape), roles=(CONSTANT, *step.roles)
            )
            for step in steps
        ]
        return self.joined(lifted, 0)

    def concatenate(self, equation, signals: Sequence[Signal]) -> Signal:
        return self.joined(signals, equation.params["dimension"])

    def joined(self, signals: Sequence[Signal], axis: int) -> Signal:
        shape = list(signals[0].shape)
        sizes = [signal.shape[axis] for signal in signals]
        shape[axis] = sum(sizes)
        common = joined(signals)
        bare = [
            s.with_data(
                np.moveaxis(s.data, axis + 1, -1)[..., 0],
                shape=(*s.shape[:axis], *s.shape[axis + 1 :]),
                roles=(*s.roles[:axis], *s.roles[axis + 1 :]),
            )
            for s in signals
        ]
        alike = aligned(bare, self.limits, self.rng)
        replicas = min((s.replicas for s in alike if s.replicas > 1), default=1)
        held = [max(sizes) for sizes in zip(*(s.held for s in alike), strict=True)] or []
        parts = []
        for signal in signals:
            data = signal.data[:replicas] if signal.replicas > 1 else signal.data
            for i, want in enumerate([*held[:axis], None, *held[axis:]], start=1):
                if want is not None and data.shape[i] not in (1, want):
                    data = np.take(data, np.arange(want) * data.shape[i] // want, axis=i)
            parts.append(signal.with_data(np.broadcast_to(data, (replicas, *data.shape[1:]))))
        return concatenated(parts, axis, tuple(shape), common)

    def random_bits(self, equation) -> Signal:
        shape, width = tuple(equation.params["shape"]), equation.params["bit_width"]
        held, replicas = self.limits.bits(shape)
        data = bits(self.rng, (replicas, *held), width)
        roles = tuple(
            CONSTANT if n == 1 else WIDTH if i == len(shape) - 1 else PLACE
            for i, n in enumerate(shape)
        )
        number = next(self.numbers)
        self.drawn[number] = shape
        return Signal(data, shape, roles, frozenset({number}))

    def product(self, equation, signals: Sequence[Signal]) -> list[Signal]:
        sides = [side for side, signal in enumerate(signals) if signal.is_parameter]
        meets = len(sides) == 1 and signals[1 - sides[0]].origin is None
        if equation.primitive.name == "dot_general":
            if meets:
                return [self.meetings.dot_general(equation, signals, sides[0])]
            if is_gradient(equation, signals, self.limits):
                return [of_kernel(equation, signals, self.numbers, self.rng)]
            return [contracted(equation, *signals)]
        if meets and sides == [1] and equation.params["batch_group_count"] == 1:
            return [self.meetings.convolution(equation, signals)]
        if any(signal.backward for signal in signals) and not sides:
            return [of_convolution(equation, signals)]
        return self.known(equation, signals)


def _narrow(array: Any, dtype: Any) -> Any:
    return array if is_key(array) else jax.numpy.asarray(np.asarray(array), dtype)


def _roles(shape: tuple[int, ...], signals: Sequence[Signal]) -> tuple[int, ...]:
    """Those of an operand of the same rank and size; else channels come last."""
    drawn = any(signal.sources for signal in signals)
    roles = []
    for axis, size in enumerate(shape):
        same = [
            s.roles[axis] for s in signals if len(s.shape) == len(shape) and s.shape[axis] == size
        ]
        last = WIDTH if drawn and axis == len(shape) - 1 else PLACE
        roles.append(CONSTANT if size == 1 else max(same, default=CONSTANT) or last)
    return tuple(roles)
