"""Cut a draw into a chain of segments, where an eager run rounds.

Each segment becomes one executable. One executable for a whole draw would be simpler, but a
compiler that sees two units at once fuses them: it contracts a product and a sum into one operation
with one rounding, or merges two constant factors, and the last bits change. An
``optimization_barrier`` does not prevent that on CPU, where it is removed before fusion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Step
from flaxinit.materialize.partition import Draw
from flaxinit.versions.jaxpr import MOVES, aval, variables


@dataclass(frozen=True)
class Segment:
    """Equations that are compiled together; segments with equal `name` compute the same."""

    name: int
    eqns: tuple[JaxprEqn, ...]
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    arguments: tuple[Var | Literal, ...]  # what `inputs` stand for in this draw
    barriers: frozenset[Var]  # where the compiler must not simplify across

    def evaluate(self, apply: Callable[[JaxprEqn, list], list], values: Sequence[Any]) -> list[Any]:
        """Return the values of `outputs`; `apply` evaluates each equation."""
        env = dict(zip(self.inputs, values, strict=True))
        for eqn in self.eqns:
            results = apply(eqn, [a.val if isinstance(a, Literal) else env[a] for a in eqn.invars])
            for v, x in zip(eqn.outvars, results, strict=True):
                env[v] = jax.lax.optimization_barrier(x) if v in self.barriers else x
        return [env[v] for v in self.outputs]


def segments(draw: Draw, prints: Fingerprints) -> list[Segment]:
    """Return the chain of segments that makes the outputs of `draw`."""
    groups: list[list[Step]] = []
    made: dict[Var, int] = {}  # the group that makes it
    barriers: set[Var] = set()
    for step in draw.steps:
        last = len(groups) - 1
        sources = {made[v] for v in variables(step.eqn) if v in made}
        moves = step.unit is None and step.eqn.primitive.name in MOVES and sources == {last}
        same_call = groups and step.unit is not None and step.unit == groups[-1][0].unit
        scaled = _scaled(step) if sources == {last} else None
        if scaled in made:
            barriers.add(scaled)
        if moves or same_call or scaled in made:
            groups[-1].append(step)
        else:
            groups.append([step])
        made.update(dict.fromkeys(step.eqn.outvars, len(groups) - 1))

    needed = set(draw.outputs)
    for group in groups:
        inside = {v for s in group for v in s.eqn.outvars}
        needed.update(v for s in group for v in variables(s.eqn) if v not in inside)
    return [canonical(group, needed, barriers, prints) for group in groups]


def _scaled(step: Step) -> Var | None:
    """Return the array that a step multiplies by a scalar: nearly every initializer ends so.

    Such a product may join the segment of that array, which halves the number of executables.
    The compiler contracts a product only with a sum that follows it, and in a segment only moves
    follow it. A barrier keeps its factor from being merged with another. For narrow types the
    compiler forms the product in float32 and may skip the rounding before it, so these products
    stay apart.
    """
    eqn = step.eqn
    if step.unit is not None or eqn.primitive.name != "mul":
        return None
    arrays = [a for a in eqn.invars if aval(a).ndim > 0]
    wide = aval(eqn.outvars[0]).dtype in (np.float32, np.float64)
    return arrays[0] if wide and len(arrays) == 1 and isinstance(arrays[0], Var) else None


def canonical(
    steps: Sequence[Step], needed: set[Var], barriers: set[Var], prints: Fingerprints
) -> Segment:
    """Name a segment by its structure.

    Scalar literals become inputs: an eager run passes them at run time too, and layers that
    differ only in a scale then share one compilation.
    """
    ids: dict[Var, int] = {}
    inputs: list[Var] = []
    arguments: list[Var | Literal] = []
    eqns: list[JaxprEqn] = []
    structure: list[Any] = []

    def as_input(atom):
        v = Var(atom.aval) if isinstance(atom, Literal) else atom
        ids[v] = len(ids)
        inputs.append(v)
        arguments.append(atom)
        return v

    for step in steps:
        eqn = step.eqn
        atoms = []
        for a in eqn.invars:
            literal = isinstance(a, Literal)
            known = step.unit is not None if literal else a in ids
            atoms.append(a if known else as_input(a))
        read = tuple(prints.literal(a) if isinstance(a, Literal) else ids[a] for a in atoms)
        for v in eqn.outvars:
            ids[v] = len(ids)
        avals = tuple(map(prints.aval, eqn.outvars))
        structure.append((eqn.primitive, eqn.ctx, prints.params(eqn), read, avals))
        eqns.append(eqn.replace(invars=atoms))

    outputs = tuple(v for s in steps for v in s.eqn.outvars if v in needed)
    head = tuple((ids[v], prints.aval(v)) for v in inputs)
    barred = frozenset(barriers & ids.keys())
    marks = tuple(sorted(ids[v] for v in barred)), tuple(ids[v] for v in outputs)
    name = prints.intern((head, tuple(structure), marks))
    return Segment(name, tuple(eqns), tuple(inputs), outputs, tuple(arguments), barred)
