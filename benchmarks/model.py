"""The network under test: a plain multilayer perceptron, with no aid but its initializer."""

from collections.abc import Callable
from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

# The catalogue's `gelu` is the exact one; JAX's default is the tanh form.
ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "tanh": jax.nn.tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "sigmoid": jax.nn.sigmoid,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "sin": jax.numpy.sin,
}


class Hidden(nn.Module):
    """`h ↦ W φ(h) + b`: the kernel follows the activation whose gain it carries."""

    features: int
    activation: Callable
    kernel_init: Callable
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h, _=None):
        dense = nn.Dense(
            self.features, kernel_init=self.kernel_init, dtype=self.dtype, param_dtype=self.dtype
        )
        return dense(self.activation(h)), None


class MLP(nn.Module):
    """`depth` kernels: one on the inputs, `depth - 2` hidden ones, one that makes the logits.

    Inputs (batch, features) give logits (batch, classes), in float32 whatever the dtype.
    The hidden layers are one scanned layer, so that compiling takes as long for 100 as for 3.
    """

    depth: int
    width: int
    classes: int
    activation: Callable
    first_init: Callable
    hidden_init: Callable
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stack = nn.scan(
            Hidden, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth - 2
        )
        rest = (self.activation, self.hidden_init, self.dtype)
        h = nn.Dense(
            self.width,
            kernel_init=self.first_init,
            dtype=self.dtype,
            param_dtype=self.dtype,
            name="first",
        )(x)
        h, _ = stack(self.width, *rest, name="hidden")(h, None)
        logits, _ = Hidden(self.classes, *rest, name="last")(h)
        return logits.astype("float32")
