"""Tuned draws: what a factor on each kernel keeps, held against real draws."""

import math
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxinit
from benchmarks.bounds import z_score
from benchmarks.tuned_depth import Plain, factors, population, row

X = jax.random.normal(jax.random.key(7), (8, 256))
X = X / jnp.sqrt(jnp.mean(X**2, axis=-1, keepdims=True))  # all samples of one length


def plain(activation, depth, width=256):
    return nn.Sequential([each for _ in range(depth) for each in (nn.Dense(width), activation)])


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "level"), [("relu", None), ("tanh", None), ("gelu", 400.0)])
def test_a_hundred_layers_keep_the_signal(activation, level):
    """Within 10 % in the mean over draws. ReLU, which knows no scale, keeps it exactly."""
    found = row(activation, level, 100, 256, populations=16)
    last, error = (found[key][-1] / found["mean"][0] for key in ("mean", "standard error"))
    chance = z_score(3) * error
    assert chance < 0.1  # so that it can be told from 10 %
    assert last == pytest.approx(1, abs=chance if activation == "relu" else 0.1)


def test_populations_have_the_mean_of_plain_draws():
    """E[y²] of four layers of width 16, in which the second moments stray widely."""
    model, inputs = Plain("gelu", 4, 16), jax.random.normal(jax.random.key(0), (8, 16))
    init = flaxinit.tune(model, inputs, level=4.0)

    def plain_draw(key):
        return jnp.mean(model.apply(init(key, inputs), inputs) ** 2)

    def populated(key):
        members = jnp.resize(inputs, (512, 16))
        growths, _ = population(key, members, factors(init), "gelu")
        return jnp.prod(growths)

    def estimate(function, draws):
        found = np.array(jax.lax.map(function, jax.random.split(jax.random.key(1), draws)))
        return found.mean(), found.std(ddof=1) / draws**0.5

    (one, one_error), (other, other_error) = estimate(plain_draw, 4096), estimate(populated, 512)
    assert one == pytest.approx(other, abs=z_score(1) * math.hypot(one_error, other_error))


def test_a_signal_that_only_wide_layers_keep_is_remarked():
    """GELU of unit variance has an unstable fixed point; tanh has a stable one."""
    gelu, tanh = (
        flaxinit.tune(Plain(activation, 30, 256), X, particles=1024).factors
        for activation in ("gelu", "tanh")
    )
    assert "the fixed point is unstable" in gelu.remark and gelu.remark in str(gelu)
    assert not tanh.remark


class Block(nn.Module):
    """A block of a transformer, with its norms before or after the sums."""

    width: int
    post: bool

    @nn.compact
    def __call__(self, x, _):
        attention, norms = nn.MultiHeadDotProductAttention(4), (nn.LayerNorm(), nn.LayerNorm())
        up, down = nn.Dense(4 * self.width), nn.Dense(self.width)
        branches = (attention, lambda h: down(nn.gelu(up(h))))
        sums = []
        for norm, branch in zip(norms, branches, strict=True):
            total = x + branch(x if self.post else norm(x))
            sums.append(jnp.mean(total**2) / jnp.mean(x**2))
            x = norm(total) if self.post else total
        return x, jnp.stack(sums)


class Transformer(nn.Module):
    width: int
    post: bool
    blocks: int = 12

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(100, self.width)(tokens)
        blocks = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.blocks
        )
        x, growth = blocks(self.width, self.post, name="blocks")(x, None)
        self.sow("intermediates", "growth", growth)
        return nn.Dense(10)(x if self.post else nn.LayerNorm()(x))


@pytest.mark.slow
@pytest.mark.parametrize("post", [False, True], ids=["pre", "post"])
def test_a_stream_at_most_doubles_and_its_gradients_are_even(post):
    model = Transformer(64, post)
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 100)
    init = flaxinit.tune(model, tokens, particles=1024)
    assert init.factors["params/blocks/Dense_1/kernel[11]"] < 1

    @jax.jit
    def measured(params, key):
        def loss(params):
            y, state = model.apply({"params": params}, tokens, mutable="intermediates")
            growth = state["intermediates"]["growth"][0]
            return jnp.sum(y * jax.random.normal(key, y.shape)), growth

        slopes, growth = jax.grad(loss, has_aux=True)(params)
        blocks = jax.tree.leaves(slopes["blocks"])
        squares = sum(jnp.sum(x.reshape(12, -1) ** 2, axis=1) for x in blocks)
        return growth, jnp.sqrt(squares)

    draw = flaxinit.fast_init(init, progress=False)
    found = [
        measured(draw(jax.random.key(n), tokens)["params"], jax.random.key(8 + n)) for n in range(8)
    ]
    growth = np.stack([each[0] for each in found])
    # 24 branches with 1/24 of the start each; of one draw, and after norms of the present stream.
    totals = np.prod(growth.reshape(8, -1), axis=1)
    limit = (1 + 1 / 24) ** 24 if post else 2
    error = 3 * np.std(totals, ddof=1) / np.sqrt(8)
    assert np.mean(totals) <= limit * 1.03 + error
    norms = np.mean([each[1] for each in found], axis=0)
    assert np.max(norms) < 3 * np.min(norms)


class Odd(nn.Module):
    """What a factor would do nothing to, or must leave alone."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(50, 64)
        x = embed(tokens)
        x = x + nn.Dense(64, kernel_init=nn.initializers.zeros, name="zero")(nn.relu(x))
        scale = self.param("scale", nn.initializers.constant(1e-4), (64,))
        x = x + scale * nn.Dense(64, name="scaled")(nn.relu(x))
        x = nn.LayerNorm()(nn.relu(nn.Dense(64, name="normed")(x)))
        w = self.param("standard", nn.initializers.normal(1.0), (64, 64))
        w = (w - w.mean(0)) / jnp.sqrt(w.var(0) * 64 + 1e-6)
        x = x @ w
        gain = self.param("gain", nn.initializers.constant(3.0), (64,))
        v = self.param("direction", nn.initializers.normal(1.0), (64, 64))
        x = nn.tanh(x) @ (gain * v / jnp.linalg.norm(v, axis=0))
        again = nn.Dense(64, name="again")
        x = again(nn.tanh(again(nn.tanh(x))))
        return embed.attend(x)


def test_each_parameter_is_treated_as_what_it_is():
    tokens = jnp.arange(12).reshape(2, 6)
    factors = flaxinit.tune(Odd(), tokens).factors
    why = {row.path.removeprefix("params/"): row.why for row in factors.rows}
    assert why["Embed_0/embedding"] == "rows are looked up"
    assert why["zero/kernel"] == "starts at 0, or is not random"
    assert why["normed/kernel"] == "a norm divides its outputs"
    assert factors["params/normed/kernel"] == factors["params/zero/kernel"] == 1
    chance = 4 * (2 / 4096) ** 0.5 / 2  # of the root of a second moment
    assert factors["params/scaled/kernel"] == pytest.approx(2**0.5, rel=chance)
    assert why["standard"].startswith("joined with others or changed")
    assert factors["params/standard"] == 1
    z, weights = np.polynomial.hermite_e.hermegauss(64)
    gain = (np.sum(weights) / np.sum(weights * np.tanh(z) ** 2)) ** 0.5
    assert factors["params/gain"] == pytest.approx(gain / 3, rel=chance)  # the direction has norm 1
    assert factors["params/again/kernel"] > 1


def test_a_recurrent_cell_keeps_its_own_draws():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="head")(jnp.asarray(nn.RNN(nn.GRUCell(32, name="cell"))(x)))

    x = jax.ShapeDtypeStruct((2, 5, 16), "float32")
    rows = {row.path: row for row in flaxinit.tune(Net(), x, particles=512).factors.rows}
    for name in ("hr", "hz", "hn"):
        row = rows[f"params/cell/{name}/kernel"]
        assert (row.value, row.why) == (1, "reads a state that starts at 0")
    assert rows["params/head/kernel"].value > 1


def test_kernels_that_are_concatenated_have_one_factor():
    """OptimizedLSTMCell multiplies its kernels at once, and computes what LSTMCell does."""

    class Net(nn.Module):
        cell: type[nn.RNNCellBase]

        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="head")(jnp.asarray(nn.RNN(self.cell(32, name="cell"))(x)))

    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    one, other = (
        {
            row.path: (round(row.value, 9), row.why)
            for row in flaxinit.tune(Net(cell), x, particles=512).factors.rows
            if "cell" in row.path
        }
        for cell in (nn.OptimizedLSTMCell, nn.LSTMCell)
    )
    assert one == other and one["params/cell/ig/kernel"][0] != 1
    params = Net(nn.OptimizedLSTMCell).init(jax.random.key(1), x)
    made = flaxinit.calibrate(Net(nn.OptimizedLSTMCell).apply, params, x)
    before, after = (tree["params"]["cell"] for tree in (params, made))
    ratios = [float(jnp.mean(after[n]["kernel"] / before[n]["kernel"])) for n in ("ii", "io")]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5) and abs(ratios[0] - 1) > 0.01


def test_a_kernel_that_is_also_concatenated_is_left_alone():
    def init(key, x):
        one, other = jax.random.split(key)
        return {"a": jax.random.normal(one, (8, 8)), "b": jax.random.normal(other, (8, 8))}

    def both(p, x):
        return x @ jnp.concatenate([p["a"], p["b"]], axis=1)

    x = jax.ShapeDtypeStruct((4, 8), "float32")
    factors = flaxinit.tune((init, both), x).factors
    # The law is read off the midpoints of 4096 parts.
    assert factors["a"] == factors["b"] == pytest.approx(8**-0.5, rel=1 / 4096)
    assert flaxinit.tune((init, both), x, factors={"b": 3.0}).factors["a"] == 3
    with pytest.raises(ValueError, match=r"b and a are concatenated|a and b are concatenated"):
        flaxinit.tune((init, both), x, factors={"a": 1.0, "b": 3.0})
    for model in (
        lambda p, x: jnp.tanh(both(p, x))[:, :8] @ p["a"],
        lambda p, x: both(p, jnp.tanh(x @ p["a"])),
    ):
        assert set(flaxinit.tune((init, model), x).factors.values()) == {1.0}


def test_a_residual_stream_has_no_gradient_to_keep():
    """The kernels that read it have the factors of keep="forward"; the end of a branch has not."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for n in range(3):
                h = nn.tanh(nn.Dense(64, name=f"in{n}")(nn.LayerNorm()(x)))
                x = x + nn.Dense(128, name=f"out{n}")(h)
            return x

    x = jax.ShapeDtypeStruct((4, 128), "float32")
    factors = flaxinit.tune(Net(), x, keep="backward").factors
    for n in range(3):
        chance = 4 * (2 / 4096) ** 0.5 / 2  # of the root of a second moment
        assert factors[f"params/in{n}/kernel"] == pytest.approx(1, rel=chance)


def test_forms_of_a_model_have_one_initialization():
    x = jax.ShapeDtypeStruct((4, 64), "float32")
    key = jax.random.key(0)

    def build(rngs):
        return nnx.Sequential(
            nnx.Linear(64, 128, rngs=rngs), nnx.relu, nnx.Linear(128, 9, rngs=rngs)
        )

    init = flaxinit.tune(build, x)
    own, drawn = build(nnx.Rngs(key)), init(nnx.Rngs(key))
    assert init.factors["layers/2/kernel"] == pytest.approx(2**0.5, rel=1e-3)
    ratio = drawn.layers[2].kernel[...] / own.layers[2].kernel[...]
    np.testing.assert_allclose(ratio, init.factors["layers/2/kernel"], rtol=1e-5)
    fast = flaxinit.fast_init(init, progress=False)(key)
    assert jnp.array_equal(fast.layers[2].kernel[...], drawn.layers[2].kernel[...])

    linen = nn.Dense(9)
    pair = flaxinit.tune((linen.init, linen.apply), x)
    params = pair(key, jnp.ones((4, 64)))
    assert params["params"]["kernel"].shape == (64, 9)
    assert list(pair.factors) == ["params/kernel"]


@pytest.mark.parametrize("keep", ["backward", "both"])
def test_gradients_are_kept(keep):
    """In a narrowing net of ReLU the gradient keeps its size with 2/fan_out, not with 2/fan_in."""
    widths = (256, 128, 64)
    model = nn.Sequential([each for n in widths for each in (nn.Dense(n), nn.relu)])
    factors = flaxinit.tune(model, jax.ShapeDtypeStruct((8, 256), "float32"), keep=keep).factors
    ratio = 2 if keep == "backward" else 4 / 3  # of variances; fan_in is twice fan_out
    found = [factors[f"params/layers_{n}/kernel"] ** 2 / 2 for n in (2, 4)]
    np.testing.assert_allclose(found, ratio, rtol=2.0**-23)  # of float32


class Stem(nn.Module):
    """Three blocks after a kernel or not, of attention or not, on a residual stream or not."""

    stem: bool = True
    attends: bool = False
    adds: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64, name="stem")(x) if self.stem else x
        for n in range(3):
            h = nn.LayerNorm()(x)
            if self.attends:
                y = nn.MultiHeadDotProductAttention(4, name=f"attention{n}")(h)
            else:
                up, down = nn.Dense(256, name=f"up{n}"), nn.Dense(64, name=f"down{n}")
                y = down(nn.gelu(up(h)))
            x = x + y if self.adds else y
        return nn.Dense(10, name="head")(x.mean(1))


@pytest.mark.parametrize("keep", ["backward", "both"])
def test_a_block_after_a_stem_is_tuned_as_one_without(keep):
    """The gradient of the stem is that of the stream, not that of the first branch."""
    x, count = jax.ShapeDtypeStruct((4, 8, 64), "float32"), 2048
    first, other = (
        flaxinit.tune(Stem(stem), x, keep=keep, particles=count).factors for stem in (True, False)
    )
    for name in ("up", "down"):
        for n in range(3):
            path = f"params/{name}{n}/kernel"
            assert first[path] == pytest.approx(other[path], rel=count**-0.5)
    assert first["params/up0/kernel"] == pytest.approx(1, rel=2.0**-23)
    assert not first.remark


@pytest.mark.parametrize("keep", ["backward", "both"])
@pytest.mark.parametrize("adds", [True, False])
def test_kernels_that_read_one_signal_keep_their_forward_factors(keep, adds):
    """Queries, keys and values read what one kernel made: its gradient is a sum of theirs."""
    x, model = jax.ShapeDtypeStruct((4, 8, 16), "float32"), Stem(attends=True, adds=adds)
    forward, found = (
        flaxinit.tune(model, x, keep=k, particles=256).factors for k in ("forward", keep)
    )
    for n in range(3):
        for name in ("query", "key", "value"):
            path = f"params/attention{n}/{name}/kernel"
            assert found[path] == pytest.approx(forward[path], rel=1e-6)


def test_factors_that_do_not_settle_are_remarked(monkeypatch):
    """The factors of tanh change over more than one round, since its slope depends on them."""
    x = jax.ShapeDtypeStruct((4, 256), "float32")

    def remark():
        return flaxinit.tune(plain(nn.tanh, 4), x, keep="backward", particles=512).factors.remark

    assert not remark()
    monkeypatch.setattr(sys.modules["flaxinit.signal.tuning.tune"], "_ROUNDS", 1)
    assert "after 1 rounds the variance of params/layers_" in remark()


def test_factors_are_pinned():
    model, x = plain(nn.relu, 3), X
    first = flaxinit.tune(model, x).factors
    pinned = flaxinit.tune(model, x, factors={"params/layers_2/kernel": 1.0}).factors
    assert pinned["params/layers_2/kernel"] == 1
    # What comes after makes up for nothing but its own activation.
    assert pinned["params/layers_4/kernel"] == pytest.approx(first["params/layers_4/kernel"])
    assert dict(flaxinit.tune(model, x, factors=first).factors) == dict(first)
    assert "params/layers_2/kernel" in str(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "forwards"}, "keep must be one of"),
        ({"level": 0}, "level must be positive"),
        ({"factors": {"params/layers_2/kernl": 1.0}}, "Did you mean 'params/layers_2/kernel'"),
        (
            {"factors": {"params/layers_2/kernel": -1.0}},
            "The factor of params/layers_2/kernel must",
        ),
        ({"particles": 0}, "particles must be a positive integer"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flaxinit.tune(plain(nn.relu, 3), X, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "1"}, "level must be a number"),
        ({"factors": [1.0]}, "factors must be a mapping from paths"),
        ({"factors": {2: 1.0}}, "factors must be a mapping from paths"),
        ({"factors": {"params/layers_2/kernel": "2"}}, "The factor of params/layers_2/kernel must"),
    ],
)
def test_options_of_another_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        flaxinit.tune(plain(nn.relu, 3), X, **options)


def test_what_tune_returned_is_no_table_of_factors():
    init = flaxinit.tune(plain(nn.relu, 2), X, particles=64)
    with pytest.raises(TypeError, match=r"factors=init\.factors"):
        flaxinit.tune(plain(nn.relu, 2), X, factors=init)


def test_models_that_cannot_be_tuned_are_refused():
    with pytest.raises(ValueError, match="batch is empty"):
        flaxinit.tune(nn.Dense(3), jax.ShapeDtypeStruct((0, 8), "float32"))
    with pytest.raises(TypeError, match="No input is an array"):
        flaxinit.tune(nn.Dense(3), (4, 8))
    with pytest.raises(ValueError, match="no kernel at work"):
        flaxinit.tune(nn.Sequential([nn.relu]), X)
    with pytest.raises(ValueError, match="params/kernel is not finite"):
        flaxinit.tune(nn.Dense(3), X.at[0, 0].set(jnp.nan))
    init = flaxinit.tune(plain(nn.relu, 2), X)
    other = flaxinit.tune(plain(nn.relu, 3), X)
    assert set(init.factors) < set(other.factors)
