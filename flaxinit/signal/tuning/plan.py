"""Plan: the part that each kernel of a program plays, read before any number is known.

One walk over the program finds

- what multiplies the signal, and whether it is linear in one parameter;
- the kernels that a norm makes indifferent to a factor: the outputs have degree 0 in them;
- the sums in which a branch joins the residual stream, and which parameters end the branch;
- the sums of several fresh products, which share one second moment.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.extend.core import ClosedJaxpr

from flaxinit.signal.tuning.homogeneity import (
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
from flaxinit.versions.jaxpr import called, closed, evaluate, unroll_scan

INPUT: Key = (-1, ())  # a maker that stands for the inputs
KERNELS = ("dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general")


class Trail:
    """The place of each equation in a run: its number in every enclosing program, and their runs.

    Every walk over a program in the same order gives its equations the same places.
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


@dataclass(frozen=True)
class Bias:
    """The sum of a fresh product and a bias.

    Attributes:
        side: of the bias among the two operands.
        bias: the parameter.
        owner: of the kernel.
    """

    side: int
    bias: Key
    owner: Key


@dataclass
class Plan:
    """What each parameter does in a program.

    Attributes:
        owners: the parameter that scales what a kernel makes, by the parameters that it has.
        products: the owner of the kernel of each product, by place.
        sums: branches, merges and biases, by place.
        lookups: parameters of which rows are looked up.
        makers: the kernels that made a kernel's input, at its first use; `INPUT` for inputs.
        readers: how many kernels and outputs read what a kernel made, at all its uses; a residual
            stream has several.
        states: kernels whose first input is 0: the state of a recurrent cell.
        free: parameters in which all outputs have degree 0.
        branches: the number of branches of a stream, by the place where it began.
        order: the parameters that are multiplied with signals, in order of use.
        groups: parameters that are concatenated to one kernel, which have one factor, by its owner.
        mixed: owners of kernels whose parts are also at work in another way.
    """

    owners: dict[frozenset[Key], Key | None] = field(default_factory=dict)
    products: dict[Place, Key] = field(default_factory=dict)
    sums: dict[Place, Branch | Merge | Bias] = field(default_factory=dict)
    lookups: set[Key] = field(default_factory=set)
    makers: dict[Key, frozenset[Key]] = field(default_factory=dict)
    readers: Counter[Key] = field(default_factory=Counter)
    states: set[Key] = field(default_factory=set)
    free: set[Key] = field(default_factory=set)
    branches: dict[Place, int] = field(default_factory=dict)
    order: dict[Key, None] = field(default_factory=dict)
    groups: dict[Key, Group] = field(default_factory=dict)
    mixed: set[Key] = field(default_factory=set)

    def group(self, owner: Key) -> Group:
        """Return the parameters that have the factor of an owner."""
        return self.groups.get(owner, frozenset({owner}))

    def owner(self, key: Key) -> Key:
        """Return the parameter that has the factor of this one."""
        return next((owner for owner, group in self.groups.items() if key in group), key)

    @property
    def fixed(self) -> frozenset[Key]:
        """Parameters that are left as they are."""
        return frozenset(self.lookups | self.free | self.states | self.mixed)

    def before(self, key: Key) -> Key | None:
        """Return the one kernel whose outputs go to this kernel and nowhere else, if there is one.

        The gradients of the two are those of one path. Where more read the same outputs, as from
        a residual stream, the gradient of these is a sum over paths.
        """
        makers = self.makers.get(key, frozenset())
        maker = next(iter(makers)) if len(makers) == 1 else INPUT
        alone = self.readers[maker] == 1 and maker not in self.lookups | {INPUT}
        return maker if alone else None

    def why(self, key: Key, chosen: bool) -> str:
        """Say in words what a parameter's factor is for."""
        key = self.owner(key)
        if key in self.lookups:
            return "rows are looked up"
        if key in self.free:
            return "a norm divides its outputs"
        if key in self.states:
            return "reads a state that starts at 0"
        if key not in self.owners.values() or key in self.mixed:
            return "joined with others or changed: no factor on it alone scales the kernel"
        if not chosen:
            return "starts at 0, or is not random"
        sums = [each for each in self.sums.values() if isinstance(each, Branch)]
        count = max((self.branches[each.stream] for each in sums if key in each.end), default=0)
        return f"ends 1 of {count} branches" if count else "keeps its input's signal"


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
        Value({frozenset({(n, ())}): 1.0}, zero=zero, whole=(n, ()))
        if n < len(sizes)
        else Value(zero=zero)
        for n, zero in enumerate(zeros)
    ]
    count = len(program.jaxpr.invars) - len(known)
    inputs = [Value(signal=True, start=(-1, n), makers=frozenset({INPUT})) for n in range(count)]
    walk = _Walk(sizes)
    results = walk.run(program, [*known, *inputs])
    made = walk.plan
    outputs = [value for value in results if value.signal]
    for value in outputs:
        made.readers.update(value.makers)
    owners = {owner for owner in made.owners.values() if owner is not None}
    made.free = {
        key
        for key in owners
        if outputs and all(value.degree(made.group(key)) == 0 for value in outputs)
    }
    return made


def _parameter(key: Key, zero: bool) -> Value:
    return Value({frozenset({key}): 1.0}, zero=zero, whole=key)


class _Walk:
    def __init__(self, sizes: Sequence[int]):
        self.sizes = sizes
        self.plan = Plan()
        self.trail = Trail()
        self.order: dict[Group, int] = {}  # of ends, by when they were met
        self.together: dict[Key, Group] = {}  # what a parameter is scaled with

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
            return replace(made, start=values[0].start, whole=values[0].whole)
        if name == "add":
            self.bias(values, place)
        if name in KERNELS and any(v.zero and v.is_constant for v in values):
            self.plan.states |= {owner for v in values if (owner := self.owner(v)) is not None}
        if made.signal and made.degrees:
            made = self.met(name, values, made, place)
        return made

    def latest(self, values: Sequence[Value], made: Value) -> Group | None:
        """Return the latest end of the operands in whose scale the result has degree 1."""
        ends = {v.end for v in values if v.end is not None and made.degree(v.end) == 1}
        return max(ends, key=lambda end: self.order[end], default=None)

    def bias(self, values: Sequence[Value], place: Place) -> None:
        for side in (0, 1):
            bias, product = values[side], values[1 - side]
            if bias.whole and product.whole and bias.is_parameter and product.signal:
                self.plan.sums[place] = Bias(side, bias.whole, product.whole)

    def met(self, name: str, values: Sequence[Value], made: Value, place: Place) -> Value:
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
            self.plan.readers.update(made.makers)
            self.plan.owners[keys] = owner
            self.plan.order.update(dict.fromkeys(sorted(self.plan.group(owner) if owner else keys)))
            met = made.met | new
            made = replace(made, met=met, makers=keys, whole=owner, stream=None, root=None)
        elif name in ("gather", "dynamic_slice", "take"):
            self.plan.lookups |= keys
            self.plan.order.update(dict.fromkeys(sorted(keys)))
            return replace(made, met=made.met | keys, makers=keys, stream=None, root=None)
        elif name != "mul" or made.end is not None:
            return made
        else:
            self.plan.owners.setdefault(keys, owner)
        if owner is None:
            return replace(made, end=None)
        if not made.zero:
            self.plan.products[place] = owner
        end = self.plan.group(owner)
        self.order[end] = len(self.order)
        return replace(made, end=end)

    def owner(self, kernel: Value) -> Key | None:
        """Return the largest of the parameters in which a kernel is linear.

        Of several that are concatenated it stands for all.
        """
        linear = [group for group, degree in kernel.degrees.items() if degree == 1]
        group = max(linear, key=lambda keys: sum(map(self.size, keys)), default=None)
        if group is None:
            return None
        owner = max(sorted(group), key=self.size)
        if any(self.together.setdefault(key, group) != group for key in group):
            self.plan.mixed |= {owner, *(self.plan.owner(key) for key in group)}
        elif len(group) > 1:
            self.plan.groups[owner] = group
        return owner

    def size(self, key: Key) -> int:
        return self.sizes[key[0]]

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
        one, other = values[0].end, values[1].end
        if one and other and one != other and values[0].met != values[1].met:
            self.plan.sums[place] = Merge((one, other))
            end = one | other  # scaled together, they scale the sum
            self.order[end] = len(self.order)
            degrees = {**made.degrees, end: 1.0}
            return replace(made, end=end, degrees=degrees, stream=None, root=None)
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
