"""mup(): the rates and draws of a wide model, from those of a narrow one."""

from collections.abc import Callable
from typing import Any

from flaxinit.width.analysis import compared
from flaxinit.width.optimizers import kind
from flaxinit.width.parametrization import Parametrization, parametrization


def mup(
    model: Any,
    /,
    *inputs: Any,
    base: Any,
    optimizer: str | Callable = "adam",
    depth: bool = False,
    **options: Any,
) -> Parametrization:
    """Factors on draws and learning rates that keep training the same at every width.

    The programs of the model and of a narrow base are compared; neither is run. The use of a
    parameter tells what it sums over (its axes grow by a) and what comes out (by b):

        hidden   a, b grow   deviation a^-1/2   rate: Adam 1/a, SGD b/a, Muon √(b/a)
        output   a grows     deviation 1/a
        input    b grows     deviation 1, as for vectors (biases, gains)

    relative to the base. A factor on a draw is that deviation over what the model's initializer
    does already. Find the learning rate at the base, and use it at every width.

    Args:
        model: a Linen module, a function of ``nnx.Rngs`` that builds an NNX module, or a pair
            ``(init, apply)`` of functions, with ``init(key, *inputs)`` and
            ``apply(params, *inputs)``.
        inputs: the model's inputs, or their shapes as `jax.ShapeDtypeStruct`.
        base: the same model, narrower.
        optimizer: one of Optax's, or its name: ``"sgd"``; ``"adamw"``, ``"lion"`` and others that
            have the rates of ``"adam"``; ``"muon"``; ``"adafactor"``.
        depth: whether the model may repeat its residual branches more often than the base. With ℓ
            times as many, what they add is drawn ℓ^-1/2 times as large, and each changes by 1/ℓ.
        options: keyword arguments of the model's call, such as ``train=True``.

    Returns:
        A `Parametrization`, which prints as a table.

    Raises:
        TypeError: if model or base is not a model.
        ValueError: if they differ in more than width, an axis shrinks, the optimizer is not known,
            or no factors are right for a parameter, which is named.

    >>> import jax, flax.linen as nn
    >>> def net(width):
    ...     return nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(width), nn.relu, nn.Dense(10)])
    >>> scale = mup(net(256), jax.ShapeDtypeStruct((4, 8), "float32"), base=net(64))
    >>> [(row.kind, row.init, row.rate) for row in scale.rows if "kernel" in row.path]
    [('input', 1.0, 1.0), ('hidden', 1.0, 0.25), ('output', 0.5, 0.25)]

    References:
        Yang and Hu (2021), Tensor programs IV: feature learning in infinite-width neural networks.
        Yang et al. (2022), Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer. Yang, Simon and Bernstein (2023), A spectral condition for feature
        learning.
    """
    family = kind(optimizer)
    parameters, tree, remarks = compared(base, model, inputs, options, depth)
    return parametrization(parameters, tree, remarks, family)
