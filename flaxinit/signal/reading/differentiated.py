"""A function with its gradient as programs, of one trace of the function."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from flaxinit.versions.jaxpr import chained, part


class Differentiated(NamedTuple):
    """A function of arrays and its gradient.

    Attributes:
        apply: operands -> outputs.
        outputs: their shapes and dtypes.
        pullback: traces (operands, gradients of the outputs) -> gradients of the operands, 0 for
            those that are not floating; and the outputs.
    """

    apply: ClosedJaxpr
    outputs: list[jax.ShapeDtypeStruct]
    pullback: Callable[[], ClosedJaxpr]


def differentiated(
    function: Callable[..., Any], operands: Sequence[Any], trace: Callable[..., Any]
) -> Differentiated:
    """Trace a function with what its gradient needs.

    Args:
        function: of trees of arrays; returns a tree of them.
        operands: of the function, or their shapes.
        trace: (function, *operands) -> its program, and shapes of its results.
    """
    leaves, tree = jax.tree.flatten(tuple(operands))
    floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    structure: Any = None

    def forward(*leaves):
        nonlocal structure

        def call(some):
            rest = iter(some)
            both = [next(rest) if f else leaf for leaf, f in zip(leaves, floating, strict=True)]
            return jax.tree.leaves(function(*tree.unflatten(both)))

        some = [leaf for leaf, f in zip(leaves, floating, strict=True) if f]
        outputs, pull = jax.vjp(call, some)
        kept, structure = jax.tree.flatten(pull)
        return outputs, kept

    def backward(kept, slopes):
        found = iter(jax.tree.unflatten(structure, kept)(slopes)[0])
        return [next(found) if f else jnp.zeros(()) for f in floating]

    first, (outputs, kept) = trace(forward, *leaves)

    def pullback():
        then, _ = trace(backward, kept, outputs)
        return part(chained(first, then, len(outputs)))

    return Differentiated(part(first, range(len(outputs))), outputs, pullback)
