"""Models of any width, and how each parameter should scale: table 3 of Yang et al. (2022).

A kind says it all: with a and b the growth of what a parameter sums over and of what comes out,

    kind     deviation   Adam   SGD
    input    1           1      b
    vector   1           1      b
    hidden   a^-1/2      1/a    b/a
    output   1/a         1/a    1/a
    fixed    1           1      1
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxinit

FEATURES = jax.ShapeDtypeStruct((4, 8), jnp.float32)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
SEQUENCES = jax.ShapeDtypeStruct((3, 5, 8), jnp.float32)
TOKENS = jax.ShapeDtypeStruct((2, 6), jnp.int32)
NORMAL = nn.initializers.normal(0.02)  # the same at every width, so that factors are deviations
HEAD = 8


class Residual(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="first", kernel_init=NORMAL)(x)
        for n in range(2):
            y = nn.relu(nn.Dense(self.width, name=f"in{n}", kernel_init=NORMAL)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width, name=f"out{n}", kernel_init=NORMAL)(y)
        return nn.Dense(10, name="last", kernel_init=NORMAL)(nn.LayerNorm()(x))


RESIDUAL = {
    "first/kernel": "input",
    "in?/kernel": "hidden",
    "out?/kernel": "hidden",
    "last/kernel": "output",
    "last/bias": "fixed",
    "*": "vector",
}


class Convolutional(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        def conv(name, size=3, features=self.width, **options):
            return nn.Conv(features, (size, size), name=name, kernel_init=NORMAL, **options)

        x = nn.relu(nn.BatchNorm(use_running_average=False)(conv("first")(x)))
        x = nn.relu(conv("depthwise", feature_group_count=self.width)(x))
        x = nn.relu(conv("grouped", feature_group_count=2, strides=2)(x))
        x = nn.ConvTranspose(self.width, (2, 2), (2, 2), name="up", kernel_init=NORMAL)(x)
        x = nn.GroupNorm(4)(nn.max_pool(x, (2, 2), (2, 2)))
        flat = nn.Dense(10, name="flat", kernel_init=NORMAL)(x.reshape(len(x), -1))
        pooled = nn.Dense(10, name="pooled", kernel_init=NORMAL)(jnp.mean(x, (1, 2)))
        return flat + pooled + jnp.mean(conv("classes", 1, 10)(x), (1, 2))


CONVOLUTIONAL = {
    "first/kernel": "input",
    "depthwise/kernel": "vector",
    "grouped/kernel": "hidden",
    "up/kernel": "hidden",
    "flat/kernel": "output",
    "pooled/kernel": "output",
    "classes/kernel": "output",
    "flat/bias": "fixed",
    "pooled/bias": "fixed",
    "classes/bias": "fixed",
    "*": "vector",
}


class Decoder(nn.Module):
    """One block with rotary positions, grouped queries and a gate."""

    width: int
    heads: int
    groups: int
    head: int
    tied: bool = False
    inverse: bool = False  # scores over the head's size, not over its root
    normed: bool = False

    @nn.compact
    def __call__(self, tokens):
        def project(name, heads):
            return nn.DenseGeneral((heads, self.head), name=name, kernel_init=NORMAL)

        table = nn.Embed(50, self.width, name="embed", embedding_init=NORMAL)
        x = table(tokens) + self.param("positions", NORMAL, (tokens.shape[1], self.width))
        y = nn.RMSNorm()(x)
        q, k = project("query", self.heads)(y), project("key", self.groups)(y)
        if self.normed:
            q, k = nn.RMSNorm(name="qnorm")(q), nn.RMSNorm(name="knorm")(k)
        q, k, v = rotated(q), rotated(k), project("value", self.groups)(y)
        q = q.reshape(*q.shape[:2], self.groups, -1, self.head)
        scores = jnp.einsum("btgnd,bsgd->bgnts", q, k)
        scores = scores / (self.head if self.inverse else np.sqrt(self.head).astype(np.float32))
        causal = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
        mixed = nn.softmax(jnp.where(causal, scores, jnp.float32(-1e9)))
        y = jnp.einsum("bgnts,bsgd->btgnd", mixed, v).reshape(*x.shape[:2], -1)
        x = x + nn.Dense(self.width, name="out", kernel_init=NORMAL)(y)
        y = nn.Dense(8 * self.width, name="up", kernel_init=NORMAL)(nn.RMSNorm()(x))
        gate, value = jnp.split(y, 2, -1)
        x = x + nn.Dense(self.width, name="down", kernel_init=NORMAL)(nn.silu(gate) * value)
        x = nn.RMSNorm()(x)
        return table.attend(x) if self.tied else nn.Dense(50, name="last", kernel_init=NORMAL)(x)


def rotated(x):
    size = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None] * 1e4 ** (-jnp.arange(size) / size)
    cos, sin = (f(angles)[None, :, None] for f in (jnp.cos, jnp.sin))
    one, other = jnp.split(x, 2, -1)
    return jnp.concatenate([one * cos - other * sin, one * sin + other * cos], -1)


DECODER = {
    "embed/embedding": "input",
    "last/kernel": "output",
    "last/bias": "fixed",
    "*/kernel": "hidden",
    "*": "vector",
}


class Experts(nn.Module):
    """Stacked experts, all at work and looked up, behind a router; a value head."""

    width: int
    count: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="first", kernel_init=NORMAL)(x)
        gate = nn.softmax(nn.Dense(self.count, name="router", kernel_init=NORMAL)(x))
        up = self.param("up", NORMAL, (self.count, self.width, 2 * self.width))
        down = self.param("down", NORMAL, (self.count, 2 * self.width, self.width))
        y = nn.relu(jnp.einsum("bd,edf->ebf", x, up))
        x = x + jnp.einsum("ebd,be->bd", jnp.einsum("ebf,efd->ebd", y, down), gate)
        best = jnp.argmax(gate, -1)
        y = nn.relu(jnp.einsum("bd,bdf->bf", x, up[best]))
        x = x + jnp.einsum("bf,bfd->bd", y, down[best])
        return nn.Dense(1, name="value", kernel_init=NORMAL)(x)


EXPERTS = {
    "first/kernel": "input",
    "router/kernel": "output",
    "value/kernel": "output",
    "router/bias": "fixed",
    "value/bias": "fixed",
    "params/up": "hidden",
    "params/down": "hidden",
    "*": "vector",
}


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, _):
        y = nn.gelu(nn.Dense(2 * self.width, name="in", kernel_init=NORMAL)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.width, name="out", kernel_init=NORMAL)(y), None


class Scanned(nn.Module):
    """Blocks that are stacked and recomputed."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="first", kernel_init=NORMAL)(x)
        axes, splits = {"params": 0}, {"params": True}
        blocks = nn.scan(nn.remat(Block), variable_axes=axes, split_rngs=splits, length=3)
        x, _ = blocks(self.width, name="blocks")(x, None)
        return nn.Dense(10, name="last", kernel_init=NORMAL)(x)


SCANNED = {
    "first/kernel": "input",
    "*/in/kernel": "hidden",
    "*/out/kernel": "hidden",
    "last/kernel": "output",
    "last/bias": "fixed",
    "*": "vector",
}


class Recurrent(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        cell = nn.GRUCell(self.width, kernel_init=NORMAL, recurrent_kernel_init=NORMAL)
        return nn.Dense(10, name="last", kernel_init=NORMAL)(nn.RNN(cell)(x)[:, -1])


RECURRENT = {
    "*/i?/kernel": "input",
    "*/h?/kernel": "hidden",
    "last/kernel": "output",
    "last/bias": "fixed",
    "*": "vector",
}


class Network(nnx.Module):
    """A network of NNX's layers."""

    def __init__(self, width, rngs):
        init = {"kernel_init": NORMAL, "rngs": rngs}
        self.embed = nnx.Embed(50, width, embedding_init=NORMAL, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(width // HEAD, width, decode=False, **init)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(width, 10, **init)

    def __call__(self, tokens):
        x = self.embed(tokens)
        return self.last(self.dropout(self.norm(x + self.attention(x))))


NETWORK = {
    "embed/embedding": "input",
    "last/kernel": "output",
    "last/bias": "fixed",
    "*/kernel": "hidden",
    "*": "vector",
}


def by_hand(width):
    """(init, apply) with a low-rank update, a gain on a kernel and heads without a product."""

    def init(key, x):
        draw = lambda n, *shape: 0.1 * jax.random.normal(jax.random.fold_in(key, n), shape)
        return {
            "first": draw(0, x.shape[-1], width),
            "square": draw(1, width, width),
            "down": draw(2, width, 4),
            "up": draw(3, 4, width),
            "gain": jnp.ones(width),
            "summed": draw(4, width),
            "meaned": draw(5, width),
            "steps": jnp.zeros((), jnp.int32),
        }

    def apply(params, x):
        x = jnp.tanh(x @ params["first"])
        kernel = params["square"] * params["gain"][:, None] + params["down"] @ params["up"]
        x = jnp.tanh(x @ kernel)
        return jnp.sum(x * params["summed"], -1), jnp.mean(x * params["meaned"], -1)

    return init, apply


def heads(width):
    """A decoder whose number of heads grows."""
    return {"heads": width // HEAD, "groups": width // HEAD // 2, "head": HEAD}


def sizes(width):
    """A decoder whose heads grow."""
    return {"heads": 4, "groups": 2, "head": width // 4}


LECUN = flaxinit.lecun()
