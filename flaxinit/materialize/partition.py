"""Split a flat program into a small key program and one draw for each set of outputs.

The key program holds the equations that lead to PRNG keys, and scalars. It does next to no work but
has as many equations as the model has layers, so it is evaluated equation by equation and never
compiled as a whole. A draw is a connected set of the remaining equations, from keys to outputs.

An init function of three lines::

    first, second = jax.random.split(key)
    kernel = 0.1 * jax.random.normal(first, (256, 128))
    return kernel, jax.random.uniform(second, (128,))

becomes a key program and two draws::

    key program    random_split    key -> an array of two keys
                   unstack         that array -> first, second (slices in older versions of JAX)
    draw 1         normal, mul     first -> kernel
    draw 2         uniform         second -> the other output

A second layer of the same shapes adds a few equations to the key program and two draws, but
nothing to compile: its draws run the executables of the first.
"""

import functools
from collections import defaultdict
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Var

from flaxinit.materialize.flatten import Flat, Step
from flaxinit.versions.jaxpr import aval, is_key, size, variables


@dataclass(frozen=True)
class Draw:
    """Steps that run together, and the outputs of the whole program that they make."""

    steps: tuple[Step, ...]
    outputs: tuple[Var, ...]

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the outputs, on all devices together."""
        return sum(size(v) * aval(v).dtype.itemsize for v in self.outputs)


@dataclass(frozen=True)
class Partition:
    """A program in parts."""

    keys: tuple[JaxprEqn, ...]
    draws: tuple[Draw, ...]  # each one after those whose outputs it reads


def partition(flat: Flat) -> Partition:
    """Split `flat` into its key program and its draws."""
    small = _key_steps(flat)
    rest = [step for step, is_small in zip(flat.steps, small, strict=True) if not is_small]
    keys = tuple(s.eqn for s, is_small in zip(flat.steps, small, strict=True) if is_small)
    return Partition(keys, _draws(rest, {a for a in flat.outputs if isinstance(a, Var)}))


def _key_steps(flat: Flat) -> list[bool]:
    """Return which steps belong to the key program."""

    def eligible(eqn):  # raw key words and the counters and indices around them are integers
        return all(
            is_key(v) or aval(v).ndim == 0 or jnp.issubdtype(aval(v).dtype, jnp.integer)
            for v in eqn.outvars
        )

    known = set(flat.constants)
    possible = []
    for step in flat.steps:
        possible.append(eligible(step.eqn) and known.issuperset(variables(step.eqn)))
        if possible[-1]:
            known.update(step.eqn.outvars)

    needed: set[Var] = set()
    leads_to_key = []
    for step, can in zip(reversed(flat.steps), reversed(possible), strict=True):
        leads_to_key.append(can and any(is_key(v) or v in needed for v in step.eqn.outvars))
        if leads_to_key[-1]:
            needed.update(variables(step.eqn))
    leads_to_key.reverse()

    # Scalars inside a jitted call stay there: the compiler may have folded them into a product.
    known = set(flat.constants)
    small = []
    for step, chosen in zip(flat.steps, leads_to_key, strict=True):
        scalar = step.unit is None and all(aval(v).ndim == 0 for v in step.eqn.outvars)
        small.append(chosen or (scalar and known.issuperset(variables(step.eqn))))
        if small[-1]:
            known.update(step.eqn.outvars)
    return small


def _draws(steps: list[Step], outputs: set[Var]) -> tuple[Draw, ...]:
    """Find the connected parts of the dataflow graph, cut at the outputs, in order of use.

    If one output is computed from another, such as the norm of a weight, the graph is cut between
    them, and the second draw reads the array of the first. Any other shared value ties its readers
    into one draw, so nothing is computed twice. A draw comes after those that it reads.
    """
    parent = list(range(len(steps)))

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    maker = {v: i for i, step in enumerate(steps) for v in step.eqn.outvars}
    reads: list[tuple[int, int]] = []
    for i, step in enumerate(steps):
        for v in variables(step.eqn):
            if v in outputs and v in maker:
                reads.append((i, maker[v]))
            elif v in maker:
                parent[find(i)] = find(maker[v])

    while True:
        graph = {find(i): set() for i in range(len(steps))}
        for reader, source in reads:
            if find(reader) != find(source):
                graph[find(reader)].add(find(source))
        try:
            order = tuple(TopologicalSorter(graph).static_order())
            break
        except CycleError as error:  # two draws that read each other's outputs are one draw
            for i in error.args[1]:
                parent[find(i)] = find(error.args[1][0])

    members = defaultdict(list)
    for i, step in enumerate(steps):
        members[find(i)].append(step)
    draws = {
        root: Draw(tuple(group), tuple(v for s in group for v in s.eqn.outvars if v in outputs))
        for root, group in members.items()
    }
    return tuple(draws[root] for root in order)
