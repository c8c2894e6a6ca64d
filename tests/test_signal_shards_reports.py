"""What a model on many devices is said to do is what it does on one."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P
from shards_models import (
    AUTO,
    COLUMNS_AND_ROWS,
    EIGHT,
    EIGHT_DEVICES,
    MESH,
    MLP,
    X,
    approximately,
    draws,
    index,
    mlp,
    of_part,
    on_mesh,
    over_all,
    own_part,
    scattered,
    seen,
)

import flaxinit
from benchmarks.bounds import z_score


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


def sliced_by_index(w, x):
    return lax.psum(own_part(jax.nn.relu(x @ w["up"]), -1) @ w["down"], "model")


def all_sliced_by_index(w, x):
    hidden = jax.nn.relu(x @ own_part(w["up"], 1))
    return lax.psum(hidden @ own_part(w["down"], 0), "model")


def columns_by_index(w, x):
    hidden = jax.nn.relu(x @ own_part(w["up"], 1))
    whole = lax.all_gather(hidden, "model", axis=2, tiled=True)
    return lax.pmean(whole @ w["down"], "model")


def expert_by_index(w, x):
    here = lax.axis_index("model")
    return mlp(jax.tree.map(lambda part: part[here], w), x[0])[None]


def placed(w, x):
    return mlp(w, x + w["place"])


def placed_by_index(w, x):
    start = lax.axis_index("model") * x.shape[1]
    return mlp(w, x + lax.dynamic_slice_in_dim(w["place"], start, x.shape[1]))


def fused(w, x, summed=lambda y: y):
    halves = jnp.split(jnp.pad(x @ w["up"], ((0, 0), (1, 0), (0, 0)))[:, :-1], 2, -1)
    return jax.nn.relu(jnp.concatenate(list(map(summed, halves)), -1)) @ w["down"]


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
    return attention(w, x, 8, in_a_ring)


def in_a_ring(y):
    return lax.ppermute(y, "model", NEXT)


def by_head(y):
    return jnp.swapaxes(jnp.reshape(y, (*y.shape[:2], -1, 16)), 1, 2)


def of_heads(y, w):
    y = jnp.swapaxes(y, 1, 2)
    return jnp.reshape(y, (*y.shape[:2], -1)) @ w


def attention_by_softmax(w, x, made=lambda y: y):
    q, k, v = map(by_head, jnp.split(x @ w["qkv"], 3, -1))
    weights = jax.nn.softmax(jnp.einsum("bhsd,bhtd->bhst", q, k) / 4)
    return of_heads(made(weights @ v), w["o"])


def attention_normed(w, x):
    return attention_by_softmax(w, x, lambda y: y * lax.rsqrt(jnp.mean(y * y, -1, keepdims=True)))


def attention_online(w, x, count=1, following=lambda y: y):
    """Return attention whose weights are in units of the largest that came so far."""
    q, k, v = map(by_head, jnp.split(x @ w["qkv"], 3, -1))

    def step(carry, _):
        k, v, mixed, total, top = carry
        scores = jnp.einsum("bhsd,bhtd->bhst", q, k) / 4
        new = jnp.maximum(top, scores.max(-1, keepdims=True))
        weights, before = jnp.exp(scores - new), jnp.exp(top - new)
        mixed, total = mixed * before + weights @ v, total * before
        total += weights.sum(-1, keepdims=True)
        return (following(k), following(v), mixed, total, new), None

    start = k, v, 0 * q, 0 * q[..., :1], jnp.full_like(q[..., :1], -jnp.inf)
    (_, _, mixed, total, _), _ = lax.scan(step, start, None, count)
    return of_heads(mixed / total, w["o"])


def shared_keys(w, x, keys=lambda y: jnp.repeat(y, 4, 1), summed=lambda y: y):
    """Return attention of whose heads four in a row have the same keys and values."""
    q, k, v = (by_head(x @ w[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bhsd,bhtd->bhst", q, keys(k)) / 4)
    return summed(of_heads(weights @ keys(v), w["o"]))


def own_keys(y):
    return lax.dynamic_slice_in_dim(y, lax.axis_index("model") // 4, 1, 1)


APART = (P(), P(None, "model")), P(None, "model")
ATTENTION = {**dict.fromkeys("qkv", (64, 128)), "o": (128, 64), "gate": (64, 128)}
HEADS = {**dict.fromkeys(("q", "k", "v", "gate"), P(None, "model")), "o": P("model")}


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
    "rows of a fused kernel": (
        MLP,
        fused,
        over_all(fused),
        ({"up": P("model"), "down": P()}, P(None, None, "model")),
        P(),
    ),
    "activations by index": (
        MLP,
        mlp,
        sliced_by_index,
        ({**COLUMNS_AND_ROWS, "up": P()}, P()),
        P(),
    ),
    "kernels by index": (MLP, mlp, all_sliced_by_index, (P(), P()), P()),
    "columns by index": (MLP, mlp, columns_by_index, (P(), P()), P()),
    "an expert by index": (
        {name: (8, *shape) for name, shape in MLP.items()},
        experts,
        expert_by_index,
        (P(), P("model")),
        P("model"),
    ),
    "keys that devices share": (
        {"q": (64, 128), "k": (64, 32), "v": (64, 32), "o": (128, 64)},
        shared_keys,
        lambda w, x: shared_keys(w, x, own_keys, lambda y: lax.psum(y, "model")),
        ({"q": P(None, "model"), "k": P(), "v": P(), "o": P("model")}, P()),
        P(),
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


def forecasts(name, mesh, inputs=X):
    """Return the forecasts of a model on one device and on a mesh."""
    shapes, one, body, in_specs, out_specs = MODELS[name]
    many = on_mesh(body, in_specs, out_specs, mesh, check_vma="rules" not in name)
    models = ((draws(shapes), apply) for apply in (one, many))
    return [flaxinit.forecast(model, inputs, backward=True) for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_over_devices_is_that_of_one_device(name):
    inputs = np.swapaxes(np.tile(X, (2, 1, 1)), 0, 1) if "expert" in name else X
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
    # Of these numbers all sums are exact, in any order, and so are the factors: ``up`` makes ±8,
    # and ``down`` whole numbers of which the largest, by which all are divided, is 64.
    rng = np.random.default_rng(0)
    up, down = rng.permuted(np.tile([1, -1], (64, 64)), axis=1), rng.choice([1, -1], (128, 64))
    down[:, 0] = 1
    arrays = {"up": up, "down": down, "x": 8 * np.eye(16, 64)}
    arrays = {name: array.astype("float32") for name, array in arrays.items()}
    placed = {n: jax.device_put(a, NamedSharding(mesh, specs[n])) for n, a in arrays.items()}
    many = on_mesh(over_all(mlp), (COLUMNS_AND_ROWS, P()), P(), mesh)
    expected = flaxinit.calibrate(mlp, arrays, arrays.pop("x"))
    found = flaxinit.calibrate(many, placed, placed.pop("x"))
    for name, w in found.items():
        assert w.sharding.is_equivalent_to(placed[name].sharding, 2)
        np.testing.assert_array_equal(w, expected[name])
        assert not np.array_equal(w, placed[name])


@pytest.mark.parametrize("handed_on", [False, True])
def test_devices_may_each_have_layers(handed_on):
    """Data may pass on to the next device's layer: each step of the loop reads another one."""
    shapes = {"w": (2, 8, 64, 64)}

    def one(w, x):
        step = lambda x, w: (jnp.einsum("nbd,nde->nbe", x, w), None)
        return lax.scan(step, x, w["w"])[0]

    def many(w, x):
        def step(x, w):
            return lax.ppermute(x @ w, "model", NEXT) if handed_on else x @ w, None

        return lax.scan(step, x[0], w["w"][:, 0])[0][None]

    inputs = np.random.default_rng(0).standard_normal((8, 4, 64)).astype("float32")
    apart = on_mesh(many, (P(None, "model"), P("model")), P("model"), EIGHT)
    reports = [flaxinit.forecast((draws(shapes), f), inputs) for f in (one, apart)]
    for expected, found in zip(*(report.layers for report in reports), strict=True):
        assert (found.path, found.fan_in) == (expected.path, 64)
        # Data that pass on meet another draw: both are means over 4096 particles at 32 places.
        chance = z_score(2) * math.sqrt(2 * 2 / (4096 * 32))
        error = chance if handed_on else 1e-6
        assert found.signal_out == pytest.approx(expected.signal_out, rel=error)


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


ONLINE = {
    "one device": attention_online,
    "a ring": on_mesh(
        lambda w, x: attention_online(w, x, 8, in_a_ring), *APART, EIGHT, check_vma=False
    ),
}


@pytest.mark.parametrize("where", ONLINE)
def test_what_attention_makes_keeps_the_level_of_its_values(where):
    """The sum of its weights, by which it is divided at the end, is no norm."""
    shapes = {"qkv": (64, 192), "o": (64, 64)}
    expected, found, normed = (
        flaxinit.forecast((draws(shapes), f), X)
        for f in (attention_by_softmax, ONLINE[where], attention_normed)
    )
    assert seen(found) == approximately(expected)
    values, output = expected.layers
    wanted = output.sigma_w2 * values.signal_out / output.signal_out
    assert output.sigma_w2_wanted == pytest.approx(wanted, rel=1e-9)
    assert normed.layers[1].sigma_w2_wanted == pytest.approx(1, rel=1e-9)


def test_a_factor_of_each_device_leaves_rows_where_they_are():
    many = on_mesh(scaled_by_device, (COLUMNS_AND_ROWS, P()), P(), EIGHT)
    reports = [flaxinit.forecast((draws(MLP), f), X, backward=True) for f in (scaled, many)]
    names = "fan_in", "signal_in", "signal_out", "positions", "samples", "gradient_parameter"
    for expected, found in zip(*(report.layers for report in reports), strict=True):
        wanted = [pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-9) for name in names]
        assert [getattr(found, name) for name in names] == wanted
