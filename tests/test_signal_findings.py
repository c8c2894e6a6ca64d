"""What audit finds in sick models, and that it finds nothing in healthy ones."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.zoo import Mixer, ResidualMLP, ResNet, VisionTransformer
from flaxinit.signal.reports.gains import he_line


class Plain(nn.Module):
    """Dense layers; `inits` are those of single kernels."""

    depth: int = 20
    width: int = 256
    activation: object = nn.relu
    kernel: object = flaxinit.he()
    inits: tuple = ()
    bias: object = nn.initializers.zeros
    dtype: object = None

    @nn.compact
    def __call__(self, x):
        inits = {0: flaxinit.lecun(), **dict(self.inits)}
        for n in range(self.depth):
            x = nn.Dense(
                self.width,
                kernel_init=inits.get(n, self.kernel),
                bias_init=self.bias,
                dtype=self.dtype,
            )(self.activation(x) if n else x)
        return x


class Transformer(nn.Module):
    """Pre-LN or post-LN, with Flax's attention and initializers."""

    blocks: int = 2
    width: int = 64
    post: bool = False
    start: object = flaxinit.normal(1.0)
    query: object = flaxinit.lecun()

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(100, self.width, embedding_init=self.start)(tokens)
        for _ in range(self.blocks):
            for branch in (self.attention, self.mlp):
                y = x + branch(x if self.post else nn.LayerNorm()(x))
                x = nn.LayerNorm()(y) if self.post else y
        return nn.Dense(10)(nn.LayerNorm()(x))

    def attention(self, x):
        q = nn.DenseGeneral((4, self.width // 4), kernel_init=self.query)(x)
        k, v = (nn.DenseGeneral((4, self.width // 4))(x) for _ in range(2))
        return nn.DenseGeneral(self.width, axis=(-2, -1))(nn.dot_product_attention(q, k, v))

    def mlp(self, x):
        return nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(x)))


X = jax.random.normal(jax.random.key(0), (64, 64))
TOKENS = jax.random.randint(jax.random.key(0), (4, 16), 0, 100)
IMAGES = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))


@functools.cache
def report(model, kind="x", train=False):
    inputs = {"x": X, "tokens": TOKENS, "images": IMAGES}[kind]
    options = {"train": True, "mutable": ["batch_stats"]} if train else {}
    with jax.numpy_dtype_promotion("standard"):
        init = flaxinit.fast_init(model.init, progress=False)
        params = init(jax.random.key(1), inputs, *([True] if train else []))
        return flaxinit.audit(model.apply, params, inputs, **options)


def found(*args, **kwargs):
    return {finding.what: finding for finding in report(*args, **kwargs).findings}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (Plain(), "x"),
        (Plain(kernel=flaxinit.he("tanh"), activation=jnp.tanh), "x"),
        (ResidualMLP(64), "x"),
        (Transformer(), "tokens"),
        (Transformer(query=flaxinit.lecun().times(0.25)), "tokens"),  # as in T5: 1/√(head size)
        (ResNet(32), "images"),
        (VisionTransformer(64), "images"),
        (Mixer(64), "images"),
    ],
    ids=[
        "relu",
        "tanh",
        "residual",
        "transformer",
        "small queries",
        "ResNet",
        "vision transformer",
        "mixer",
    ],
)
def test_a_healthy_model_has_no_finding(model, kind):
    made = report(model, kind, train=isinstance(model, ResNet))
    assert [str(finding) for finding in made.findings] == []
    assert made.remarks == ()
    made.check()


def test_relu_with_the_gain_of_linear_vanishes_and_says_what_to_write():
    made = report(Plain(kernel=flaxinit.lecun()))
    with pytest.raises(ValueError, match="vanishing signal") as raised:
        made.check()
    assert 'kernel_init=flaxinit.he("relu")' in str(raised.value)
    assert [each.what for each in made.findings] == ["vanishing signal", "vanishing gradient"]
    assert "params/Dense_{1..19}/kernel" in str(made.findings[0])
    assert all(layer.findings for layer in made.layers[1:])
    # Beside each measurement stands what it should be, from the network's input on.
    for layer in made.layers:
        low, high = layer.band
        assert low / 1.5 < layer.measured.signal_out < 1.5 * high


def test_a_short_network_with_the_gain_of_linear():
    (finding,) = report(Plain(depth=6, kernel=flaxinit.lecun())).findings
    assert finding.what == "gain of another activation" and "that of linear" in finding.text
    assert finding.write == 'kernel_init=flaxinit.he("relu")'
    # The first kernel reads the inputs: its variance is right.
    assert finding.paths == tuple(f"params/Dense_{n}/kernel" for n in range(1, 6))


def test_all_that_vanishes_has_one_cause_and_one_remedy():
    """Where the signal is tiny, all smooth activations look alike, and none is named."""
    made = report(Plain(depth=30, activation=nn.gelu, kernel=flaxinit.lecun()))
    assert {each.what for each in made.findings} == {"vanishing signal", "vanishing gradient"}
    assert {each.write for each in made.findings} == {'kernel_init=flaxinit.he("gelu_tanh")'}


@pytest.mark.slow
def test_a_critical_network_has_no_finding():
    kernel, bias, q = flaxinit.critical("gelu_tanh")
    first = flaxinit.variance_scaling(q - bias.variance(()), "fan_in", "truncated_normal")
    model = Plain(activation=nn.gelu, kernel=kernel, bias=bias, inits=((0, first),))
    assert report(model).findings == ()


@pytest.mark.parametrize(
    ("model", "path", "write"),
    [
        (ResidualMLP(64, wrong=3), "params/Dense_8/kernel", 'flaxinit.he("relu")'),
        (Plain(inits=((7, flaxinit.lecun()),)), "params/Dense_7/kernel", 'flaxinit.he("relu")'),
        (Plain(inits=((0, flaxinit.he().times(3)),)), "params/Dense_0/kernel", "flaxinit.lecun()"),
        (
            Plain(
                depth=6,
                activation=nn.gelu,
                kernel=flaxinit.he("gelu"),
                inits=((3, flaxinit.lecun()),),
            ),
            "params/Dense_3/kernel",
            'flaxinit.he("gelu_tanh")',
        ),
    ],
    ids=["block", "gain", "first", "gelu"],
)
def test_one_wrong_kernel_is_found_and_it_alone(model, path, write):
    made = report(model)
    assert [finding.paths for finding in made.findings] == [(path,)]
    assert made.findings[0].write == f"kernel_init={write}"


def test_a_fan_that_leaves_out_the_window():
    class Windows(nn.Module):
        @nn.compact
        def __call__(self, x):
            for n in range(4):
                init = flaxinit.he("relu", fan_in=32) if n == 2 else flaxinit.he()
                init = init if n else flaxinit.lecun()
                x = nn.Conv(32, (3, 3), kernel_init=init, padding="VALID")(nn.relu(x) if n else x)
            return x

    (finding,) = report(Windows(), "images").findings
    assert (finding.what, finding.paths) == ("wrong fan", ("params/Conv_2/kernel",))
    assert "fan 32 (the outputs), 9 times too large: 288 terms" in finding.text
    assert finding.write == 'kernel_init=flaxinit.he("relu", fan_in=288)'


def test_a_factor_before_a_norm_does_nothing_and_is_no_finding():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = nn.relu(nn.LayerNorm()(nn.Dense(64, kernel_init=flaxinit.normal(3.0))(x)))
            return nn.Dense(10, kernel_init=flaxinit.he())(x)

    assert report(Normed()).findings == ()


@pytest.mark.parametrize("name", ["relu", "linear", "tanh", None])
@pytest.mark.parametrize("wanted", [1.0, 2.0, 9.0])
@pytest.mark.parametrize("fan", ["", "fan_in=27"])
def test_a_line_to_write_is_code_that_draws_what_is_wanted(name, wanted, fan):
    line = he_line(name, wanted, fan)
    kernel = eval(line.partition("=")[2], {"flaxinit": flaxinit})
    # Its own gain serves an activation up to a factor of two.
    assert 0.5 < kernel.variance((27, 8)) * 27 / wanted < 2


def test_exploding():
    both = found(Plain(kernel=flaxinit.he().times(2)))
    assert {"exploding signal", "exploding gradient"} <= set(both)
    assert both["exploding signal"].write == 'kernel_init=flaxinit.he("relu")'


@pytest.mark.slow
def test_tokens_become_one():
    finding = found(Transformer(16, post=True), "tokens")["tokens become one"]
    assert "residual" in finding.write
    assert "tokens become one" not in found(Transformer(), "tokens")


@pytest.mark.slow
def test_inputs_become_one():
    finding = found(Plain(depth=40, activation=jnp.tanh, bias=nn.initializers.constant(1.0)))[
        "inputs become one"
    ]
    assert len(finding.paths) == 39


@pytest.mark.slow
def test_equal_entries():
    finding = found(Plain(inits=((3, nn.initializers.constant(0.1)),)))["equal entries"]
    assert finding.paths == ("params/Dense_3/kernel",)
    # Zeros are a choice.
    assert report(Plain(inits=((19, nn.initializers.zeros),))).findings == ()


def test_dead_and_saturated_units():
    assert "dead units" in found(Plain(depth=3, bias=nn.initializers.constant(-10.0)))
    tanh = Plain(depth=3, activation=jnp.tanh, kernel=flaxinit.normal(10.0))
    assert "params/Dense_2/kernel" in found(tanh)["saturated units"].paths


@pytest.mark.slow
def test_streams():
    small = found(Transformer(start=flaxinit.normal(0.01)), "tokens")["stream of branches"]
    assert "embedding_init" in small.write
    large = found(Transformer(start=flaxinit.normal(100.0)), "tokens")["stream of the start"]
    assert "smaller start" in large.write


def test_a_mean_that_takes_the_bits():
    finding = found(Plain(depth=4, bias=nn.initializers.constant(100.0), dtype=jnp.bfloat16))[
        "mean drift"
    ]
    assert "bfloat16" in finding.text
    assert "mean drift" not in found(Plain(depth=4, bias=nn.initializers.constant(100.0)))


@pytest.mark.slow
def test_attention_that_is_uniform_or_one_hot():
    same = found(Transformer(query=flaxinit.zeros), "tokens")["uniform attention"]
    assert same.paths == tuple(f"params/DenseGeneral_{n}/kernel" for n in (2, 6))
    assert "one-hot attention" in found(Transformer(query=flaxinit.normal(10.0)), "tokens")


@pytest.mark.slow
def test_single_draws_stray():
    narrow, x = Plain(depth=30, width=8), jnp.zeros((4, 8))
    forecast = {each.what: each for each in flaxinit.forecast(narrow, x + 1).findings}
    assert "critical" in forecast["single draws stray"].write
    # Of a draw that is there, it is no finding but a remark.
    assert "single draws stray" not in found(narrow)
    assert "another draw may differ from this one" in str(report(narrow))


def test_the_first_kernel_that_is_not_finite_is_named():
    model = Plain(depth=3, inits=((1, nn.initializers.constant(np.inf)),))
    finding = found(model)["not finite"]
    assert finding.paths == ("params/Dense_1/kernel",) and "entries" in finding.text
    assert "no forecast" in report(model).remarks[0]


def identity(x):
    return x


@pytest.mark.parametrize("known", [False, True], ids=["drawn", "known"])
@pytest.mark.parametrize("activation", [nn.relu, jnp.tanh, identity])
def test_a_mask_does_not_make_an_activation_flat(activation, known):
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = activation(nn.Dense(64, kernel_init=flaxinit.lecun())(x))
            mask = jnp.arange(64) % 10 > 0
            y = jnp.where(mask, y, 0) if known else nn.Dropout(0.1, deterministic=False)(y)
            return nn.Dense(8, kernel_init=flaxinit.he(activation))(y)

    rngs = {"dropout": jax.random.key(2)}
    params = Masked().init({"params": jax.random.key(1), **rngs}, X)
    audited = flaxinit.audit(Masked().apply, params, X, rngs=rngs)
    for made in (audited, flaxinit.forecast(Masked(), X, rngs=rngs)):
        assert [layer.masked for layer in made.layers] == ["", "zeros"]
        assert [str(finding) for finding in made.findings] == []


def test_units_that_are_saturated_behind_a_mask_are_found():
    class Masked(nn.Module):
        variance: float
        scale: bool = False

        @nn.compact
        def __call__(self, x):
            y = jnp.tanh(nn.Dense(64, kernel_init=flaxinit.lecun().times(self.variance))(x))
            y = y * (1.0 + jnp.arange(64.0) % 2) if self.scale else y
            return nn.Dense(8)(nn.Dropout(0.1, deterministic=False)(y))

    def found(*settings):
        report = flaxinit.forecast(Masked(*settings), X, rngs={"dropout": jax.random.key(2)})
        return [each.paths for each in report.findings if each.what == "saturated units"]

    assert found(30.0) == [("params/Dense_1/kernel",)]
    assert found(1.0) == found(1.0, True) == []


class Tied(nn.Module):
    """A transformer whose embedding is its readout."""

    start: object = flaxinit.normal(1.0)

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(200, 64, embedding_init=self.start)
        x = table(tokens)
        for _ in range(2):
            h = nn.gelu(nn.Dense(256)(nn.LayerNorm()(x)))
            x = x + nn.Dense(64, kernel_init=flaxinit.he("gelu"))(h)
        return table.attend(nn.LayerNorm()(x))


def audit(model, inputs):
    return flaxinit.audit(model.apply, model.init(jax.random.key(1), inputs), inputs)


def test_a_tied_embedding_has_the_size_of_the_stream():
    """Its logits are large, which is said, and no variance of it would serve both its uses."""
    tokens = jax.random.randint(jax.random.key(1), (4, 16), 0, 200)
    report = audit(Tied(), tokens)
    assert not report.findings and report.layers[-1].looked_up
    assert "logits / 64**0.5" in str(report)
    small = audit(Tied(flaxinit.he("linear", in_axis=-1, out_axis=0)), tokens)
    assert "logits /" not in str(small)


@pytest.mark.parametrize("axes", [{"in_axis": -1, "out_axis": 0}, {}])
def test_the_fan_that_an_initializer_counted(axes):
    report = flaxinit.forecast(Tied(flaxinit.he("linear", **axes)), jnp.zeros((4, 16), int))
    assert ("fan seen" in str(report)) == (not axes)


class Heads(nn.Module):
    """A kernel of three axes, drawn in this shape, behind ReLU."""

    draw: Any

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(64, kernel_init=flaxinit.lecun())(x))
        h = nn.Einsum((64, 8, 16), "...x,xhd->...hd", kernel_init=self.draw)(h)
        return nn.DenseGeneral(4, axis=(-2, -1), kernel_init=flaxinit.he())(nn.relu(h))


def test_an_audit_says_which_fan_the_initializer_saw():
    """Of a Linen module it is read off the initialization; else off a variance that fits a fan."""
    x = jax.random.normal(jax.random.key(0), (32, 64))
    wrong, right = flaxinit.he(), flaxinit.he(in_axis=0, out_axis=(1, 2))
    for draw, fits in ((wrong, True), (right, True), (nn.initializers.normal(0.02), False)):
        model = Heads(draw)
        params = model.init(jax.random.key(1), x)
        known = flaxinit.audit(model.apply, params, x)
        unknown = flaxinit.audit(lambda p, x, model=model: model.apply(p, x), params, x)
        if draw is right:
            assert not known.findings and not unknown.findings
            assert "fan seen" not in str(known)
            continue
        assert [layer.fan_in_seen for layer in known.layers] == [64, 512, 128]
        assert [layer.fan_in_seen for layer in unknown.layers] == [None] * 3
        assert "fan seen" in str(known) and ("fan seen" in str(unknown)) == fits
        # The shape hides the fan, so it stands in the line, whatever is wrong.
        for (finding,) in (known.findings, unknown.findings):
            assert finding.what == ("wrong fan" if fits else "wrong variance")
            assert finding.write == 'kernel_init=flaxinit.he("relu", fan_in=64)'


def test_a_model_that_is_initialized_by_another_method_is_audited_all_the_same():
    class Setup(nn.Module):
        def setup(self):
            self.kernel = self.param("kernel", nn.initializers.normal(0.02), (64, 8, 16))

        def start(self):
            return self.kernel

        def __call__(self, x):
            if self.is_initializing():
                raise ValueError("start it by start()")
            return jnp.einsum("bx,xhd->bhd", x, self.kernel)

    params = Setup().init(jax.random.key(1), method="start")
    report = flaxinit.audit(Setup().apply, params, jnp.ones((4, 64)))
    assert report.layers[0].fan_in == 64 and report.layers[0].fan_in_seen is None


def test_the_default_of_pytorch_is_no_wrong_fan():
    """A third of the variance is 1/3 in a kernel of 64 inputs and 192 outputs, too."""
    kernel = flaxinit.recipes.pytorch_kernel()
    report = audit(Plain(4, 192, nn.silu, inits=((1, kernel), (2, kernel), (3, kernel))), X)
    assert {each.what for each in report.findings} == {"gain of another activation"}
    assert all("PyTorch" in each.text for each in report.findings)


def test_pictures_that_were_not_rescaled():
    pixels = jax.random.randint(jax.random.key(0), X.shape, 0, 256).astype(jnp.float32)
    (finding,) = audit(Plain(3), pixels).findings
    assert finding.what == "large inputs" and "x / 1.5e+02" in finding.write
    assert not audit(Plain(3), pixels / 1.5e2).findings
