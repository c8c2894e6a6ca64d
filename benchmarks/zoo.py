"""Models as people write them, at any width: what forecast() is held against."""

import math
from collections.abc import Callable

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


class StandardizedConv(nn.Module):
    """A convolution whose kernel has mean 0 and variance gain²/fan_in in each output channel.

    References: Brock, De, Smith, Simonyan (2021), High-performance large-scale image recognition
    without normalization.
    """

    width: int
    strides: int = 1
    gain: float = 1.0

    @nn.compact
    def __call__(self, x):
        shape = (3, 3, x.shape[-1], self.width)
        w = self.param("kernel", flaxinit.lecun(), shape)
        w = w - w.mean((0, 1, 2))
        w = self.gain * w / jnp.sqrt(math.prod(shape[:3]) * jnp.mean(w**2, (0, 1, 2)))
        strides = (self.strides, self.strides)
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, strides, "SAME", dimension_numbers=axes)


class NormFree(nn.Module):
    """ReLU, weight standardization and residual branches of known variance, as in NFNets."""

    width: int

    @nn.compact
    def __call__(self, x):
        gain = math.sqrt(2 / (1 - 1 / math.pi))
        x = StandardizedConv(self.width)(x)
        for strides in (1, 2):
            h = nn.relu(x)
            y = StandardizedConv(self.width, strides, gain)(h)
            y = StandardizedConv(self.width, 1, gain)(nn.relu(y))
            if strides > 1:
                x = nn.avg_pool(x, (2, 2), (2, 2))
            x = x + 0.5 * y
        return nn.Dense(10)(nn.relu(x).mean((1, 2)))


class Encoder(nn.Module):
    """Flax's attention and dense layers, each normed before or after."""

    width: int
    blocks: int = 2
    post: bool = False

    @nn.compact
    def __call__(self, tokens):
        places = self.param("places", nn.initializers.normal(0.02), (tokens.shape[1], self.width))
        x = nn.Embed(100, self.width)(tokens) + places
        for _ in range(self.blocks):
            x = self.added(x, nn.MultiHeadDotProductAttention(4))
            dense = [nn.Dense(4 * self.width), nn.gelu, nn.Dense(self.width)]
            x = self.added(x, nn.Sequential(dense))
        return nn.Dense(10)((x if self.post else nn.LayerNorm()(x)).mean(1))

    def added(self, x, branch):
        return nn.LayerNorm()(x + branch(x)) if self.post else x + branch(nn.LayerNorm()(x))


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
    """A cell over `scan`."""

    width: int
    cell: Callable[[int], nn.RNNCellBase] = nn.LSTMCell

    @nn.compact
    def __call__(self, x):
        steps = jnp.asarray(nn.RNN(self.cell(self.width))(x))
        return nn.Dense(10)(steps[:, -1])


class StateSpace(nn.Module):
    """A diagonal linear recurrence between dense layers, over an associative scan.

    References: Gupta, Gu, Berant (2022), Diagonal state spaces are as effective as structured
    state spaces; Orvieto et al. (2023), Resurrecting recurrent neural networks for long sequences.
    """

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        for n in range(2):
            rates = self.param(f"rates_{n}", nn.initializers.uniform(1.0), (self.width,))
            decay = jnp.exp(-0.5 - rates)
            h = nn.Dense(self.width)(nn.LayerNorm()(x)) * jnp.sqrt(1 - decay**2)

            def joined(one, other):
                return one[0] * other[0], one[1] * other[0] + other[1]

            _, h = jax.lax.associative_scan(joined, (jnp.broadcast_to(decay, h.shape), h), axis=1)
            x = x + nn.Dense(self.width)(nn.gelu(h))
        return nn.Dense(10)(nn.LayerNorm()(x)[:, -1])


class Autoencoder(nn.Module):
    """Strided convolutions and ConvTranspose."""

    width: int

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        for factor in (1, 2):
            x = nn.relu(nn.Conv(factor * self.width // 2, (3, 3), (2, 2))(x))
        for factor in (2, 1):
            x = nn.relu(nn.ConvTranspose(factor * self.width // 2, (4, 4), (2, 2))(x))
        return nn.Conv(channels, (3, 3))(x)


class UNet(nn.Module):
    """Concatenated skip connections, max-pooling and GroupNorm."""

    width: int

    @nn.compact
    def __call__(self, x):
        def block(x):
            x = nn.Conv(self.width, (3, 3), kernel_init=flaxinit.he())(x)
            return nn.relu(nn.GroupNorm(8)(x))

        high = block(x)
        low = block(nn.max_pool(high, (2, 2), (2, 2)))
        low = jnp.repeat(jnp.repeat(block(low), 2, axis=1), 2, axis=2)
        return nn.Conv(2, (1, 1))(block(jnp.concatenate([high, low], axis=-1)))


class Experts(nn.Module):
    """A mixture of experts: each token goes to two of four, by a softmax over their scores."""

    width: int
    experts: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        h = nn.LayerNorm()(x)
        scores = nn.Dense(self.experts)(h)
        least = jnp.sort(scores, axis=-1)[..., -2:-1]
        weights = jax.nn.softmax(jnp.where(scores >= least, scores, -1e9))
        init = flaxinit.lecun(batch_axis=0)
        shape = self.experts, self.width, 2 * self.width
        first = self.param("first", init, shape)
        second = self.param("second", init, (shape[0], shape[2], shape[1]))
        y = nn.gelu(jnp.einsum("...d,edh->...eh", h, first))
        y = jnp.einsum("...eh,ehd->...ed", y, second)
        x = x + jnp.einsum("...ed,...e->...d", y, weights)
        return nn.Dense(10)(nn.LayerNorm()(x))


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
    images, tokens, series = _x(4, 16, 16, 3), _tokens(4, 16), _x(8, 6, 32)
    return {
        "MLP, residual": (ResidualMLP(width), (_x(16, 32),), {}),
        "LeNet": (LeNet(), (_x(4, 16, 16, 1),), {}),
        "ResNet, BatchNorm": (ResNet(width), (_x(4, 12, 12, 3),), {"train": True}),
        "norm-free ResNet": (NormFree(width), (_x(4, 8, 8, 3),), {}),
        "depthwise": (Separable(width), (images,), {}),
        "vision transformer": (VisionTransformer(width), (images,), {}),
        "encoder, pre-LN": (Encoder(width), (tokens,), {}),
        "encoder, post-LN": (Encoder(width, post=True), (tokens,), {}),
        "decoder, SwiGLU": (Decoder(width), (tokens,), {}),
        "mixture of experts": (Experts(width), (_x(4, 8, 32),), {}),
        "autoencoder": (Autoencoder(width), (_x(4, 8, 8, 3),), {}),
        "U-Net": (UNet(width), (_x(4, 8, 8, 3),), {}),
        "MLP-Mixer": (Mixer(width), (images,), {}),
        "LSTM": (Recurrent(width), (series,), {}),
        "GRU": (Recurrent(width, nn.GRUCell), (series,), {}),
        "state space": (StateSpace(width), (series,), {}),
    }


def modules(width: int) -> dict[str, tuple[Callable[[nnx.Rngs], nnx.Module], tuple, dict]]:
    """Functions that build NNX modules of a width, with inputs and options."""
    return {"NNX block": (lambda rngs: Block(width, rngs), (_x(4, 16, width),), {})}
