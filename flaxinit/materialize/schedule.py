"""Which draws run where and in which order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.extend.core import Literal, Var
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, is_key, size
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.partition import Draw
from flaxinit.materialize.segment import Segment, segments
from flaxinit.materialize.transfer import everywhere, is_spread, same_devices, split

# An argument of at most this size, such as a key, is copied to each device that needs it.
COPIED_BYTES = 2**16

Shardings = dict[Var, Sharding | None]


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


def schedule(
    draws: tuple[Draw, ...], constants: dict[Var, Any], wanted: Shardings, prints: Fingerprints
) -> tuple[list[Call], Shardings]:
    """The calls in the order to run them, and where each leaves its outputs.

    An output is left where it is wanted, unless another output of the same draw is wanted on
    other devices: then it is left on those, to be moved.
    """
    places: Shardings = {v: x.sharding for v, x in constants.items() if is_spread(x)}
    calls = list(_calls(draws, constants, places, wanted, prints))
    # Temporaries grow with the draw: the largest run first, while memory is still empty.
    # Every process sorts alike, so that collectives meet.
    calls.sort(key=lambda c: (c.level, -c.draw.size, [s.name for s in c.segments]))
    return calls, places


def _is_large(v: Var) -> bool:
    return not is_key(v) and size(v) * aval(v).dtype.itemsize > COPIED_BYTES


def _calls(
    draws: tuple[Draw, ...],
    constants: dict[Var, Any],
    places: Shardings,
    wanted: Shardings,
    prints: Fingerprints,
) -> Iterator[Call]:
    level: dict[Var, int] = {}
    for draw in draws:
        chain = segments(draw, prints)
        read = [a for s in chain for a in s.arguments if isinstance(a, Var)]
        candidates = [wanted[v] for v in draw.outputs] + [places.get(v) for v in read]
        home = next((s for s in candidates if s is not None), None)
        alike = {aval(a).shape: places[a] for a in read if a in places}
        for v in draw.outputs:
            places[v] = (
                wanted[v]
                if same_devices(wanted[v], home)
                else alike.get(aval(v).shape, everywhere(home))
            )
        # An intermediate array is as large as an output: it is split as one of its shape is, or
        # else in as many parts. Where it lies changes no value. So is a large argument, which
        # would otherwise be copied as a whole to each device.
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
        yield Call(draw, chain, compilations, home, depth)
