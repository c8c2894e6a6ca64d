"""mup() derives from a model's own program what table 3 of Yang et al. (2022) asks for."""

import inspect
from fnmatch import fnmatch

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from derivations.page import StepError
from derivations.theorems import width
from tests import width_models as models
from tests.pace import at_most
from tests.width_models import FEATURES, IMAGES, LECUN, SEQUENCES, TOKENS

M = 4  # the growth in these tests

# kind: factors on deviation, Adam's rate, SGD's and Adam's epsilon
TABLE_3 = {
    "input": (1, 1, M, 1 / M),
    "vector": (1, 1, M, 1 / M),
    "hidden": (M**-0.5, 1 / M, 1, 1 / M),
    "output": (1 / M, 1 / M, 1 / M, 1),
    "fixed": (1, 1, 1, 1),
}


def decoder(growing, **options):
    return lambda width: models.Decoder(width, **growing(width), **options)


def network(width):
    return lambda rngs: models.Network(width, rngs)


MODELS = {
    "residual": (models.Residual, FEATURES, models.RESIDUAL),
    "convolutional": (models.Convolutional, IMAGES, models.CONVOLUTIONAL),
    "decoder with more heads": (decoder(models.heads), TOKENS, models.DECODER),
    "decoder with larger heads": (decoder(models.sizes, inverse=True), TOKENS, models.DECODER),
    "experts": (models.Experts, FEATURES, models.EXPERTS),
    "scanned": (models.Scanned, FEATURES, models.SCANNED),
    "recurrent": (models.Recurrent, SEQUENCES, models.RECURRENT),
    "nnx": (network, TOKENS, models.NETWORK),
}


def mlp(width, init=LECUN):
    layers = [nn.Dense(size, kernel_init=init) for size in (width, width, 10)]
    return nn.Sequential([layers[0], nn.relu, layers[1], nn.relu, layers[2]])


def factors(scale, *names):
    return {row.path: tuple(getattr(row, name) for name in names) for row in scale.rows}


@pytest.mark.parametrize("name", MODELS)
def test_factors_are_those_of_table_3_parameter_by_parameter(name):
    make, inputs, kinds = MODELS[name]
    adam, sgd = (
        flaxinit.mup(make(32 * M), inputs, base=make(32), optimizer=optimizer)
        for optimizer in ("adam", "sgd")
    )
    for row, other in zip(adam.rows, sgd.rows, strict=True):
        wanted = next(kind for pattern, kind in kinds.items() if fnmatch(row.path, f"*{pattern}"))
        deviation, *rates = TABLE_3[wanted]
        random = "kernel" in row.path or wanted in ("input", "hidden", "output")
        assert row.kind == wanted, row.path
        assert (row.rate, other.rate, row.epsilon) == tuple(rates), row.path
        assert row.init == other.init
        assert row.init == pytest.approx(deviation if random else 1, rel=1e-6), row.path
    assert adam.remarks == sgd.remarks == ()
    found = {row.kind for row in adam.rows}
    assert found == set(kinds.values())


def test_the_book_proves_the_table():
    """The rules of the library are the exponents that the proof book derives."""
    for kind, powers in width.TABLE_3.items():
        deviation, sgd, adam = (float(M**power) for power in powers)
        assert TABLE_3[kind][:3] == (deviation, adam, sgd)


def test_a_wrong_entry_of_the_table_stops_the_page():
    """Negative control of the page."""
    source = inspect.getsource(width)
    wrong = source.replace('"output": (-1, -1, -1),', '"output": (-1, 0, -1),')
    assert wrong != source
    namespace: dict = {}
    exec(compile(wrong, "width", "exec"), namespace)
    with pytest.raises(StepError, match="the output layer"):
        namespace["write"]()


def test_by_hand_a_gain_a_low_rank_update_and_heads_without_a_product():
    scale = flaxinit.mup(models.by_hand(32 * M), FEATURES, base=models.by_hand(32))
    outputs = (1 / M, 1 / M, 1)
    expected = {
        "first": (1, 1, 1 / M),
        "square": (M**-0.5, 1 / M, 1 / M),
        "down": outputs,
        "up": (1, 1, 1 / M),
        "gain": (1, 1, 1 / M),
        "summed": outputs,  # Σ w x is a matrix product
        "meaned": (1, 1, 1 / M),  # and a mean is not
    }
    found = factors(scale, "init", "rate", "epsilon")
    assert set(found) == set(expected)
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers, rel=1e-6), name


def test_unequal_growth_counts_each_axis():
    """Of an MLP with more inner channels alone, what sums over them and what makes them grow."""

    def net(width):
        return nn.Sequential([nn.Dense(16), nn.Dense(width), nn.relu, nn.Dense(16), nn.Dense(3)])

    scale = flaxinit.mup(net(96), FEATURES, base=net(32), optimizer="sgd")
    kinds = {path: row for path, row in factors(scale, "kind", "rate").items() if "kernel" in path}
    assert kinds == {
        "params/layers_0/kernel": ("fixed", 1),
        "params/layers_1/kernel": ("input", 3),
        "params/layers_3/kernel": ("output", pytest.approx(1 / 3)),
        "params/layers_4/kernel": ("fixed", 1),
    }


@pytest.mark.parametrize("inverse", [False, True])
def test_the_logits_of_a_tied_embedding_are_reported(inverse):
    make = decoder(models.heads, tied=True)
    if inverse:
        plain = make
        make = lambda width: _Divided(plain(width), width)
    scale = flaxinit.mup(make(32 * M), TOKENS, base=make(32))
    (row,) = [row for row in scale.rows if "embed/" in row.path]
    assert (row.kind, row.init, row.rate) == ("input", 1, 1)
    assert len(scale.remarks) == (0 if inverse else 1)
    for remark in scale.remarks:
        assert "as input and as output" in remark and "0.25" in remark


class _Divided(nn.Module):
    model: nn.Module
    width: int

    @nn.compact
    def __call__(self, tokens):
        return self.model(tokens) / self.width


def test_root_of_the_head_is_moved_into_one_side_of_the_scores():
    """q·k/√d grows as √m once q and k are correlated: one of them is drawn and trained smaller."""
    make = decoder(models.sizes)
    scale = flaxinit.mup(make(32 * M), TOKENS, base=make(32))
    moved = {
        path: row
        for path, row in factors(scale, "init", "rate", "epsilon").items()
        if row[1] not in (1, 1 / M)
    }
    side = "key" if "params/key/kernel" in moved else "query"
    assert moved == {
        f"params/{side}/kernel": (1 / M, M**-1.5, M**-0.5),
        f"params/{side}/bias": (1, M**-0.5, M**-0.5),
    }


def test_a_norm_on_queries_and_keys_leaves_it_to_the_model():
    make = decoder(models.sizes, normed=True)
    (remark,) = flaxinit.mup(make(32 * M), TOKENS, base=make(32)).remarks
    assert "norm/scale" in remark and "multiply by 0.5" in remark
    make = decoder(models.sizes, normed=True, inverse=True)
    assert flaxinit.mup(make(32 * M), TOKENS, base=make(32)).remarks == ()


def test_a_factor_in_the_model_is_made_up_for():
    """√d in front of an embedding: w = √d W wants W's deviation and Adam's rate over √m."""

    def make(width):
        embed = nn.Embed(50, width, embedding_init=models.NORMAL)
        times = np.float32(np.sqrt(width))
        return nn.Sequential([embed, lambda x: x * times, nn.Dense(3)])

    inputs = (TOKENS,)
    for optimizer, rate in (("adam", M**-0.5), ("sgd", M / M)):
        scale = flaxinit.mup(make(32 * M), *inputs, base=make(32), optimizer=optimizer)
        row = factors(scale, "init", "rate")["params/layers_0/embedding"]
        assert row == pytest.approx((M**-0.5, rate))


def test_a_factor_behind_the_readout_gives_table_8():
    """With logits / width the readout has table 8's factors, as in mup for PyTorch."""

    def make(width):
        divided = lambda x: x / np.float32(width)
        return nn.Sequential([*mlp(width, models.NORMAL).layers, divided])

    for column, optimizer in enumerate(("sgd", "adam")):
        scale = flaxinit.mup(make(32 * M), FEATURES, base=make(32), optimizer=optimizer)
        found = factors(scale, "init", "rate")
        for layer, kind in ((0, "input"), (2, "hidden"), (4, "output")):
            _, start, *rates = width.TABLES[8][kind]
            wanted = float(M**start), float(M ** rates[column])
            assert found[f"params/layers_{layer}/kernel"] == pytest.approx(wanted), kind


@pytest.mark.parametrize(
    "init",
    [
        flaxinit.lecun(),
        flaxinit.normal(0.02),
        flaxinit.orthogonal(),
        nn.initializers.normal(0.02),
        nn.initializers.xavier_uniform(),
        nn.initializers.orthogonal(),
        nn.initializers.variance_scaling(1.0, "fan_out", "normal"),
    ],
    ids=lambda init: getattr(init, "__qualname__", repr(init)),
)
def test_deviations_are_the_same_whatever_the_initializer(init):
    """Relative to the base's they are those of table 3, measured on draws."""
    base, model = mlp(32, init), mlp(256, init)
    inputs = jnp.ones(FEATURES.shape)
    scale = flaxinit.mup(model, inputs, base=base)
    narrow = base.init(jax.random.key(0), inputs)["params"]
    wide = scale.init(model.init)(jax.random.key(1), inputs)["params"]
    for layer, wanted in {"layers_0": 1, "layers_2": 8**-0.5, "layers_4": 1 / 8}.items():
        a, b = (np.asarray(params[layer]["kernel"], np.float64) for params in (narrow, wide))
        ratio = np.mean(b**2) / np.mean(a**2) / wanted**2
        # The variance of the square of a unit normal is 2, and smaller where it is cut.
        assert abs(np.log(ratio)) < 4 * np.sqrt(2 / a.size + 2 / b.size)


def test_the_default_of_an_embedding_shrinks_and_is_made_up_for():
    make = lambda width: nn.Sequential([nn.Embed(50, width), nn.Dense(3)])
    scale = flaxinit.mup(make(32 * M), TOKENS, base=make(32))
    (init, rate) = factors(scale, "init", "rate")["params/layers_0/embedding"]
    assert (init, rate) == pytest.approx((M**0.5, 1), rel=1e-6)


def test_a_growing_axis_that_no_parameter_makes_is_asked_about():
    """A one-hot code of a growing vocabulary looks like a width, as a table of sines is."""

    class Net(nn.Module):
        width: int
        tokens: int

        @nn.compact
        def __call__(self, tokens):
            x = nn.Dense(self.width, name="coded")(jax.nn.one_hot(tokens, self.tokens))
            return nn.Dense(3)(nn.relu(x))

    assert not flaxinit.mup(Net(64, 50), TOKENS, base=Net(32, 50)).remarks
    (remark,) = flaxinit.mup(Net(64, 50), TOKENS, base=Net(32, 25)).remarks
    assert "params/coded/kernel sums over an axis that grows and that no parameter" in remark


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, None])
def test_whatever_reads_looked_up_rows_reads_one_value(norm):
    """Rows times √width are a stream: the norm that reads them first sets no scale of theirs."""

    class Net(nn.Module):
        width: int

        @nn.compact
        def __call__(self, tokens):
            table = nn.Embed(50, self.width, name="table", embedding_init=nn.initializers.normal(1))
            x = table(tokens) * np.float32(self.width**0.5)
            y = norm()(x) if norm else x
            x = x + nn.Dense(self.width, name="branch")(y)
            return nn.Dense(3)(nn.relu(x))

    scale = flaxinit.mup(Net(32 * M), TOKENS, base=Net(32))
    assert not scale.remarks
    row = factors(scale, "kind", "init", "rate")["params/table/embedding"]
    assert row[0] == "input" and row[1:] == pytest.approx((M**-0.5, M**-0.5))


def test_constants_keep_their_value():
    class Net(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            decay = self.param("decay", lambda _: -jnp.exp(jnp.linspace(-4.0, 0.0, self.width)))
            gate = self.param("gate", nn.initializers.constant(1e-4), (self.width,))
            x = nn.Dense(self.width)(x)
            x = x + gate * nn.Dense(self.width, kernel_init=nn.initializers.zeros)(x)
            return nn.Dense(3, kernel_init=nn.initializers.zeros)(x * jnp.exp(decay))

    scale = flaxinit.mup(Net(32 * M), FEATURES, base=Net(32))
    model, inputs = Net(32 * M), jnp.ones(FEATURES.shape)
    before = model.init(jax.random.key(0), inputs)
    after = scale.init(model.init)(jax.random.key(0), inputs)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, after))


def constant_kernel(width, init, use="kernel"):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(width)(x))
            if use == "kernel":
                x = nn.LayerNorm()(nn.Dense(width, kernel_init=init, name="middle")(x))
                return nn.Dense(10)(x)
            if use == "head":
                return nn.Dense(10, kernel_init=init, name="middle")(x)
            gain = self.param("gain", init, (width, 1))
            return x @ (gain * self.param("last", nn.initializers.normal(0.1), (width, 10)))

    return Net()


SAME = [nn.initializers.constant(0.1), nn.initializers.ones, nn.initializers.constant(-2.0)]


@pytest.mark.parametrize("init", [*SAME, lambda _, shape, dtype: jnp.tri(*shape, dtype=dtype)])
@pytest.mark.parametrize("use", ["kernel", "head"])
def test_a_kernel_of_constants_that_sums_to_more_is_refused(init, use):
    """Its sums grow as the number of terms, and no factor on a draw or a rate makes up for it."""
    shapes = [(n, n if use == "kernel" else 10) for n in (64, 16)]
    wide, narrow = (init(None, shape, jnp.float32).sum(0).mean() for shape in shapes)
    with pytest.raises(ValueError, match=f"middle/kernel starts .* {wide / narrow:.4g} times as"):
        flaxinit.mup(constant_kernel(64, init, use), FEATURES, base=constant_kernel(16, init, use))


@pytest.mark.parametrize("use", ["kernel", "head", "gain"])
def test_constants_that_sum_to_the_same_are_kept(use):
    inits = [nn.initializers.zeros, lambda _, shape, dtype: jnp.full(shape, 1 / shape[0], dtype)]
    inits += [lambda _, shape, dtype: jnp.eye(*shape, dtype=dtype)]
    for init in SAME if use == "gain" else inits:
        for widths in ((48, 16), (49, 7)):
            wide, narrow = (constant_kernel(width, init, use) for width in widths)
            rows = flaxinit.mup(wide, FEATURES, base=narrow).rows
            name = "params/gain" if use == "gain" else "params/middle/kernel"
            assert [row.init for row in rows if row.path == name] == [1]


def test_at_the_base_width_every_factor_is_1_and_it_says_so():
    for make, inputs, _ in MODELS.values():
        scale = flaxinit.mup(make(32), inputs, base=make(32))
        assert {(row.init, row.rate, row.epsilon, row.decay) for row in scale.rows} == {
            (1, 1, 1, 1)
        }
        assert "Nothing grows" in "".join(scale.remarks) and "Nothing grows" in str(scale)


def test_it_prints_a_reason_for_each_parameter():
    lines = str(flaxinit.mup(mlp(32 * M), FEATURES, base=mlp(32))).splitlines()
    (line,) = [line for line in lines if "layers_2/kernel" in line]
    for text in ("32→128×32→128", "hidden", "0.25", "sums over 4× as many, makes 4× as many"):
        assert text in line


def test_the_rates_of_a_large_model_are_read_off_shapes():
    make = lambda width: models.Decoder(width, width // 128, width // 1024, 128)
    with at_most(20):
        scale = flaxinit.mup(make(8192), TOKENS, base=make(1024))
    assert factors(scale, "kind")["params/up/kernel"] == ("hidden",)


def test_models_that_differ_in_more_than_width_are_refused():
    def net(width, sizes=(1, 1), act=nn.relu):
        layers = [nn.Dense(n * width) for n in sizes]
        return nn.Sequential([*layers, act, nn.Dense(10)])

    def refused(model, base, match, inputs=FEATURES, optimizer="adam", error=ValueError):
        with pytest.raises(error, match=match):
            flaxinit.mup(model, inputs, base=base, optimizer=optimizer)

    refused(net(64, (1, 1, 1)), net(32), "the base lacks .*params/layers_4/bias")
    refused(net(32), net(64), r"layers_0/bias has the shape \(64,\) in the base .* shrinks")
    refused(net(64, act=nn.tanh), net(32), "not one model at two widths: operation")
    refused(net(64), net(32), "takes one of Optax's sgd.*received 'shampoo'", optimizer="shampoo")
    refused(net(64), None, "a Linen module, a function of nnx.Rngs", error=TypeError)
    separate = "axis 0 grows 2-fold, and it numbers separate kernels .* Build the base with as many"
    refused(models.Experts(64, 6), models.Experts(32, 3), separate)
    words = lambda width: nn.Sequential([nn.Embed(width, width), nn.Dense(3)])
    refused(
        words(64),
        words(32),
        "embedding .* axis 0 grows 2-fold, and it numbers entries",
        inputs=TOKENS,
    )


def test_draws_that_no_factor_mends_are_refused_by_name():
    def refused(init, match, width=32):
        with pytest.raises(ValueError, match=match):
            flaxinit.mup(mlp(M * width, init), FEATURES, base=mlp(width, init))

    shifted = lambda key, shape, dtype: 0.1 + jax.random.normal(key, shape, dtype)
    refused(shifted, r"params/layers_2/kernel is drawn with mean 0\.1")
    # JAX's own draws of 16-bit floats: -0.017 deviations.
    lecun = nn.initializers.lecun_normal()
    half = lambda key, shape, dtype: lecun(key, shape, jnp.bfloat16).astype(dtype)
    refused(half, "mean -0.00.* flaxinit.lecun.. does in every dtype")
    ordered = lambda key, *args: jnp.sort(jax.random.normal(key, *args))
    refused(
        ordered, "cannot read what params/layers_0/kernel is drawn from: its entries meet in sort"
    )


@pytest.mark.parametrize("act", [jnp.exp, jax.nn.softplus, jnp.sign])
def test_a_function_of_a_kernel_is_refused_by_name(act):
    def make(width):
        def init(key, x):
            return {"v": jnp.ones((8, width)), "w": jax.random.normal(key, (width, width))}

        return init, lambda params, x: x @ params["v"] @ act(params["w"])

    with pytest.raises(ValueError, match="how w should scale with the width: it goes through"):
        flaxinit.mup(make(64), FEATURES, base=make(32))


def test_a_parameter_that_is_not_used_keeps_its_rate():
    def make(width):
        def init(key, x):
            return {"w": jax.random.normal(key, (8, width)), "extra": jnp.ones((width, width))}

        return init, lambda params, x: x @ params["w"]

    row = factors(flaxinit.mup(make(64), FEATURES, base=make(32)), "kind", "init", "rate")["extra"]
    assert row == ("unused", 1, 1)


def test_a_vector_in_a_function_keeps_its_draw():
    """Such as decays that are drawn and exponentiated: they are the same at every width."""

    def make(width):
        def init(key, x):
            a, b = jax.random.split(key)
            return {
                "first": jax.random.normal(a, (8, width)),
                "decay": jax.random.uniform(b, (width,), minval=-4.0, maxval=0.0),
            }

        return init, lambda params, x: x @ params["first"] * jnp.exp(params["decay"])

    found = factors(flaxinit.mup(make(64), FEATURES, base=make(32)), "kind", "init", "rate")
    assert found["decay"] == ("vector", 1, 1)


def test_groups_of_rows_have_kernels_of_their_own():
    def make(width, experts=3):
        def init(key, x):
            a, b = jax.random.split(key)
            up = 0.1 * jax.random.normal(a, (experts, 8, width))
            return {"up": up, "down": 0.1 * jax.random.normal(b, (experts, width, 4))}

        def apply(params, x):
            sizes = jnp.array([1] * (experts - 1) + [5 - experts], jnp.int32)
            hidden = jax.lax.ragged_dot(x, params["up"], sizes)
            return jax.lax.ragged_dot(hidden, params["down"], sizes)

        return init, apply

    scale = flaxinit.mup(make(64), FEATURES, base=make(16), optimizer="sgd")
    found = factors(scale, "kind", "rate")
    assert found == {"up": ("input", 4), "down": ("output", 1 / 4)}
    with pytest.raises(
        ValueError,
        match=r"up .* axis 0 grows 1.333-fold, and it numbers separate kern",
    ):
        flaxinit.mup(make(64, 4), FEATURES, base=make(16, 3))


def test_what_does_not_depend_on_the_scale_is_no_use_at_another():
    def make(width):
        def init(key, x):
            return {"w": jax.random.normal(key, (8, width)), "v": jnp.zeros((width, 3))}

        def apply(params, x):
            logits = x @ params["w"] @ params["v"]
            return logits / np.float32(width), jnp.argmax(logits, -1), logits > 0

        return init, apply

    scale = flaxinit.mup(make(64), FEATURES, base=make(16))
    assert factors(scale, "rate")["v"] == (1,)


def test_an_mlp_of_any_library_has_the_same_factors():
    haiku, equinox = pytest.importorskip("haiku"), pytest.importorskip("equinox")

    def by_haiku(width):
        return haiku.transform(lambda x: haiku.nets.MLP([width, width, 10])(x))

    def by_equinox(width):
        make = lambda key: equinox.nn.MLP(8, 10, width, 2, key=key)
        static = equinox.filter(make(jax.random.key(0)), equinox.is_array, inverse=True)
        init = lambda key, x: equinox.filter(make(key), equinox.is_array)
        return init, lambda params, x: jax.vmap(equinox.combine(params, static))(x)

    for make in (by_haiku, by_equinox):
        scale = flaxinit.mup(make(32 * M), FEATURES, base=make(32))
        rows = [row for row in scale.rows if row.path[-1] in "wt"]  # w, weight
        found = [(row.kind, row.init, row.rate) for row in rows]
        assert found == [("input", 1, 1), ("hidden", 1, 1 / M), ("output", M**-0.5, 1 / M)]


def test_kernels_fused_with_others_are_left_to_the_model():
    """Of a fused kernel no part can be drawn smaller alone."""

    class Attention(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            qkv = nn.Dense(3 * self.width)(nn.Dense(self.width)(x))
            q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 2, -1), 3, -1)
            return nn.Dense(3)(jax.nn.dot_product_attention(q, k, v).reshape(*x.shape[:2], -1))

    (remark,) = flaxinit.mup(Attention(32 * M), SEQUENCES, base=Attention(32)).remarks
    assert "grow 2-fold" in remark and "multiply them by 0.5 in the model" in remark


def test_a_vector_of_length_1_is_made_up_for():
    """Its entries shrink as m^-1/2, so the kernel after it is drawn and trained larger."""

    def make(width):
        unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        return nn.Sequential([nn.Dense(width), unit, nn.Dense(3, kernel_init=models.NORMAL)])

    scale = flaxinit.mup(make(32 * M), FEATURES, base=make(32))
    assert factors(scale, "init", "rate")["params/layers_2/kernel"] == (M**-0.5, M**-0.5)
    assert scale.remarks == ()


def test_learned_vectors_are_what_kernels_are_applied_to():
    """Queries that are parameters, as in attention pooling, have their size at every width."""

    normal = models.NORMAL

    class Pool(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(self.width, name="first", kernel_init=normal)(x)
            probe = self.param("probe", nn.initializers.normal(1.0), (1, 2, self.width))
            probe = nn.LayerNorm(name="norm")(jnp.tile(probe, (len(x), 1, 1)))
            heads = self.width // 8
            attention = nn.MultiHeadDotProductAttention(heads, kernel_init=normal, name="attention")
            return nn.Dense(3, name="last", kernel_init=normal)(attention(probe, x))

    scale = flaxinit.mup(Pool(32 * M), SEQUENCES, base=Pool(32), optimizer="sgd")
    found = factors(scale, "kind", "rate")
    assert found["params/probe"] == found["params/norm/scale"] == ("vector", M)
    for name in ("query", "key", "value", "out"):
        assert found[f"params/attention/{name}/kernel"] == ("hidden", 1)
    assert found["params/last/kernel"] == ("output", 1 / M)


def test_a_growing_output_is_remarked():
    (remark,) = flaxinit.mup(nn.Dense(64), FEATURES, base=nn.Dense(16)).remarks
    assert "grows from (4, 16) to (4, 64): it is taken for hidden values" in remark
