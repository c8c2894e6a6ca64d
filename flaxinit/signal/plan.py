"""Plan: what each kernel of a program is to the signal, read before any number is known.

One walk over the program finds

- what multiplies the signal, and whether it is linear in one parameter;
- the kernels that a norm makes indifferent to a factor: the outputs have degree 0 in them;
- the sums in which a branch joins the residual stream, and which parameters end the branch;
- the sums of several fresh products, which share one second moment.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.extend.core import ClosedJaxpr

from flaxinit.jaxpr import called, closed, evaluate, unroll_scan
from flaxinit.signal.homogeneity import (
    Group,
    Key,
    Place,
    Value,
    alike,
    applied,
    constant,
    joined,
    moves,
    row,
)

KERNELS = ("dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general")


class Trail:
    """The place of each equation in a run: its number in every enclosing program, and their runs.

    All who walk over a program in the same order give its equations the same places.
    """

    def __init__(self):
        self._numbers, self._runs = [], []

    def __enter__(self):
        """Begin a run of a program; the equation that runs it may do so several times."""
        if self._runs:
            self._runs[-1] += 1
        self._numbers.append(0)
        self._runs.append(0)
        return self

    def __exit__(self, *_):
        self._numbers.pop()
        self._runs.pop()

    def step(self) -> Place:
        """Go on to the next equation and return its place."""
        self._numbers[-1] += 1
        self._runs[-1] = 0
        pairs = zip(self._numbers, self._runs, strict=True)
        return tuple(itertools.chain.from_iterable(pairs))


@dataclass(frozen=True)
class Branch:
    """The sum of a residual stream and a branch.

    Attributes:
        side: of the branch among the two operands.
        end: parameters in whose common scale the branch has degree 1.
        stream: where the stream began.
        start: since where it was changed by nothing but sums.
    """

    side: int
    end: Group
    stream: Place
    start: Place


@dataclass(frozen=True)
class Merge:
    """The sum of two fresh products.

    Attributes:
        ends: of both operands.
    """

    ends: tuple[Group, Group]


@dataclass
class Plan:
    """What each parameter does in a program.

    Attributes:
        owners: the parameter that scales what a kernel makes, by the parameters that it has.
        sums: branches and merges, by place.
        lookups: parameters of which rows are looked up.
        makers: the kernels that made a kernel's input, at its first use.
        free: parameters in which all outputs have degree 0.
        branches: the number of branches of a stream, by the place where it began.
        order: the parameters that are multiplied with signals, in order of use.
    """

    owners: dict[frozenset[Key], Key | None] = field(default_factory=dict)
    sums: dict[Place, Branch | Merge] = field(default_factory=dict)
    lookups: set[Key] = field(default_factory=set)
    makers: dict[Key, frozenset[Key]] = field(default_factory=dict)
    free: set[Key] = field(default_factory=set)
    branches: dict[Place, int] = field(default_factory=dict)
    order: dict[Key, None] = field(default_factory=dict)

    def ends(self) -> dict[Key, int]:
        """Return the number of branches of the stream, for each parameter that ends one."""
        found: dict[Key, int] = {}
        for each in self.sums.values():
            if isinstance(each, Branch):
                for key in each.end:
                    found[key] = max(found.get(key, 0), self.branches[each.stream])
        return found


def plan(program: ClosedJaxpr, zeros: Sequence[bool], sizes: Sequence[int]) -> Plan:
    """Make the plan of a program.

    Args:
        program: of parameters, then state and inputs.
        zeros: whether all entries of each parameter, and of each array of state, are 0.
        sizes: of the parameters.

    Returns:
        The plan.
    """
    known = [
        Value({frozenset({(n, ())}): 1.0} if n < len(sizes) else {}, zero=zero)
        for n, zero in enumerate(zeros)
    ]
    count = len(program.jaxpr.invars) - len(known)
    inputs = [Value(signal=True, start=(-1, n)) for n in range(count)]
    walk = _Walk(sizes)
    results = walk.run(program, [*known, *inputs])
    made = walk.plan
    outputs = [value for value in results if value.signal]
    owners = {owner for owner in made.owners.values() if owner is not None}
    made.free = {
        key
        for key in owners
        if outputs and all(value.degree(frozenset({key})) == 0 for value in outputs)
    }
    return made


class _Walk:
    def __init__(self, sizes: Sequence[int]):
        self.sizes = sizes
        self.plan = Plan()
        self.trail = Trail()
        self.order: dict[Group, int] = {}  # of ends, by when they were met

    def run(self, program: ClosedJaxpr, operands: Sequence[Value]) -> list[Value]:
        with self.trail:
            return evaluate(program, operands, self.equation, lambda atom, value: constant(value))

    def equation(self, equation, values: list[Value]) -> list[Value]:
        place = self.trail.step()
        name = equation.primitive.name
        if body := called(equation):
            return self.run(body, values)
        if name == "scan" and equation.params["length"]:
            return unroll_scan(equation, values, self.run, row, _stacked)
        if name == "cond" and values[0].number is not None:
            branch = closed(equation.params["branches"][int(values[0].number)])
            return self.run(branch, values[1:])
        result = self.result(name, equation.params, values, place)
        return [result for _ in equation.outvars]

    def result(self, name: str, params: Any, values: list[Value], place: Place) -> Value:
        if name in ("add", "add_any") and all(value.signal for value in values):
            return self.sum(values, place)
        made = applied(name, params, values)
        made = replace(made, end=self.latest(values, made), start=place)
        if moves(name):
            return replace(made, start=values[0].start)
        if made.signal and made.degrees:
            made = self.met(name, values, made)
        return made

    def latest(self, values: Sequence[Value], made: Value) -> Group | None:
        """Return the latest end of the operands in whose scale the result has degree 1."""
        ends = {v.end for v in values if v.end is not None and made.degree(v.end) == 1}
        return max(ends, key=lambda end: self.order[end], default=None)

    def met(self, name: str, values: Sequence[Value], made: Value) -> Value:
        """Note the meeting of a signal with a kernel, a table or a scale."""
        kernels = [value for value in values if value.is_parameter]
        if len(kernels) != 1:
            return made
        keys = frozenset().union(*(group for group in kernels[0].degrees))
        owner = self.owner(kernels[0])
        if name in KERNELS:
            new = keys - {key for key in keys if key in made.met}
            if owner is not None and owner not in self.plan.makers:
                self.plan.makers[owner] = made.makers
            self.plan.owners[keys] = owner
            self.plan.order.update(dict.fromkeys([owner] if owner else sorted(keys)))
            met = made.met | new
            made = replace(made, met=met, makers=keys, stream=None, root=None)
        elif name in ("gather", "dynamic_slice", "take"):
            self.plan.lookups |= keys
            self.plan.order.update(dict.fromkeys(sorted(keys)))
            return replace(made, met=made.met | keys, makers=keys, stream=None, root=None)
        elif name != "mul" or made.end is not None:
            return made
        else:
            self.plan.owners.setdefault(keys, owner)
        end = None if owner is None else frozenset({owner})
        if end is not None:
            self.order[end] = len(self.order)
        return replace(made, end=end)

    def owner(self, kernel: Value) -> Key | None:
        """Return the largest of the parameters in which a kernel is linear."""
        linear = [
            key
            for group, degree in kernel.degrees.items()
            if degree == 1 and len(group) == 1
            for key in group
        ]
        return max(linear, key=lambda key: self.sizes[key[0]], default=None)

    def sum(self, values: Sequence[Value], place: Place) -> Value:
        """Add two signals: a branch to a stream, two fresh products, or parts of one thing."""
        made = replace(joined(values), degrees=alike(values), zero=all(v.zero for v in values))
        made = replace(made, start=place, end=self.latest(values, made))
        roots = [value.met if value.root is None else value.root for value in values]
        sides = [s for s in (0, 1) if roots[1 - s] < values[s].met and roots[1 - s] != roots[s]]
        if len(sides) == 2:  # the stream is the one that began earlier
            sides = [side for side in sides if roots[1 - side] < roots[side]]
        if len(sides) == 1:
            return self.branch(values, sides[0], made, place)
        ends = [value.end for value in values]
        if None not in ends and values[0].met != values[1].met and ends[0] != ends[1]:
            end = frozenset().union(*ends)
            self.order[end] = len(self.order)
            self.plan.sums[place] = Merge((ends[0], ends[1]))
            # Scaled together they scale the sum.
            return replace(
                made, end=end, degrees={**made.degrees, end: 1.0}, stream=None, root=None
            )
        return made

    def branch(self, values: Sequence[Value], side: int, made: Value, place: Place) -> Value:
        stream, branch = values[1 - side], values[side]
        begun = stream.start if stream.stream is None else stream.stream
        root = stream.met if stream.root is None else stream.root
        if begun is None:
            return made
        if branch.end is not None and not branch.zero:
            start = stream.start or begun
            self.plan.sums[place] = Branch(side, branch.end, begun, start)
            self.plan.branches[begun] = self.plan.branches.get(begun, 0) + 1
        return replace(made, stream=begun, root=root, start=stream.start, end=None)


def _stacked(steps: Sequence[Value]) -> Value:
    made = joined(steps)
    return replace(made, degrees=alike(steps), zero=all(step.zero for step in steps))
