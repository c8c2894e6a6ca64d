"""Runs the program of one device of a ``shard_map`` for all devices at once, on whole arrays."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.shards.axes import automatic
from flaxinit.signal.shards.collectives import COLLECTIVES, names, reduced
from flaxinit.signal.shards.cut import cut
from flaxinit.signal.shards.derivatives import is_collective, with_pullback, with_tangents
from flaxinit.signal.shards.following import Operation, path, widened
from flaxinit.signal.shards.indices import is_index, looked_up, own_part
from flaxinit.signal.shards.layout import (
    PLACED,
    STACKED,
    Layout,
    Sharded,
    Total,
    moved,
    refused,
    replicated,
    sharded,
)
from flaxinit.signal.shards.loops import branch, loop, scan
from flaxinit.signal.shards.pipelines import handed_on, own
from flaxinit.signal.shards.stacks import in_parts, kept, owned
from flaxinit.signal.shards.totals import linear
from flaxinit.versions.jaxpr import Mapped, aval, called, evaluate, mapped


@dataclass(frozen=True)
class Devices:
    """Runs a program for all devices.

    Attributes:
        sizes: of the mesh axes over which it runs.
        call: the ``shard_map`` that it is inside of; None outside.
        back: whether it is a gradient's program. Take the gradient of an array that many devices
            have. On whole arrays it is one array; in a ``shard_map`` each device has a share.
        primal: the sums over devices there that depend on no gradient, by id.
        marked: whether arrays that an operation takes in parts are marked as cut.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    call: Mapped | None = None
    back: bool = False
    primal: frozenset[int] = frozenset()
    marked: bool = False

    def run(self, program: ClosedJaxpr, operands: Sequence[Sharded]) -> list[Sharded]:
        return evaluate(
            program,
            operands,
            self.equation,
            lambda atom, constant: replicated(_constant(constant, aval(atom).dtype)),
        )

    def equation(self, equation, operands: list[Sharded]) -> list[Sharded]:
        name = equation.primitive.name
        match name:
            case "shard_map":
                return self.mapped(equation, operands)
            case "custom_jvp_call" | "custom_vjp_call" if is_collective(self, equation, operands):
                pass  # for all devices the collective has the same rule
            case "custom_jvp_call":
                return with_tangents(self, equation, operands)
            case "custom_vjp_call":
                return with_pullback(self, equation, operands)
            case "scan":
                return scan(self, equation, operands)
            case "while":
                return loop(self, equation, operands)
            case "cond":
                return branch(self, equation, operands)
        if name in COLLECTIVES:
            return self.collective(equation, operands)
        if name in PLACED:
            return operands
        if body := called(equation):
            return self.run(body, operands)
        if "axis_name" in equation.params or any(isinstance(n, str) for n in _axes(equation)):
            raise refused(name)
        return self.operation(equation, operands)

    def collective(self, equation, operands: list[Sharded]) -> list[Sharded]:
        name, params = equation.primitive.name, equation.params
        if params.get("axis_index_groups") is not None:
            raise refused(f"{name} with axis_index_groups")
        if not all(isinstance(axis, str) for axis in _axes(equation)):
            raise refused(f"{name} over dimensions")
        slopes = self.back and id(equation) not in self.primal
        if slopes and name in ("psum", "psum_invariant", "reduce_scatter"):
            operands = [self.share(x, equation) for x in operands]
        if name == "ppermute" and self.marked:
            operands = [x._replace(value=cut(x.value)) if x.rank else x for x in operands]
        results = COLLECTIVES[name](params, operands, self.sizes)
        if name == "ppermute" and self.marked:
            (axis,) = names(params)
            results = [x._replace(value=handed_on(x.value, axis)) for x in results]
        alone = dict.fromkeys(axis for axis, size in self.sizes.items() if size == 1)
        return [moved(x, x.layout.with_places(alone), self.sizes) for x in results]

    def share(self, x: Sharded, equation) -> Sharded:
        """Return each device's share of a gradient that those have which will sum it."""
        axes = {*_axes(equation), *names(equation.params)}
        count = math.prod(self.sizes[axis] for axis in axes - x.layout.axes)
        return Sharded(x.value / count, x.layout) if count > 1 else x

    def mapped(self, equation, operands: list[Sharded]) -> list[Sharded]:
        """Run a ``shard_map``: the program of one device, each of whose arrays is a part."""
        call = mapped(equation)
        sizes = {**self.sizes, **call.sizes}
        # The mesh of an inner call says that the axes of the outer one are taken.
        mesh = self.call.mesh if self.call else call.mesh
        devices = replace(self, sizes=sizes, call=call._replace(mesh=mesh, sizes=sizes))
        inside = [
            Sharded(x.value, _split(x.layout, spec, call.sizes))
            for x, spec in zip(operands, call.in_specs, strict=True)
        ]
        results = devices.run(call.body, inside)
        made = []
        for x, spec in zip(results, call.out_specs, strict=True):
            outside = x.layout.with_places(dict.fromkeys(call.sizes))
            to = _split(outside, spec, call.sizes)
            made.append(Sharded(moved(x, to, devices.sizes).value, outside))
        return made

    def operation(self, equation, operands: list[Sharded]) -> list[Sharded]:
        """Run an operation, and, of a reduction whose parts are reduced later, make the result."""
        name = equation.primitive.name
        if name == "gather":
            operands = looked_up(equation, operands, self.sizes)
        if name == "dynamic_slice" and (part := own_part(equation, operands)):
            # A kernel that several devices share would count as one for each.
            shared = self.marked and part.value is not operands[0].value
            return [part._replace(value=cut(part.value)) if shared else part]
        at_once = is_index(equation, operands)
        with jax.ensure_compile_time_eval() if at_once else contextlib.nullcontext():
            results, total = self.followed(equation, operands)
        totals = [total] if total else self.passed_on(equation, operands)
        if not totals:
            return results
        return [x._replace(total=each) for x, each in zip(results, totals, strict=True)]

    def followed(
        self, equation, operands: Sequence[Sharded], parts: bool = True
    ) -> tuple[list[Sharded], Total | None]:
        """Run an operation on whole arrays along the mesh axes that it works along no part of.

        Args:
            equation: the operation.
            operands: of it.
            parts: whether the parts of a reduction are wanted, or else its result.
        """
        local = Operation(
            equation.primitive.name,
            equation.params,
            [tuple(atom.aval.shape) for atom in equation.invars],
            [tuple(var.aval.shape) for var in equation.outvars],
        )
        axes = list(dict.fromkeys(axis for x in operands for axis in _ordered(x.layout)))
        operand_places: list[dict[str, int | None]] = [{} for _ in operands]
        result_places: dict[str, Any] = {}
        later: dict[str, list[str]] = {}
        cuts: set[int] = set()
        back: dict[str, int] = {}
        for axis in axes:
            places = [x.layout.place(axis) for x in operands]
            way = path(local, places)
            if way and isinstance(way.result, str):
                later.setdefault(way.result, []).append(axis)
                way = None if parts else way._replace(result=None)
            if self.marked and way is None:
                cuts |= in_parts(local, places)
            for n, each in enumerate(operand_places):
                held = operands[n].layout.place(axis)
                each[axis] = way.operands[n] if way else None if held is None else STACKED
            result_places[axis] = way.result if way else STACKED
            if way is None and (dim := kept(local, places)) is not None:
                back[axis] = dim
        total = None
        if parts and later:
            ((kind, reduced_axes),) = later.items()
            (whole,), _ = self.followed(equation, operands, parts=False)
            total = Total(kind, frozenset(reduced_axes), whole)
        inside = [
            moved(x, _layout(len(x.layout.dims), each), self.sizes)
            for x, each in zip(operands, operand_places, strict=True)
        ]
        inside = [x._replace(value=cut(x.value)) if n in cuts else x for n, x in enumerate(inside)]
        if self.marked:
            for n, axis in owned(local, operand_places):
                inside[n] = inside[n]._replace(value=own(inside[n].value, axis))
        layouts = [_layout(len(shape), result_places) for shape in local.results]
        held = [x.value.shape[len(x.layout.stacked) :] for x in inside]
        params = widened(local, held, self.whole(local.results[0], layouts[0]))

        def run(*values):
            made = equation.primitive.bind(*values, **params)
            return made if equation.primitive.multiple_results else [made]

        for axis in reversed(layouts[0].stacked):
            run = jax.vmap(run, [0 if axis in x.layout.stacked else None for x in inside])
        try:
            results = run(*(x.value for x in inside))
        except NotImplementedError as error:  # JAX does not batch it
            raise refused(f"{local.name} that each device applies to its own parts") from error
        made = sharded(results, layouts)
        return [moved(x, x.layout.with_places(back), self.sizes) for x in made], total

    def whole(self, shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
        """Return the shape of an array, given that of its parts."""
        counts = (math.prod(self.sizes[axis] for axis in dim) for dim in layout.dims)
        return tuple(n * count for n, count in zip(shape, counts, strict=True))

    def passed_on(self, equation, operands: Sequence[Sharded]) -> list[Total]:
        """Return the reductions of what an operation makes of parts that are reduced later."""
        total = next((x.total for x in operands if x.total), None)
        if total is None or not (parts := linear(equation.primitive.name, operands, total)):
            return []
        kind, axes, _ = total
        wholes = [
            reduced(x, axes, kind, self.sizes) if n in parts else x for n, x in enumerate(operands)
        ]
        results, _ = self.followed(equation, wholes)
        return [Total(kind, axes, x) for x in results]

    def layouts(self, run: Callable[..., Sequence[Sharded]], *shapes: Any) -> list[Layout]:
        """Return the layouts of what a function makes of arrays of these shapes."""
        found = []

        def traced(*arrays):
            found[:] = [x.layout for x in run(*arrays)]

        jax.eval_shape(traced, *shapes)
        return found

    def values(self, results: Sequence[Sharded], layouts: Sequence[Layout]) -> list[Any]:
        return [moved(x, to, self.sizes).value for x, to in zip(results, layouts, strict=True)]


def _axes(equation) -> tuple[Any, ...]:
    axes = equation.params.get("axes", ())
    return tuple(axes) if isinstance(axes, tuple | list) else ()


def _constant(value: Any, dtype: Any) -> Any:
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return value
    if np.ndim(value) or isinstance(value, jax.Array):
        return automatic(jnp.asarray(value, dtype))
    return np.asarray(value, dtype)  # as an array of JAX it would be traced, and no longer known


def _layout(rank: int, places: Mapping[str, int | None]) -> Layout:
    return Layout(((),) * rank).with_places(places)


def _ordered(layout: Layout) -> list[str]:
    return [*layout.stacked, *(axis for dim in layout.dims for axis in dim)]


def _split(layout: Layout, spec: Any, sizes: Mapping[str, int]) -> Layout:
    """Return the layout of a part: each mesh axis of a partition spec splits a dimension."""
    for n, entry in enumerate(spec):
        for axis in (entry,) if isinstance(entry, str) else entry or ():
            if sizes[axis] > 1:
                layout = layout.with_places({axis: n})
    return layout
