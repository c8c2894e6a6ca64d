"""Biases that set how long a recurrent network remembers."""

import functools
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic, Initializer
from flaxinit.initializers.checks import DType, checked_number

GATES = "ifgo"  # input, forget, cell, output: the order of Flax's and JAX's LSTMs


def _checked_order(name: str, order: Any) -> str:
    if not isinstance(order, str) or sorted(order) != sorted(GATES):
        raise ValueError(f"{name} must be the letters {GATES!r} in some order, got {order!r}.")
    return order


Order = Annotated[str, _checked_order]


class _GateBiases(Initializer):
    """Biases of all four gates, side by side in the last axis."""

    def check_shape(self, shape):
        if len(shape) < 1 or shape[-1] % len(GATES):
            raise ValueError(
                f"{self!r} fills the biases of all four gates at once: the last axis must be a "
                f"multiple of 4, but the shape is {shape}."
            )


class forget_bias(_GateBiases, Deterministic):
    """Open the forget gate of an LSTM: the biases are ``b_f = value``, all others 0.

    A gate ``σ(b_f)`` makes the cell decay with time constant ``-1/log σ(b_f)``: 1.4 steps at 0,
    3.2 at 1.

    This is for layers with one bias for all gates, such as `nnx.OptimizedLSTMCell`. Linen's cells
    and `nnx.LSTMCell` ask for the bias of each gate separately, with shape ``(features,)``, and do
    not say which gate it belongs to. If features is a multiple of 4, a quarter of every gate would
    be filled, without an error. For those cells, replace the bias of `hf` after the
    initialization (docs/fans.md).

    Args:
        value: of the forget gate's biases, finite.
        order: of the gates in the last axis, ``"ifgo"`` in `nnx.OptimizedLSTMCell`.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: an order that is not the four letters; when called, a last axis that is not a
            multiple of 4.

    >>> forget_bias()(None, (8,)).tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References: Gers, Schmidhuber, Cummins (2000); Jozefowicz, Zaremba, Sutskever (2015).
    """

    value: float = 1.0
    order: Order = GATES
    dtype: DType = None
    scales = ("value",)

    def draw(self, key, shape, dtype, out_sharding):
        width = shape[-1] // len(GATES)
        sampling.check_representable(dtype, 0.0, abs(self.value))
        forget = np.repeat([gate == "f" for gate in self.order], width)
        xp = sampling.array_module(self.value)
        row = xp.where(forget, xp.asarray(self.value, dtype), xp.zeros((), dtype))
        return sampling.full(row, shape=shape, dtype=dtype, out_sharding=out_sharding)


class chrono(_GateBiases):
    """Draw LSTM biases whose time constants are uniform up to the longest dependency.

    ``b_f = log u`` with ``u ~ U(1, t_max - 1)``, ``b_i = -b_f``, the others 0. A cell forgets at
    rate ``1 - σ(b_f) = 1/(1 + u)``, so it remembers ``1 + u`` steps. The variance is that of one
    forget gate's bias, ``1 - b log²b/(b-1)²`` with ``b = t_max - 1``. Like `forget_bias` this is
    for layers with one bias for all gates; in other cells, replace the biases of `hf` and `hi`.

    Args:
        t_max: the longest dependency, in steps; above 2.
        order: of the gates in the last axis, ``"ifgo"`` in `nnx.OptimizedLSTMCell`.
        dtype: default dtype if the call gives none; real.

    Raises:
        ValueError: a t_max of 2 or less, an order that is not the four letters; when called, a
            last axis that is not a multiple of 4.

    >>> chrono(100).order
    'ifgo'

    References: Tallec, Ollivier (2018), Can recurrent neural networks warp time?
    """

    t_max: Annotated[float, functools.partial(checked_number, above=2.0)]
    order: Order = GATES
    dtype: DType = None

    def _variance(self, shape):
        b = self.t_max - 1
        return 1 - b * (math.log(b) / (b - 1)) ** 2

    def draw(self, key, shape, dtype, out_sharding):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"Gate biases are real, got {dtype.name}.")
        sampling.check_representable(sampling.real_dtype(dtype), 0.0, self.t_max)
        sampling.check_representable(dtype, self.std(shape), math.log(self.t_max - 1))
        width = shape[-1] // len(GATES)
        signs = np.array([{"f": 1.0, "i": -1.0}.get(gate, 0.0) for gate in self.order])
        return _chrono(
            key,
            self.t_max - 1,
            signs,
            shape=(*shape[:-1], width),
            dtype=dtype,
            out_sharding=out_sharding,
        )


@sampling.program
def _chrono(key, longest, signs, *, shape, dtype):
    compute = sampling.compute_dtype(dtype)
    bias = jnp.log(jax.random.uniform(key, shape, compute, 1, longest))
    signs = signs.astype(compute).reshape(*(1 for _ in shape[1:]), -1, 1)
    gates = bias[..., None, :] * signs
    return gates.reshape(*shape[:-1], -1).astype(dtype)
