"""What devices compute together is one program: the same numbers, and the same forecast."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P

import flaxinit
from flaxinit.signal.shards.unsharded import unsharded
from flaxinit.versions.compat import enable_x64
from flaxinit.versions.jaxpr import equations

AUTO = (AxisType.Auto,)
MESH = jax.make_mesh((2, 4), ("data", "model"), AUTO * 2)
EIGHT_DEVICES = jax.make_mesh((8,), ("model",), AUTO)
EIGHT = AbstractMesh((8,), ("model",), AUTO)


def x(*shape):
    return np.random.default_rng(math.prod(shape)).standard_normal(shape)


def on_mesh(body, in_specs, out_specs, mesh=MESH, **options):
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **options)


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), x), lambda x, slope: (slope * jnp.cos(x),))


@jax.custom_vjp
def by_the_sum(x, w):
    return x * w


def by_the_sum_back(xw, slope):
    x, w = xw
    return slope * lax.psum(w, "model"), lax.psum(jnp.sum(slope * x), "model")


by_the_sum.defvjp(lambda x, w: (x * w, (x, w)), by_the_sum_back)


def index(axis):
    return lax.axis_index(axis).astype(float)


def of_part(table, i, axes):
    """Return the rows at these indices that are in a device's part of a table; 0 for others."""
    here = i - lax.axis_index(axes) * len(table)
    rows = table[jnp.clip(here, 0, len(table) - 1)]
    return jnp.where(((here >= 0) & (here < len(table)))[..., None], rows, 0)


ROWS = np.array([[0, 3, 23], [7, 7, 12]], "int32")
BOTH = P("data", "model")
# The program of one device, the specs of what it takes and makes, and global operands.
PROGRAMS = {
    "relu between split kernels": (
        lambda x, a, b: lax.psum(jax.nn.relu(x @ a) @ b, "model"),
        (P("data"), P(None, "model"), P("model")),
        P("data"),
        (x(4, 8), x(8, 12), x(12, 8)),
    ),
    "a bias before the sum": (
        lambda x, b: lax.psum((x @ x.T).astype("float64") * 3 - b / 4, "model"),
        (P(None, "model"), P()),
        P(),
        (x(4, 8), x(4)),
    ),
    "a reduction of a product": (
        lambda x: lax.psum(jnp.sum(x**2, 1) * lax.psum(jnp.sum(x), "model"), "model"),
        P("data", "model"),
        P("data"),
        (x(4, 8),),
    ),
    "moments over a batch": (
        lambda x: (x - lax.pmean(x.mean(0), "data")) / lax.pmean(x.var(0), "data"),
        P("data"),
        P("data"),
        (x(4, 8),),
    ),
    "softmax over a split axis": (
        lambda x: (
            jnp.exp(x - lax.pmax(lax.stop_gradient(x.max(1, keepdims=True)), "model"))
            / lax.psum(jnp.exp(x).sum(1, keepdims=True), "model")
        ),
        BOTH,
        BOTH,
        (x(4, 8),),
    ),
    "a gathered kernel": (
        lambda x, w: lax.pmean(
            x @ lax.all_gather(w, ("data", "model"), axis=1, tiled=True), "model"
        ),
        (P("data"), P(None, ("data", "model"))),
        P(("data",)),
        (x(4, 8), x(8, 16)),
    ),
    "a stack of parts": (
        lambda x: jnp.sin(lax.all_gather(x, "model", axis=1)).sum(0) * index("data"),
        BOTH,
        P(None, ("data", "model")),
        (x(4, 8),),
    ),
    "a scattered sum": (
        lambda x: lax.psum_scatter(jnp.sin(x), "model", scatter_dimension=1, tiled=True),
        BOTH,
        BOTH,
        (x(4, 16),),
    ),
    "a sum scattered and squeezed": (
        lambda x: lax.psum_scatter(x**3, "model", scatter_dimension=1)[:, None],
        BOTH,
        BOTH,
        (x(4, 16),),
    ),
    "a scattered product": (
        lambda x, w: lax.psum_scatter(x @ w, "model", scatter_dimension=1, tiled=True),
        (P(None, "model"), P("model")),
        P(None, "model"),
        (x(4, 16), x(16, 8)),
    ),
    "all to all": (
        lambda x: lax.all_to_all(jnp.cumsum(x, 0), "model", 0, 1, tiled=True) ** 2,
        BOTH,
        BOTH,
        (x(8, 8),),
    ),
    "all to all, and back": (
        lambda x: lax.all_to_all(
            lax.all_to_all(x, "model", 0, 1, tiled=True) ** 2, "model", 1, 0, tiled=True
        ),
        BOTH,
        BOTH,
        (x(8, 8),),
    ),
    "all to all of whole slices": (
        # JAX has no gradient of the first two.
        lambda x: (
            lax.all_to_all(lax.stop_gradient(x), "model", 1, 0)
            + lax.all_to_all(lax.stop_gradient(x), "model", 1, 2)
            + lax.all_to_all(x, "model", 1, 1)
            + lax.all_to_all(x, "model", 2, 2, tiled=True)
        ),
        P(None, None, "model"),
        P(None, None, "model"),
        (x(4, 4, 16),),
    ),
    "neighbors": (
        lambda x: x - 2 * lax.ppermute(x, "model", [(0, 1), (1, 2), (3, 0)]) * index("data"),
        BOTH,
        BOTH,
        (x(4, 8),),
    ),
    "a part by its index": (
        lambda x, w: x * lax.dynamic_slice_in_dim(w, 2 * lax.axis_index("model"), 2),
        (BOTH, P()),
        BOTH,
        (x(4, 8), x(8)),
    ),
    "a scan with a sum in it": (
        lambda x, w: lax.scan(
            lambda c, w: (jnp.tanh(lax.psum(c @ w, "model")), c.sum(1)), x * 1.0, w
        ),
        (P("data"), P(None, None, None)),
        (P("data"), P(None, "data")),
        (x(4, 8), x(3, 8, 8)),
    ),
    "a scan over split kernels": (
        lambda x, a, b: lax.scan(
            lambda c, w: (c + lax.psum(jnp.tanh(c @ w[0]) @ w[1], "model"), None), x, (a, b)
        )[0],
        (P("data"), P(None, None, "model"), P(None, "model")),
        P("data"),
        (x(4, 8), x(3, 8, 12), x(3, 12, 8)),
    ),
    "a scan over parts of a sequence": (
        lambda x: lax.scan(
            lambda c, row: (c + row, c * row), jnp.zeros_like(x[0]), x, reverse=True
        )[1],
        P("model", "data"),
        P("model", "data"),
        (x(8, 4),),
    ),
    "a rule for gradients": (
        lambda x, w: straight_through(x * w[:, None]),
        (BOTH, P("data")),
        BOTH,
        (x(4, 8), x(4)),
    ),
    "a rule that sums what all devices have": (
        by_the_sum,
        (P("model"), P()),
        P("model"),
        (x(8, 3), x()),
    ),
    "heads": (
        lambda x, w: jnp.einsum(
            "bshd,bthd->bhst", *(jnp.reshape(x @ w, (2, 3, 2, 2)),) * 2
        ).reshape(2, 2, 9),
        (P("data"), P(None, "model")),
        P("data", "model"),
        (x(4, 3, 8), x(8, 16)),
    ),
    "one sample on each device": (
        lambda x: jnp.sin(x[0])[None] * x.reshape(-1) + jnp.squeeze(x)[None],
        P(("data", "model")),
        P(("data", "model")),
        (x(8, 3),),
    ),
    "a convolution": (
        lambda x, w: lax.psum(
            lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")),
            "model",
        ),
        (P("data", None, "model"), P(None, "model")),
        P("data"),
        (x(4, 6, 8), x(3, 8, 5)),
    ),
    "channels of a convolution": (
        lambda x, w: lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
        ),
        (P("data"), P(None, None, "model")),
        P("data", None, "model"),
        (x(4, 6, 8), x(3, 8, 4)),
    ),
    "a table by row": (
        lambda w: w[jnp.array([[1, 0], [2, 2]])] * jnp.concatenate([w[:1], w[2:3]]),
        P(None, "model"),
        P(None, None, "model"),
        (x(4, 8),),
    ),
    "a table whose rows are split": (
        lambda w: lax.psum(of_part(w, ROWS, ("data", "model")), ("data", "model")) ** 2,
        P(("data", "model")),
        P(),
        (x(24, 5),),
    ),
    "a slice and an update": (
        lambda x: jnp.pad(x.at[:, 1:2].set(0)[:, ::-1], ((0, 0), (1, 0))).sort(0)[:, 1:],
        P(None, "model"),
        P(None, "model"),
        (x(4, 8),),
    ),
    "what all have is shared out": (
        lambda w: (w * index("model"), w),
        P(),
        (P("model"), P()),
        (x(2, 3),),
    ),
    "a branch": (
        lambda x: lax.cond(lax.psum(1, "model") > 3, jnp.sin, jnp.cos, x * index("data")),
        P("model"),
        P(("model", "data")),
        (x(8, 3),),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_on_whole_arrays_computes_the_same(name):
    body, in_specs, out_specs, operands = PROGRAMS[name]
    with enable_x64(True):
        many = on_mesh(body, in_specs, out_specs)
        program = unsharded(jax.make_jaxpr(many)(*operands))
        assert not {"shard_map", "psum"} & {each.primitive.name for each in equations(program)}
        one = jaxpr_as_fun(program)

        def loss(run, operands):
            return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(run(*operands)))

        for run in (lambda run: run(*operands), lambda run: jax.grad(partial(loss, run))(operands)):
            expected = jax.tree.leaves(jax.jit(partial(run, many))())
            for found, wanted in zip(jax.tree.leaves(run(one)), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def draws(shapes):
    """Return a function that draws kernels, each with variance 1 / fan_in; a vector is of ones."""

    def init(key, x):
        keys = jax.random.split(key, len(shapes))
        made = {}
        for key, (name, (*stacked, rows, columns)) in zip(keys, shapes.items(), strict=True):
            many = jax.random.split(key, stacked)
            draw = partial(flaxinit.lecun(), shape=(rows, columns))
            for _ in stacked:
                draw = jax.vmap(draw)
            made[name] = draw(many if stacked else key)
        return made

    return init


def mlp(w, x, summed=lambda y: y):
    return summed(jax.nn.relu(x @ w["up"]) @ w["down"])


def gathering(w, x):
    return mlp(jax.tree.map(lambda part: lax.all_gather(part, "model", tiled=True), w), x)


def block(w, x, summed=lambda y: y):
    """Return what a pre-norm block of attention and a gate makes of a stream."""
    h = x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True))
    q, k, v = (jnp.reshape(h @ w[name], (*x.shape[:2], -1, 2)) for name in "qkv")
    scores = jax.nn.softmax(jnp.einsum("bshd,bthd->bhst", q, k), axis=-1)
    mixed = jnp.einsum("bhst,bthd->bshd", scores, v)
    x = x + summed(jnp.reshape(mixed, (*x.shape[:2], -1)) @ w["o"])
    return x + summed((jax.nn.gelu(x @ w["gate"]) * (x @ w["up"])) @ w["down"])


def layers(w, x, summed=lambda y: y):
    return lax.scan(lambda x, w: (x + mlp(w, x, summed), None), x, w)[0]


def layers_apart(w, x):
    part = on_mesh(over_all(mlp), (COLUMNS_AND_ROWS, P()), P(), EIGHT)
    return lax.scan(lambda x, w: (x + part(w, x), None), x, w)[0]


def batch_norm(w, x, mean=lambda y: y):
    y = x @ w["up"]
    center = mean(jnp.mean(y, (0, 1)))
    y = (y - center) * lax.rsqrt(mean(jnp.mean(y * y, (0, 1))) - center**2)
    return jax.nn.relu(y) @ w["down"]


def experts(w, x):
    hidden = jax.nn.relu(jnp.einsum("ecd,edf->ecf", x, w["up"]))
    return jnp.einsum("ecf,efd->ecd", hidden, w["down"])


def experts_apart(w, x):
    x = lax.all_to_all(x, "model", 0, 1, tiled=True)
    return lax.all_to_all(experts(w, x), "model", 1, 0, tiled=True)


def placed(w, x):
    return mlp(w, x + w["place"])


def placed_by_index(w, x):
    start = lax.axis_index("model") * x.shape[1]
    return mlp(w, x + lax.dynamic_slice_in_dim(w["place"], start, x.shape[1]))


def scaled(w, x, factors=None, summed=lambda y: y):
    factors = jnp.repeat(1 + jnp.arange(8.0), 16) if factors is None else factors
    return summed(jax.nn.relu((x @ w["up"]) * factors) @ w["down"])


def scaled_by_device(w, x):
    return scaled(w, x, 1 + index("model"), lambda y: lax.psum(y, "model"))


NEXT = [(n, (n + 1) % 8) for n in range(8)]


def beside(w, x, before=lambda x: x[:, -1:]):
    """Return what a network makes of each position and the one before it."""
    return mlp(w, x + jnp.concatenate([before(x), x[:, :-1]], 1))


def beside_by_neighbors(w, x):
    return beside(w, x, lambda x: lax.ppermute(x[:, -1:], "model", NEXT))


def attention(w, x, count=1, following=lambda y: y):
    q, k, v = (x @ w[name] for name in "qkv")

    def step(carry, _):
        k, v, mixed, weights = carry
        scores = jnp.exp(jnp.einsum("bsd,btd->bst", q, k) / 8)
        sums = mixed + scores @ v, weights + scores.sum(-1, keepdims=True)
        return (following(k), following(v), *sums), None

    start = k, v, jnp.zeros_like(q), jnp.zeros_like(q[..., :1])
    (_, _, mixed, weights), _ = lax.scan(step, start, None, count)
    return (mixed / weights) @ w["o"]


def attention_in_a_ring(w, x):
    return attention(w, x, 8, lambda y: lax.ppermute(y, "model", NEXT))


def over_all(model):
    return lambda w, x: model(w, x, lambda y: lax.psum(y, "model"))


APART = (P(), P(None, "model")), P(None, "model")
MLP = {"up": (64, 128), "down": (128, 64)}
ATTENTION = {**dict.fromkeys("qkv", (64, 128)), "o": (128, 64), "gate": (64, 128)}
COLUMNS_AND_ROWS = {"up": P(None, "model"), "down": P("model")}
HEADS = {**dict.fromkeys(("q", "k", "v", "gate"), P(None, "model")), "o": P("model")}
X = x(4, 8, 64).astype("float32")


@jax.custom_vjp
def entering(x):
    """Return what all devices have; each has a part of its gradient, in the manner of Megatron."""
    return x


@jax.custom_vjp
def leaving(x):
    return lax.psum(x, "model")


entering.defvjp(lambda x: (x, None), lambda _, slope: (lax.psum(slope, "model"),))
leaving.defvjp(lambda x: (lax.psum(x, "model"), None), lambda _, slope: (slope,))


@jax.custom_vjp
def gathered(x):
    return lax.all_gather(x, "model", axis=1, tiled=True)


def scattered(x):
    return lax.psum_scatter(x, "model", scatter_dimension=1, tiled=True)


gathered.defvjp(lambda x: (gathered(x), None), lambda _, slope: (scattered(slope),))


# Shapes of the kernels, the model on one device, on a mesh, and the specs of its operands and
# result there.
MODELS = {
    "samples": (MLP, mlp, mlp, (P(), P(None, "model")), P(None, "model")),
    "columns, then rows": (MLP, mlp, over_all(mlp), (COLUMNS_AND_ROWS, P()), P()),
    "columns, then rows, by rules": (
        MLP,
        mlp,
        lambda w, x: mlp(w, entering(x), leaving),
        (COLUMNS_AND_ROWS, P()),
        P(),
    ),
    "positions gathered and scattered by rules": (
        MLP,
        mlp,
        lambda w, x: mlp(w, gathered(x), scattered),
        (COLUMNS_AND_ROWS, P(None, "model")),
        P(None, "model"),
    ),
    "kernels": (MLP, mlp, gathering, (P("model"), P(None, "model")), P(None, "model")),
    "heads": (
        {**ATTENTION, **MLP},
        block,
        over_all(block),
        ({**HEADS, **COLUMNS_AND_ROWS}, P()),
        P(),
    ),
    "kernels of a scan": (
        {name: (2, *shape) for name, shape in MLP.items()},
        layers,
        over_all(layers),
        ({"up": P(None, None, "model"), "down": P(None, "model")}, P()),
        P(),
    ),
    "a batch": (
        MLP,
        batch_norm,
        lambda w, x: batch_norm(w, x, lambda y: lax.pmean(y, "model")),
        (P(), P(None, "model")),
        P(None, "model"),
    ),
    "neighbors": (MLP, beside, beside_by_neighbors, *APART),
    "experts": (
        {name: (8, *shape) for name, shape in MLP.items()},
        experts,
        experts_apart,
        (P("model"), P(None, "model")),
        P(None, "model"),
    ),
    "positions": (
        {**MLP, "place": (8, 64)},
        placed,
        placed_by_index,
        (P(), P(None, "model")),
        P(None, "model"),
    ),
}


def seen(report):
    """Return what a report says of each kernel, without what it draws."""
    return [{k: v for k, v in vars(row).items() if k != "curve"} for row in report.layers]


def approximately(report):
    """Return what a report says, up to the rounding of sums in another order."""

    def near(value):
        return pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value

    return [{k: near(v) for k, v in row.items()} for row in seen(report)]


def forecasts(name, mesh, inputs=X):
    """Return the forecasts of a model on one device and on a mesh."""
    shapes, one, body, in_specs, out_specs = MODELS[name]
    many = on_mesh(body, in_specs, out_specs, mesh, check_vma="rules" not in name)
    models = ((draws(shapes), apply) for apply in (one, many))
    return [flaxinit.forecast(model, inputs, backward=True) for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_over_devices_is_that_of_one_device(name):
    inputs = np.swapaxes(np.tile(X, (2, 1, 1)), 0, 1) if name == "experts" else X
    expected, found = forecasts(name, EIGHT, inputs)
    assert seen(found) == approximately(expected)
    assert found.stream == expected.stream


@pytest.mark.parametrize(("name", "count"), [("columns, then rows", 128), ("heads", 64)])
def test_a_channel_or_a_head_on_each_device(name, count):
    expected, found = forecasts(name, AbstractMesh((count,), ("model",), AUTO))
    assert seen(found) == approximately(expected)


@pytest.mark.parametrize("nested", [False, True])
def test_some_axes_of_a_mesh_are_split_by_hand(nested):
    """Others are JAX's, or those of a shard_map around this one."""
    specs, model = {"in_specs": (COLUMNS_AND_ROWS, P()), "out_specs": P()}, {"model"}

    def inside(w, x):
        mesh = {} if nested else {"mesh": MESH}
        return jax.shard_map(over_all(mlp), **specs, **mesh, axis_names=model)(w, x)

    outside = on_mesh(inside, (P(), P("data")), P("data"), axis_names={"data"})
    expected, found = (
        flaxinit.forecast((draws(MLP), f), X, backward=True)
        for f in (mlp, outside if nested else inside)
    )
    assert seen(found) == approximately(expected)


def test_a_vocabulary_that_is_split():
    """Rows are looked up in all of the table; those that a mask hides are drawn, too."""
    shapes, tokens = {"table": (50_000, 256), "up": (256, 64)}, np.arange(24).reshape(2, 12) ** 3

    def one(w, i):
        return w["table"][i] @ w["up"]

    def split(w, i):
        return lax.psum(of_part(w["table"], i, "model"), "model") @ w["up"]

    many = on_mesh(split, ({"table": P("model"), "up": P()}, P()), P(), EIGHT)
    reports = [flaxinit.forecast((draws(shapes), f), tokens, backward=True) for f in (one, many)]
    (expected,), (found,) = (report.layers for report in reports)
    assert (found.path, found.fan_in, found.sampled) == ("up", 256, False)
    assert found.signal_in == pytest.approx(expected.signal_in, rel=1e-6)
    assert found.signal_out == pytest.approx(expected.signal_out, rel=1e-6)
    assert found.sigma_w2_wanted == pytest.approx(expected.sigma_w2_wanted, rel=1e-6)
    tables = [flaxinit.tune((draws(shapes), f), tokens).factors for f in (one, many)]
    assert tables[1] == pytest.approx(tables[0], rel=1e-6)
    # Means over particles.
    assert found.positions == pytest.approx(expected.positions, abs=4 / math.sqrt(4096))


def test_layers_of_a_scan_that_each_call_many_devices():
    shapes = {name: (2, *shape) for name, shape in MLP.items()}
    expected = flaxinit.forecast((draws(shapes), layers), X, backward=True)
    assert seen(flaxinit.forecast((draws(shapes), layers_apart), X, backward=True)) == seen(
        expected
    )


def test_a_flax_module_over_devices_is_forecast_tuned_and_given_its_width():
    class Net(nn.Module):
        width: int = 256

        @nn.compact
        def __call__(self, x):
            up = self.param("up", flaxinit.lecun(), (64, self.width))
            down = self.param("down", flaxinit.lecun(), (self.width, 8))
            body = over_all(mlp)
            return on_mesh(lambda u, d, x: body({"up": u, "down": d}, x), SPECS, P())(up, down, x)

    class Plain(Net):
        @nn.compact
        def __call__(self, x):
            up = self.param("up", flaxinit.lecun(), (64, self.width))
            down = self.param("down", flaxinit.lecun(), (self.width, 8))
            return mlp({"up": up, "down": down}, x)

    SPECS = P(None, "model"), P("model"), P()
    inputs = jax.ShapeDtypeStruct((4, 64), "float32")
    assert seen(flaxinit.forecast(Net(), inputs)) == approximately(
        flaxinit.forecast(Plain(), inputs)
    )
    tables = [flaxinit.tune(net, inputs).factors for net in (Net(), Plain())]
    assert tables[0] == tables[1]
    tables = [str(flaxinit.mup(net, inputs, base=net.clone(width=128))) for net in (Net(), Plain())]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_kernels_on_several_devices_are_calibrated_as_on_one(kind):
    mesh, specs = jax.make_mesh((8,), ("model",), (kind,)), {**COLUMNS_AND_ROWS, "x": P()}
    arrays = {name: x(*shape).astype("float32") for name, shape in {**MLP, "x": (16, 64)}.items()}
    placed = {n: jax.device_put(a, NamedSharding(mesh, specs[n])) for n, a in arrays.items()}
    many = on_mesh(over_all(mlp), (COLUMNS_AND_ROWS, P()), P(), mesh)
    expected = flaxinit.calibrate(mlp, arrays, arrays.pop("x"))
    found = flaxinit.calibrate(many, placed, placed.pop("x"))
    for name, w in found.items():
        assert w.sharding.is_equivalent_to(placed[name].sharding, 2)
        np.testing.assert_allclose(w, expected[name], rtol=1e-5)


REFUSED = {
    "axis_index_groups": lambda x: lax.all_gather(
        x, "data", axis_index_groups=[[0, 1]], tiled=True
    ),
    "ppermute over several axes": lambda x: lax.ppermute(x, ("data", "model"), [(0, 1)]),
    "all_to_all over several axes": lambda x: lax.all_to_all(
        lax.all_gather(x, ("data", "model"), tiled=True), ("data", "model"), 0, 0, tiled=True
    ),
    "a loop that differs": lambda x: lax.while_loop(
        lambda c: jnp.sum(c) < 3, lambda c: jnp.abs(c) + 1, x
    ),
    "a branch that differs": lambda x: lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x),
    "ragged_all_to_all": lambda x: lax.ragged_all_to_all(
        x, x, *(jnp.ones(2, int) for _ in range(4)), axis_name="data"
    ),
}


def test_one_device_may_do_what_several_may_not_do_apart():
    def body(x):
        x = lax.while_loop(lambda c: jnp.sum(c) < 3, lambda c: jnp.abs(c) + 1, x)
        x = lax.psum_scatter(lax.all_gather(x, "data", tiled=True), "data", tiled=True)
        x = lax.all_to_all(lax.ppermute(x, "data", [(0, 0)]), "data", 0, 1, tiled=True)
        return x + index("data")

    many = on_mesh(body, P("data"), P("data"), jax.make_mesh((1,), ("data",), AUTO))
    operand = -np.abs(X)
    program = unsharded(jax.make_jaxpr(many)(operand))
    (found,) = jaxpr_as_fun(program)(operand)
    np.testing.assert_allclose(found, jax.jit(many)(operand), rtol=1e-6)
    assert jnp.min(found) > 0


@pytest.mark.parametrize("what", REFUSED)
def test_a_collective_without_a_form_is_named(what):
    def apply(w, x):
        return on_mesh(REFUSED[what], P("data"), P("data"), check_vma=False)(mlp(w, x))

    with pytest.raises(ValueError, match=what):
        flaxinit.forecast((draws(MLP), apply), X)


def own_part(x, axis):
    """Return a device's part of what all have."""
    size = x.shape[axis] // lax.axis_size("model")
    return lax.dynamic_slice_in_dim(x, lax.axis_index("model") * size, size, axis)


def sliced_by_index(w, x):
    return lax.psum(own_part(jax.nn.relu(x @ w["up"]), -1) @ w["down"], "model")


def all_sliced_by_index(w, x):
    hidden = jax.nn.relu(x @ own_part(w["up"], 1))
    return lax.psum(hidden @ own_part(w["down"], 0), "model")


def summed_by_hand(w, x):
    return lax.all_gather(mlp(w, x), "model").sum(0)


def ring(w, x):
    count, hidden, result = lax.axis_size("model"), jax.nn.relu(x @ w["up"]), 0
    size = hidden.shape[-1]
    for step in range(count):
        start = (lax.axis_index("model") - step) % count * size
        result += hidden @ lax.dynamic_slice_in_dim(w["down"], start, size)
        hidden = lax.ppermute(hidden, "model", [(n, (n + 1) % count) for n in range(count)])
    return result


def summed_in_a_loop(w, x):
    return lax.psum(lax.scan(lambda c, _: (c + mlp(w, x), None), 0 * x, None, 2)[0], "model")


@jax.custom_vjp
def product(x, w):
    return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda xw, g: (g @ xw[1].T, jnp.outer(*xw, g)))
ROWS_ONLY = {"up": P(), "down": P("model")}
# Models whose sums over devices do not follow their products, and the specs of their kernels.
PARTIAL = {
    "activations by index": (sliced_by_index, ROWS_ONLY),
    "kernels by index": (all_sliced_by_index, P()),
    "a gathered sum": (summed_by_hand, COLUMNS_AND_ROWS),
    "a ring": (ring, {"up": P(None, "model"), "down": P(None, "model")}),
    "a sum after a loop": (summed_in_a_loop, COLUMNS_AND_ROWS),
    "a sum after a rule": (
        lambda w, x: lax.psum(product(jax.nn.relu(x @ w["up"]), w["down"]), "model"),
        COLUMNS_AND_ROWS,
    ),
    "a lookup by product": (
        lambda w, x: lax.psum(
            jax.nn.one_hot(x[..., 0].astype(int) - 16 * lax.axis_index("model"), 16) @ w["down"],
            "model",
        ),
        ROWS_ONLY,
    ),
}


# On 128 devices each has one row.
ONE_ROW = ("kernels by index", "a gathered sum", "a sum after a rule")


@pytest.mark.parametrize(
    ("name", "count"), [*((name, 8) for name in PARTIAL), *((name, 128) for name in ONE_ROW)]
)
def test_a_fan_of_one_part_is_no_fan(name, count):
    body, specs = PARTIAL[name]
    out = P(None, None, "model") if name == "a ring" else P()
    mesh = AbstractMesh((count,), ("model",), AUTO)
    many = on_mesh(body, (specs, P()), out, mesh, check_vma=False)
    with pytest.raises(ValueError, match="partial sums of a product"):
        flaxinit.forecast((draws(MLP), many), X)


def test_devices_may_each_have_a_layer():
    shapes = {"w": (8, 64, 64)}

    def one(w, x):
        return jax.nn.relu(jnp.einsum("nbd,nde->nbe", x, w["w"]))

    def many(w, x):
        return jax.nn.relu(x[0] @ w["w"][0])[None]

    inputs = np.random.default_rng(0).standard_normal((8, 4, 64)).astype("float32")
    apart = on_mesh(many, (P("model"), P("model")), P("model"), EIGHT)
    reports = [flaxinit.forecast((draws(shapes), f), inputs) for f in (one, apart)]
    (expected,), (found,) = (report.layers for report in reports)
    assert (found.fan_in, found.signal_out) == (64, pytest.approx(expected.signal_out, rel=1e-6))


def with_rule(forward, backward):
    """Return a function whose gradient is what another one makes of that of its result."""

    @jax.custom_vjp
    def ruled(x):
        return forward(x)

    ruled.defvjp(lambda x: (forward(x), None), lambda _, slope: (backward(slope),))
    return ruled


def total(x):
    return lax.psum(x, "model")


OTHER_RULES = {
    "scaled": (total, lambda slope: 0.01 * slope),
    "stopped": (total, jnp.zeros_like),
    "a mean": (
        lambda x: lax.all_gather(x, "model", axis=1, tiled=True),
        lambda slope: scattered(slope) / lax.axis_size("model"),
    ),
    "summed twice": (total, total),
}


@pytest.mark.parametrize("name", OTHER_RULES)
def test_a_collective_with_a_gradient_of_its_own_is_refused(name):
    ruled = with_rule(*OTHER_RULES[name])

    def body(w, x):
        return ruled(jax.nn.relu(x @ w["up"])) @ w["down"]

    many = on_mesh(body, (P(), P(None, "model")), P(), EIGHT, check_vma=False)
    with pytest.raises(ValueError, match="ruled, a collective with a rule of its own"):
        flaxinit.forecast((draws(MLP), many), X, backward=True)


def test_an_initializer_of_each_device_sees_its_part():
    def init(key, *_):
        def part(key):
            a, b = jax.random.split(jax.random.fold_in(key, lax.axis_index("model")))
            return {"up": flaxinit.lecun()(a, (64, 16)), "down": flaxinit.lecun()(b, (16, 64))}

        return on_mesh(part, P(), COLUMNS_AND_ROWS, EIGHT)(key)

    many = on_mesh(over_all(mlp), (COLUMNS_AND_ROWS, P()), P(), EIGHT)
    up, down = flaxinit.forecast((init, many), X).layers
    assert (up.fan_in, up.fan_in_seen, up.sigma_w2) == (64, 64, pytest.approx(1))
    assert (down.fan_in, down.fan_in_seen, down.sigma_w2) == (128, 16, pytest.approx(8))


def test_positions_of_a_ring_are_no_samples():
    shapes = dict.fromkeys("qkvo", (64, 64))
    params, inputs = draws(shapes)(jax.random.key(0), X), X[:, :1] + X / 10
    many = on_mesh(attention_in_a_ring, *APART, EIGHT_DEVICES, check_vma=False)
    reports = [flaxinit.audit(f, params, inputs) for f in (attention, many)]
    for expected, found in zip(*(report.layers for report in reports), strict=True):
        assert found.measured.samples == pytest.approx(expected.measured.samples, abs=1e-4)
        assert found.measured.positions == pytest.approx(expected.measured.positions, abs=1e-4)
        assert found.samples == pytest.approx(expected.samples, abs=0.03)
        assert found.positions == pytest.approx(expected.positions, abs=0.03)


def test_a_grouped_convolution_of_split_channels_is_named():
    def body(w, x):
        return lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"), feature_group_count=8
        )

    channels = P(None, None, "model")
    apply = on_mesh(body, (channels, channels), channels, EIGHT)
    with pytest.raises(ValueError, match="a grouped convolution"):
        flaxinit.forecast((lambda key, x: flaxinit.lecun()(key, (3, 1, 64)), apply), X)


def test_a_factor_of_each_device_leaves_rows_where_they_are():
    many = on_mesh(scaled_by_device, (COLUMNS_AND_ROWS, P()), P(), EIGHT)
    reports = [flaxinit.forecast((draws(MLP), f), X, backward=True) for f in (scaled, many)]
    names = "fan_in", "signal_in", "signal_out", "positions", "samples", "gradient_parameter"
    for expected, found in zip(*(report.layers for report in reports), strict=True):
        wanted = [pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-9) for name in names]
        assert [getattr(found, name) for name in names] == wanted
