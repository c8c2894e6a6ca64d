"""The call of a function that measures a model: model(params, *inputs), or an NNX module's."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax


def check_call(
    maker: str, other: str, model: Any, inputs: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Check that a model can be run on what is given with it.

    Args:
        maker: the function that measures, for errors.
        other: the one that does without arrays.
        model: a function of parameters and inputs, or an NNX module.
        inputs: the parameters (not of an NNX module), then the inputs.
        options: keyword arguments of the model.

    Raises:
        TypeError: if the model is neither, such as a Linen module in the place of its ``apply``, if
            nothing is given with a function, or if a shape stands for an array.
    """
    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if linen is not None and isinstance(model, linen.Module):
        raise TypeError(
            f"A Linen module holds no parameters, so that {maker} cannot run "
            f"{type(model).__name__} itself: use {maker}(module.apply, params, x)."
        )
    if nnx is None or not isinstance(model, nnx.Module):
        if isinstance(model, type) or not callable(model):
            raise TypeError(
                f"{maker} takes a function of parameters and inputs, {maker}(module.apply, params, "
                f"x), or an NNX module, {maker}(module, x); received "
                f"{'the class ' * isinstance(model, type)}"
                f"{getattr(model, '__name__', type(model).__name__)}."
            )
        if not inputs:
            raise TypeError(
                f"{maker} needs the model's parameters and inputs: {maker}(model, params, x)."
            )
    leaves = jax.tree.leaves((inputs, options))
    shapes = [x for x in leaves if isinstance(x, jax.ShapeDtypeStruct)]
    if shapes:
        raise TypeError(
            f"{maker} measures, and needs arrays in the place of shapes such as {shapes[0]}. From "
            f"shapes alone, use flaxinit.{other}(model, *inputs)."
        )
