"""Loops and branches that all devices of a ``shard_map`` run together."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from flaxinit.signal.shards.layout import STACKED, Layout, Sharded, apart, moved, refused, sharded
from flaxinit.versions.jaxpr import closed, scan_operands, while_operands

if TYPE_CHECKING:
    from flaxinit.signal.shards.devices import Devices


def scan(devices: "Devices", equation, operands: Sequence[Sharded]) -> list[Sharded]:
    """Run a loop over rows. All devices run each step together."""
    params, body = equation.params, closed(equation.params["jaxpr"])
    constants, carry, rows = scan_operands(equation, operands)
    rows = [apart(x, 0, devices.sizes) for x in rows]
    row_layouts = [Layout(x.layout.dims[1:], x.layout.stacked) for x in rows]

    def step(carried, values):
        each = sharded(values, row_layouts)
        results = devices.run(body, [*constants, *carried, *each])
        return results[: len(carried)], results[len(carried) :]

    fronts = list(map(_to_front, rows))
    first = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in fronts]
    carry = _settled(devices, carry, lambda carried, *each: step(carried, each)[0], *first)
    layouts, made = [x.layout for x in carry], []

    def values_of(carried, values):
        after, others = step(sharded(carried, layouts), values)
        made[:] = [x.layout for x in others]
        return devices.values(after, layouts), [x.value for x in others]

    kept, others = lax.scan(
        values_of,
        [x.value for x in carry],
        fronts,
        length=params["length"],
        reverse=params["reverse"],
    )
    results = sharded(kept, layouts)
    for x, (dims, stacked) in zip(others, made, strict=True):
        layout = Layout(((), *dims), stacked)
        results.append(Sharded(jnp.moveaxis(x, 0, len(stacked)), layout))
    return results


def loop(devices: "Devices", equation, operands: Sequence[Sharded]) -> list[Sharded]:
    """Run a loop that ends on all devices at once."""
    test, body, tested, fixed, carry = while_operands(equation, operands)
    carry = _settled(devices, carry, lambda carried: devices.run(body, [*fixed, *carried]))
    layouts = [x.layout for x in carry]

    def inside(values):
        return sharded(values, layouts)

    def holds(values):
        (result,) = devices.run(test, [*tested, *inside(values)])
        return _common(result, "a loop")

    def step(values):
        return devices.values(devices.run(body, [*fixed, *inside(values)]), layouts)

    kept = lax.while_loop(holds, step, [x.value for x in carry])
    return inside(kept)


def branch(devices: "Devices", equation, operands: Sequence[Sharded]) -> list[Sharded]:
    """Run the branch that all devices take."""
    which, *others = operands
    index, branches = _common(which, "a branch"), map(closed, equation.params["branches"])
    runs = [lambda body=body: devices.run(body, others) for body in branches]
    layouts = devices.layouts(runs[0])
    for run in runs[1:]:
        layouts = [_joint(*pair) for pair in zip(layouts, devices.layouts(run), strict=True)]
    made = lax.switch(index, [lambda run=run: devices.values(run(), layouts) for run in runs])
    return sharded(made, layouts)


def _common(x: Sharded, what: str) -> Any:
    """Return a value that all devices have; raise an error if they have several."""
    if x.layout.axes:
        raise refused(f"{what} that differs from device to device")
    return x.value


def _settled(
    devices: "Devices", carry: Sequence[Sharded], step: Callable[..., list[Sharded]], *shapes: Any
) -> list[Sharded]:
    """Return the start of a loop in a layout that its steps keep."""
    while True:
        found = devices.layouts(functools.partial(step, list(carry)), *shapes)
        pairs = zip((x.layout for x in carry), found, strict=True)
        layouts = [_joint(*pair) for pair in pairs]
        if layouts == [x.layout for x in carry]:
            return list(carry)
        carry = [moved(x, to, devices.sizes) for x, to in zip(carry, layouts, strict=True)]


def _joint(one: Layout, other: Layout) -> Layout:
    """Return a layout for two arrays: a mesh axis that splits both differently is stacked."""
    places = {}
    for axis in other.axes:
        mine, theirs = one.place(axis), other.place(axis)
        places[axis] = theirs if mine in (theirs, None) else STACKED
    return one.with_places(places)


def _to_front(x: Sharded) -> Any:
    return jnp.moveaxis(x.value, len(x.layout.stacked), 0)
