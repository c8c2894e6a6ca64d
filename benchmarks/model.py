"""The networks under test.

All hidden layers are one scanned layer, so 100 layers compile as fast as 3.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

import flaxinit
from benchmarks.activations import DEFINITIONS

ACTIVATIONS: dict[str, Callable] = dict(DEFINITIONS)  # and those that experiments add


class Hidden(nn.Module):
    """The layer `h ↦ W φ(h) + b`: the kernel comes after the activation whose gain it has."""

    features: int
    activation: Callable
    kernel_init: Callable
    bias_init: Callable
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h, _=None):
        dense = nn.Dense(
            self.features,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.dtype,
        )
        h = dense(self.activation(h))
        return h, h


class MLP(nn.Module):
    """A multilayer perceptron with one input kernel, `depth - 2` hidden kernels and one for logits.

    It maps inputs (batch, features) to float32 logits (batch, classes). With `layers=True` it
    returns the pre-activations (depth - 1, batch, width) instead.
    """

    depth: int
    width: int
    classes: int
    activation: Callable
    first_init: Callable
    hidden_init: Callable
    bias_init: Callable = nn.initializers.zeros
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, layers: bool = False) -> jax.Array:
        stack = nn.scan(
            Hidden, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth - 2
        )
        rest = (self.activation, self.hidden_init, self.bias_init, self.dtype)
        first = nn.Dense(
            self.width,
            kernel_init=self.first_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.dtype,
            name="first",
        )(x)
        h, hidden = stack(self.width, *rest, name="hidden")(first, None)
        logits, _ = Hidden(self.classes, *rest, name="last")(h)
        return jnp.concatenate([first[None], hidden]) if layers else logits.astype("float32")


class Block(nn.Module):
    """Attention and a GELU layer, each added to the stream, with or without LayerNorm before."""

    heads: int
    normalize: bool
    kernel_init: Callable  # of the kernels that read the stream
    output_init: Callable  # of the two that write to it
    hidden_init: Callable
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h, _=None):
        width = h.shape[-1]
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.dtype}
        norm = partial(nn.LayerNorm, **kinds) if self.normalize else lambda: lambda x: x
        mask = nn.make_causal_mask(h[..., 0])
        attention = nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=self.kernel_init, out_kernel_init=self.output_init, **kinds
        )
        h = h + attention(norm()(h), mask=mask)
        hidden = nn.Dense(4 * width, kernel_init=self.kernel_init, **kinds)(norm()(h))
        hidden = nn.gelu(hidden, approximate=False)
        return h + nn.Dense(width, kernel_init=self.hidden_init, **kinds)(hidden), None


class Transformer(nn.Module):
    """A decoder from tokens (batch, length) to float32 logits (batch, length, vocabulary)."""

    depth: int
    width: int
    heads: int
    vocabulary: int
    normalize: bool
    block: dict  # the initializers of a `Block`
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        stack = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth
        )
        # Tokens and places each have half of the variance, so the stream starts with variance 1.
        table = flaxinit.normal(0.5**0.5)
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.dtype}
        places = self.param("places", table, (tokens.shape[-1], self.width), self.dtype)
        embed = nn.Embed(self.vocabulary, self.width, embedding_init=table, **kinds)
        h = embed(tokens) + places
        h, _ = stack(self.heads, self.normalize, **self.block, dtype=self.dtype, name="blocks")(h)
        if self.normalize:
            h = nn.LayerNorm(**kinds)(h)
        return nn.Dense(self.vocabulary, **kinds)(h).astype("float32")
