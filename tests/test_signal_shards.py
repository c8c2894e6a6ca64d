"""What devices compute together is one program: the same numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P
from shards_models import AUTO, X, index, of_part, on_mesh, own_part, x

from flaxinit.signal.shards.unsharded import unsharded
from flaxinit.versions.compat import enable_x64
from flaxinit.versions.jaxpr import equations


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


ROWS = np.array([[0, 3, 23], [7, 7, 12]], "int32")
CHOSEN = np.array([1, 3, 0, 1])
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
    "sums of what parts of sums became": (
        lambda x, w: [
            lax.psum(part, "model")
            for y in (x @ w, jnp.cumsum(w, 1))
            for part in (
                *jnp.split(y, 3, 1),
                jnp.pad(y, ((0, 1), (2, 0)), constant_values=0.5),
                jnp.concatenate([y, x[:, :1], 2 * y], 1),
                jnp.where(x[:, :1] * lax.psum(x[:1, :1], "model") > 0, y, 1),
                jnp.where(CHOSEN[:, None] > 0, y, -y),
                lax.dynamic_slice_in_dim(y, CHOSEN[0], 2),
                lax.dynamic_update_slice_in_dim(y, x[:, :1], CHOSEN[0], 1),
                y[:, CHOSEN],
            )
        ],
        (P(None, "model"), P("model")),
        P(),
        (x(4, 16), x(16, 6)),
    ),
    "maxima of what parts became": (
        lambda x: lax.pmax(
            lax.stop_gradient(jnp.pad(jnp.concatenate([x.max(1), x.max(1)]), 1)), "model"
        ),
        P(None, "model"),
        P(),
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
    "parts by index along two axes": (
        lambda x, w: (
            own_part(x, 0),
            own_part(x, 1),
            lax.dynamic_slice_in_dim(w, lax.axis_index(("data", "model")) * 2, 2),
            lax.dynamic_slice_in_dim(w, lax.axis_index(("model", "data")) * 2, 2),
            lax.dynamic_slice_in_dim(w, lax.axis_index("model") * 2, 2),
            w[lax.axis_index("model")] * jnp.ones(1),
        ),
        (P("data"), P()),
        (
            P(("data", "model")),
            BOTH,
            P(("data", "model")),
            P(("data", "model")),
            P("model"),
            P(("data", "model")),
        ),
        (x(8, 4), x(16)),
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
