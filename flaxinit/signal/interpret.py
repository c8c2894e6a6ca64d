"""Runs a program on signals: one rule for each operation."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.jaxpr import bind, called, closed, evaluate, run_while, unroll_scan
from flaxinit.signal.alignment import aligned, independent
from flaxinit.signal.draws import bits
from flaxinit.signal.elementwise import elementwise
from flaxinit.signal.kernels import Kernels, law
from flaxinit.signal.limits import Limits
from flaxinit.signal.movement import MOVEMENTS, permuted, row
from flaxinit.signal.products import axes_of, contracted
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
)
from flaxinit.signal.statistics import spread


@dataclass
class Interpreter:
    """One run of a program.

    Attributes:
        limits: sizes of samples.
        rng: random numbers; the key is fixed.
        numbers: names draws.
        met: called with each kernel, as it meets the signal.
        added: called with each sum of two independent signals: the residual stream.
    """

    limits: Limits = Limits()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    met: Callable[..., None] = lambda *_: None
    added: Callable[[Signal], None] = lambda _: None

    def __post_init__(self):
        self.kernels = Kernels(self.limits, self.rng)
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
        if name == "dot_general":
            return [self.dot_general(equation, signals)]
        if name == "concatenate":
            return [self.concatenate(equation, signals)]
        if (result := elementwise(equation, signals, self.limits, self.rng)) is not None:
            both = name in ("add", "add_any") and all(s.origin is None for s in signals)
            if both and independent(signals, result.roles):
                self.added(result)
            return [result]
        return self.known(equation, signals)

    def known(self, equation, signals: Sequence[Signal]) -> list[Signal]:
        """Run by JAX, on each replica: exact on a sample whose axes are all held whole."""
        name = equation.primitive.name
        signals = [expanded(signal, range(len(signal.shape))) for signal in signals]
        if not all(map(is_whole, signals)):
            raise NotImplementedError(name)
        replicas = max((signal.replicas for signal in signals), default=1)
        results = [
            bind(
                equation,
                [
                    _narrow(signal.data[min(n, signal.replicas - 1)], atom.aval.dtype)
                    for signal, atom in zip(signals, equation.invars, strict=True)
                ],
            )
            for n in range(replicas)
        ]
        common = joined(signals)
        common["sampled"] |= bool(common["sources"])
        made = []
        for outs in zip(*results, strict=True):
            if is_key(outs[0]):
                made.append(exact(outs[0], common["origin"]))
                continue
            parts = [exact(np.asarray(out)) for out in outs]
            data = np.concatenate([part.data for part in parts])
            made.append(Signal(data, parts[0].shape, _roles(parts[0], signals), **common))
        return made

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
        held = self.limits.hold(shape)
        data = bits(self.rng, (self.limits.replicas(held), *held), width)
        roles = tuple(
            CONSTANT if n == 1 else WIDTH if i == len(shape) - 1 else PLACE
            for i, n in enumerate(shape)
        )
        number = next(self.numbers)
        self.drawn[number] = shape
        return Signal(data, shape, roles, frozenset({number}))

    def dot_general(self, equation, signals: Sequence[Signal]) -> Signal:
        sides = [n for n, s in enumerate(signals) if s.is_parameter]
        if len(sides) == 1 and signals[1 - sides[0]].origin is None:
            return self.kernel(equation, signals, sides[0])
        return contracted(equation, *signals)

    def kernel(self, equation, signals: Sequence[Signal], side: int) -> Signal:
        w, x = signals[side], signals[1 - side]
        axes, theirs = (
            axes_of(equation, side, len(w.shape)),
            axes_of(equation, 1 - side, len(x.shape)),
        )
        known = law(w, axes.summed)
        outputs = tuple(w.shape[axis] for axis in axes.free)
        if w.known:
            result = contracted(equation, x, w) if side else contracted(equation, w, x)
        else:
            kernels = [a for a in theirs.batch if x.roles[a] != WIDTH]
            channels = [a for a in (*theirs.batch, *theirs.free) if x.roles[a] == WIDTH]
            places = [a for a in theirs.free if x.roles[a] != WIDTH]
            full = expanded(x, theirs.batch)
            order = (*kernels, *channels, *places, *theirs.summed)
            full = permuted(full, order)
            cuts = np.cumsum([0, len(kernels), len(channels), len(places), len(theirs.summed)])
            sizes = [full.held[a:b] for a, b in itertools.pairwise(cuts)]
            share = math.prod(x.shape[a] / x.held[a] for a in theirs.summed)
            y = self.kernels.multiply(
                full.data.reshape(full.replicas, *(math.prod(size) for size in sizes)),
                share,
                known,
                outputs,
                (w.origin, axes),
            )
            held = y.shape[3:-1]
            y = y.reshape(len(y), *sizes[0], *sizes[1], *held, *sizes[2])
            # From kernels, channels, outputs, places to batch, then left, then right.
            new = [*kernels, *channels, *(("out", n) for n in range(len(held))), *places]
            frees = [[("out", n) for n in range(len(held))], list(theirs.free)]
            if side == 1:
                frees.reverse()
            wanted = [*theirs.batch, *frees[0], *frees[1]]
            y = np.transpose(y, (0, *(1 + new.index(each) for each in wanted)))
            roles = tuple(
                (WIDTH if w.shape[axes.free[each[1]]] > 1 else CONSTANT)
                if isinstance(each, tuple)
                else x.roles[each]
                for each in wanted
            )
            result = Signal(
                y,
                tuple(equation.outvars[0].aval.shape),
                roles,
                frozenset({next(self.numbers)}),
                None,
                x.sampled,
            )
            result = replace(
                result,
                level=result.second_moment(),
                log_variance=x.log_variance
                + spread(x, theirs.summed, math.prod(w.shape[a] for a in axes.summed)),
            )
        self.met(w, x, result, known, math.prod(w.shape[axis] for axis in axes.summed))
        return result


def _narrow(array: Any, dtype: Any) -> Any:
    return array if is_key(array) else jax.numpy.asarray(np.asarray(array), dtype)


def _roles(result: Signal, signals: Sequence[Signal]) -> tuple[int, ...]:
    """Those of an operand of the same rank and size; else channels come last."""
    drawn = any(signal.sources for signal in signals)
    roles = []
    for axis, size in enumerate(result.shape):
        same = [
            s.roles[axis]
            for s in signals
            if len(s.shape) == len(result.shape) and s.shape[axis] == size
        ]
        last = WIDTH if drawn and axis == len(result.shape) - 1 else PLACE
        roles.append(CONSTANT if size == 1 else max(same, default=CONSTANT) or last)
    return tuple(roles)
