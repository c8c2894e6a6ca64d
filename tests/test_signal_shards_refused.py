"""What of the programs of devices is refused, by name."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, PartitionSpec as P
from shards_models import (
    AUTO,
    COLUMNS_AND_ROWS,
    EIGHT,
    MLP,
    X,
    draws,
    mlp,
    on_mesh,
    own_part,
    scattered,
)

import flaxinit

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
    "ragged_dot_general that each device applies": lambda x: lax.ragged_dot(
        x[:, 0], jnp.ones((3, 64, 64)), jnp.array([1, 1, 0])
    )[:, None],
    "ragged_all_to_all": lambda x: lax.ragged_all_to_all(
        x, x, *(jnp.ones(2, int) for _ in range(4)), axis_name="data"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_collective_without_a_form_is_named(what):
    def apply(w, x):
        return on_mesh(REFUSED[what], P("data"), P("data"), check_vma=False)(mlp(w, x))

    with pytest.raises(ValueError, match=what):
        flaxinit.forecast((draws(MLP), apply), X)


def rotated_by_index(w, x):
    """Give each device the columns of the one, and the rows of the other, next to its own."""
    hidden = jax.nn.relu(x @ own_part(w["up"], 1, 1))
    return lax.psum(hidden @ own_part(w["down"], 0, 1), "model")


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
    "other kernels by index": (rotated_by_index, P()),
    "columns that several devices take": (
        lambda w, x: x @ lax.dynamic_slice_in_dim(w["up"], lax.axis_index("model") // 2, 1, 1),
        P(),
    ),
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
ONE_ROW = ("other kernels by index", "a gathered sum", "a sum after a rule")


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


STAGES = 8
TO_NEXT = [(n, (n + 1) % STAGES) for n in range(STAGES)]


def stage(w, x):
    return jax.nn.relu(x @ w)


def filled(w, x):
    """Run a pipeline over rows of data: they enter at the first device and leave at the last."""
    w, here, count = w["w"][0], lax.axis_index("model"), len(x)

    def tick(carry, n):
        state, results = carry
        state = stage(w, jnp.where(here == 0, x[jnp.minimum(n, count - 1)], state))
        slot = n - (STAGES - 1)
        new = results.at[jnp.maximum(slot, 0)].set(state)
        results = jnp.where((here == STAGES - 1) & (slot >= 0), new, results)
        return (lax.ppermute(state, "model", TO_NEXT), results), None

    start = jnp.zeros_like(x[0]), jnp.zeros_like(x)
    (_, results), _ = lax.scan(tick, start, jnp.arange(count + STAGES - 1))
    return lax.psum(jnp.where(here == STAGES - 1, results, 0), "model")


def streamed(w, x):
    """Run a pipeline whose results are those of all ticks, without the first."""
    later = jnp.zeros((STAGES - 1, *x.shape[1:]), x.dtype)

    def tick(state, row):
        made = stage(w["w"][0], jnp.where(lax.axis_index("model") == 0, row, state))
        return lax.ppermute(made, "model", TO_NEXT), made

    _, made = lax.scan(tick, jnp.zeros_like(x[0]), jnp.concatenate([x, later]))
    return lax.all_gather(made[STAGES - 1 :], "model")[-1]


def unrolled(w, x):
    """Run a pipeline whose stages have two layers each."""
    state, made = jnp.zeros_like(x[0]), []
    for n in range(len(x) + STAGES - 1):
        state = jnp.where(lax.axis_index("model") == 0, x[min(n, len(x) - 1)], state)
        state, _ = lax.scan(lambda x, w: (stage(w, x), None), state, w["w"])
        made.append(state)
        state = lax.ppermute(state, "model", TO_NEXT[:-1])
    return lax.all_gather(jnp.stack(made[STAGES - 1 :]), "model")[-1]


def nested(w, x):
    """Run such a pipeline in a loop over its ticks."""
    later = jnp.zeros((STAGES - 1, *x.shape[1:]), x.dtype)

    def tick(state, row):
        made = jnp.where(lax.axis_index("model") == 0, row, state)
        made, _ = lax.scan(lambda x, w: (stage(w, x), None), made, w["w"])
        return lax.ppermute(made, "model", TO_NEXT), made

    _, made = lax.scan(tick, jnp.zeros_like(x[0]), jnp.concatenate([x, later]))
    return lax.all_gather(made[STAGES - 1 :], "model")[-1]


@pytest.mark.parametrize("pipeline", [filled, streamed, unrolled, nested])
def test_a_pipeline_is_refused_because_of_its_idle_stages(pipeline):
    shapes = {"w": (2 * STAGES if pipeline in (unrolled, nested) else STAGES, 64, 64)}
    many = on_mesh(pipeline, ({"w": P("model")}, P()), P(), EIGHT, check_vma=False)
    with pytest.raises(ValueError, match=r"a pipeline over 'model'.*one after the other"):
        flaxinit.forecast((draws(shapes), many), X)


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


def test_a_grouped_convolution_of_split_channels_is_named():
    def body(w, x):
        return lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"), feature_group_count=8
        )

    channels = P(None, None, "model")
    apply = on_mesh(body, (channels, channels), channels, EIGHT)
    with pytest.raises(ValueError, match="a grouped convolution"):
        flaxinit.forecast((lambda key, x: flaxinit.lecun()(key, (3, 1, 64)), apply), X)
