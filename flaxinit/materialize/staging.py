"""Equations are applied to values in a new trace."""

from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from flaxinit.materialize import threefry

_EMPTY = jax.make_jaxpr(lambda: ())().jaxpr


def stage(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """The results of one equation.

    The body of a jitted call is inlined, as the compiler would do, where it uses the hash.
    """
    if threefry.applies(eqn):
        return [threefry.hashed(eqn, *values)]
    if _hashes(eqn):
        body: ClosedJaxpr = eqn.params["jaxpr"]
        env: dict[Var, Any] = dict(zip(body.jaxpr.constvars, body.consts, strict=True))
        env.update(zip(body.jaxpr.invars, values, strict=True))

        def read(a):
            return a.val if isinstance(a, Literal) else env[a]

        for inner in body.eqns:
            results = stage(inner, [read(a) for a in inner.invars])
            env.update(zip(inner.outvars, results, strict=True))
        return [read(a) for a in body.jaxpr.outvars]

    inputs: list[Any] = [Var(a.aval) for a in eqn.invars]
    eqn = eqn.replace(invars=inputs)
    return jaxpr_as_fun(
        ClosedJaxpr(_EMPTY.replace(invars=inputs, outvars=eqn.outvars, eqns=[eqn]), ())
    )(*values)


def _hashes(eqn: JaxprEqn) -> bool:
    """Whether a jitted call uses the hash, directly or in another jitted call."""
    return eqn.primitive.name == "jit" and any(
        threefry.applies(inner) or _hashes(inner) for inner in eqn.params["jaxpr"].eqns
    )
