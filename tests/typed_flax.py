"""Lines that users write. Pyright and mypy check this file; nothing runs it."""

import flax.linen as nn
import jax
from flax import nnx

import flaxinit


def linen() -> list[nn.Module]:
    return [
        nn.Dense(4, kernel_init=flaxinit.he(), bias_init=flaxinit.zeros),
        nn.Dense(4, kernel_init=flaxinit.orthogonal(), bias_init=flaxinit.constant(0.1)),
        nn.Conv(4, (3, 3), kernel_init=flaxinit.he("gelu", distribution="normal")),
        nn.Embed(10, 4, embedding_init=flaxinit.lecun(out_axis=0)),
    ]


def nnx_layers() -> list[nnx.Module]:
    rngs = nnx.Rngs(0)
    return [
        nnx.Linear(3, 4, kernel_init=flaxinit.he(), bias_init=flaxinit.zeros, rngs=rngs),
        nnx.Linear(3, 4, kernel_init=flaxinit.glorot_uniform("tanh"), rngs=rngs),
        nnx.Conv(3, 4, (3,), kernel_init=flaxinit.delta_orthogonal(), rngs=rngs),
    ]


def as_jax() -> list[jax.nn.initializers.Initializer]:
    return [flaxinit.he(), flaxinit.ones, flaxinit.normal(0.02), flaxinit.sparse(0.5)]


def by_name() -> list[flaxinit.Initializer]:
    """Names that a checker could take for a module, and other names of forms."""
    flaxinit.lora(distribution="normal")
    flaxinit.mimetic(0.1)
    return [
        *(flaxinit.siren(first=True), flaxinit.gated_orthogonal(4), flaxinit.stft("real")),
        *(flaxinit.kaiming("gelu"), flaxinit.xavier_uniform(in_axis=0), flaxinit.sparse(0.1)),
        flaxinit.critical("gelu").kernel,
        flaxinit.derive(jax.nn.gelu).initializer(mode="fan_out"),
    ]


def elsewhere() -> list[flaxinit.Initializer]:
    key = jax.random.key(0)
    flaxinit.he()(key, (3, 4), None, 0, 1)
    flaxinit.for_haiku(flaxinit.he())((3, 4))
    flaxinit.for_keras(flaxinit.he(), seed=3)((3, 4), "float32")
    return [
        *(0.5 * flaxinit.he(), flaxinit.normal(0.02, "bfloat16").times(0.1), flaxinit.zeros_init()),
        *(flaxinit.get("he"), flaxinit.get({"name": "normal", "stddev": 0.1})),
        *(flaxinit.truncated_normal.from_parent(0.02), flaxinit.he(in_axis=range(2))),
        flaxinit.get(flaxinit.he().to_config()),
        flaxinit.concatenate([flaxinit.zeros, flaxinit.he()], sizes=[4, 8]),
        flaxinit.stack([flaxinit.lecun()] * 3, axis=1),
    ]


def by_path(module: nnx.Linear) -> nnx.Linear:
    rules = {"*/kernel": flaxinit.he(), "*/bias": flaxinit.zeros}
    flaxinit.fast_init(nn.Dense(4).init, initializers=rules)
    return flaxinit.reinit(module, [(nnx.Linear, flaxinit.he())], jax.random.key(0), report=True)


def from_recipes(module: nnx.Linear) -> nnx.Linear:
    layer = nn.Dense(
        4,
        kernel_init=flaxinit.recipes.pytorch_kernel(in_axis=0),
        bias_init=flaxinit.recipes.pytorch_bias((3, 4)),
    )
    rules = flaxinit.recipes.gpt2(layers=2, projections=(nnx.Linear, "*/out/kernel"))
    own = flaxinit.recipes.Rule("*/bias", flaxinit.zeros, must=None)
    flaxinit.fast_init(layer.init, initializers=[own, *rules])
    bias = flaxinit.recipes.like_kernel(flaxinit.he(), kernel=(3, 4)).times(0.5)
    return flaxinit.reinit(module, [(("*", nnx.Linear), bias)], jax.random.key(0))


def numbers() -> tuple[float, float, str]:
    maps = flaxinit.derive("gelu").maps
    return flaxinit.gain("gelu"), maps.qmap(q=1.0, sigma_w2=2.0), flaxinit.__version__
