"""Effective fan: the variance a layer's kernel is drawn with fits the sums that the layer makes.

The true fan_in of a layer is read off its Jacobian: with a kernel of ones, the number of inputs
that one output depends on (in the interior, away from padding). The effective fan is one over
the variance that `lecun` states for the shape that Flax really passes to ``kernel_init``. Where
Flax passes a shape that hides the fan, the table holds the argument that mends it, and that
without it the fan is wrong.
"""

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

from flaxinit import he, lecun
from flaxinit.fans import compute_fans


class Spy:
    """A kernel_init that draws ones and remembers the shape it was asked for."""

    def __init__(self):
        self.shapes = []

    def __call__(self, key, shape, dtype=jnp.float32, out_sharding=None):
        self.shapes.append(tuple(shape))
        return jnp.ones(shape, dtype)


def linen(layer, shape, /, **options):
    def run(spy):
        module = layer(kernel_init=spy, **options)
        return lambda x: module.init_with_output(jax.random.key(0), x)[0], shape

    return run


def nnxed(layer, shape, /, *args, **options):
    def run(spy):
        return layer(*args, kernel_init=spy, rngs=nnx.Rngs(0), **options), shape

    return run


def row(build, **mend):
    return build, mend


# A layer, and what `he`, `lecun` and `glorot` must be told about it (nothing, mostly).
LAYERS = {
    "Dense": row(linen(nn.Dense, (2, 6), features=5)),
    "DenseGeneral": row(linen(nn.DenseGeneral, (2, 3, 4), features=(2, 5), axis=(-2, -1))),
    "DenseGeneral batch": row(
        linen(nn.DenseGeneral, (3, 2, 4), features=5, batch_dims=(0,)), fan_in=4, fan_out=5
    ),
    "Einsum": row(
        linen(nn.Einsum, (2, 6), shape=(6, 2, 4), einsum_str="...x,xhd->...hd", use_bias=False),
        in_axis=0,
        out_axis=(1, 2),
    ),
    "Conv 1D": row(linen(nn.Conv, (1, 9, 4), features=5, kernel_size=(3,))),
    "Conv 2D": row(linen(nn.Conv, (1, 7, 7, 3), features=5, kernel_size=(3, 3))),
    "Conv 3D": row(linen(nn.Conv, (1, 5, 5, 5, 2), features=3, kernel_size=(3, 3, 3))),
    "Conv grouped": row(
        linen(nn.Conv, (1, 9, 4), features=6, kernel_size=(3,), feature_group_count=2)
    ),
    "Conv depthwise": row(
        linen(nn.Conv, (1, 9, 4), features=4, kernel_size=(3,), feature_group_count=4)
    ),
    "Conv dilated": row(
        linen(nn.Conv, (1, 12, 4), features=5, kernel_size=(3,), kernel_dilation=2)
    ),
    "Conv strided": row(linen(nn.Conv, (1, 12, 4), features=5, kernel_size=(3,), strides=2)),
    "ConvTranspose": row(linen(nn.ConvTranspose, (1, 9, 4), features=5, kernel_size=(3,))),
    "ConvTranspose strided": row(
        linen(nn.ConvTranspose, (1, 9, 4), features=5, kernel_size=(4,), strides=(2,)),
        strides=2,
        transposed=True,
    ),
    "ConvTranspose flipped": row(
        linen(nn.ConvTranspose, (1, 9, 4), features=5, kernel_size=(3,), transpose_kernel=True),
        in_axis=-1,
        out_axis=-2,
    ),
    "ConvLocal": row(
        linen(nn.ConvLocal, (1, 9, 4), features=5, kernel_size=(3,), padding="VALID"),
        batch_axis=0,
    ),
    "vmapped Dense": row(
        linen(
            nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True}),
            (3, 2, 6),
            features=5,
        )
    ),
    "Linear": row(nnxed(nnx.Linear, (2, 6), 6, 5)),
    "LinearGeneral": row(nnxed(nnx.LinearGeneral, (2, 3, 4), (3, 4), (2, 5), axis=(-2, -1))),
    "LinearGeneral batch": row(
        nnxed(nnx.LinearGeneral, (3, 2, 4), 4, 5, batch_axis={0: 3}), fan_in=4, fan_out=5
    ),
    "nnx Einsum": row(
        nnxed(nnx.Einsum, (2, 6), "bx,xhd->bhd", (6, 2, 4)), in_axis=0, out_axis=(1, 2)
    ),
    "nnx Conv": row(nnxed(nnx.Conv, (1, 7, 7, 3), 3, 5, (3, 3))),
    "nnx Conv grouped": row(nnxed(nnx.Conv, (1, 9, 4), 4, 6, (3,), feature_group_count=2)),
    "nnx ConvTranspose": row(
        nnxed(nnx.ConvTranspose, (1, 9, 4), 4, 5, (4,), strides=(2,)), strides=2, transposed=True
    ),
}


def connections(function, shape):
    """The nonzero pattern of a layer's Jacobian: a matrix, outputs by inputs."""
    x = jnp.ones(shape)
    jacobian = np.asarray(jax.jacobian(function)(x))
    return jacobian.reshape(-1, x.size) != 0


@pytest.mark.parametrize("name", LAYERS)
def test_effective_fan_is_the_true_fan(name):
    build, mend = LAYERS[name]
    spy = Spy()
    function, shape = build(spy)
    pattern = connections(function, shape)
    true_in, true_out = pattern.sum(axis=1).max(), pattern.sum(axis=0).max()
    kernel = spy.shapes[-1]
    assert 1 / lecun(**mend).variance(kernel) == pytest.approx(true_in)
    if mend:
        assert 1 / lecun().variance(kernel) != pytest.approx(true_in)
    # The backward fan also needs to know of groups and strides.
    backward = dict(mend)
    if "grouped" in name or "depthwise" in name:
        backward["groups"] = 4 if "depthwise" in name else 2
    if name == "ConvLocal":  # its kernel folds the window into the input axis
        backward["fan_out"] = 3 * 5
    if name == "Conv strided":
        backward["strides"] = 2
        # 3 kernel positions and a stride of 2: inputs meet one or two of them, 1.5 on average.
        true_out = pattern[:, pattern.shape[1] // 4 : -pattern.shape[1] // 4].sum(axis=0).mean()
    assert 1 / lecun(mode="fan_out", **backward).variance(kernel) == pytest.approx(true_out)


def test_number_of_layers():
    assert len(LAYERS) == 23
    assert sum(bool(mend) for _, mend in LAYERS.values()) == 8


def test_the_page_lists_the_layers_that_need_an_argument():
    page = (Path(__file__).parents[1] / "docs" / "fans.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    listed = {
        name: (kernel, read, true, arguments)
        for name, _, kernel, read, true, arguments in (row for row in rows if len(row) == 6)
        if name not in ("layer", "---")
    }
    held = {}
    for name, (build, mend) in LAYERS.items():
        if not mend:
            continue
        spy = Spy()
        function, shape = build(spy)
        jax.eval_shape(function, jax.ShapeDtypeStruct(shape, jnp.float32))
        kernel = tuple(map(int, spy.shapes[-1]))
        fans = (round(1 / lecun(**options).variance(kernel)) for options in ({}, mend))
        arguments = ", ".join(f"{key}={value}" for key, value in mend.items())
        held[name] = (str(kernel), *map(str, fans), arguments)
    assert listed == held
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(example, {})


@pytest.mark.parametrize(
    "cell",
    [nn.LSTMCell, nn.OptimizedLSTMCell, nn.SimpleCell, nn.GRUCell, nn.MGUCell],
)
def test_recurrent_cells_ask_for_each_gate_by_itself(cell):
    inner, recurrent = Spy(), Spy()
    module = cell(5, kernel_init=inner, recurrent_kernel_init=recurrent)
    x = jnp.ones((2, 3))
    module.init(jax.random.key(0), module.initialize_carry(jax.random.key(0), x.shape), x)
    assert set(inner.shapes) == {(3, 5)} and set(recurrent.shapes) == {(5, 5)}


def test_attention_projections():
    spy = Spy()
    nn.MultiHeadDotProductAttention(2, qkv_features=8, out_features=7, kernel_init=spy).init(
        jax.random.key(0), jnp.ones((1, 3, 6))
    )
    # query, key, value: 6 -> heads x 4; output: heads x 4 -> 7.
    fans = [1 / lecun().variance(shape) for shape in spy.shapes]
    assert sorted(set(fans)) == [6, 8]


def test_embedding_and_experts():
    # Flax's own default for Embed: the variance of a row's dot product with a unit vector.
    assert 1 / lecun(out_axis=0).variance((1000, 64)) == pytest.approx(64)
    # Experts in one array (experts, in, out).
    assert he(batch_axis=0).variance((8, 16, 32)) == he().variance((16, 32))


sizes = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@settings(deadline=None)
@given(sizes, st.data())
def test_fans_are_jaxs_for_every_shape_and_axes(shape, data):
    axes = data.draw(st.permutations(range(len(shape))))
    cuts = sorted(data.draw(st.tuples(*[st.integers(0, len(shape))] * 3)))
    ins, outs, batch = (tuple(axes[a:b]) for a, b in zip([0, *cuts], cuts, strict=False))
    from jax._src.nn.initializers import _compute_fans

    ours = compute_fans(shape, ins, outs, batch)
    assert ours == pytest.approx(_compute_fans(shape, ins, outs, batch))
    negative = [tuple(axis - len(shape) for axis in group) for group in (ins, outs, batch)]
    assert compute_fans(shape, *negative) == ours
