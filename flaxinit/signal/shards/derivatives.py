"""Functions with a rule of their own for derivatives, which keep it on whole arrays."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.collectives import COLLECTIVES, names, reduced
from flaxinit.signal.shards.layout import MOVED, PLACED, Layout, Sharded, moved, refused, sharded
from flaxinit.signal.shards.sources import NONE, Sources, followed
from flaxinit.versions.jaxpr import bind, called, equations, part, traced_on_device

if TYPE_CHECKING:
    from flaxinit.signal.shards.devices import Devices


def with_tangents(devices: "Devices", equation, operands: Sequence[Sharded]) -> list[Sharded]:
    """Run a function that has a rule for tangents, and keep the rule."""
    rule = _Rule(devices, equation, operands)

    @jax.custom_jvp
    def run(*values):
        return rule.run(values)

    @run.defjvp
    def _(values, tangents):
        given = [t for t, f in zip(tangents, rule.floating, strict=True) if f]
        made = rule.apply(_pushed, values, given, rule.places)
        return rule.values(made[: len(made) // 2]), rule.values(made[len(made) // 2 :])

    return rule.results(run)


def with_pullback(devices: "Devices", equation, operands: Sequence[Sharded]) -> list[Sharded]:
    """Run a function that has a rule for gradients, and keep the rule."""
    rule = _Rule(devices, equation, operands)

    @jax.custom_vjp
    def run(*values):
        return rule.run(values)

    def back(values, slopes):
        made = iter(rule.apply(_pulled, values, slopes, rule.layouts))
        return tuple(
            _slope(devices, next(made), x.layout) if f else None
            for x, f in zip(operands, rule.floating, strict=True)
        )

    run.defvjp(lambda *values: (rule.run(values), values), back)
    return rule.results(run)


def is_collective(devices: "Devices", equation, operands: Sequence[Sharded]) -> bool:
    """Return whether a function with a rule only calls a collective, whose rule is the same.

    The sum over devices of parts that all devices have a gradient of gives it to each part; what
    is gathered is scattered, and what is scattered is gathered.

    Raises:
        ValueError: if it only calls collectives, and its rule is another one.
    """
    body = called(equation)
    forward = [] if body is None else _leaves(body)
    kinds = {each.primitive.name for each in forward}
    if not kinds & COLLECTIVES.keys() or not kinds <= COLLECTIVES.keys() | PLACED | MOVED:
        return False
    rule = _Rule(devices, equation, operands)
    gradient = equation.primitive.name == "custom_vjp_call"
    program = part(rule.program(_pulled if gradient else _pushed))
    found, sums = _collectives(_leaves(program)), _collectives(forward)
    moves = {each.primitive.name for each in _leaves(program)} - COLLECTIVES.keys() - PLACED
    if not gradient:
        same = found == sorted(2 * sums) and moves <= kinds
    else:
        wanted = sorted((_BACK[name], *rest) for name, *rest in sums if name in _BACK)
        known = all(name in _BACK or name in _SUMS for name, *_ in sums)
        given = [NONE] * len(equation.invars)
        slopes = [frozenset({str(n)}) for n in range(len(equation.outvars))]
        made = followed(program, [*given, *slopes])
        same = known and not moves and found == wanted and made == slopes
    if not same:
        assert body is not None
        name = getattr(body.jaxpr.debug_info, "func_name", "a function")
        raise refused(f"{name}, a collective with a rule of its own for derivatives")
    return True


_SUMS = ("psum", "psum_invariant")
_BACK = {
    "all_gather": "reduce_scatter",
    "all_gather_invariant": "reduce_scatter",
    "reduce_scatter": "all_gather",
}


def _leaves(program: ClosedJaxpr) -> list[Any]:
    return [each for each in equations(program) if called(each) is None]


def _collectives(found: Sequence[Any]) -> list[tuple]:
    """Return the collectives of a program, with all that tells them apart."""
    return sorted(
        (
            each.primitive.name,
            *map(str, names(each.params) or each.params.get("axes", ())),
            str(each.params.get("all_gather_dimension", each.params.get("scatter_dimension"))),
            str(each.params.get("tiled")),
        )
        for each in found
        if each.primitive.name in COLLECTIVES
    )


def _primal_sums(program: ClosedJaxpr, primals: int) -> frozenset[int]:
    """Return the sums over devices of a gradient's program that depend on no gradient, by id."""
    primal, sloped = set(), set()

    def met(equation, operands: list[Sources]) -> None:
        (sloped if NONE.union(*operands) else primal).add(id(equation))

    count = len(program.jaxpr.invars) - primals
    followed(program, [NONE] * primals + [frozenset({"slope"})] * count, met)
    return frozenset(primal - sloped)


def _slope(devices: "Devices", x: Sharded, layout: Layout) -> Any:
    """Return the gradient of an array: that of one which many devices have is a sum."""
    x = reduced(x, x.layout.axes - layout.axes, "sum", devices.sizes)
    return moved(x, layout, devices.sizes).value


class _Rule:
    """A function with a rule for its derivative, on one device."""

    def __init__(self, devices: "Devices", equation, operands: Sequence[Sharded]):
        self.devices, self.equation, self.operands = devices, equation, operands
        avals = [atom.aval for atom in equation.invars]
        self.floating = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals]
        self.places = [x.layout for x, f in zip(operands, self.floating, strict=True) if f]
        self.layouts = devices.layouts(lambda: devices.run(self.body, operands))

    @property
    def body(self) -> ClosedJaxpr:
        body = called(self.equation)
        assert body is not None
        return body

    def inside(self, values: Sequence[Any]) -> list[Sharded]:
        return sharded(values, (x.layout for x in self.operands))

    def values(self, results: Sequence[Sharded]) -> list[Any]:
        return self.devices.values(results, self.layouts)

    def run(self, values: Sequence[Any]) -> list[Any]:
        return self.values(self.devices.run(self.body, self.inside(values)))

    def results(self, run: Callable[..., Sequence[Any]]) -> list[Sharded]:
        made = run(*(x.value for x in self.operands))
        return sharded(made, self.layouts)

    def apply(
        self, derivative: Callable, values: Sequence[Any], given: Sequence[Any], layouts
    ) -> list[Sharded]:
        """Run a derivative on values, and on tangents or gradients with these layouts."""
        program = self.program(derivative)
        along = sharded(given, layouts)
        back = derivative is _pulled
        primal = _primal_sums(program, len(values)) if back else frozenset[int]()
        devices = replace(self.devices, back=back, primal=primal)
        return devices.run(program, [*self.inside(values), *along])

    def program(self, derivative: Callable) -> ClosedJaxpr:
        """Trace a derivative: (values, tangents or gradients) -> its results."""

        def one(primals, given):
            return derivative(lambda *some: self.call(primals, some), self.some(primals), given)

        wanted = self.equation.outvars if derivative is _pulled else self.some(self.equation.invars)
        avals = [[atom.aval for atom in atoms] for atoms in (self.equation.invars, wanted)]
        return traced_on_device(self.devices.call, one, *avals)

    def some(self, values: Sequence[Any]) -> list[Any]:
        return [v for v, f in zip(values, self.floating, strict=True) if f]

    def call(self, values: Sequence[Any], some: Sequence[Any]) -> list[Any]:
        rest = iter(some)
        whole = [next(rest) if f else v for v, f in zip(values, self.floating, strict=True)]
        return bind(self.equation, whole)


def _pushed(run: Callable, values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    made, along = jax.jvp(run, tuple(values), tuple(tangents))
    return [*made, *along]


def _pulled(run: Callable, values: Sequence[Any], slopes: Sequence[Any]) -> list[Any]:
    _, pull = jax.vjp(run, *values)
    return list(pull(list(slopes)))
