"""Structured initializers on a mesh: laid out as asked, with the values that one device makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from test_materialize_values import assert_same_bits

import flaxinit

KEY = jax.random.key(8)
SIZE = 1024

ELEMENTWISE = {
    "sparse": (flaxinit.sparse(0.75), (64, 48)),
    "identity": (flaxinit.identity(), (64, 48)),
    "chrono": (flaxinit.chrono(100), (64,)),
    "forget_bias": (flaxinit.forget_bias(), (64,)),
    "lru_nu": (flaxinit.lru_nu(), (64,)),
    "lru_theta": (flaxinit.lru_theta(), (64,)),
    "s4d_lin": (flaxinit.s4d_lin(), (64, 8)),
    "s4d_inv": (flaxinit.s4d_inv(), (64, 8)),
    "lora a": (flaxinit.lora().a, (64, 8)),
    "lora b": (flaxinit.lora().b, (8, 64)),
    "siren": (flaxinit.siren(30.0), (64, 48)),
    "stft": (flaxinit.stft(), (16, 1, 24)),
}
PRODUCTS = {
    "orthogonal": (flaxinit.orthogonal(), (64, 48)),
    "orthogonal of experts": (flaxinit.orthogonal(batch_axis=0), (8, 16, 24)),
    "semi_orthogonal": (flaxinit.semi_orthogonal(), (48, 64)),
    "gated_orthogonal": (flaxinit.gated_orthogonal(4), (16, 64)),
    "delta_orthogonal": (flaxinit.delta_orthogonal(), (3, 3, 16, 24)),
}


def draw(table, key):
    keys = jax.random.split(key, len(table))
    return {
        name: initializer(k, shape)
        for k, (name, (initializer, shape)) in zip(keys, table.items(), strict=True)
    }


def elementwise(key):
    return draw(ELEMENTWISE, key)


def products(key):
    return draw(PRODUCTS, key) | {"mimetic": flaxinit.mimetic()(key, features=16, heads=2)}


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("model",))


@pytest.fixture(scope="module")
def over_last(mesh):
    """Spread the last dimension that divides over the mesh."""

    def rule(path, x):
        divides = [i for i, n in enumerate(x.shape) if n % 8 == 0]
        return NamedSharding(mesh, P(*[None] * divides[-1], "model"))

    return rule


def assert_spread(made):
    for path, x in jax.tree_util.tree_leaves_with_path(made):
        assert "model" in x.sharding.spec, path
        assert {shard.data.size for shard in x.addressable_shards} == {x.size // 8}, path


def test_elementwise_values_are_those_of_one_device(over_last):
    made = flaxinit.fast_init(elementwise, over_last)(KEY)
    assert_spread(made)
    assert_same_bits(made, elementwise(KEY))


@pytest.mark.slow
def test_products_are_those_of_one_device_to_rounding(over_last, kept_by_case):
    """Their entries are below 1; a product of reflections errs by a few eps for each of 64."""
    with kept_by_case():
        made = flaxinit.fast_init(products, over_last)(KEY)
    assert_spread(made)
    eps = float(jnp.finfo(np.float32).eps)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=64 * eps), made, products(KEY)
    )


@pytest.mark.parametrize("spec", [P("model"), P(None, "model")], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["orthogonal", "gated_orthogonal", "sparse", "identity"])
def test_a_share_of_a_large_kernel_is_held(name, spec, mesh, kept_by_case):
    """In units of the kernel: a whole one would be at least 1, or 2 with its temporaries."""
    initializer, _ = (PRODUCTS | ELEMENTWISE)[name]
    reports = []
    draw = flaxinit.fast_init(
        lambda key: initializer(key, (SIZE, SIZE)),
        NamedSharding(mesh, spec),
        report=reports.append,
    )
    with kept_by_case():
        whole = draw(KEY)
    assert reports[0].peak_bytes_per_device < whole.nbytes
