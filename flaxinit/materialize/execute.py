"""Compile each distinct draw once and run it as often as the model has it, on its devices."""

import functools
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal, Var
from jax.sharding import Sharding

from flaxinit.materialize.atoms import aval, unwrapped, value, weakly, wrapped
from flaxinit.materialize.axes import auto
from flaxinit.materialize.compile import applied, compiled, is_exact, lower, memory
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Flat
from flaxinit.materialize.keys import KeyCall, evaluate_keys, key_calls
from flaxinit.materialize.layouts import check_layouts
from flaxinit.materialize.partition import Partition
from flaxinit.materialize.report import Group, Report
from flaxinit.materialize.schedule import Call, Compilation, Shardings, schedule
from flaxinit.materialize.transfer import host_values, local_bytes, place

# Draws are dispatched without waiting until results and temporaries of this size are under way
# on a device: enough to hide the dispatch of small draws, nothing beside a large model.
IN_FLIGHT_BYTES = 2**24


class Executor:
    """Runs draws, and keeps what it has compiled for the next call."""

    def __init__(self) -> None:
        self.prints = Fingerprints()
        self.executables: dict[Compilation, Any] = {}

    def run(
        self,
        flat: Flat,
        parts: Partition,
        shardings: list[Sharding | None],
        paths: tuple[str, ...],
        report: Report,
        advance: Callable[[int], None],
    ) -> list[jax.Array]:
        """The outputs of a program, each in its place.

        Args:
          flat: the program.
          parts: what it was divided into.
          shardings: where each output goes, None for where JAX leaves it.
          paths: the names of the outputs, for the report.
          report: filled in.
          advance: told the bytes of each draw when it has been dispatched.
        """
        drawn = {v for draw in parts.draws for v in draw.outputs}
        wanted: Shardings = {}
        names: dict[Var, str] = {}
        for a, sharding, path in zip(flat.outputs, shardings, paths, strict=True):
            if isinstance(a, Var) and a in drawn:
                # Of two places of one array that which has it in parts: it is copied from there.
                if a not in wanted or not (sharding is None or sharding.is_fully_replicated):
                    wanted[a] = auto(sharding)
                names.setdefault(a, path)
        keys = key_calls(parts.keys, flat.constants, self.prints)
        calls, places = schedule(parts.draws, flat.constants, wanted, self.prints)
        check_layouts(calls, names)
        seconds = self._compile(calls, keys, report)

        start = time.perf_counter()
        arguments = [s.arguments for c in calls for s in c.segments] + [c.eqn.invars for c in keys]
        read = {a for each in arguments for a in each if isinstance(a, Var)}
        env = host_values(read & flat.constants.keys(), flat.constants)
        env = evaluate_keys(keys, env, self.executables, self.prints)
        report.key_seconds = time.perf_counter() - start

        inputs = host_values(read & env.keys(), env)
        env = (
            flat.constants
            | env
            | self._draw(calls, inputs, places, names, seconds, report, advance)
        )

        def array(v, sharding):
            x = unwrapped(env[v])
            # Not drawn, or an array that is wanted on two sets of devices.
            if v not in drawn or auto(sharding) != places[v]:
                # The key program evaluates equal equations once, and JAX traces a table once.
                made_once = v not in drawn and v not in flat.constants
                x = place(np.asarray(x) if made_once else x, sharding)
            elif sharding != places[v]:  # the same shards, on a mesh of explicit axes
                x = jax.device_put(x, sharding)
            return wrapped(weakly(x, aval(v)), aval(v).dtype)

        shared = functools.cache(array)  # what is shared stays shared
        tables = {v for v, x in flat.constants.items() if not isinstance(x, jax.Array)}
        return [
            weakly(place(value(a), s), aval(a))
            if isinstance(a, Literal)
            else (array if a in tables else shared)(a, s)
            for a, s in zip(flat.outputs, shardings, strict=True)
        ]

    def _compile(
        self, calls: list[Call], keys: list[KeyCall], report: Report
    ) -> dict[Compilation, float]:
        """Compile what is not compiled yet, side by side; the seconds that each took.

        Nothing else is done meanwhile, so that the figures in the report are those of compiling.
        """
        drawn = (zip(c.compilations, c.segments, strict=True) for c in calls)
        of_keys = ((c.compilation, c.segment) for c in keys if c.compilation and c.segment)
        distinct = dict(itertools.chain(*drawn, of_keys))
        wall, processor = time.perf_counter(), time.process_time()
        futures = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for c, segment in distinct.items():
                if c not in self.executables:
                    lowered = lower(segment, c.sources, c.targets)
                    futures[c] = pool.submit(compiled, lowered, exact=is_exact(segment))
        seconds = {}
        for c, future in futures.items():
            self.executables[c], seconds[c] = future.result()
        report.compile_seconds = time.perf_counter() - wall
        report.compile_processor_seconds = time.process_time() - processor
        return seconds

    def _draw(
        self,
        calls: list[Call],
        inputs: dict[Var, Any],
        places: Shardings,
        names: dict[Var, str],
        seconds: dict[Compilation, float],
        report: Report,
        advance: Callable[[int], None],
    ) -> dict[Var, Any]:
        """The outputs of all draws."""
        groups: dict[tuple[Compilation, ...], Group] = {}
        env: dict[Var, Any] = {}
        for compilations, batch in itertools.groupby(calls, lambda c: c.compilations):
            batch = list(batch)
            outputs = [v for call in batch for v in call.draw.outputs]
            group = groups.setdefault(compilations, _group(batch[0], names))
            group.compile_seconds += sum(seconds.pop(c, 0.0) for c in compilations)
            executables = [self.executables[c] for c in compilations]
            cost = memory(executables) or IN_FLIGHT_BYTES
            room = max(1, IN_FLIGHT_BYTES // cost)
            start = time.perf_counter()
            made = _run(executables, batch, inputs | env, room, advance)
            group.draw_seconds += time.perf_counter() - start
            group.draws += len(batch)
            group.bytes_per_device += sum(local_bytes(v, places[v]) for v in outputs)
            held = sum(g.bytes_per_device for g in groups.values())
            held += min(room, len(batch)) * cost
            report.peak_bytes_per_device = max(report.peak_bytes_per_device, held)
            env.update(made)
        report.groups = list(groups.values())
        return env


def _run(
    executables: list[Any],
    batch: list[Call],
    inputs: dict[Var, Any],
    room: int,
    advance: Callable[[int], None],
) -> dict[Var, jax.Array]:
    """Run equal draws one after the other, at most `room` of them at a time."""
    made: dict[Var, jax.Array] = {}
    under_way: deque[list[jax.Array]] = deque()
    for call in batch:
        if len(under_way) == room:
            jax.block_until_ready(under_way.popleft())
        local: dict[Var, Any] = {}
        for executable, segment, compilation in zip(
            executables, call.segments, call.compilations, strict=True
        ):
            arguments = [
                value(a) if isinstance(a, Literal) else local[a] if a in local else inputs[a]
                for a in segment.arguments
            ]
            arguments = list(map(_moved, arguments, compilation.sources))
            results = applied(executable, segment, arguments)
            local.update(zip(segment.outputs, results, strict=True))
        under_way.append([local[v] for v in call.draw.outputs])
        made.update(zip(call.draw.outputs, under_way[-1], strict=True))
        advance(call.draw.size)
    jax.block_until_ready(list(under_way))
    return made


def _moved(x: Any, source: Sharding | None) -> Any:
    """An array of another draw may be on other devices than this draw."""
    if isinstance(x, jax.Array) and source is not None and x.sharding != source:
        return jax.device_put(x, source)
    return x


def _group(call: Call, names: dict[Var, str]) -> Group:
    first, *others = call.draw.outputs
    more = f" and {len(others)} more" if others else ""
    return Group(names[first] + more, aval(first).str_short())
