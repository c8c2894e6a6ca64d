"""Initializers inside the layers of flax.linen and flax.nnx."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxinit import constant, he, lecun, zeros

KEY = jax.random.key(0)
X = jnp.ones((2, 6, 8))
DTYPES = (jnp.float32, jnp.bfloat16)

LINEN = {
    "Dense": lambda d: nn.Dense(4, kernel_init=he("gelu"), bias_init=zeros, param_dtype=d),
    "Conv": lambda d: nn.Conv(4, (3,), kernel_init=he(), bias_init=constant(0.1), param_dtype=d),
    "DenseGeneral": lambda d: nn.DenseGeneral((2, 4), kernel_init=he("tanh"), param_dtype=d),
    "Attention": lambda d: nn.MultiHeadDotProductAttention(
        2, kernel_init=lecun(), bias_init=zeros, param_dtype=d
    ),
    "Embed": lambda d: nn.Embed(10, 4, embedding_init=lecun(out_axis=0), param_dtype=d),
}
NNX = {
    "Linear": lambda d, r: nnx.Linear(
        8, 4, kernel_init=he("gelu"), bias_init=zeros, param_dtype=d, rngs=r
    ),
    "Conv": lambda d, r: nnx.Conv(8, 4, (3,), kernel_init=he(), param_dtype=d, rngs=r),
    "LinearGeneral": lambda d, r: nnx.LinearGeneral(
        8, (2, 4), kernel_init=he(), param_dtype=d, rngs=r
    ),
    "Attention": lambda d, r: nnx.MultiHeadAttention(
        2, 8, kernel_init=lecun(), bias_init=zeros, param_dtype=d, decode=False, rngs=r
    ),
    "Embed": lambda d, r: nnx.Embed(10, 4, embedding_init=lecun(out_axis=0), param_dtype=d, rngs=r),
}


def inputs(name, dtype):
    return jnp.zeros((2, 6), jnp.int32) if name == "Embed" else X.astype(dtype)


def check(leaves, dtype):
    assert leaves
    for leaf in leaves:
        assert leaf.dtype == dtype and np.isfinite(np.asarray(leaf, np.float32)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LINEN)
def test_linen_layers(name, dtype):
    layer = LINEN[name](dtype)
    eager = layer.init(KEY, inputs(name, dtype))
    check(jax.tree.leaves(eager), dtype)
    jitted = jax.jit(layer.init)(KEY, inputs(name, dtype))
    jax.tree.map(np.testing.assert_array_equal, eager, jitted)
    shapes = jax.eval_shape(layer.init, KEY, inputs(name, dtype))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, eager)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NNX)
def test_nnx_layers(name, dtype):
    layer = NNX[name](dtype, nnx.Rngs(0))
    check(jax.tree.leaves(nnx.state(layer, nnx.Param)), dtype)
    with jax.numpy_dtype_promotion("standard"):  # JAX's own attention needs it in bfloat16
        assert layer(inputs(name, dtype)).shape[:2] == (2, 6)
    abstract = nnx.eval_shape(lambda: NNX[name](dtype, nnx.Rngs(0)))
    shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param))]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))]


def test_linen_with_partitioning():
    layer = nn.Dense(4, kernel_init=nn.with_partitioning(he(), (None, "model")))
    kernel = layer.init(KEY, X)["params"]["kernel"]
    assert kernel.names == (None, "model") and kernel.value.shape == (8, 4)


def test_nnx_with_partitioning():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    @nnx.jit
    def build():
        init = nnx.with_partitioning(he(), (None, "model"))
        layer = nnx.Linear(8, 4, kernel_init=init, rngs=nnx.Rngs(0))
        state = nnx.state(layer)
        nnx.update(layer, jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state)))
        return layer

    with jax.set_mesh(mesh):
        kernel = build().kernel[...]
    plain = nnx.Linear(8, 4, kernel_init=he(), rngs=nnx.Rngs(0)).kernel[...]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "model")
    np.testing.assert_array_equal(kernel, plain)


def test_vmapped_and_scanned_stacks_draw_different_layers():
    stacked = nn.vmap(
        nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0
    )(4, kernel_init=he())
    kernel = stacked.init(KEY, jnp.ones((3, 2, 8)))["params"]["kernel"]
    assert kernel.shape == (3, 8, 4) and len(np.unique(kernel)) == kernel.size

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def layers(rngs):
        return nnx.Linear(8, 4, kernel_init=he(), rngs=rngs)

    kernel = layers(nnx.Rngs(0)).kernel[...]
    assert kernel.shape == (3, 8, 4) and len(np.unique(kernel)) == kernel.size
