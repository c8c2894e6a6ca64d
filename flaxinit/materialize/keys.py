"""Run the key program equation by equation, as an eager run does.

A key program, see `partition`, has as many equations as the model has layers, but few distinct
ones. In the example there, ``random_split`` is one executable however often a model splits a key.
The ``unstack`` that takes both keys out of their array only moves words. Such an equation runs in
NumPy on the host and needs no executable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from flaxinit.materialize.compile import applied
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Step
from flaxinit.materialize.places import Compilation
from flaxinit.materialize.segment import Segment, canonical
from flaxinit.materialize.shardings import everywhere, is_spread
from flaxinit.versions.jaxpr import aval, value, variables

_MOVES = {"random_unwrap", "random_wrap", "reshape", "slice", "squeeze", "unstack"}


@dataclass(frozen=True)
class KeyCall:
    """One equation of the key program; its compilation, unless it is a move on the host."""

    eqn: JaxprEqn
    segment: Segment | None = None
    compilation: Compilation | None = None


def key_calls(
    eqns: tuple[JaxprEqn, ...], constants: dict[Var, Any], prints: Fingerprints
) -> list[KeyCall]:
    """Return the calls of the key program; all devices of an array in parts run what reads it."""
    places = {v: x.sharding for v, x in constants.items() if is_spread(x)}
    calls = []
    for eqn in eqns:
        known = [None if isinstance(a, Literal) else places.get(a) for a in eqn.invars]
        home = everywhere(next((s for s in known if s is not None), None))
        if eqn.primitive.name in _MOVES and home is None and isinstance(eqn.invars[0], Var):
            calls.append(KeyCall(eqn))
            continue
        segment = canonical([Step(eqn, None)], set(eqn.outvars), set(), prints)
        known = [None if isinstance(a, Literal) else places.get(a) for a in segment.arguments]
        sources = tuple(s or home for s in known)
        targets = (home,) * len(segment.outputs)
        calls.append(KeyCall(eqn, segment, Compilation(segment.name, sources, targets)))
    return calls


def evaluate_keys(
    calls: list[KeyCall],
    constants: Mapping[Var, Any],
    executables: Mapping[Compilation, Any],
    prints: Fingerprints,
) -> dict[Var, Any]:
    """Run the key program; return the values of its variables, keys as words.

    Equal equations run once.
    """
    env = dict(constants)
    done: dict[Any, list[Any]] = {}
    for each in calls:
        if each.segment is None or each.compilation is None:
            (table,) = variables(each.eqn)
            env[table] = np.asarray(env[table])  # fetched once for all its keys
            env.update(zip(each.eqn.outvars, _moved(each.eqn, env[table]), strict=True))
            continue
        arguments = each.segment.arguments
        read = tuple(prints.literal(a) if isinstance(a, Literal) else id(env[a]) for a in arguments)
        key = each.compilation, read
        if key not in done:
            values = [value(a) if isinstance(a, Literal) else env[a] for a in arguments]
            done[key] = applied(executables[each.compilation], each.segment, values)
            if any(each.compilation.targets):  # to the host, where the next equation reads it
                done[key] = jax.device_get(done[key])
        env.update(zip(each.segment.outputs, done[key], strict=True))
    return env


def _moved(eqn: JaxprEqn, words: np.ndarray) -> list[np.ndarray]:
    """Return the results of a move. The axes of the words follow those of the array of keys."""
    params, rank = eqn.params, aval(eqn.invars[0]).ndim
    match eqn.primitive.name:
        case "reshape":
            return [words.reshape(*params["new_sizes"], *words.shape[rank:])]
        case "slice":
            strides = params["strides"] or (1,) * rank
            bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
            return [words[tuple(slice(*bound) for bound in bounds)]]
        case "squeeze":
            return [words.squeeze(params["dimensions"])]
        case "unstack":
            return list(np.moveaxis(words, params["axis"], 0))
    return [words]  # wrapped or unwrapped
