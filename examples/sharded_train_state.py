"""Create a training state on a mesh: Adam's moments lie beside the parameters that they are of.

    python examples/sharded_train_state.py

Eight host devices stand in for accelerators. `fast_init` takes any function that makes arrays, so
also one that makes the whole state: no array is ever whole on one device, and none is moved.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import PartitionSpec as P

import flaxinit


def rule(path: str, x: jax.ShapeDtypeStruct) -> P:
    """Split the outputs of every kernel; its moments have the same shape, so the same layout."""
    return P(None, "model") if x.ndim == 2 else P()


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.gelu(nn.Dense(1024, kernel_init=flaxinit.lecun())(x))
        return nn.Dense(256, kernel_init=flaxinit.he("gelu"))(h)


def create_train_state(key: jax.Array, x: jax.Array) -> TrainState:
    """Make what a training loop of Linen starts from, as for one device."""
    model = Mlp()
    params = model.init(key, x)["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=optax.adamw(1e-3))


class NnxMlp(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.up = nnx.Linear(256, 1024, kernel_init=flaxinit.lecun(), rngs=rngs)
        self.down = nnx.Linear(1024, 256, kernel_init=flaxinit.he("gelu"), rngs=rngs)


def create_model_and_optimizer(key: jax.Array) -> tuple[NnxMlp, nnx.Optimizer]:
    """Make what a training loop of NNX starts from."""
    model = NnxMlp(nnx.Rngs(key))
    return model, nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)


def main() -> None:
    key, x = jax.random.key(0), jax.ShapeDtypeStruct((1, 256), jnp.float32)
    with jax.set_mesh(jax.make_mesh((8,), ("model",))):
        state = flaxinit.fast_init(create_train_state, rule)(key, x)
        model, optimizer = flaxinit.fast_init(create_model_and_optimizer, rule)(key)

    moments = state.opt_state[0].mu["Dense_0"]["kernel"], optimizer.opt_state[0].mu.up.kernel[...]
    kernels = state.params["Dense_0"]["kernel"], model.up.kernel[...]
    for name, kernel, moment in zip(("Linen", "NNX"), kernels, moments, strict=True):
        assert moment.sharding == kernel.sharding
        part = kernel.addressable_shards[0].data.shape
        print(f"{name}: kernel {kernel.shape}, {part} on each device, Adam's moments too")


if __name__ == "__main__":
    main()
