"""Decide where each array goes: the result, what the draws read, and all that lies between.

No other module decides that. Those that this one asks each know one source: `layouts` what a
program states, `out_shardings` what the caller and the model's metadata ask for.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Literal, Var
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Flat
from flaxinit.materialize.layouts import meshes
from flaxinit.materialize.out_shardings import checked, metadata, requested, structs
from flaxinit.materialize.partition import Draw, Partition
from flaxinit.materialize.segment import Segment, segments
from flaxinit.materialize.shardings import (
    auto,
    devices,
    everywhere,
    is_spread,
    local_bytes,
    same_devices,
    split,
)
from flaxinit.materialize.trace import Trace
from flaxinit.versions.compat import jaxprs_in_params
from flaxinit.versions.jaxpr import aval, equations, is_key, size, variables

# An argument of at most this size, such as a key, is copied to each device that needs it.
COPIED_BYTES = 2**16

Shardings = dict[Var, Sharding | None]


@dataclass(frozen=True)
class Plan:
    """What is to be made: a program in parts, and the place and the name of each output."""

    parts: Partition
    constants: dict[Var, Any]
    outputs: list[Var | Literal]
    places: list[Sharding | None]  # None is where JAX leaves it
    paths: tuple[str, ...]

    @functools.cached_property
    def drawn(self) -> set[Var]:
        return {v for draw in self.parts.draws for v in draw.outputs}

    @property
    def wanted(self) -> Shardings:
        """Where each drawn array goes; of two places, the one that holds it in parts."""
        found: Shardings = {}
        for a, place in zip(self.outputs, self.places, strict=True):
            split = place is not None and not place.is_fully_replicated
            if isinstance(a, Var) and a in self.drawn and (split or a not in found):
                found[a] = auto(place)
        return found

    @property
    def names(self) -> dict[Var, str]:
        """The first path of each output."""
        pairs = zip(reversed(self.outputs), reversed(self.paths), strict=True)
        return {a: path for a, path in pairs if isinstance(a, Var)}

    @property
    def passed_bytes(self) -> int:
        """Bytes on a device of the outputs that are passed through and not drawn."""
        return sum(
            local_bytes(a, place)
            for a, place in zip(self.outputs, self.places, strict=True)
            if isinstance(a, Var) and a not in self.drawn
        )


def place_outputs(
    out_shardings: Any, traced: Trace, flat: Flat, mesh: Mesh
) -> list[Sharding | None]:
    """Return the sharding of each array of the result, None for JAX's default device.

    If the caller gives shardings, only these count. If not, the model's metadata comes first, then
    what the init function states. An array without any is copied to each device of the mesh; if
    there is no mesh, it goes where the arrays that it is computed from were put.

    Args:
        out_shardings: what the caller asks for, checked.
        traced: the program, and what it states.
        flat: the same program, flattened.
        mesh: the mesh that is set, or an empty one.
    """
    if out_shardings is None:
        asked, on = metadata(traced.tree, traced.paths, mesh)
        copied = None if on.empty else NamedSharding(on, PartitionSpec())
        chosen = [a or b or copied for a, b in zip(asked, traced.layouts, strict=True)]
    else:
        chosen = requested(out_shardings, traced.tree, traced.paths)
    arrays = zip(traced.paths, structs(traced.tree), chosen, strict=True)
    places = [checked(path, x, choice, mesh) for path, x, choice in arrays]
    if not mesh.empty:
        return places
    origin = _origins(flat)
    return [
        origin.get(a) if place is None and isinstance(a, Var) else place
        for a, place in zip(flat.outputs, places, strict=True)
    ]


def _origins(flat: Flat) -> dict[Var, Sharding]:
    """Return where an eager run makes what it computes from arrays that were put on devices."""
    found = {
        v: x.sharding
        for v, x in flat.constants.items()
        if isinstance(x, jax.Array) and x.committed and not is_spread(x)
    }
    for step in flat.steps:
        homes = [found[v] for v in variables(step.eqn) if v in found]
        if homes:
            found.update(dict.fromkeys(step.eqn.outvars, homes[0]))
    return found


@dataclass(frozen=True)
class Compilation:
    """What an executable depends on: the function, and the places of arguments and results."""

    name: int
    sources: tuple[Sharding | None, ...]
    targets: tuple[Sharding | None, ...]


@dataclass
class Call:
    """A draw, its segments and their compilations; equal compilations share executables."""

    draw: Draw
    segments: list[Segment]
    compilations: tuple[Compilation, ...]
    home: Sharding | None  # on whose devices it is made
    level: int  # 0 if it reads no other draw's output, else one more than those it reads
    local_bytes: int  # of its outputs, on a device


def place_draws(
    draws: tuple[Draw, ...], constants: dict[Var, Any], wanted: Shardings, prints: Fingerprints
) -> tuple[list[Call], Shardings]:
    """Return the calls in the order to run them, and where each leaves its outputs.

    An output is left where it is wanted, unless another output of the same draw is wanted on
    other devices. Then it is left on those and moved afterwards.
    """
    places: Shardings = {v: x.sharding for v, x in constants.items() if is_spread(x)}
    calls = list(_calls(draws, constants, places, wanted, prints))
    # Temporaries grow with the draw: the largest run first, while memory is still empty.
    # Every process sorts alike, so that collectives meet.
    calls.sort(key=lambda c: (c.level, -c.draw.size, [s.name for s in c.segments]))
    return calls, places


def _calls(
    draws: tuple[Draw, ...],
    constants: dict[Var, Any],
    places: Shardings,
    wanted: Shardings,
    prints: Fingerprints,
) -> Iterator[Call]:
    """Yield a call for each draw, and add the places of its outputs to `places`."""
    level: dict[Var, int] = {}
    for draw in draws:
        chain = segments(draw, prints)
        read = [a for s in chain for a in s.arguments if isinstance(a, Var)]
        candidates = [wanted[v] for v in draw.outputs] + [places.get(v) for v in read]
        home = next((s for s in candidates if s is not None), None)
        alike = {aval(a).shape: places[a] for a in read if a in places}
        for v in draw.outputs:
            elsewhere = alike.get(aval(v).shape, everywhere(home))
            places[v] = wanted[v] if same_devices(wanted[v], home) else elsewhere
        # An intermediate array may be as large as an output. It is split as an output of its shape
        # is, or else into as many parts as the largest output; that changes no value. A large
        # argument is split in the same way, so that it is not copied to each device.
        largest = places[max(draw.outputs, key=size)]
        by_shape = {aval(v).shape: places[v] for v in draw.outputs}
        tables = [v for v in read if v in constants and v not in places and _is_large(v)]
        inner = {
            v: by_shape.get(aval(v).shape, split(largest, aval(v).shape))
            for v in itertools.chain(tables, *(s.outputs for s in chain))
        }
        inner |= {v: places[v] for v in draw.outputs}

        def source(a, home=home, inner=inner):
            known = None if isinstance(a, Literal) else inner.get(a, places.get(a))
            return known if same_devices(known, home) else everywhere(home)

        compilations = tuple(
            Compilation(s.name, tuple(map(source, s.arguments)), tuple(inner[v] for v in s.outputs))
            for s in chain
        )
        depth = 1 + max((level[v] for v in read if v in level), default=-1)
        level.update(dict.fromkeys(draw.outputs, depth))
        held = sum(local_bytes(v, places[v]) for v in draw.outputs)
        yield Call(draw, chain, compilations, home, depth, held)


def _is_large(v: Var) -> bool:
    return not is_key(v) and size(v) * aval(v).dtype.itemsize > COPIED_BYTES


def check_meshes(calls: list[Call], names: dict[Var, str]) -> None:
    """Refuse a draw that names devices other than those that make it."""
    inside = functools.cache(lambda program: meshes(equations(program)))  # layers share these
    for call in calls:
        eqns = [step.eqn for step in call.draw.steps]
        found = meshes(eqns).union(*(inside(x) for e in eqns for x in jaxprs_in_params(e.params)))
        for mesh in found:
            if not _fits(mesh, call.home):
                where = "JAX's default device" if call.home is None else call.home
                raise ValueError(
                    f"{names[call.draw.outputs[0]] or 'the result'}: the init function makes it on "
                    f"{mesh}, but its place is {where}. Give out_shardings on the same devices, or "
                    "leave layouts out of the init function (out_sharding=, "
                    "with_sharding_constraint, shard_map)."
                )


def _fits(mesh: Any, home: Sharding | None) -> bool:
    """Return whether a mesh has the devices of `home`, or as many if it is abstract."""
    if isinstance(mesh, Mesh):
        return home is not None and devices(home) == list(mesh.devices.flat)
    return mesh.size == (1 if home is None else len(home.device_set))
