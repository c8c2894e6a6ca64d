"""Models as people write them, and what draws of them measure, for the tests of forecast()."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxinit
from benchmarks.bounds import z_score
from flaxinit.paths import name

DRAWS = 32
WIDTH = 64
KERNELS = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose)


def measured(model, *inputs, draws=DRAWS, **options):
    """For each kernel of a Linen model E[y²] in each draw, and E[dW²] for unit Gaussian gradients.

    Biases are 0 at the start, so a layer's output is its kernel's.
    """

    def one(key):
        keys = jax.random.split(key)
        variables = model.init(keys[0], *inputs, **options)
        others = {k: v for k, v in variables.items() if k != "params"}

        def run(params):
            return model.apply(
                {"params": params, **others},
                *inputs,
                mutable=["intermediates", "batch_stats"],
                capture_intermediates=lambda module, method: isinstance(module, KERNELS),
                **options,
            )

        out, pull, state = jax.vjp(run, variables["params"], has_aux=True)
        (slopes,) = pull(jax.random.normal(keys[1], out.shape))
        return jax.tree.map(lambda x: jnp.mean(x**2), (state["intermediates"], slopes))

    keys = jax.random.split(jax.random.key(1), draws)
    seen, slopes = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    outputs = {
        "params/" + name(path).replace("__call__/0", "kernel"): np.array(values)
        for path, values in jax.tree_util.tree_leaves_with_path(seen)
    }
    gradients = {
        "params/" + name(path): np.array(values)
        for path, values in jax.tree_util.tree_leaves_with_path(slopes)
    }
    return outputs, gradients


def outside(forecast, draws, tolerance):
    """Kernels whose forecast is off by more than the tolerance, and than chance explains."""
    z = z_score(len(draws))
    found = {}
    for path, values in draws.items():
        mean = float(values.mean())
        chance = z * float(values.std(ddof=1)) / math.sqrt(len(values)) / mean
        error = forecast[path] / mean - 1
        if abs(error) > max(tolerance, chance):
            found[path] = (round(error, 3), round(chance, 3))
    return found


def signals(report):
    return {layer.path: layer.signal_out for layer in report.layers}


class ResidualMLP(nn.Module):
    """h + W₂ relu(W₁ tanh(h)), a few times."""

    width: int = 256
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

    width: int = WIDTH

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

    width: int = WIDTH
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
    width: int = WIDTH

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

    width: int = WIDTH
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
    width: int = WIDTH

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

    width: int = WIDTH

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (2, 2), (2, 2))(x)
        for _ in range(2):
            h = nn.Conv(self.width, (5, 5), feature_group_count=self.width)(x)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(h)))
            x = x + nn.Dense(self.width)(h)
        return nn.Dense(10)(x.mean((1, 2)))


class Recurrent(nn.Module):
    width: int = WIDTH

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.LSTMCell(self.width))(x)[:, -1])


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


# Models, inputs and options.
LINEN = {
    "mlp": (ResidualMLP(WIDTH), (_x(16, 32),), {}),
    "lenet": (LeNet(), (_x(4, 16, 16, 1),), {}),
    "resnet": (ResNet(), (_x(4, 12, 12, 3),), {"train": True}),
    "encoder": (Encoder(), (_tokens(4, 16),), {}),
    "vision transformer": (VisionTransformer(), (_x(4, 16, 16, 3),), {}),
    "decoder": (Decoder(), (_tokens(4, 16),), {}),
    "mixer": (Mixer(), (_x(4, 16, 16, 3),), {}),
    "separable": (Separable(), (_x(4, 16, 16, 3),), {}),
}
