"""Init functions of many kinds, each a function of a key, for the tests of fast_init."""

from functools import partial
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flaxinit

WIDTH = 16
TOKENS = np.zeros((2, 5), np.int32)
FEATURES = np.ones((2, WIDTH), np.float32)


class Block(nn.Module):
    """A pre-LN transformer block."""

    kernel_init: Any = nn.linear.default_kernel_init

    @nn.compact
    def __call__(self, x):
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, kernel_init=self.kernel_init)(h, h)
        h = nn.Dense(4 * WIDTH, kernel_init=self.kernel_init)(nn.LayerNorm()(x))
        return x + nn.Dense(WIDTH, kernel_init=self.kernel_init)(nn.gelu(h))


class Transformer(nn.Module):
    """A decoder-like stack; the embedding is shared with the readout."""

    depth: int = 2
    kernel_init: Any = nn.linear.default_kernel_init

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(11, WIDTH)
        x = embed(tokens)
        x = x + self.param("position", nn.initializers.normal(0.02), (tokens.shape[1], WIDTH))
        for _ in range(self.depth):
            x = Block(self.kernel_init)(x)
        return embed.attend(nn.LayerNorm()(x))


class Stateful(nn.Module):
    """Batch statistics, a cache, a counter and a dropout stream beside the parameters."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(WIDTH)(x))
        counter = self.variable("counter", "steps", lambda: jnp.zeros((), jnp.int32))
        counter.value += 1
        self.variable("cache", "last", lambda: jnp.zeros(x.shape, jnp.bfloat16))
        self.variable("table", "sinusoid", lambda: np.sin(np.arange(8, dtype=np.float32)))
        x = nn.Dropout(0.5, deterministic=False)(x)
        x = nn.WeightNorm(nn.Dense(WIDTH))(x)
        return nn.SpectralNorm(nn.Dense(WIDTH))(x, update_stats=True)


class Scanned(nn.Module):
    """Layers under scan, vmap, remat and jit."""

    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}

        def body(layer, x, _):
            return layer(x), None

        x, _ = nn.scan(body, length=3, **axes)(nn.Dense(WIDTH), x, None)
        x = nn.vmap(nn.Dense, in_axes=None, out_axes=0, axis_size=2, **axes)(WIDTH)(x)[0]
        x = nn.remat(nn.Dense)(WIDTH)(x)
        return nn.jit(nn.Dense)(WIDTH)(x)


class Mlp(nnx.Module):
    """NNX: layers in a list, batch statistics, dropout, one layer used twice."""

    def __init__(self, rngs: nnx.Rngs, kernel_init=nnx.nn.linear.default_kernel_init):
        linear = partial(nnx.Linear, kernel_init=kernel_init, rngs=rngs)
        self.layers = nnx.List([linear(WIDTH, WIDTH) for _ in range(3)])
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, WIDTH, rngs=rngs)
        self.tied = self.layers[0]


def nnx_stacked(key):
    """NNX layers made by vmap over keys."""

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key):
        return nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(key))

    return make(jax.random.split(key, 3))


IMAGES = np.ones((2, 6, 6, 3), np.float32)


@hk.transform_with_state
def haiku_network(x):
    """Haiku: state beside the parameters, an initializer of this library among its own."""
    x = hk.Flatten()(hk.Conv2D(8, 3)(x))
    hk.set_state("calls", hk.get_state("calls", (), np.int32, init=jnp.zeros) + 1)
    x = hk.Linear(WIDTH, w_init=hk.initializers.VarianceScaling(2.0))(x)
    x = x + hk.Embed(11, WIDTH)(np.arange(2, dtype=np.int32))
    x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(x)
    he = lambda shape, dtype: flaxinit.he()(hk.next_rng_key(), shape, dtype)
    return hk.Linear(3, w_init=he)(x)


class EquinoxNetwork(eqx.Module):
    """Equinox: functions, numbers and static fields beside the arrays, and state."""

    layers: list
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.BatchNorm
    activation: Any
    depth: int
    name: str = eqx.field(static=True)

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.layers = [eqx.nn.Linear(WIDTH, WIDTH, key=k) for k in jax.random.split(first, 3)]
        self.attention = eqx.nn.MultiheadAttention(2, WIDTH, key=second)
        self.norm = eqx.nn.BatchNorm(WIDTH, "batch", mode="batch")
        self.activation = jax.nn.gelu
        self.depth = 3
        self.name = "network"


def equinox_stacked(key):
    """Equinox layers made by vmap over keys."""
    make = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, WIDTH, key=key))
    return make(jax.random.split(key, 3))


def scaled_by_depth(key):
    """One sampler, another scale in each layer."""
    keys = jax.random.split(key, 5)
    return [0.3 * (i + 1) ** -0.5 * jax.random.normal(k, (WIDTH, 7)) for i, k in enumerate(keys)]


def entangled(key):
    """Return outputs computed from each other, shared, passed on and constant."""
    a, b = jax.random.normal(key, (2, WIDTH, WIDTH))
    norm = jnp.linalg.norm(a, axis=0)
    mixed = b * norm
    return {
        "a": a,
        "again": a,
        "norm": norm,
        "mixed": mixed,
        "sum": a + mixed,
        "key": key,
        "three": 3,
        "scalar": jax.random.normal(key, ()),
        "none": None,
        "mean": a.mean(),
    }


def cyclic(key):
    """Two draws that read each other's outputs."""
    x = jax.random.normal(key, (WIDTH,))
    shared = jnp.sin(x)
    first = shared + 1.0
    second = jnp.cos(first)
    return first, second, shared * second


def structured(key):
    """Loops, branches, decompositions, custom derivatives and a rejection that is not static."""
    a, b, c, d = jax.random.split(key, 4)
    x = jax.random.normal(a, (WIDTH, WIDTH))
    q, r = jnp.linalg.qr(x)
    walk = jax.lax.scan(lambda s, k: (s + jax.random.normal(k, (4,)),) * 2, jnp.zeros(4),
                        jax.random.split(b, 5))[1]  # fmt: skip
    power = jax.lax.fori_loop(0, 3, lambda _, v: x @ v / jnp.linalg.norm(v), jnp.ones(WIDTH))
    branch = jax.lax.cond(jax.random.bernoulli(c), lambda: jnp.zeros((3, 8)),
                          lambda: jax.random.uniform(c, (3, 8)))  # fmt: skip
    soft = jax.checkpoint(lambda v: jnp.logaddexp(jax.nn.silu(v), v) - np.float32(0.1))(x)
    return {
        "q": q * jnp.sign(jnp.diagonal(r)), "walk": walk, "power": power, "branch": branch,
        "soft": soft, "gamma": jax.random.gamma(d, np.float32(2.0), (8,)),
        "sorted": jnp.sort(jax.random.permutation(d, 16)[:8]),
    }  # fmt: skip


def all_samplers(key, initializers, dtype=jnp.float32):
    """One array from each initializer."""
    keys = jax.random.split(key, len(initializers))
    return [f(k, (WIDTH, 24), dtype) for f, k in zip(initializers, keys, strict=True)]


FLAXINIT = (
    flaxinit.he(),
    flaxinit.glorot("gelu"),
    flaxinit.lecun_uniform(),
    flaxinit.normal(),
    flaxinit.truncated_normal(0.3),
    flaxinit.he_normal("tanh"),
    flaxinit.zeros,
)
JAX = tuple(
    f()
    for f in (
        jax.nn.initializers.he_normal,
        jax.nn.initializers.he_uniform,
        jax.nn.initializers.glorot_normal,
        jax.nn.initializers.glorot_uniform,
        jax.nn.initializers.lecun_normal,
        jax.nn.initializers.lecun_uniform,
        jax.nn.initializers.normal,
        jax.nn.initializers.uniform,
        jax.nn.initializers.truncated_normal,
    )
)
MATRICES = (
    flaxinit.orthogonal(),
    flaxinit.semi_orthogonal(),
    flaxinit.gated_orthogonal(4),
    flaxinit.sparse(0.5),
)
ORTHOGONAL = (jax.nn.initializers.orthogonal(), jax.nn.initializers.orthogonal(2.0))

# A mesh changes the order of sums of products: these agree up to rounding, not bit for bit.
MATRICES_OF_PRODUCTS = "matrices"

INIT_FUNCTIONS = {
    "transformer": lambda key: Transformer().init(key, TOKENS),
    "transformer with flaxinit": lambda key: Transformer(kernel_init=flaxinit.he("gelu")).init(
        key, TOKENS
    ),
    "state": lambda key: Stateful().init({"params": key, "dropout": key}, FEATURES),
    "scan, vmap, remat, jit": lambda key: Scanned().init(key, FEATURES),
    "nnx": lambda key: Mlp(nnx.Rngs(key)),
    "nnx state": lambda key: nnx.state(Mlp(nnx.Rngs(key), kernel_init=flaxinit.he())),
    "nnx vmap": nnx_stacked,
    "haiku": lambda key: haiku_network.init(key, IMAGES),
    "equinox": eqx.nn.make_with_state(EquinoxNetwork),
    "equinox vmap": equinox_stacked,
    "equinox jit": eqx.filter_jit(lambda key: eqx.nn.MLP(4, 4, WIDTH, 2, key=key)),
    "scaled by depth": scaled_by_depth,
    "entangled": entangled,
    "cyclic": cyclic,
    "structured": structured,
    "flaxinit": partial(all_samplers, initializers=FLAXINIT),
    "flaxinit bfloat16": partial(all_samplers, initializers=FLAXINIT, dtype=jnp.bfloat16),
    "flaxinit float16": partial(all_samplers, initializers=FLAXINIT, dtype=jnp.float16),
    "jax": partial(all_samplers, initializers=JAX),
    "jax bfloat16": partial(all_samplers, initializers=JAX, dtype=jnp.bfloat16),
    "orthogonal": partial(all_samplers, initializers=ORTHOGONAL),
    MATRICES_OF_PRODUCTS: partial(all_samplers, initializers=MATRICES),
    "jitted whole": jax.jit(lambda key: Transformer().init(key, TOKENS)),
}
