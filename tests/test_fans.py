"""Effective fan: the variance of a layer's kernel fits the sums that the layer computes.

The true fans of a layer are read off its Jacobian. With a kernel of ones they are the number of
inputs that one output depends on, and the number of outputs that one input feeds. The effective fan
is one over the variance that `lecun` states for the shape that Flax passes to the initializer. If
that shape hides a fan, the table has the argument that corrects it; without the argument the
effective fan must be wrong.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

from flaxinit import chrono, forget_bias, gated_orthogonal, he, lecun, orthogonal, zeros
from flaxinit.fans import compute_fans

KEY = jax.random.key(0)


class Spy:
    """An initializer that draws ones and remembers the shapes it was asked for."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, key, shape, dtype=jnp.float32, out_sharding=None):
        self.shapes.add(tuple(map(int, shape)))
        return jnp.ones(shape, dtype)


@dataclasses.dataclass(frozen=True)
class Row:
    """A kernel of a layer, and what `he`, `lecun` and `glorot` must be told about it."""

    layer: Callable
    argument: str  # of the layer, for the kernel's initializer
    shape: tuple[int, ...]  # of the input that the kernel acts on
    build: Callable[[Spy], Callable]  # a function of that input
    mend: dict  # for both fans
    backward: dict  # besides, where fan_out counts


def call(module, x):
    return module(x)


def linen(layer, shape, /, *, argument="kernel_init", call=call, mend=(), backward=(), **options):
    def build(spy):
        module = layer(**options, **{argument: spy})
        return lambda x: nn.init_with_output(call, module)(KEY, x)[0]

    return Row(layer, argument, shape, build, dict(mend), dict(backward))


def nnxed(
    layer, shape, /, *sizes, argument="kernel_init", call=call, mend=(), backward=(), **options
):
    def build(spy):
        module = layer(*sizes, **options, **{argument: spy}, rngs=nnx.Rngs(0))
        graph, state = nnx.split(module)
        return lambda x: call(nnx.merge(graph, state, copy=True), x)

    return Row(layer, argument, shape, build, dict(mend), dict(backward))


def convolution(kind, shape, features, window, **options):
    """Return the row of linen and that of nnx."""
    # Circular padding: every output is an interior one.
    options = {"kernel_size": window, "padding": "CIRCULAR"} | options
    return (
        linen(getattr(nn, kind), shape, features=features, **options),
        nnxed(getattr(nnx, kind), shape, shape[-1], features, **options),
    )


def wrapped(conv, x):
    """Apply an input-dilated convolution on a circle, which Flax pads before it dilates."""
    return conv(jnp.pad(x, ((0, 0), (0, 2), (0, 0)), mode="wrap"))


MASK = np.ones((3, 4, 5)) * np.array([1, 1, 0])[:, None, None]  # no look into the future
TRANSPOSED = {"strides": 2, "transposed": True}
FLIPPED = {"in_axis": -1, "out_axis": -2}
CONVOLUTIONS = {
    "Conv 1D": convolution("Conv", (1, 8, 4), 5, (3,)),
    "Conv 2D": convolution("Conv", (1, 6, 6, 3), 5, (3, 3)),
    "Conv 3D": convolution("Conv", (1, 4, 4, 4, 2), 3, (3, 3, 3)),
    "Conv dilated": convolution("Conv", (1, 12, 4), 5, (3,), kernel_dilation=2),
    "Conv grouped": convolution(
        "Conv", (1, 6, 6, 4), 6, (3, 3), feature_group_count=2, backward={"groups": 2}
    ),
    "Conv depthwise": convolution(
        "Conv", (1, 8, 4), 8, (3,), feature_group_count=4, backward={"groups": 4}
    ),
    "Conv strided": convolution("Conv", (1, 12, 4), 5, (3,), strides=2, backward={"strides": 2}),
    "Conv masked": convolution(
        "Conv", (1, 8, 4), 5, (3,), mask=MASK, mend={"fan_in": 8, "fan_out": 10}
    ),
    "Conv input-dilated": convolution(
        "Conv", (1, 8, 4), 5, (4,), input_dilation=2, padding=0, call=wrapped, mend=TRANSPOSED
    ),
    "ConvTranspose": convolution("ConvTranspose", (1, 8, 4), 5, (3,)),
    "ConvTranspose strided": convolution(
        "ConvTranspose", (1, 8, 4), 5, (4,), strides=(2,), mend=TRANSPOSED
    ),
    "ConvTranspose 2D": convolution(
        "ConvTranspose",
        (1, 4, 6, 2),
        3,
        (4, 3),
        strides=(2, 1),
        mend={"strides": (2, 1), "transposed": True},
    ),
    "ConvTranspose flipped": convolution(
        "ConvTranspose", (1, 8, 4), 5, (3,), transpose_kernel=True, mend=FLIPPED
    ),
    "ConvTranspose flipped strided": convolution(
        "ConvTranspose",
        (1, 8, 4),
        5,
        (4,),
        strides=(2,),
        transpose_kernel=True,
        mend=FLIPPED | TRANSPOSED,
    ),
}


class Block(nn.Module):
    """A layer for `nn.scan`."""

    kernel_init: Callable

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(6, kernel_init=self.kernel_init)(x), None


class Experts(nn.Module):
    kernel_init: Callable

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (3, 6, 5))
        return jnp.einsum("ebi,eio->ebo", x, kernel)


def stack(*, kernel_init, rngs):
    """Three nnx layers in one."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def layers(rngs):
        return nnx.Linear(6, 6, kernel_init=kernel_init, rngs=rngs)

    return layers(rngs)


def scanned(layers, x):
    step = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    return step(x, layers)


def identity(key, shape, dtype=jnp.float32, out_sharding=None):
    return jnp.eye(*shape, dtype=dtype)


EINSUM = {"in_axis": 0, "out_axis": (1, 2)}
BATCH = {"fan_in": 4, "fan_out": 5}
EMBED = {"in_axis": -1, "out_axis": 0}
ADAPTER = {"lora_rank": 4, "kernel_init": zeros}
LAYERS = {
    "Dense": linen(nn.Dense, (2, 6), features=5),
    "DenseGeneral": linen(nn.DenseGeneral, (2, 3, 4), features=(2, 5), axis=(-2, -1)),
    "DenseGeneral batch": linen(
        nn.DenseGeneral, (3, 2, 4), features=5, batch_dims=(0,), mend=BATCH
    ),
    "Einsum": linen(
        nn.Einsum,
        (2, 6),
        shape=(6, 2, 4),
        einsum_str="...x,xhd->...hd",
        use_bias=False,
        mend=EINSUM,
    ),
    "Experts": linen(Experts, (3, 2, 6), mend={"batch_axis": 0}),
    "ConvLocal": linen(
        nn.ConvLocal,
        (1, 8, 4),
        features=5,
        kernel_size=(3,),
        padding="CIRCULAR",
        mend={"batch_axis": 0},
        backward={"fan_out": 15},  # the kernel folds its window into the input axis
    ),
    # A look-up sums nothing; `attend` is the same table as the last layer of a language model.
    "Embed": linen(
        nn.Embed,
        (2, 4),
        num_embeddings=7,
        features=4,
        argument="embedding_init",
        call=nn.Embed.attend,
        mend=EMBED,
    ),
    "vmapped Dense": linen(
        nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True}),
        (3, 2, 6),
        features=5,
    ),
    "scanned Dense": linen(
        nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3),
        (2, 6),
        call=lambda layers, x: layers(x, None)[0],
    ),
    "RNN": linen(lambda **init: nn.RNN(nn.SimpleCell(5, **init)), (2, 1, 3)),
    "Linear": nnxed(nnx.Linear, (2, 6), 6, 5),
    "LinearGeneral": nnxed(nnx.LinearGeneral, (2, 3, 4), (3, 4), (2, 5), axis=(-2, -1)),
    "LinearGeneral batch": nnxed(nnx.LinearGeneral, (3, 2, 4), 4, 5, batch_axis={0: 3}, mend=BATCH),
    "nnx Einsum": nnxed(nnx.Einsum, (2, 6), "bx,xhd->bhd", (6, 2, 4), mend=EINSUM),
    "nnx Experts": nnxed(nnx.Einsum, (3, 2, 6), "ebi,eio->ebo", (3, 6, 5), mend={"batch_axis": 0}),
    "nnx Embed": nnxed(
        nnx.Embed, (2, 4), 7, 4, argument="embedding_init", call=nnx.Embed.attend, mend=EMBED
    ),
    "vmapped Linear": nnxed(stack, (3, 2, 6), call=nnx.vmap(call)),
    "scanned Linear": nnxed(stack, (2, 6), call=scanned),
    "nnx RNN": nnxed(lambda **options: nnx.RNN(nnx.SimpleCell(3, 5, **options)), (2, 1, 3)),
    # The factors one at a time: the other is the identity, the layer that they adapt 0.
    "LoRA a": nnxed(nnx.LoRA, (2, 6), 6, 4, 4, argument="a_initializer", b_initializer=identity),
    "LoRA b": nnxed(nnx.LoRA, (2, 4), 4, 4, 5, argument="b_initializer", a_initializer=identity),
    "LoRALinear": nnxed(nnx.LoRALinear, (2, 6), 6, 5, lora_rank=2),
    "LoRALinear a": nnxed(
        nnx.LoRALinear, (2, 6), 6, 4, argument="a_initializer", b_initializer=identity, **ADAPTER
    ),
    "LoRALinear b": nnxed(
        nnx.LoRALinear, (2, 4), 4, 5, argument="b_initializer", a_initializer=identity, **ADAPTER
    ),
}
LAYERS |= {
    f"{prefix}{name}": row
    for name, rows in CONVOLUTIONS.items()
    for prefix, row in zip(("", "nnx "), rows, strict=True)
}


def attention():
    # Heads of queries that no attention mixes; of the two projections, one is the identity.
    common = {"attention_fn": lambda query, key, value, **_: query, "decode": False}
    for part, inputs, outputs, argument, other in (
        ("", 6, 8, "kernel_init", "out_kernel_init"),
        (" out", 8, 7, "out_kernel_init", "kernel_init"),
    ):
        shape, options = (1, 3, inputs), common | {"argument": argument, other: identity}
        for layer in (nn.MultiHeadAttention, nn.MultiHeadDotProductAttention, nn.SelfAttention):
            yield (
                f"{layer.__name__}{part}",
                linen(layer, shape, num_heads=2, qkv_features=8, out_features=outputs, **options),
            )
        yield (
            f"nnx MultiHeadAttention{part}",
            nnxed(nnx.MultiHeadAttention, shape, 2, inputs, 8, outputs, **options),
        )


def step(cell, h, x):
    """Return the output of a recurrent cell."""
    carry = (jnp.full_like(h, 0.1), h) if "LSTM" in type(cell).__name__ else h
    return cell(carry, x)[1]


def from_input(cell, x):
    return step(cell, jnp.full((*x.shape[:-1], 5), 0.1), x)


def from_state(cell, h):
    return step(cell, h, jnp.full((*h.shape[:-1], 3), 0.1))


LINEN_CELLS = (nn.LSTMCell, nn.OptimizedLSTMCell, nn.SimpleCell, nn.GRUCell, nn.MGUCell)
NNX_CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.SimpleCell, nnx.GRUCell)
FUSED = {nnx.OptimizedLSTMCell: 4, nnx.GRUCell: 3}  # gates side by side in one kernel


def conv_lstm(kernel, features, call):
    """Set the kernels of a cell afterwards: it takes no initializer."""

    def build(spy):
        cell = nn.ConvLSTMCell(5, (3,), padding="CIRCULAR")
        h = jnp.ones((1, 8, 5))
        variables = cell.init(KEY, (h, h), h[..., :3])
        layer = variables["params"][kernel]
        layer["kernel"] = spy(KEY, layer["kernel"].shape)
        return functools.partial(call, cell.bind(variables))

    return Row(nn.ConvLSTMCell, kernel, (1, 8, features), build, {}, {"fan_out": 3 * 5})


def cells():
    yield "ConvLSTMCell", conv_lstm("ih", 3, from_input)
    yield "ConvLSTMCell recurrent", conv_lstm("hh", 5, from_state)
    for part, features, argument, call in (
        ("", 3, "kernel_init", from_input),
        (" recurrent", 5, "recurrent_kernel_init", from_state),
    ):
        shape, options = (1, features), {"argument": argument, "call": call}
        for cell in LINEN_CELLS:
            yield f"{cell.__name__}{part}", linen(cell, shape, features=5, **options)
        for cell in NNX_CELLS:
            backward = {"fan_out": 5} if cell in FUSED else {}  # of one gate
            yield (
                f"nnx {cell.__name__}{part}",
                nnxed(cell, shape, 3, 5, backward=backward, **options),
            )


LAYERS |= dict(attention()) | dict(cells())


@functools.cache
def measured(name):
    """Return the shape that the initializer is asked for, and the true fans."""
    spy, shape = Spy(), LAYERS[name].shape
    function = LAYERS[name].build(spy)
    x = jnp.full(shape, 0.1)  # small, so that no gate saturates
    jacobian = np.asarray(jax.jacobian(function)(x))
    connected = jacobian.reshape(-1, x.size) != 0
    (kernel,) = spy.shapes
    # The mean, since a stride may not divide the window.
    return kernel, connected.sum(axis=1).mean(), connected.sum(axis=0).mean()


def effective(mode, kernel, **told):
    return 1 / lecun(mode=mode, **told).variance(kernel)


@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
@pytest.mark.parametrize("name", LAYERS)
def test_effective_fan_is_the_true_fan(name):
    row = LAYERS[name]
    kernel, true_in, true_out = measured(name)
    assert effective("fan_in", kernel, **row.mend) == pytest.approx(true_in)
    assert effective("fan_out", kernel, **row.mend, **row.backward) == pytest.approx(true_out)
    # And no argument is idle.
    if row.mend:
        assert effective("fan_in", kernel) != pytest.approx(true_in)
    if row.backward:
        assert effective("fan_out", kernel, **row.mend) != pytest.approx(true_out)


# Drawn for vectors or for a state, which have no fan.
NO_KERNEL = re.compile(r"(.*bias|scale|negative_slope|carry)_init")
NO_ROW = {
    "no parameters": {"Dropout", "RoPE"},
    "hold other layers": {"Bidirectional", "Dict", "List", "RNN", "Sequential", "SpectralNorm"},
    "scales and biases": {"BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"},
    "scales or slopes": {"WeightNorm", "PReLU"},
    "scales of eight-bit floats": {
        "Fp8DirectDotGeneralOp",
        "Fp8DotGeneralOp",
        "Fp8Einsum",
        "NANOOFp8DotGeneralOp",
    },
    "what layers are made of": {"Module", "RNNCellBase"},
}


def test_the_table_has_every_kernel_of_flax():
    layers = [
        layer
        for module in (nn, nnx)
        for layer in vars(module).values()
        if inspect.isclass(layer) and issubclass(layer, (nn.Module, nnx.Module))
    ]
    kernels = {
        (layer, argument)
        for layer in layers
        for argument in inspect.signature(layer.__init__).parameters
        if "init" in argument and not NO_KERNEL.fullmatch(argument)
    }
    rows = {(row.layer, row.argument) for row in LAYERS.values()}
    assert kernels <= rows
    assert {(nn.GRUCell, "recurrent_kernel_init"), (nnx.Embed, "embedding_init")} <= kernels
    # A layer may also hide a kernel that no argument fills.
    rest = {layer.__name__ for layer in set(layers) - {layer for layer, _ in rows}}
    # Not every version of Flax that is supported has all of them.
    assert rest == set().union(*NO_ROW.values()) & {layer.__name__ for layer in layers}


PAGE = (Path(__file__).parents[1] / "docs" / "fans.md").read_text()


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_the_page_lists_the_layers_that_need_an_argument(mode):
    (table,) = re.findall(rf"^\| layer .* \| {mode} read .*\n\| -.*\n((?:\|.*\n)+)", PAGE, re.M)
    lines = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    listed = {name: cells for name, _, *cells in lines}
    held = {}
    for name, row in LAYERS.items():
        known, told = ({}, row.mend) if mode == "fan_in" else (row.mend, row.backward)
        if told:
            kernel, *true = measured(name)
            fans = effective(mode, kernel, **known), true[mode == "fan_out"]
            arguments = ", ".join(f"{key}={value}" for key, value in told.items())
            cells = [str(kernel), *(f"{fan:g}" for fan in fans), arguments]
            if held.get(name.removeprefix("nnx ")) != cells:  # one line for linen's and nnx's
                held[name] = cells
    assert listed == held


def test_rows_of_an_embedding_have_length_1():
    init = lecun(out_axis=0)
    linen_table = nn.Embed(1000, 64, embedding_init=init).init(KEY, jnp.zeros(1, int))
    nnx_table = nnx.Embed(1000, 64, embedding_init=init, rngs=nnx.Rngs(0)).embedding[...]
    for table in (linen_table["params"]["embedding"], nnx_table):
        # The mean of n = 64 000 squares deviates by less than √(2/n), a normal's; allowed are five.
        assert np.square(table).sum(axis=1).mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("norm", [nn.WeightNorm, nn.SpectralNorm, nnx.WeightNorm, nnx.SpectralNorm])
def test_a_norm_of_the_weights_undoes_the_variance(norm):
    x = jax.random.normal(KEY, (2, 6))

    def output(init):
        if issubclass(norm, nnx.Module):
            layer = nnx.Linear(6, 5, kernel_init=init, rngs=nnx.Rngs(0))
            return norm(layer, rngs=nnx.Rngs(1))(x)
        layer = norm(nn.Dense(5, kernel_init=init))
        options = {"update_stats": False} if norm is nn.SpectralNorm else {}
        return layer.apply(layer.init(KEY, x, **options), x, **options)

    np.testing.assert_allclose(output(he()), output(he().times(3)), rtol=1e-5)


UNITS = 8
X, H = jnp.zeros((1, 4, 3)), jnp.zeros((1, 4, UNITS))


def make(cell, **options):
    if issubclass(cell, nnx.Module):
        return cell(3, UNITS, rngs=nnx.Rngs(0), **options)
    return cell(UNITS, **options)


def drawn(cell, **biases):
    """Return a cell with its parameters drawn, except the biases of layers of these names."""
    if isinstance(cell, nnx.Module):
        for name, bias in biases.items():
            getattr(cell, name).bias[...] = bias
        return cell
    variables = cell.init(KEY, (H, H) if "LSTM" in type(cell).__name__ else H, X)
    for name, bias in biases.items():
        variables["params"][name]["bias"] = bias
    return cell.bind(variables)


def gate_matrices(cell, **options):
    """How each gate of a cell sees the state, the other gates being open."""
    gates = []

    def open_gate(z):
        gates.append(z)
        return jnp.ones_like(z)

    names = {"gate_fn", "activation_fn"} & set(inspect.signature(cell.__init__).parameters)
    cell = drawn(make(cell, **options, **dict.fromkeys(names, open_gate)))

    def run(h):
        gates.clear()
        from_state(cell, h)
        return list(gates)

    matrices = map(np.asarray, jax.jacobian(run)(jnp.zeros(UNITS)))
    return [matrix for matrix in matrices if matrix.any()]  # the cell state of an LSTM is not h


def orthonormal(matrix):
    return np.allclose(matrix @ matrix.T, np.eye(UNITS), atol=1e-5)


@pytest.mark.parametrize("cell", [*LINEN_CELLS, *NNX_CELLS])
def test_every_gate_is_orthogonal(cell):
    count = {"LSTMCell": 4, "OptimizedLSTMCell": 4, "GRUCell": 3, "MGUCell": 2, "SimpleCell": 1}
    fitting = gated_orthogonal(FUSED[cell]) if cell in FUSED else orthogonal()
    gates = gate_matrices(cell, recurrent_kernel_init=fitting)
    assert len(gates) == count[cell.__name__] and all(map(orthonormal, gates))
    if cell in FUSED:
        for whole in ({}, {"recurrent_kernel_init": orthogonal()}):  # Flax's default, and ours
            assert not any(map(orthonormal, gate_matrices(cell, **whole)))


def kept(cell):
    """Return the share of its state that a cell keeps when the input is 0."""

    def advance(state):
        if "LSTM" not in type(cell).__name__:
            return cell(state, X)[0]
        return cell((state, H), X)[0][0]

    return (advance(H + 1) - advance(H))[0, 0]


LSTMS = (nn.LSTMCell, nn.OptimizedLSTMCell, nnx.LSTMCell, nnx.OptimizedLSTMCell)


@pytest.mark.parametrize("init", [forget_bias(2.0), chrono(100)], ids=str)
@pytest.mark.parametrize("cell", LSTMS)
def test_biases_reach_their_gates(cell, init):
    options = {"activation_fn": lambda z: 1 + z}  # the candidate is 1 + its bias
    whole = drawn(make(cell, bias_init=init, **options))
    split = jnp.split(init(KEY, (4 * UNITS,)), 4)
    biases = {f"h{gate}": bias for gate, bias in zip("ifgo", split, strict=True)}
    fitting = whole if cell in FUSED else drawn(make(cell, **options), **biases)
    forget = kept(fitting)
    (entered, _), output = fitting((H, H), X)
    if init == forget_bias(2.0):
        np.testing.assert_allclose(forget, jax.nn.sigmoid(2.0), rtol=1e-5)
        np.testing.assert_allclose(entered, 0.5)
        # Where gates are drawn one by one, each takes itself for all four.
        assert np.allclose(kept(whole), forget) == (cell in FUSED)
    else:
        memory = 1 / (1 - forget)
        assert 2 <= memory.min() < memory.max() <= 100
        np.testing.assert_allclose(entered[0, 0], 1 - forget, atol=1e-6)
    np.testing.assert_allclose(output / (1 + entered), 0.5, rtol=1e-6)


def test_the_gate_that_keeps_the_state_of_other_cells():
    bias = jnp.split(chrono(100)(KEY, (4 * UNITS,)), 4)[1]
    none = jnp.zeros(UNITS)
    blind = {"recurrent_kernel_init": zeros}  # the candidate does not see the state
    for cell in (
        drawn(make(nn.GRUCell, **blind), iz=bias),
        drawn(make(nnx.GRUCell, **blind), dense_i=jnp.concatenate([none, bias, none])),
        drawn(make(nn.MGUCell, forget_bias_init=lambda *_: bias, **blind)),
    ):
        np.testing.assert_allclose(kept(cell), jax.nn.sigmoid(bias), rtol=1e-5)
    # Flax adds 1 to the forget gate of a ConvLSTMCell.
    biases = forget_bias(1.0, order="igfo")(KEY, (4 * UNITS,))
    cell = drawn(nn.ConvLSTMCell(UNITS, (3,)), ih=biases)
    np.testing.assert_allclose(kept(cell), jax.nn.sigmoid(2.0), rtol=1e-5)


def test_the_examples_of_the_page_run():
    spaces = []
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(example, space := {})
        spaces.append(space)
    _, gates = spaces
    enter, forget = (gates["params"][layer]["bias"] for layer in ("hi", "hf"))
    assert (forget > 0).all() and (enter == -forget).all()


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
