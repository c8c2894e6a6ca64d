"""Compile each distinct draw once and run it as often as the model has it, on its devices."""

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal, Var
from jax.sharding import Sharding

from flaxinit.materialize.compile import (
    applied,
    compiled,
    lower,
    memory,
    unwrapped,
    wrapped,
)
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.keys import KeyCall, evaluate_keys, key_calls
from flaxinit.materialize.places import (
    Call,
    Compilation,
    Plan,
    Shardings,
    check_meshes,
    place_draws,
)
from flaxinit.materialize.report import Group, Report
from flaxinit.materialize.shardings import auto, is_spread
from flaxinit.versions.jaxpr import aval, equations, is_wide, value

# Draws are dispatched without waiting until their results and temporaries on a device reach this
# size: enough to hide the dispatch of small draws, negligible beside a large model.
IN_FLIGHT_BYTES = 2**24
# Two threads could enqueue programs for several devices in a different order on each device. The
# programs would then wait for each other forever.
_RUNNING = threading.Lock()


@contextlib.contextmanager
def undisturbed(jaxpr: Jaxpr) -> Iterator[None]:
    """Run alone, with settings of its own instead of the caller's.

    No mesh is set: it would also apply to arrays on other devices. What was traced is compiled
    even if the caller disables jit. Transfers are allowed, since keys come from the host. 64 bits
    are allowed if a part of the program asks for them.
    """
    atoms = (a for eqn in equations(jaxpr) for a in (*eqn.invars, *eqn.outvars))
    wide = jax.enable_x64(True) if any(map(is_wide, atoms)) else contextlib.nullcontext()
    unguarded = jax.transfer_guard("allow")
    with _RUNNING, jax.set_mesh(None), jax.disable_jit(False), unguarded, wide:
        yield


class Executor:
    """Runs draws, and keeps what it has compiled for the next call."""

    def __init__(self) -> None:
        self.prints = Fingerprints()
        self.executables: dict[Compilation, Any] = {}

    def run(self, plan: Plan, report: Report, advance: Callable[[int], None]) -> list[jax.Array]:
        """Return the outputs of a plan, each in its place.

        Args:
            plan: what is to be made.
            report: is filled in.
            advance: is called with the bytes of each draw once it is dispatched.
        """
        names = plan.names
        calls, places = place_draws(plan.parts.draws, plan.constants, plan.wanted, self.prints)
        check_meshes(calls, names)
        keys = key_calls(plan.parts.keys, plan.constants, self.prints)
        seconds = self._compile(calls, keys, report)
        groups = _groups(calls, names, seconds)
        report.groups = list(groups.values())

        start = time.perf_counter()
        arguments = [s.arguments for c in calls for s in c.segments] + [c.eqn.invars for c in keys]
        read = {a for each in arguments for a in each if isinstance(a, Var)}
        known = host_values(read & plan.constants.keys(), plan.constants)
        known = evaluate_keys(keys, known, self.executables, self.prints)
        report.key_seconds = time.perf_counter() - start

        inputs = host_values(read & known.keys(), known)
        drawn = self._draw(calls, inputs, groups, report, advance)
        report.passed_bytes_per_device = plan.passed_bytes
        report.peak_bytes_per_device = max(report.peak_bytes_per_device, report.bytes_per_device)
        return _placed(plan, plan.constants | known | drawn, places)

    def _compile(
        self, calls: list[Call], keys: list[KeyCall], report: Report
    ) -> dict[Compilation, float]:
        """Compile in parallel what is not compiled yet; return the seconds that each took.

        Nothing else is done meanwhile, so the figures in the report are those of compiling.
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
                    futures[c] = pool.submit(compiled, lowered)
        seconds = {}
        for c, future in futures.items():
            self.executables[c], seconds[c] = future.result()
        report.compile_seconds = time.perf_counter() - wall
        report.compile_processor_seconds = time.process_time() - processor
        return seconds

    def _draw(
        self,
        calls: list[Call],
        inputs: Mapping[Var, Any],
        groups: Mapping[tuple[Compilation, ...], Group],
        report: Report,
        advance: Callable[[int], None],
    ) -> dict[Var, jax.Array]:
        """Return the outputs of all draws."""
        known, drawn, held = dict(inputs), {}, 0
        for compilations, equal in itertools.groupby(calls, lambda c: c.compilations):
            batch = list(equal)
            executables = [self.executables[c] for c in compilations]
            cost = memory(executables) or IN_FLIGHT_BYTES
            room = max(1, IN_FLIGHT_BYTES // cost)
            start = time.perf_counter()
            made = _run(executables, batch, known, room, advance)
            groups[compilations].draw_seconds += time.perf_counter() - start
            known |= made
            drawn |= made
            held += sum(call.local_bytes for call in batch)
            under_way = min(room, len(batch)) * cost
            report.peak_bytes_per_device = max(report.peak_bytes_per_device, held + under_way)
        return drawn


def _groups(
    calls: list[Call], names: dict[Var, str], seconds: dict[Compilation, float]
) -> dict[tuple[Compilation, ...], Group]:
    """Return the rows of the report; a compilation that draws share counts for the first."""
    groups: dict[tuple[Compilation, ...], Group] = {}
    left = dict(seconds)
    for call in calls:
        group = groups.get(call.compilations)
        if group is None:
            first, *others = call.draw.outputs
            more = f" and {len(others)} more" if others else ""
            group = Group(names[first] + more, aval(first).str_short())
            groups[call.compilations] = group
        group.compile_seconds += sum(left.pop(c, 0.0) for c in call.compilations)
        group.draws += 1
        group.bytes_per_device += call.local_bytes
    return groups


def _run(
    executables: list[Any],
    batch: list[Call],
    inputs: Mapping[Var, Any],
    room: int,
    advance: Callable[[int], None],
) -> dict[Var, jax.Array]:
    """Run equal draws in order, with at most `room` of them under way."""
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
    """Move an array of another draw to where this draw reads it."""
    if isinstance(x, jax.Array) and source is not None and x.sharding != source:
        return jax.device_put(x, source)
    return x


def host_values(needed: set[Var], known: Mapping[Var, Any]) -> dict[Var, Any]:
    """Return the values of `needed` on the host, keys as words; arrays in parts stay as they are.

    These are keys, scalars and small constants. From the host they can be passed to the devices of
    any mesh; an array on one device of one process cannot.
    """
    plain = {v: unwrapped(known[v]) for v in needed}
    local = [v for v, x in plain.items() if not is_spread(x)]
    return plain | dict(zip(local, jax.device_get([plain[v] for v in local]), strict=True))


def _placed(plan: Plan, values: Mapping[Var, Any], made: Shardings) -> list[jax.Array]:
    """Return the outputs, each in its place.

    Args:
        plan: which outputs, and their places.
        values: what they are.
        made: where each draw left its outputs.
    """

    def array(a: Var | Literal, place: Sharding | None) -> jax.Array:
        if isinstance(a, Literal):
            x = _put(value(a), place)
        elif a not in plan.drawn:
            # The key program evaluates equal equations once, but their results are two arrays.
            x = unwrapped(values[a])
            x = _put(x if a in plan.constants else np.asarray(x), place)
        elif auto(place) != made[a]:
            x = _put(values[a], place)
        else:  # the same shards, perhaps on a mesh of explicit axes
            x = values[a] if place == made[a] else jax.device_put(values[a], place)
        return wrapped(_weakly(x, aval(a)), aval(a).dtype)

    shared: dict[tuple[Var, Sharding | None], jax.Array] = {}
    results = []
    for a, place in zip(plan.outputs, plan.places, strict=True):
        if isinstance(a, Literal) or isinstance(plan.constants.get(a), np.ndarray):
            results.append(array(a, place))  # an eager run makes a separate array too
            continue
        if (a, place) not in shared:
            shared[a, place] = array(a, place)
        results.append(shared[a, place])
    return results


def _put(x: Any, sharding: Sharding | None) -> jax.Array:
    """Put `x`, which is not a key, on the devices of `sharding`; None leaves it where it is."""
    if not isinstance(x, jax.Array):
        x = np.array(x)  # a copy: JAX might keep reading the caller's memory
    if sharding is None or sharding.is_fully_addressable or is_spread(x):
        return jnp.asarray(x) if sharding is None else jax.device_put(x, sharding)
    # On a mesh of several processes each puts its own shards; no collective is needed.
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _weakly(x: jax.Array, kind: Any) -> jax.Array:
    """Give `x` the weak type of the trace, such as that of ``jnp.full((3,), 0.5)``."""
    if not kind.weak_type or x.weak_type:
        return x
    spec = jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=True, sharding=x.sharding)
    return jax.jit(lambda x: x, out_shardings=x.sharding).lower(spec).compile()(x)
