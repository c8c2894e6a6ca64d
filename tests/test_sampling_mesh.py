"""The same key gives the same values on any mesh, and each device draws its own shard."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flaxinit
from flaxinit.initializers import haar

KEY = jax.random.key(5)
SHAPE = (64, 32)
ELEMENTWISE = {
    "truncated_normal": flaxinit.he("gelu"),
    "normal": flaxinit.normal(0.1),
    "uniform": flaxinit.uniform(0.1, minval=-0.1),
    "bfloat16": flaxinit.he_uniform(dtype=jnp.bfloat16),
    "complex": flaxinit.he(dtype=jnp.complex64),
    "constant": flaxinit.constant(np.arange(32.0)),
    "ones": flaxinit.ones,
    "ring": flaxinit.lru_nu(0.9, 0.999),
    "diagonal": flaxinit.s4d_inv(),
    "line": flaxinit.s4d_lin(),
    "phase": flaxinit.lru_theta(),
    "sine": flaxinit.siren(),
}
PRODUCTS = {
    "orthogonal": flaxinit.orthogonal(),
    "wide": flaxinit.orthogonal(column_axis=0),
    "bfloat16": flaxinit.orthogonal(dtype=jnp.bfloat16),
    "batched": flaxinit.orthogonal(batch_axis=0),
    "identity": flaxinit.identity(),
    "gated": flaxinit.gated_orthogonal(2),
    "sparse": flaxinit.sparse(0.5),
    "semi_orthogonal": flaxinit.semi_orthogonal(),
    "delta_orthogonal": flaxinit.delta_orthogonal(),
}


def layouts(ndim):
    auto, explicit = AxisType.Auto, AxisType.Explicit
    for axis_type, sizes, spec in (
        (auto, (4, 2), ("x", "y")),
        (auto, (8, 1), (("x", "y"),)),
        (explicit, (4, 2), ("x", "y")),
        (explicit, (2, 4), (None, "y")),
    ):
        mesh = jax.make_mesh(sizes, ("x", "y"), axis_types=(axis_type,) * 2)
        padding = (None,) * (ndim - 2)
        yield NamedSharding(mesh, PartitionSpec(*padding, *spec))


def as_float(array):
    return np.asarray(array).astype(np.complex64)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_draws_are_the_same_bits_on_any_mesh(name):
    init = ELEMENTWISE[name]
    alone = init(KEY, SHAPE)
    for sharding in layouts(2):
        spread = init(KEY, SHAPE, out_sharding=sharding)
        assert spread.sharding.is_equivalent_to(sharding, 2)
        np.testing.assert_array_equal(spread, alone)
        with jax.set_mesh(sharding.mesh):
            by_spec = jax.jit(lambda key, s=sharding: init(key, SHAPE, None, s.spec))(KEY)
            assert by_spec.sharding.is_equivalent_to(sharding, 2)
            np.testing.assert_array_equal(by_spec, alone)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_agree_to_rounding_on_any_mesh(name):
    init = PRODUCTS[name]
    shape = {"batched": (4, 64, 32), "delta_orthogonal": (3, 64, 32)}.get(name, SHAPE)
    alone = init(KEY, shape)
    # A reduction may be split differently: an entry, at most 1, moves by rounding alone.
    eps = float(jnp.finfo(alone.dtype).eps)
    for sharding in layouts(len(shape)):
        spread = init(KEY, shape, out_sharding=sharding)
        assert spread.sharding.is_equivalent_to(sharding, len(shape))
        error = np.abs(as_float(spread) - as_float(alone)).max()
        assert error <= 8 * np.sqrt(max(shape)) * eps


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", [(40, 48), (56, 40), (33, 48)])
def test_blocks_of_reflections_are_the_same_on_any_mesh(shape, dtype, monkeypatch):
    """More units than are multiplied at once, a ragged last one, rows that no mesh divides."""
    monkeypatch.setattr(haar, "BLOCK", 2)
    jax.clear_caches()
    alone = flaxinit.orthogonal()(KEY, shape, dtype)
    spec = PartitionSpec(None, "x") if shape[1] == 48 else PartitionSpec("x")
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    spread = flaxinit.orthogonal()(KEY, shape, dtype, NamedSharding(mesh, spec))
    eps = float(jnp.finfo(alone.dtype).eps)
    assert np.abs(np.asarray(spread) - np.asarray(alone)).max() <= 8 * np.sqrt(max(shape)) * eps
    jax.clear_caches()


@pytest.mark.parametrize("name", ["truncated_normal", "normal", "uniform", "bfloat16"])
def test_each_device_draws_its_own_shard(name):
    sharding = next(layouts(2))
    with jax.set_mesh(sharding.mesh):
        draw = jax.jit(lambda key: ELEMENTWISE[name](key, (512, 256), out_sharding=sharding))
        program = draw.lower(KEY).compile().as_text()
    assert not re.search(r"all-(gather|reduce|to-all)|collective-permute", program)
    assert "[512,256]" not in program and "[128,128]" in program


def test_a_sharded_orthogonal_matrix_is_never_gathered():
    sharding = next(layouts(2))
    init = jax.jit(lambda key: flaxinit.orthogonal()(key, (1024, 1024), None, sharding))
    program = init.lower(KEY).compile().as_text()
    assert "all-gather" not in program
    assert "f32[1024,1024]" not in program


def test_the_search_for_gathers_can_fail():
    sharding = next(layouts(2))

    def gathered(key):
        values = flaxinit.normal()(key, (512, 256), out_sharding=sharding)
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        return jax.lax.with_sharding_constraint(values, whole)

    assert "all-gather" in jax.jit(gathered).lower(KEY).compile().as_text()
