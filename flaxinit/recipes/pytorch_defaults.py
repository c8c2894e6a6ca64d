"""The defaults of PyTorch's layers."""

import re
from typing import Any, Unpack

from flaxinit.initializers.constants import zeros
from flaxinit.initializers.like_kernel import like_kernel
from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.initializers.random import normal
from flaxinit.initializers.scaling import variance_scaling
from flaxinit.recipes.roles import (
    BIAS,
    EMBEDDING,
    INPUT,
    KERNEL,
    PLAIN,
    biases,
    heads,
    kernels,
    optional,
)
from flaxinit.trees.patterns import Pattern
from flaxinit.trees.rules import Rule


@takes_options
def pytorch_kernel(**kernel: Unpack[KernelOptions]) -> variance_scaling:
    """Make the initializer of a kernel of PyTorch's ``Linear`` or ``Conv``.

    ``U(-1/√fan_in, 1/√fan_in)``, so ``Var W = 1/(3 fan_in)``: PyTorch calls He's uniform for a
    leaky ReLU of slope √5, whose scale is ``2/(1 + 5)``.

    Args:
        **kernel: how the kernel's shape is read, as in `flaxinit.variance_scaling`.

    Returns:
        The initializer.

    Raises:
        TypeError: an unknown keyword.

    >>> pytorch_kernel().variance((48, 8)) == 1 / (3 * 48)
    True

    References: torch 2.14, ``Linear.reset_parameters``.
    """
    return variance_scaling(1 / 3, "fan_in", "uniform", **kernel)


@takes_options
def pytorch_bias(kernel: Any = None, **options: Unpack[KernelOptions]) -> like_kernel:
    """Make the initializer of a bias of PyTorch's layers, ``U(-1/√fan_in, 1/√fan_in)``.

    Args:
        kernel: the shape of the layer's kernel; not needed in `flaxinit.reinit`.
        **options: how the kernel's shape is read, as in `flaxinit.variance_scaling`.

    Returns:
        The initializer.

    Raises:
        TypeError: an unknown keyword, a kernel that is not a shape.

    >>> pytorch_bias((48, 8)).variance((8,)) == 1 / (3 * 48)
    True

    References: torch 2.14, ``Linear.reset_parameters``.
    """
    return like_kernel(pytorch_kernel(**options), kernel)


def pytorch(
    *,
    transposed: Pattern = re.compile("ConvTranspose"),
    recurrent: Pattern = re.compile("(LSTM|GRU|Simple)Cell"),
    gates: int = 1,
    attention: Pattern = re.compile("Attention"),
    embedding: Pattern = EMBEDDING,
    outputs_first: bool = False,
) -> list[Rule]:
    """Make rules by which `reinit` draws a model as PyTorch draws its layers.

    ::

        Linear, Conv        kernel and bias  U(-1/√fan_in, 1/√fan_in)
        ConvTranspose       kernel and bias  U(-1/√fan, 1/√fan),  fan = outputs · window / groups
        LSTM, GRU, RNN      kernel and bias  U(-1/√hidden, 1/√hidden)
        MultiheadAttention  queries, keys and values Var W = 1/(2 inputs), uniform; output as
                            Linear; biases 0
        Embedding           N(0, 1)
        normalizations      scale 1, bias 0

    PyTorch draws queries, keys and values as one Glorot kernel with three times as many outputs.

    Args:
        transposed: which arrays belong to transposed convolutions. Like the next two, a pattern of
            `reinit` (a glob, a regular expression, a class of modules); the default knows the names
            that Linen gives.
        recurrent: which arrays belong to recurrent cells.
        gates: how many gates the kernels of those cells hold side by side: 1 in Linen and
            `nnx.LSTMCell`, 4 in `nnx.OptimizedLSTMCell`, 3 in `nnx.GRUCell`.
        attention: which arrays belong to attention.
        embedding: which arrays are embeddings; where they are called weights, as in Equinox, pass
            the class.
        outputs_first: whether kernels are stored as (out, in, ...), as PyTorch and Equinox do.

    Returns:
        The rules.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, flaxinit
    >>> params = nn.Dense(8).init(jax.random.key(0), jnp.ones((1, 48)))
    >>> drawn = flaxinit.reinit(params, pytorch(), jax.random.key(1))["params"]
    >>> bool(abs(drawn["bias"]).max() < 48**-0.5)
    True

    References: torch 2.14, ``reset_parameters`` of these layers.
    """
    stored: Any = {"in_axis": 1, "out_axis": 0} if outputs_first else {}
    linear = pytorch_kernel(**stored)
    by_outputs = variance_scaling(1 / 3, "fan_out", "uniform", **stored)
    fused = variance_scaling(1 / 2, "fan_in", "uniform", **stored)
    return [
        *optional(
            (embedding, normal(1.0)),
            ((attention, *INPUT, heads), fused.with_axes(0, (1, 2))),
            ((attention, *INPUT), fused),
            ((attention, BIAS), zeros),
            ((transposed, *KERNEL), by_outputs),
            ((transposed, BIAS), like_kernel(by_outputs)),
        ),
        *cells(variance_scaling(gates / 3, "fan_out", "uniform", **stored), recurrent),
        *kernels(linear),
        *biases(linear),
        *PLAIN,
    ]


def cells(init: variance_scaling, recurrent: Pattern) -> list[Rule]:
    """Return rules for kernels and biases of recurrent cells, which PyTorch draws alike."""
    return optional(
        ((recurrent, *KERNEL), init),
        ((recurrent, BIAS), like_kernel(init, "weight_hh")),  # where there are two kernels
        ((recurrent, BIAS), like_kernel(init)),
    )
