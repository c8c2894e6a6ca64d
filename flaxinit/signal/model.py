"""A model as two programs: how its parameters are made, and what it does with them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from flaxinit.paths import name


@dataclass(frozen=True)
class Programs:
    """What a model does, as programs.

    Attributes:
        init: (key, arrays of the inputs) -> the arrays of the parameters.
        apply: (the arrays of the parameters, arrays of the inputs) -> the output's arrays.
        pullback: traces (the same, gradients of the outputs) -> gradients of parameters and
            inputs, 0 for those that are not floating; and the outputs.
        outputs: shapes and dtypes of the outputs.
        names: of the parameters.
        shapes: of the parameters.
    """

    init: ClosedJaxpr
    apply: ClosedJaxpr
    pullback: Callable[[], ClosedJaxpr]
    outputs: list[Any]
    names: list[str]
    shapes: list[tuple[int, ...]]

    def parameter(self, number: int) -> ClosedJaxpr:
        """The part of the initialization that makes one parameter."""
        return _live(self.init, [n == number for n in range(len(self.names))])


def programs(model: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Programs:
    """Trace a model; nothing is computed.

    Args:
        model: a Linen module, a function of ``nnx.Rngs`` that builds an NNX module, or a pair
            ``(init, apply)``.
        inputs: its inputs.
        options: keyword arguments of its call; ``rngs`` of a Linen module.

    Raises:
        TypeError: if the model is none of these.
    """
    init, apply = _functions(model, options)
    leaves, tree = jax.tree.flatten(tuple(inputs))
    traced = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]
    arrays = [leaf for leaf, t in zip(leaves, traced, strict=True) if t]

    def whole(arrays):
        arrays = iter(arrays)
        return tree.unflatten(
            next(arrays) if t else leaf for leaf, t in zip(leaves, traced, strict=True)
        )

    key = jax.eval_shape(lambda: jax.random.key(0))
    made, params = jax.make_jaxpr(lambda key, arrays: init(key, *whole(arrays)), return_shape=True)(
        key, arrays
    )
    apply_program, out = jax.make_jaxpr(
        lambda params, arrays: apply(params, *whole(arrays)), return_shape=True
    )(params, arrays)
    outputs = jax.tree.leaves(out)

    def pulled(params, arrays, gradients):
        leaves, tree = jax.tree.flatten((params, arrays))
        floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

        def run(some):
            rest = iter(some)
            both = [next(rest) if f else leaf for leaf, f in zip(leaves, floating, strict=True)]
            params, arrays = tree.unflatten(both)
            return jax.tree.leaves(apply(params, *whole(arrays)))

        made, pull = jax.vjp(run, [leaf for leaf, f in zip(leaves, floating, strict=True) if f])
        slopes = iter(pull(gradients)[0])
        return [next(slopes) if f else jnp.zeros(()) for f in floating], made

    def pullback():
        return _live(jax.make_jaxpr(pulled)(params, arrays, outputs))

    paths = jax.tree_util.tree_leaves_with_path(params)
    return Programs(
        _live(made),
        _live(apply_program),
        pullback,
        outputs,
        [name(path) or "params" for path, _ in paths],
        [tuple(leaf.shape) for _, leaf in paths],
    )


def _live(program: ClosedJaxpr, wanted: Sequence[bool] | None = None) -> ClosedJaxpr:
    """Without what no result needs: an initialization runs the model too."""
    used = [True] * len(program.jaxpr.outvars) if wanted is None else list(wanted)
    jaxpr, _ = dce_jaxpr(program.jaxpr, used, instantiate=True)
    kept = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    return ClosedJaxpr(jaxpr, [kept[var] for var in jaxpr.constvars])


def _functions(model: Any, options: dict[str, Any]) -> tuple[Callable, Callable]:
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(model, linen.Module):
        return _linen(model, options)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        init, apply = model
        return init, lambda params, *inputs: apply(params, *inputs, **options)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and callable(model) and not isinstance(model, nnx.Module):
        return _nnx(nnx, model, options)
    raise TypeError(
        "A model is a Linen module, a function of nnx.Rngs that builds an NNX module "
        "(lambda rngs: Model(rngs=rngs)), or a pair (init, apply) of functions; got "
        f"{model!r}."
    )


def _linen(module: Any, options: dict[str, Any]) -> tuple[Callable, Callable]:
    from flax.core import DenyList

    options = dict(options)
    rngs = options.pop("rngs", {})
    rngs = rngs if isinstance(rngs, dict) else {"dropout": rngs}

    def init(key, *inputs):
        return module.init({**rngs, "params": key}, *inputs, **options)

    def apply(variables, *inputs):
        return module.apply(variables, *inputs, rngs=rngs, mutable=DenyList("params"), **options)[0]

    return init, apply


def _nnx(nnx: Any, build: Callable, options: dict[str, Any]) -> tuple[Callable, Callable]:
    graph: list[Any] = []

    def init(key, *_):
        module = build(nnx.Rngs(key))
        definition, *states = nnx.split(module, nnx.Param, ...)
        graph[:] = [definition]
        return states

    def apply(states, *inputs):
        return nnx.merge(graph[0], *states)(*inputs, **options)

    return init, apply
