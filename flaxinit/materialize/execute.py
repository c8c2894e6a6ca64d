"""Compile each distinct draw once and run it as often as the model has it, on its devices."""

import itertools
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Var
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Flat
from flaxinit.materialize.partition import Draw, Partition, is_key
from flaxinit.materialize.placement import auto
from flaxinit.materialize.report import Group, Report
from flaxinit.materialize.segment import Segment, evaluate_keys, segments

# Draws are dispatched without waiting until results and temporaries of this size are under way
# on a device: enough to hide the dispatch of small draws, nothing beside a large model.
IN_FLIGHT_BYTES = 2**26

# On CPU, optimising a sampler fully takes 0.1 to 0.3 s more than optimising it lightly, and then
# saves about 10 ns for each element (benchmarks/startup.py): it pays above some 10^7 elements.
# The values are the same bits.
FULLY_OPTIMISED_SIZE = 2**24

Shardings = dict[Var, Sharding | None]


@dataclass
class _Call:
    """A draw, its segments, and what each of them is compiled for."""

    draw: Draw
    segments: list[Segment]
    compilations: tuple[Any, ...]  # calls with equal ones run the same executables
    level: int  # 0 if it reads no other draw's output, else one more than those it reads


class Executor:
    """Runs draws, and keeps what it has compiled for the next call."""

    def __init__(self) -> None:
        self.prints = Fingerprints()
        self._executables: dict[Any, Any] = {}

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
          shardings: where each output goes, None for the default device.
          paths: the names of the outputs, for the report.
          report: filled in.
          advance: told the bytes of each draw when it has been dispatched.
        """
        drawn = {v for draw in parts.draws for v in draw.outputs}
        targets: Shardings = {}
        names: dict[Var, str] = {}
        for a, sharding, path in zip(flat.outputs, shardings, paths, strict=True):
            if isinstance(a, Var) and a in drawn:
                targets.setdefault(a, sharding)
                names.setdefault(a, path)
        env = self._draw(parts, flat.constants, targets, names, report, advance)

        def output(a, sharding):
            if isinstance(a, Literal):
                return place(a.val, a.aval, sharding)
            if a in drawn and sharding == targets[a]:
                return env[a]
            # Not drawn, or a shared array that is asked for in a second place.
            return place(env[a], a.aval, sharding)

        return [output(a, s) for a, s in zip(flat.outputs, shardings, strict=True)]

    def _draw(
        self,
        parts: Partition,
        constants: dict[Var, Any],
        shardings: Shardings,
        paths: dict[Var, str],
        report: Report,
        advance: Callable[[int], None],
    ) -> dict[Var, Any]:
        """The values of the key program and of the outputs of all draws."""
        # Temporaries grow with the draw: the largest run first, while memory is still empty.
        # Every process sorts alike, so that collectives meet.
        calls = sorted(
            self._calls(parts.draws, constants, shardings),
            key=lambda c: (c.level, -c.draw.size, [s.name for s in c.segments]),
        )
        elements: dict[Any, int] = defaultdict(int)
        first: dict[Any, Segment] = {}
        for call in calls:
            for compilation, segment in zip(call.compilations, call.segments, strict=True):
                elements[compilation] += sum(v.aval.size for v in segment.outputs)
                first.setdefault(compilation, segment)

        groups: dict[Any, Group] = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = {
                key: pool.submit(_compile, _lower(segment, key), elements[key])
                for key, segment in first.items()
                if key not in self._executables
            }
            start = time.perf_counter()
            env = evaluate_keys(parts.keys, constants, self.prints)
            values = env | _host_values(
                {
                    a
                    for c in calls
                    for s in c.segments
                    for a in s.arguments
                    if isinstance(a, Var) and a in env
                },
                env,
            )
            report.key_seconds = time.perf_counter() - start
            for keys, batch in itertools.groupby(calls, lambda c: c.compilations):
                batch = list(batch)
                group = groups.setdefault(keys, _group(batch[0].draw, paths))
                for key in keys:
                    if key in futures:
                        self._executables[key], seconds = futures.pop(key).result()
                        group.compile_seconds += seconds
                start = time.perf_counter()
                _run_batch([self._executables[key] for key in keys], batch, values, advance)
                group.draw_seconds += time.perf_counter() - start
                group.draws += len(batch)
                outputs = [v for c in batch for v in c.draw.outputs]
                group.bytes_per_device += sum(local_bytes(v, shardings[v]) for v in outputs)
                env.update({v: values[v] for v in outputs})
        report.groups = list(groups.values())
        return env

    def _calls(self, draws: tuple[Draw, ...], constants: dict[Var, Any], shardings: Shardings):
        level: dict[Var, int] = {}
        for draw in draws:
            chain = segments(draw, self.prints)
            # An intermediate array goes where an output of its shape goes, else everywhere.
            by_shape = {v.aval.shape: shardings[v] for v in draw.outputs}
            everywhere = _replicated(shardings[draw.outputs[0]])
            places = shardings | {
                v: by_shape.get(v.aval.shape, everywhere)
                for s in chain
                for v in s.outputs
                if v not in shardings
            }
            compilations = tuple(
                (
                    s.name,
                    tuple(places[v] for v in s.outputs),
                    tuple(_place_of(a, constants, places, everywhere) for a in s.arguments),
                )
                for s in chain
            )
            read = {a for s in chain for a in s.arguments if isinstance(a, Var)}
            depth = 1 + max((level[v] for v in read if v in level), default=-1)
            level.update(dict.fromkeys(draw.outputs, depth))
            yield _Call(draw, chain, compilations, depth)


def place(value: Any, aval: Any, sharding: Sharding | None) -> jax.Array:
    """A value that needed no draw (a counter, a key, an argument passed on), in its place."""
    if sharding is None:
        return value if isinstance(value, jax.Array) else jnp.asarray(value, aval.dtype)
    if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key):
        words = jax.random.key_data(value)
        return jax.random.wrap_key_data(
            place(words, words, sharding), impl=jax.random.key_impl(value)
        )
    if sharding.is_fully_addressable or (isinstance(value, jax.Array) and _is_spread(value)):
        return jax.device_put(jnp.asarray(value, aval.dtype), sharding)
    host = np.asarray(value, aval.dtype)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def local_bytes(v: Var, sharding: Sharding | None) -> int:
    """Bytes of one output on one device."""
    shape = v.aval.shape if sharding is None else sharding.shard_shape(v.aval.shape)
    return int(np.prod(shape, dtype=np.int64)) * v.aval.dtype.itemsize


def _lower(segment: Segment, compilation: Any):
    """Stage one segment; keys arrive as their words, which any process can pass."""
    _, targets, places = compilation
    impls = [_impl(v.aval.dtype) if is_key(v) else None for v in segment.inputs]

    def run(*values):
        return segment(
            *(
                x if impl is None else jax.random.wrap_key_data(x, impl=impl)
                for x, impl in zip(values, impls, strict=True)
            )
        )

    specs = []
    for v, place in zip(segment.inputs, places, strict=True):
        spec = jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype)
        if is_key(v):
            spec = jax.eval_shape(jax.random.key_data, spec)
        specs.append(jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=auto(place)))
    return jax.jit(run, out_shardings=list(targets)).lower(*specs)


def _compile(lowered, elements: int) -> tuple[Any, float]:
    lightly = jax.default_backend() == "cpu" and elements < FULLY_OPTIMISED_SIZE
    options = {"xla_backend_optimization_level": 1} if lightly else None
    start = time.perf_counter()
    return lowered.compile(compiler_options=options), time.perf_counter() - start


def _run_batch(
    executables: list[Any],
    batch: list[_Call],
    values: dict[Var, Any],
    advance: Callable[[int], None],
) -> None:
    cost = sum(map(_memory, executables))
    under_way: deque = deque()
    for call in batch:
        while under_way and (len(under_way) + 1) * cost > IN_FLIGHT_BYTES:
            jax.block_until_ready(under_way.popleft())
        local: dict[Var, Any] = {}
        for executable, segment in zip(executables, call.segments, strict=True):
            results = executable(
                *(
                    np.asarray(a.val, a.aval.dtype)
                    if isinstance(a, Literal)
                    else local[a]
                    if a in local
                    else values[a]
                    for a in segment.arguments
                )
            )
            local.update(zip(segment.outputs, results, strict=True))
        made = {v: local[v] for v in call.draw.outputs}
        values.update(made)
        under_way.append(list(made.values()))
        advance(call.draw.size)
    jax.block_until_ready(list(under_way))


def _memory(executable: Any) -> int:
    """Bytes that one run may hold on a device beside its inputs."""
    memory = executable.memory_analysis()
    if memory is None:  # a backend that does not tell: one draw at a time
        return IN_FLIGHT_BYTES
    return memory.output_size_in_bytes + memory.temp_size_in_bytes


def _group(draw: Draw, paths: dict[Var, str]) -> Group:
    first = draw.outputs[0]
    more = f" and {len(draw.outputs) - 1} more" if len(draw.outputs) > 1 else ""
    return Group(paths[first] + more, first.aval.str_short())


def _host_values(needed: set[Var], env: dict[Var, Any]) -> dict[Var, Any]:
    """What draws read of the key program: on the host, but for arrays spread over devices."""
    plain = {v: jax.random.key_data(env[v]) if is_key(v) else env[v] for v in needed}
    local = [v for v, x in plain.items() if not (isinstance(x, jax.Array) and _is_spread(x))]
    return plain | dict(zip(local, jax.device_get([plain[v] for v in local]), strict=True))


def _is_spread(x: jax.Array) -> bool:
    return len(x.devices()) > 1 and not x.is_fully_replicated


def _place_of(
    a: Var | Literal, constants: dict[Var, Any], places: Shardings, everywhere: Sharding | None
) -> Sharding | None:
    """Where an argument of a segment is; what the host holds goes to all devices."""
    if isinstance(a, Literal):
        return everywhere
    x = constants.get(a)
    return x.sharding if isinstance(x, jax.Array) and _is_spread(x) else places.get(a, everywhere)


def _replicated(sharding: Sharding | None) -> Sharding | None:
    """The sharding that copies to all devices of `sharding`."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding  # one device


def _impl(dtype: Any) -> str:
    """The name of the PRNG of a key dtype; JAX tells it of arrays and tracers only."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), jax.ShapeDtypeStruct((), dtype))
    return found[0]
