"""The defaults of Keras, Haiku and Equinox."""

import re
from typing import Any

from flaxinit import sampling
from flaxinit.initializers.lstm import forget_bias
from flaxinit.initializers.orthogonal_kernels import orthogonal
from flaxinit.initializers.random import normal, truncated_normal, uniform
from flaxinit.initializers.scaling import variance_scaling
from flaxinit.recipes.pytorch_defaults import cells
from flaxinit.recipes.roles import (
    EMBEDDING,
    KERNEL,
    PLAIN,
    biases,
    kernels,
    named,
    needed,
    optional,
)
from flaxinit.trees.patterns import Pattern
from flaxinit.trees.rules import Rule


def keras(*, recurrent: Pattern | None = None, lstm: Pattern | None = None) -> list[Rule]:
    """Make rules by which `reinit` draws a model as Keras draws its layers.

    ::

        Dense, Conv, ConvTranspose, attention   Glorot's uniform, Var W = 2/(fan_in + fan_out)
        recurrent kernels                       orthogonal
        Embedding                               U(-0.05, 0.05)
        biases                                  0; 1 for the forget gate of an LSTM

    Args:
        recurrent: which arrays are the recurrent kernels of cells with fused gates, such as
            ``"*/dense_h/kernel"`` of `nnx.OptimizedLSTMCell`; a pattern of `reinit`.
        lstm: which arrays are biases of an LSTM's four gates, in the order input, forget, cell,
            output, such as ``"*/dense_h/bias"``.

    Returns:
        The rules.

    >>> print(keras()[2].init)
    variance_scaling(1.0, 'fan_avg', 'uniform')

    References: keras 3.15, the default arguments of these layers.
    """
    cells = (recurrent, orthogonal()), (lstm, forget_bias())
    return [
        *needed(*((pattern, init) for pattern, init in cells if pattern is not None)),
        *kernels(variance_scaling(1.0, "fan_avg", "uniform")),
        *optional((EMBEDDING, uniform(0.05, minval=-0.05))),
        *PLAIN,
    ]


def haiku(*, transposed: Pattern = re.compile(r"conv\w*_transpose")) -> list[Rule]:
    """Make rules by which `reinit` draws a model as Haiku draws its layers.

    ::

        Linear, Conv, ConvTranspose   a normal of deviation 1/√fan_in, cut at two deviations
        Embed                         a normal of deviation 1, cut at two deviations
        GRU                           Var W = 1/fan_in, cut at two deviations
        biases                        0

    The cut leaves ``Var W = 0.774/fan_in``. Haiku's LSTM has one kernel for the inputs and the
    state together; where they are separate, as in Flax, the fan differs.

    Args:
        transposed: which arrays are kernels stored as (window..., out, in), as those of Haiku's
            ConvTranspose are; a pattern of `reinit`.

    Returns:
        The rules.

    >>> import jax, flaxinit
    >>> params = {"linear": {"w": jax.numpy.zeros((400, 8)), "b": jax.numpy.ones(8)}}
    >>> drawn = flaxinit.reinit(params, haiku(), jax.random.key(0))["linear"]["w"]
    >>> bool(abs(drawn).max() < 2 / 400**0.5)
    True

    References: dm-haiku 0.0.17, the default arguments of these layers.
    """
    _, kept = sampling.truncated_moments(*sampling.ENDS["truncated_normal"])
    kernel = variance_scaling(kept, "fan_in", "truncated_normal")
    return [
        *optional(
            (named("w_i", "w_h"), variance_scaling(1.0, "fan_in", "truncated_normal")),
            ((transposed, *KERNEL), kernel.with_axes(-1, -2)),
        ),
        *kernels(kernel),
        *optional((EMBEDDING, truncated_normal.from_parent(1.0))),
        *PLAIN,
    ]


def equinox(
    *,
    recurrent: Pattern = re.compile("(LSTM|GRU|Simple)Cell"),
    gates: int = 1,
    embedding: Pattern = EMBEDDING,
    outputs_first: bool = False,
) -> list[Rule]:
    """Make rules by which `reinit` draws a model as Equinox draws its layers.

    ::

        Linear, Conv, ConvTranspose, attention   kernel and bias  U(-1/√fan_in, 1/√fan_in)
        LSTMCell, GRUCell                        kernel and bias  U(-1/√hidden, 1/√hidden)
        Embedding                                N(0, 1)

    Args:
        recurrent: which arrays belong to recurrent cells; a pattern of `reinit`.
        gates: how many gates the kernels of those cells hold side by side, see `pytorch`.
        embedding: which arrays are embeddings, see `pytorch`.
        outputs_first: whether kernels are stored as (out, in, ...), as Equinox does.

    Returns:
        The rules.

    >>> print(equinox()[0].init)
    normal(stddev=1.0)

    References: equinox 0.13.8, ``equinox.nn``.
    """
    stored: Any = {"in_axis": 1, "out_axis": 0} if outputs_first else {}
    kernel = variance_scaling(1 / 3, "fan_in", "uniform", **stored)
    return [
        *optional((embedding, normal(1.0))),
        *cells(variance_scaling(gates / 3, "fan_out", "uniform", **stored), recurrent),
        *kernels(kernel),
        *biases(kernel),
        *PLAIN,
    ]
