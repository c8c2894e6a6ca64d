"""Equations are applied to values in a new trace."""

from typing import Any

from jax.extend.core import JaxprEqn

from flaxinit.jaxpr import bind, called, equations, evaluate
from flaxinit.materialize import threefry


def stage(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """The results of one equation.

    The body of a jitted call is inlined, as the compiler would do, where it uses the hash.
    """
    if threefry.applies(eqn):
        return [threefry.hashed(eqn, *values)]
    body = called(eqn) if eqn.primitive.name == "jit" else None
    if body is not None and any(map(threefry.applies, equations(body))):
        return evaluate(body, values, stage)
    return bind(eqn, values)


def one_by_one(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """The results of one equation, what it calls equation by equation too."""
    body = called(eqn) if eqn.primitive.name != "shard_map" else None
    return bind(eqn, values) if body is None else evaluate(body, values, one_by_one)
