"""Checks of what a model is called with, for all that run one: forecast, tune, audit, calibrate."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.sampling import is_traced
from flaxinit.trees.modules import is_linen, module_of, nnx_of


def is_array(value: Any) -> bool:
    """Return whether a value is an array or the shape of one."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def received(value: Any) -> str:
    """Return what to call a value that is not a model, and the remedy if it is near one.

    >>> received(32), received(dict)
    ('32', 'the class dict: build it')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}: build it"
    module = module_of(value)
    if nnx_of(value) or nnx_of(module):
        kind = type(value if module is None else module).__name__
        what = f"a built {kind}" if module is None else f"{kind}'s method {value.__name__}"
        return f"{what}: pass lambda rngs: {kind}(..., rngs=rngs)"
    if module is not None:
        return f"{type(module).__name__}'s method {value.__name__}: pass the module itself"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of " + (", ".join(map(received, value)) or "nothing")
    plain = value is None or isinstance(value, int | float | str)
    return reprlib.repr(value) if plain else f"an object of type {type(value).__name__}"


def check_values(*trees: Any) -> None:
    """Raise TypeError for a tracer, which has no values."""
    for leaf in jax.tree.leaves(trees):
        if is_traced(leaf):
            raise TypeError(
                f"A parameter or an input is traced, {leaf.aval.str_short()}: inside jax.jit, "
                "jax.grad and jax.vmap it has no values to run a model on. Make this call outside "
                "of them."
            )


def check_runs(*trees: Any) -> None:
    """Raise TypeError if these have no values, or if nothing has values here."""
    check_values(trees)
    if is_traced(jax.device_put(0)):  # an operation that is not compiled
        raise TypeError(
            "This call runs a model, and is made where jax.jit, or another transformation, only "
            "traces operations. Make it outside of them."
        )


def check_inputs(inputs: Sequence[Any], options: dict[str, Any]) -> None:
    """Raise an error unless some input is an array, a shape or a tracer that has entries."""
    arrays = [leaf for leaf in jax.tree.leaves((inputs, options)) if is_array(leaf)]
    if not arrays:
        given = ", ".join(map(reprlib.repr, inputs)) or "none"
        raise TypeError(
            f"No input is an array; received {given}. A model needs a batch of inputs, such as "
            'jnp.asarray(x); forecast and tune take jax.ShapeDtypeStruct((8, 16), "float32"), too.'
        )
    check_batch(arrays)


def check_batch(arrays: Sequence[Any]) -> None:
    """Raise ValueError if inputs, or outputs, have no entries.

    One of several may be empty, such as a memory at the start.
    """
    arrays = [x for x in arrays if x.shape]
    if arrays and all(math.prod(x.shape) == 0 for x in arrays):
        raise ValueError(
            f"The batch is empty: {arrays[0].dtype} of shape {tuple(arrays[0].shape)} has no "
            "entries. Give the model at least one sample."
        )


def check_slopes(outputs: Sequence[Any]) -> None:
    """Raise ValueError if no output of a model is floating: none has a gradient."""
    if not any(jnp.issubdtype(x.dtype, jnp.inexact) for x in outputs):
        what = ", ".join(f"{x.dtype} of shape {tuple(x.shape)}" for x in outputs) or "nothing"
        raise ValueError(
            f"Gradients are those of a floating output, and the model returns {what}. Let it "
            "return numbers, such as logits in place of their argmax, or leave gradients out."
        )


def misplaced(params: Any, inputs: Sequence[Any], caller: str) -> str:
    """Return what to say if parameters seem to come after an input; empty if they do not."""
    if not is_array(params):
        return ""
    for n, each in enumerate(inputs):
        if not is_array(each) and any(map(is_array, jax.tree.leaves(each))):
            return (
                f"Parameters come first: {caller}(model, params, *inputs). Here the first argument "
                f"after the model is one array, {params.dtype} of shape {tuple(params.shape)}, and "
                f"argument {n + 2} is a {type(each).__name__} of arrays."
            )
    return ""


def check_call(
    maker: str, other: str, model: Any, inputs: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Check that a model can be run on what is given with it.

    The arguments are those of `model.with_parameters`.

    Raises:
        TypeError: if the model is neither a function nor an NNX module, such as a Linen module in
            the place of its ``apply``, if a function holds weights itself or comes without
            parameters or inputs, or if a shape stands for an array.
    """
    if is_linen(model):
        raise TypeError(
            f"A Linen module holds no parameters, so {maker} cannot run "
            f"{type(model).__name__} itself: use {maker}(module.apply, params, x)."
        )
    if not nnx_of(model):
        if isinstance(model, type) or not callable(model):
            raise TypeError(
                f"{maker} takes a function of parameters and inputs, {maker}(module.apply, params, "
                f"x), or an NNX module, {maker}(module, x); received "
                f"{'the class ' * isinstance(model, type)}"
                f"{getattr(model, '__name__', type(model).__name__)}."
            )
        if nnx_of(module := module_of(model)):
            raise TypeError(
                f"{model.__name__} is a method of {type(module).__name__}, which holds its "
                f"parameters itself. Pass the module as well: {maker}(lambda module, x: "
                f"module.{model.__name__}(x), module, x)."
            )
        if _holds_weights(model):
            raise TypeError(
                f"{type(model).__name__} holds its parameters itself, and {maker} takes them as an "
                f"argument: {maker}(lambda module, x: jax.vmap(module)(x), module, x), without "
                "jax.vmap if the module takes batches."
            )
        if not inputs or (len(inputs) == 1 and not options):
            raise TypeError(
                f"{maker} needs the model's parameters and inputs: {maker}(model, params, x)."
            )
    check_measurable(maker, other, inputs, options)


def check_measurable(maker: str, other: str, *trees: Any) -> None:
    """Raise TypeError if a shape stands for an array."""
    shapes = [x for x in jax.tree.leaves(trees) if isinstance(x, jax.ShapeDtypeStruct)]
    if shapes:
        raise TypeError(
            f"{maker} measures, so it needs arrays, not shapes such as {shapes[0]}. For shapes "
            f"alone, use flaxinit.{other}(model, *inputs)."
        )


def _holds_weights(model: Any) -> bool:
    """Return whether a function is a tree of weights itself, as an Equinox module is."""
    leaves = [x for x in jax.tree.leaves(model) if isinstance(x, jax.Array | np.ndarray)]
    floating = any(jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves)
    return floating and not isinstance(model, jax.tree_util.Partial)
