"""A run of a model's program in which the factor of each kernel is chosen where it meets a signal.

What a kernel makes is linear in it, so its factor is chosen when its product is known, and the
product is multiplied. A branch that joins the residual stream has degree 1 in the parameters that
end it, so it is multiplied there once more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flaxinit.signal.reports.report import undetermined
from flaxinit.signal.rules.interpret import Interpreter
from flaxinit.signal.samples.signals import Origin, Signal
from flaxinit.signal.tuning.homogeneity import Key, Place
from flaxinit.signal.tuning.plan import INPUT, KERNELS, Branch, Merge, Plan, Trail
from flaxinit.signal.tuning.rescaling import Rescaling


@dataclass
class Tuner(Rescaling, Interpreter):
    """An interpreter with a factor on each kernel.

    Attributes:
        plan: of the program.
        factors: on the entries of parameters. Where `chooses`, it is completed.
        fixed: parameters whose factor is not to be changed.
        ratios: of the variance that is wanted to the one that keeps the signal; 1 where missing.
        level: the second moment of what kernels make of the inputs; None keeps theirs.
        chooses: whether factors are chosen, or all are given.
        growth: E[y²] of each kernel's outputs without a factor, divided by what keeps the signal.
        doubts: why the forecast at a kernel does not describe a single draw, if it does not.
        gradients: E[δ²] of the gradient of what each kernel makes, at its first use.
    """

    plan: Plan = field(default_factory=Plan)
    factors: dict[Key, float] = field(default_factory=dict)
    fixed: frozenset[Key] = frozenset()
    ratios: Mapping[Key, float] = field(default_factory=dict)
    level: float | None = None
    chooses: bool = True
    growth: dict[Key, float] = field(default_factory=dict)
    doubts: dict[Key, str] = field(default_factory=dict)
    gradients: dict[Key, float] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        self.trail = Trail()
        self.uses: dict[Key, int] = {}
        self.begun: dict[Place, float] = {}  # second moment of each stream since its start

    def run(self, program, operands):
        with self.trail:
            return super().run(program, operands)

    def equation(self, equation, signals: list[Signal]) -> list[Signal]:
        place = self.trail.step()
        event = self.plan.sums.get(place) if self.chooses else None
        if isinstance(event, Branch):
            signals = self.branch(event, signals)
        elif isinstance(event, Merge):
            signals = self.merge(event, signals)
        results = super().equation(equation, signals)
        if equation.primitive.name in (*KERNELS, "mul", "gather"):
            return self.multiplied(equation.primitive.name, signals, results)
        return results

    def multiplied(self, name: str, signals: list[Signal], results: list[Signal]) -> list[Signal]:
        """Multiply what a kernel makes by the kernel's factor."""
        sides = [side for side, signal in enumerate(signals) if signal.is_parameter]
        if len(sides) != 1 or len(results) != 1:
            return results
        kernel, (result,) = signals[sides[0]], results
        if name == "gather" and result.origin is None:  # rows are where a signal begins
            result = replace(result, level=result.second_moment())
        owner = self.plan.owners.get(keys(kernel.origin))
        if owner is None or (name != "gather" and signals[1 - sides[0]].origin is not None):
            return [result]
        if name in KERNELS:
            signal = signals[1 - sides[0]]
            if signal.backward:
                self.gradients[owner] = signal.second_moment()  # the first use comes back last
            else:
                self.met(owner, kernel, signal, result)
        self.use(owner)
        return [scaled(result, self.factors.get(owner, 1.0))]

    def met(self, owner: Key, kernel: Signal, signal: Signal, result: Signal) -> None:
        """Choose the factor of a kernel at its first input that is not 0."""
        if owner in self.growth:
            return
        square = result.second_moment()
        kept = signal.level if signal.level >= 0 else signal.second_moment()
        if self.level is not None and self.plan.makers[owner] == {INPUT}:
            kept = self.level
        if not square or not kept or kernel.known:
            return
        self.growth[owner] = square / kept
        if doubt := undetermined(result.strays):
            self.doubts[owner] = doubt
        if self.chooses and owner not in self.fixed:
            self.choose(owner, math.sqrt(self.ratios.get(owner, 1.0) * kept / square))

    def branch(self, event: Branch, signals: list[Signal]) -> list[Signal]:
        """Limit what a branch adds to a stream to its share of what the stream started with."""
        signals = list(signals)
        start = self.begun.setdefault(event.start, signals[1 - event.side].second_moment())
        share = start / self.plan.branches[event.stream]
        square = signals[event.side].second_moment()
        if square > share > 0:
            signals[event.side] = self.rescaled(
                event.end, signals[event.side], math.sqrt(share / square)
            )
        return signals

    def times(self, value: Signal, factor: float) -> Signal:
        """Multiply a signal."""
        return scaled(value, factor)


def keys(origin: Origin | None) -> frozenset[Key]:
    """Return the parameters of an origin, each with the rows that loops took of it."""
    return frozenset(
        (number, tuple(step for step in steps if isinstance(step, int)))
        for number, steps in origin or ()
    )


def scaled(signal: Signal, factor: float) -> Signal:
    """Return a signal times a number."""
    if factor == 1.0:
        return signal
    data = signal.data * factor
    bases = tuple(
        base._replace(data=data if base.data is signal.data else base.data) for base in signal.bases
    )
    return signal.with_data(data, level=signal.level * factor**2, bases=bases)
