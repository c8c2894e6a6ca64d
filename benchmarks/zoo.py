"""Models as people write them, at any width: what forecast() is held against."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxinit


class ResidualMLP(nn.Module):
    """h + W₂ relu(W₁ tanh(h)), a few times."""

    width: int
    blocks: int = 4
    wrong: int = -1  # the block whose second kernel has a wrong gain

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width, kernel_init=flaxinit.lecun())(x)
        for n in range(self.blocks):
            factor = 0.5 if n == self.wrong else 1.0
            y = nn.Dense(self.width, kernel_init=flaxinit.he("tanh"))(nn.tanh(h))
            y = nn.Dense(self.width, kernel_init=flaxinit.he().times(factor))(nn.relu(y))
            h = h + y
        return nn.Dense(10, kernel_init=flaxinit.lecun())(h)


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.avg_pool(nn.tanh(nn.Conv(32, (5, 5))(x)), (2, 2), (2, 2))
        x = nn.max_pool(nn.tanh(nn.Conv(64, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for width in (120, 84):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(10)(x)


class ResNet(nn.Module):
    """Pre-activation, with BatchNorm and a strided projection."""

    width: int

    @nn.compact
    def __call__(self, x, train):
        def active(x):
            return nn.relu(nn.BatchNorm(use_running_average=not train)(x))

        def conv(width, strides=1):
            return nn.Conv(width, (3, 3), strides, use_bias=False, kernel_init=flaxinit.he())

        x = conv(self.width)(x)
        for width, strides in ((self.width, 1), (2 * self.width, 2)):
            h = active(x)
            y = conv(width)(active(conv(width, strides)(h)))
            if strides > 1:
                x = nn.Conv(width, (1, 1), strides, use_bias=False)(h)
            x = x + y
        return nn.Dense(10)(active(x).mean((1, 2)))


class Encoder(nn.Module):
    """Pre-LN, with Flax's attention."""

    width: int
    blocks: int = 2

    @nn.compact
    def __call__(self, tokens):
        places = self.param("places", nn.initializers.normal(0.02), (tokens.shape[1], self.width))
        x = nn.Embed(100, self.width)(tokens) + places
        for _ in range(self.blocks):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(h)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class VisionTransformer(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (4, 4), (4, 4))(x)
        x = x.reshape(len(x), -1, self.width)
        first = self.param("first", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(first, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("places", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(h)
        return nn.Dense(10)(nn.LayerNorm()(x)[:, 0])


def rotary(x):
    places, width = x.shape[1], x.shape[-1]
    rates = 10000.0 ** -(np.arange(0, width, 2) / width)
    angles = jnp.asarray(np.arange(places)[:, None] * rates, x.dtype)
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Decoder(nn.Module):
    """RMSNorm, rotary positions, grouped queries, SwiGLU and a tied head."""

    width: int
    blocks: int = 2
    heads: int = 4
    groups: int = 2
    vocabulary: int = 200

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(self.vocabulary, self.width)
        x = embed(tokens)
        samples, places = tokens.shape
        head = self.width // self.heads
        past = jnp.tril(jnp.ones((places, places), bool))

        def dense(width):
            return nn.Dense(width, use_bias=False)

        for _ in range(self.blocks):
            h = nn.RMSNorm()(x)
            q = rotary(dense(self.width)(h).reshape(samples, places, self.heads, head))
            k, v = (
                dense(self.groups * head)(h).reshape(samples, places, self.groups, head)
                for _ in range(2)
            )
            k, v = (jnp.repeat(z, self.heads // self.groups, axis=2) for z in (rotary(k), v))
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(head)
            weights = jax.nn.softmax(jnp.where(past, scores, -1e9))
            z = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(samples, places, -1)
            x = x + dense(self.width)(z)
            h = nn.RMSNorm()(x)
            h = nn.silu(dense(3 * self.width)(h)) * dense(3 * self.width)(h)
            x = x + dense(self.width)(h)
        return embed.attend(nn.RMSNorm()(x))


class Mixer(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (4, 4), (4, 4))(x)
        x = x.reshape(len(x), -1, self.width)
        for _ in range(2):
            h = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
            h = nn.Dense(x.shape[1])(nn.gelu(nn.Dense(2 * x.shape[1])(h)))
            x = x + jnp.swapaxes(h, 1, 2)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(h)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class Separable(nn.Module):
    """Depthwise convolutions between dense layers, as in ConvNeXt."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (2, 2), (2, 2))(x)
        for _ in range(2):
            h = nn.Conv(self.width, (5, 5), feature_group_count=self.width)(x)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(h)))
            x = x + nn.Dense(self.width)(h)
        return nn.Dense(10)(x.mean((1, 2)))


class Recurrent(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        steps = jnp.asarray(nn.RNN(nn.LSTMCell(self.width))(x))
        return nn.Dense(10)(steps[:, -1])


class Block(nnx.Module):
    """NNX: attention and a gated branch, with dropout."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.up = nnx.Linear(width, 3 * width, rngs=rngs)
        self.gate = nnx.Linear(width, 3 * width, rngs=rngs)
        self.down = nnx.Linear(3 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = x + self.dropout(self.attention(self.norm(x)))
        return x + self.down(nnx.silu(self.gate(x)) * self.up(x))


def _x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def _tokens(*shape):
    return jax.random.randint(jax.random.key(0), shape, 0, 100)


def linen(width: int) -> dict[str, tuple[nn.Module, tuple, dict]]:
    """Models of a width, with inputs and options."""
    return {
        "MLP, residual": (ResidualMLP(width), (_x(16, 32),), {}),
        "LeNet": (LeNet(), (_x(4, 16, 16, 1),), {}),
        "ResNet, BatchNorm": (ResNet(width), (_x(4, 12, 12, 3),), {"train": True}),
        "encoder, pre-LN": (Encoder(width), (_tokens(4, 16),), {}),
        "vision transformer": (VisionTransformer(width), (_x(4, 16, 16, 3),), {}),
        "decoder, SwiGLU": (Decoder(width), (_tokens(4, 16),), {}),
        "MLP-Mixer": (Mixer(width), (_x(4, 16, 16, 3),), {}),
        "depthwise": (Separable(width), (_x(4, 16, 16, 3),), {}),
    }
