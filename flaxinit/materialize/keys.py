"""The key program runs equation by equation, as it does eagerly.

It has as many equations as the model has layers, but few distinct ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal, Var

from flaxinit.materialize.atoms import value
from flaxinit.materialize.fingerprint import Fingerprints
from flaxinit.materialize.flatten import Step
from flaxinit.materialize.schedule import Compilation
from flaxinit.materialize.segment import Segment, canonical
from flaxinit.materialize.transfer import everywhere, is_spread


@dataclass(frozen=True)
class KeyCall:
    """One equation of the key program and its compilation."""

    segment: Segment
    compilation: Compilation


def key_calls(
    eqns: tuple[JaxprEqn, ...], constants: dict[Var, Any], prints: Fingerprints
) -> list[KeyCall]:
    """The key program; what it makes of an array spread over devices is on all of them."""
    places = {v: x.sharding for v, x in constants.items() if is_spread(x)}
    calls = []
    for eqn in eqns:
        segment = canonical([Step(eqn, None)], set(eqn.outvars), set(), prints)
        known = [None if isinstance(a, Literal) else places.get(a) for a in segment.arguments]
        home = everywhere(next((s for s in known if s is not None), None))
        sources = tuple(s or home for s in known)
        calls.append(
            KeyCall(segment, Compilation(segment.name, sources, (home,) * len(segment.outputs)))
        )
    return calls


def evaluate_keys(
    calls: list[KeyCall],
    constants: Mapping[Var, Any],
    executables: Mapping[Compilation, Any],
    prints: Fingerprints,
) -> dict[Var, Any]:
    """The values of the key program, keys as words; equal equations are evaluated once."""
    env = dict(constants)
    done: dict[Any, list[Any]] = {}
    for call in calls:
        arguments = call.segment.arguments
        read = tuple(prints.literal(a) if isinstance(a, Literal) else id(env[a]) for a in arguments)
        key = call.compilation, read
        if key not in done:
            values = [value(a) if isinstance(a, Literal) else env[a] for a in arguments]
            done[key] = executables[call.compilation](*values)
            if any(call.compilation.targets):  # from all devices to where the next one reads it
                done[key] = jax.device_get(done[key])
        env.update(zip(call.segment.outputs, done[key], strict=True))
    return env
