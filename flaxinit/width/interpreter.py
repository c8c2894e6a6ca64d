"""An interpreter that walks a model's program at two widths at once and notes parameters' uses.

Both programs have the same equations; only sizes and numbers differ. What grows is read off them,
and what a parameter does is read off the equation in which it meets the signal. Names and places
in the model mean nothing here.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, Var

from flaxinit.versions.jaxpr import called, closed, scan_operands
from flaxinit.width.alignment import aligned, paired
from flaxinit.width.depth import Depth, Place
from flaxinit.width.uses import Use
from flaxinit.width.values import KNOWN, ONE, ZERO, Value, exact, growth

# Rounds after which what a loop hands on must no longer change: each adds a use or a scale.
_ROUNDS = 8


class Different(ValueError):
    """The error of two programs that are not the same one at two widths."""


class Equation:
    """An equation at two widths.

    Attributes:
        name: of its primitive.
        base: the equation at the base width.
        target: that at the target width.
        place: where it stands.
    """

    def __init__(self, base, target, place: Place):
        self.name, self.base, self.target, self.place = target.primitive.name, base, target, place
        self.params = target.params

    def shapes(self, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of an operand, at the base and at the target width."""
        return self.base.invars[n].aval.shape, self.target.invars[n].aval.shape

    def out_shapes(self, n: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.base.outvars[n].aval.shape, self.target.outvars[n].aval.shape

    def growth(self, n: int):
        return growth(*self.shapes(n))

    def out_growth(self, n: int = 0):
        return growth(*self.out_shapes(n))


class Interpreter:
    """One walk through a program at two widths.

    Attributes:
        names: of the parameters.
        drawn: whether each is drawn at random, rather than constant.
        apply: the rules of operations that are not calls or loops.
        settle: makes a signal of a value of parameters.
        uses: what was found; values name them by their number here.
        products: each product with the signal, by its place: the parameters in it, or none where
            both factors are signals, and what it makes.
        unowned: places where something that grows meets a function that is not linear, with what
            it grows by, and no parameter that could be drawn smaller.
        sourceless: parameters that sum over an axis that grows and that no parameter made.
        depth: branches and repetitions; None if the depth may not differ.
    """

    def __init__(self, names: list[str], drawn: Sequence[bool], apply: "Rule", settle, deep: bool):
        self.names, self.drawn, self.apply, self.settle = names, drawn, apply, settle
        self.depth = Depth() if deep else None
        self.uses: list[Use] = []
        self.numbers: dict[Any, int] = {}
        self.products: dict[Place, tuple[tuple[int, ...], Value]] = {}
        self.unowned: dict[Place, tuple[str, float]] = {}
        self.sourceless: set[int] = set()

    def run(
        self, base: ClosedJaxpr, target: ClosedJaxpr, operands: Sequence[Value], place: Place = ()
    ) -> list[Value]:
        """Run a program at both widths and return its results."""
        alignment = aligned(base, target)
        if alignment is None or (alignment.run and self.depth is None):
            raise Different(_difference(base, target))
        if self.depth is not None:
            self.depth.enter(place, alignment)
        values: dict[Any, Value] = dict(zip(target.jaxpr.invars, operands, strict=True))
        pairs = paired(base, target) if target.consts and alignment.run else {}
        consts = dict(zip(base.jaxpr.constvars, base.consts, strict=True))
        for n, (var, value) in enumerate(zip(target.jaxpr.constvars, target.consts, strict=True)):
            like = pairs.get(var) if alignment.run else base.jaxpr.constvars[n]
            values[var] = constant(consts[like], value) if like in consts else KNOWN

        def read(one, other) -> Value:
            if isinstance(other, Literal):
                return constant(one.val, other.val) if isinstance(one, Literal) else KNOWN
            return values[other]

        for n, other in enumerate(target.eqns):
            one = base.eqns[alignment.beside[n]]
            alike = len(one.invars) == len(other.invars)
            if not alike and (self.depth is None or not called(other)):
                raise Different(_difference(base, target))
            likes = one.invars if alike else [None] * len(other.invars)
            inputs = [read(*atoms) for atoms in zip(likes, other.invars, strict=True)]
            equation = Equation(one, other, (*place, n))
            values.update(zip(other.outvars, self.equation(equation, inputs), strict=True))
        pairs = zip(base.jaxpr.outvars, target.jaxpr.outvars, strict=True)
        return [read(*atoms) for atoms in pairs]

    def equation(self, equation: Equation, values: list[Value]) -> list[Value]:
        name, place = equation.name, equation.place
        if name == "scan":
            return self.scan(equation, values)
        if name == "while":
            return self.loop(equation, values)
        if name == "cond":
            return self.branches(equation, values)
        body = called(equation.target)
        if body is not None:
            other = called(equation.base)
            assert other is not None
            return self.run(other, body, values, place)
        return self.apply(self, equation, values)

    def scan(self, equation: Equation, values: list[Value]) -> list[Value]:
        base, target = (closed(e.params["jaxpr"]) for e in (equation.base, equation.target))
        lengths = equation.base.params["length"], equation.params["length"]
        constants, carry, rows = scan_operands(equation.target, values)
        if self.depth is not None:
            self.depth.loop(equation.place, *lengths, {n for row in rows for n in row.parts})
        elif lengths[0] != lengths[1]:
            raise Different(
                f"a loop has {lengths[0]} steps at the base width and {lengths[1]} at the other"
            )
        if lengths[0] != lengths[1]:
            self.refuse_shared(constants)
        rows = [row.moved(lambda axes: axes[1:]) for row in rows]

        def step(carry):
            return self.run(base, target, [*constants, *carry, *rows], equation.place)

        places = scan_operands(equation.target, list(range(len(values))))[1]
        flags = [value.signal for value in (*constants, *carry, *rows)]
        signals = _signals(target, flags, len(constants), len(carry))
        carry = self.settled(equation, places, carry, signals)
        carry, results = self.repeated(step, carry)
        stacked = [result.moved(lambda axes: (ONE, *axes)) for result in results[len(carry) :]]
        return [*carry, *stacked]

    def refuse_shared(self, values: Sequence[Value]) -> None:
        names = ", ".join(self.names[n] for value in values for n in value.parts)
        if names:
            raise ValueError(
                f"{names} serves every block: how such a parameter scales with the depth is not "
                "known. Give each block its own, or leave the depth as it is."
            )

    def loop(self, equation: Equation, values: list[Value]) -> list[Value]:
        params = equation.params
        start, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        base, target = (closed(e.params["body_jaxpr"]) for e in (equation.base, equation.target))
        fixed, carry = values[start:end], values[end:]
        flags = [value.signal for value in (*fixed, *carry)]
        signals = _signals(target, flags, len(fixed), len(carry))
        carry = self.settled(equation, range(end, len(values)), carry, signals)
        carry, _ = self.repeated(
            lambda carry: self.run(base, target, [*fixed, *carry], equation.place), carry
        )
        return carry

    def settled(self, equation: Equation, places, carry: list[Value], signals) -> list[Value]:
        """Make a signal of what a loop turns into one, such as a state of zeros, at its start."""
        return [
            self.settle(self, equation, place, replace(value, signal=not value.parametric))
            if signal
            else value
            for place, value, signal in zip(places, carry, signals, strict=True)
        ]

    def repeated(self, step, carry: list[Value]) -> tuple[list[Value], list[Value]]:
        """Return what a loop hands on after any number of steps, and the results of a step."""
        for _ in range(_ROUNDS):
            results = step(carry)
            after = [joined(a, b) for a, b in zip(carry, results, strict=False)]
            if after == carry:
                return carry, results
            carry = after
        raise ValueError("what a loop of the model hands on grows from step to step")

    def branches(self, equation: Equation, values: list[Value]) -> list[Value]:
        bodies = zip(equation.base.params["branches"], equation.params["branches"], strict=True)
        first, *others = (
            self.run(closed(one), closed(other), values[1:], (*equation.place, n))
            for n, (one, other) in enumerate(bodies)
        )
        for other in others:
            first = [joined(a, b) for a, b in zip(first, other, strict=True)]
        return first

    def use(self, use: Use, place: Hashable) -> int:
        """Note a use, which later rounds of a loop find again, and return its number."""
        key = (place, use.parameter)
        if key in self.numbers:
            self.uses[self.numbers[key]].scale = use.scale
        else:
            self.numbers[key] = len(self.uses)
            self.uses.append(use)
        return self.numbers[key]

    def consumed(self, value: Value, place: Place, what: str) -> None:
        """Note by how much products of parameters are multiplied when a function meets them."""
        for number, scale in value.scales.items():
            self.uses[number].scales.add(scale)
        if value.signal and not value.scales and value.size not in (0, 1):
            self.unowned[place] = (what, value.size)


Rule = Callable[[Interpreter, Equation, list[Value]], list[Value]]


def _signals(body: ClosedJaxpr, flags: list[bool], first: int, count: int) -> list[bool]:
    """Return which values that a loop hands on depend on signals after all of its steps.

    Args:
        body: one step.
        flags: which of its operands are signals at first.
        first: the number of the first value that is handed on, among the operands.
        count: of the values that are handed on.
    """
    flags = list(flags)
    while True:
        reached = {var for var, flag in zip(body.jaxpr.invars, flags, strict=True) if flag}
        for equation in body.eqns:
            if any(isinstance(atom, Var) and atom in reached for atom in equation.invars):
                reached.update(equation.outvars)
        after = [isinstance(atom, Var) and atom in reached for atom in body.jaxpr.outvars[:count]]
        before = flags[first : first + count]
        both = [a or b for a, b in zip(before, after, strict=True)]
        if both == before:
            return both
        flags[first : first + count] = both


def joined(one: Value, other: Value) -> Value:
    """Join two values into one that may be either: of two branches, or steps of a loop."""
    if one == other:
        return one
    if one.signal or other.signal or not (one.parts or other.parts):
        return Value(
            signal=one.signal or other.signal,
            size=max(one.size, other.size),
            scales={**one.scales, **other.scales},
            behind=one.behind | other.behind,
        )
    raise ValueError("a parameter is changed in a loop or a branch before it meets the signal")


def constant(base: Any, target: Any) -> Value:
    """Return the value of a constant, which grows only if its entries are equal at each width."""
    if jax.dtypes.issubdtype(getattr(target, "dtype", np.float32), jax.dtypes.prng_key):
        return KNOWN
    one, other = np.asarray(base), np.asarray(target)
    if one.dtype.kind not in "iuf" or not one.size or not other.size:
        return KNOWN
    if np.all(one == one.flat[0]) and np.all(other == other.flat[0]):
        first, second = abs(float(one.flat[0])), abs(float(other.flat[0]))
        if first == second == 0:
            return ZERO
        if 0 < first < np.inf and 0 < second < np.inf:
            return Value(size=exact(second / first))
    return KNOWN


def _difference(base: ClosedJaxpr, target: ClosedJaxpr) -> str:
    names = [[each.primitive.name for each in program.eqns] for program in (base, target)]
    for n, (one, other) in enumerate(zip(*names, strict=False)):
        if one != other:
            return f"operation {n + 1} is {one} at the base width and {other} at the other"
    return f"{len(names[0])} operations at the base width, {len(names[1])} at the other"
