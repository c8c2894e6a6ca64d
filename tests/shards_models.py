"""Models as one device runs them, and as the devices of a mesh do together."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec as P

import flaxinit

AUTO = (AxisType.Auto,)
MESH = jax.make_mesh((2, 4), ("data", "model"), AUTO * 2)
EIGHT_DEVICES = jax.make_mesh((8,), ("model",), AUTO)
EIGHT = AbstractMesh((8,), ("model",), AUTO)


def x(*shape):
    return np.random.default_rng(math.prod(shape)).standard_normal(shape)


def on_mesh(body, in_specs, out_specs, mesh=MESH, **options):
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **options)


def index(axis):
    return lax.axis_index(axis).astype(float)


def own_part(x, axis, ahead=0):
    """Return a device's part of what all have, or that of a device ahead of it."""
    count = lax.axis_size("model")
    here, size = (lax.axis_index("model") + ahead) % count, x.shape[axis] // count
    return lax.dynamic_slice_in_dim(x, here * size, size, axis)


def of_part(table, i, axes):
    """Return the rows at these indices that are in a device's part of a table; 0 for others."""
    here = i - lax.axis_index(axes) * len(table)
    rows = table[jnp.clip(here, 0, len(table) - 1)]
    return jnp.where(((here >= 0) & (here < len(table)))[..., None], rows, 0)


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


def over_all(model):
    return lambda w, x: model(w, x, lambda y: lax.psum(y, "model"))


MLP = {"up": (64, 128), "down": (128, 64)}
COLUMNS_AND_ROWS = {"up": P(None, "model"), "down": P("model")}
X = x(4, 8, 64).astype("float32")


def scattered(x):
    return lax.psum_scatter(x, "model", scatter_dimension=1, tiled=True)


def seen(report):
    """Return what a report says of each kernel, without what it draws."""
    return [{k: v for k, v in vars(row).items() if k != "curve"} for row in report.layers]


def approximately(report):
    """Return what a report says, up to the rounding of sums in another order."""

    def near(value):
        return pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value

    return [{k: near(v) for k, v in row.items()} for row in seen(report)]
