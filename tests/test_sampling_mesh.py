"""The same key gives the same values on any mesh, and each device draws its own shard."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import flaxinit
from benchmarks.bounds import ROUNDING
from flaxinit.initializers import haar
from flaxinit.initializers.attention import AttentionKernels
from flaxinit.versions.compat import enable_x64

KEY = jax.random.key(5)
SHAPE = (64, 16)  # laid out in wide parts and in narrow ones, which compilers treat apart
ELEMENTWISE = {
    "truncated_normal": flaxinit.he("gelu"),
    "normal": flaxinit.normal(0.1),
    "uniform": flaxinit.uniform(0.1, minval=-0.1),
    "bfloat16": flaxinit.he_uniform(dtype=jnp.bfloat16),
    "complex": flaxinit.he(dtype=jnp.complex64),
    "constant": flaxinit.constant(np.arange(16.0)),
    "ones": flaxinit.ones,
    "ring": flaxinit.lru_nu(0.9, 0.999),
    "diagonal": flaxinit.s4d_inv(),
    "line": flaxinit.s4d_lin(),
    "phase": flaxinit.lru_theta(),
    "sine": flaxinit.siren(),
    "chrono": flaxinit.chrono(100),
    "forget": flaxinit.forget_bias(),
    "identity": flaxinit.identity(),
    "sparse": flaxinit.sparse(0.5),
}
# Their logarithm or erf_inv rounds by the shape of the part on a device.
TRANSCENDENTAL = ("truncated_normal", "normal", "complex", "ring", "phase", "chrono", "sparse")
PRODUCTS = {
    "orthogonal": flaxinit.orthogonal(),
    "wide": flaxinit.orthogonal(column_axis=0),
    "bfloat16": flaxinit.orthogonal(dtype=jnp.bfloat16),
    "batched": flaxinit.orthogonal(batch_axis=0),
    "experts": flaxinit.orthogonal(column_axis=1, batch_axis=(0, -1)),
    "gated": flaxinit.gated_orthogonal(4),
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
def test_elementwise_draws_are_the_same_on_any_mesh(name):
    init = ELEMENTWISE[name]
    alone = as_float(init(KEY, SHAPE))
    units = ROUNDING if name in TRANSCENDENTAL else 0
    bound = units * np.finfo(np.float32).eps * np.abs(alone).max()
    for sharding in layouts(2):
        spread = init(KEY, SHAPE, out_sharding=sharding)
        assert spread.sharding.is_equivalent_to(sharding, 2)
        assert np.abs(as_float(spread) - alone).max() <= bound
        with jax.set_mesh(sharding.mesh):
            by_spec = jax.jit(lambda key, s=sharding: init(key, SHAPE, None, s.spec))(KEY)
            assert by_spec.sharding.is_equivalent_to(sharding, 2)
            assert np.abs(as_float(by_spec) - alone).max() <= bound


@pytest.mark.slow
@pytest.mark.parametrize("layout", range(4))
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_agree_to_rounding_on_any_mesh(name, layout, kept_by_case):
    init = PRODUCTS[name]
    shape = {
        "batched": (4, 64, 32),
        "experts": (8, 8, 16, 8),
        "delta_orthogonal": (3, 64, 32),
    }.get(name, (64, 32))
    sharding = list(layouts(len(shape)))[layout]
    alone = init(KEY, shape)
    with kept_by_case():
        spread = init(KEY, shape, out_sharding=sharding)
    assert spread.sharding.is_equivalent_to(sharding, len(shape))
    # A reduction may be split differently: an entry, at most 1, moves by rounding alone.
    eps = float(jnp.finfo(alone.dtype).eps)
    error = np.abs(as_float(spread) - as_float(alone)).max()
    assert error <= 8 * np.sqrt(max(shape)) * eps


@pytest.mark.parametrize("sizes", [(3, 2), (2, 3), (6, 1)])
@pytest.mark.parametrize(
    "spec", [("x", "y"), ("y", "x"), (("y", "x"),), (None, ("x", "y")), ("y",)]
)
def test_products_agree_where_the_sizes_of_a_mesh_differ(sizes, spec, kept_by_case):
    devices = np.array(jax.devices()[:6]).reshape(sizes)
    mesh = Mesh(devices, ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    init, shape = flaxinit.gated_orthogonal(3), (30, 36)
    with kept_by_case():
        spread = init(KEY, shape, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    np.testing.assert_allclose(spread, init(KEY, shape), atol=1e-5)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks make a small matrix; what is traced meanwhile is forgotten."""
    monkeypatch.setattr(haar, "BLOCK", 8)
    monkeypatch.setattr(haar, "MOST_BLOCKS", 3)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", [(40, 48), (56, 40), (33, 48)])
def test_blocks_of_reflections_are_the_same_on_any_mesh(shape, dtype, small_blocks, kept_by_case):
    """More units than are multiplied at once, a ragged last one, rows that no mesh divides."""
    alone = flaxinit.orthogonal()(KEY, shape, dtype)
    spec = PartitionSpec(None, "x") if shape[1] == 48 else PartitionSpec("x")
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    with kept_by_case():
        spread = flaxinit.orthogonal()(KEY, shape, dtype, NamedSharding(mesh, spec))
    eps = float(jnp.finfo(alone.dtype).eps)
    assert np.abs(np.asarray(spread) - np.asarray(alone)).max() <= 8 * np.sqrt(max(shape)) * eps


def program(init, shape, *spec):
    """Return what each of eight devices runs, and the size of the largest array in it."""
    sharding = NamedSharding(next(layouts(2)).mesh, PartitionSpec(*spec))
    draw = jax.jit(lambda key: init(key, shape, out_sharding=sharding))
    return read(compiled(draw))


def compiled(draw, key=KEY):
    """Compile a program in order to read it: LLVM's optimizations come after what is read."""
    return draw.lower(key).compile({"xla_backend_optimization_level": 0})


def read(program):
    """Return the text of a compiled program, and the size of the largest array in it."""
    text = program.as_text()
    sizes = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", text)
    return text, max(math.prod(map(int, size.split(","))) for size in sizes)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if n != "sparse"])
def test_each_device_draws_its_own_shard(name):
    init = ELEMENTWISE[name]
    shape = (512, 16) if name == "constant" else (512, 256)
    text, largest = program(init, shape, "x", "y")
    assert not re.search(r"all-(gather|reduce|to-all)|collective-permute", text)
    assert largest == math.prod(shape) // 8


# Devices share the work in a different way than they hold the result. They exchange parts of it and
# never gather it. The shapes are so large that a block of reflections is the smaller part.
EXCHANGED = {
    "orthogonal": (flaxinit.orthogonal(), (1024, 1024), "x", "y"),
    "ragged": (flaxinit.orthogonal(), (1036, 1024), "x", "y"),
    "batched": (flaxinit.orthogonal(batch_axis=0), (6, 512, 256), None, "x", "y"),
    "experts": (flaxinit.orthogonal(batch_axis=0), (8, 512, 256), ("x", "y")),
    "gated": (flaxinit.gated_orthogonal(4), (512, 2048), "x", "y"),
    "delta_orthogonal": (flaxinit.delta_orthogonal(), (3, 1024, 1024), None, "x", "y"),
    "sparse": (flaxinit.sparse(0.5), (512, 256), "x", "y"),
}


def is_exchanged(program, shape):
    text, largest = read(program)
    gathered = re.search(r"all-(gather|reduce)", text)
    # An eighth of the rows, and more if the mesh does not divide them.
    return not gathered and largest <= math.prod(shape) // 7


@pytest.mark.slow
@pytest.mark.parametrize("who_knows", ["draw", "mesh", "jit"])
@pytest.mark.parametrize("name", EXCHANGED)
def test_structured_draws_are_never_gathered(name, who_knows, kept_by_case):
    """The draw knows its layout, or its part of a mesh that is set, or only jit around it does."""
    init, shape, *spec = EXCHANGED[name]
    mesh, spec = next(layouts(2)).mesh, PartitionSpec(*spec)
    sharding = NamedSharding(mesh, spec)
    if who_knows == "draw":
        told = jax.jit(lambda key: init(key, shape, out_sharding=sharding))
        with kept_by_case():
            assert is_exchanged(compiled(told), shape)
    elif who_knows == "mesh":
        by_spec = jax.jit(lambda key: init(key, shape, out_sharding=spec))
        with kept_by_case(), jax.set_mesh(mesh):
            assert is_exchanged(compiled(by_spec), shape)
    else:
        whole = jax.jit(lambda key: init(key, shape), out_shardings=sharding).lower(KEY)
        with kept_by_case():
            whole = whole.compile()
        assert is_exchanged(whole, shape)
        np.testing.assert_allclose(whole(KEY), init(KEY, shape), atol=1e-5)


@pytest.mark.parametrize("set_mesh", [False, True])
@pytest.mark.parametrize("spec", [(None, "y"), (None, "x"), ("x",), ("y", "x"), (("y", "x"),)])
def test_a_layout_over_some_axes_is_not_gathered_either(spec, set_mesh, kept_by_case):
    mesh, spec = next(layouts(2)).mesh, PartitionSpec(*spec)
    shape, init = (512, 512), flaxinit.orthogonal()
    with kept_by_case():
        if set_mesh:
            with jax.set_mesh(mesh):
                program = compiled(jax.jit(lambda key: init(key, shape, out_sharding=spec)))
        else:
            sharding = NamedSharding(mesh, spec)
            program = compiled(jax.jit(lambda key: init(key, shape), out_shardings=sharding))
    assert not re.search(r"all-(gather|reduce)", program.as_text())


def test_a_layout_in_unequal_parts_is_refused():
    for sharding in layouts(2):
        with pytest.raises(
            ValueError, match=r"dimension 1 of \(8, 6\) has size 6, which the \d parts"
        ):
            flaxinit.he()(
                KEY, (8, 6), None, NamedSharding(sharding.mesh, PartitionSpec(None, ("x", "y")))
            )
        heads, out = (
            NamedSharding(sharding.mesh, PartitionSpec(*spec)) for spec in ((), (None, ("x", "y")))
        )
        with pytest.raises(ValueError, match=r"dimension 1 of \(4, 3, 12\) has size 3, which"):
            flaxinit.mimetic()(KEY, 12, 4, out_sharding=(heads, heads, heads, out))


def test_matrices_stay_with_their_keys():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    keys = jax.device_put(jax.random.split(KEY, 8), NamedSharding(mesh, PartitionSpec("x")))
    stacked = compiled(jax.jit(jax.vmap(lambda key: flaxinit.orthogonal()(key, (16, 24)))), keys)
    assert stacked(keys).sharding.spec[0] == "x"
    text, largest = read(stacked)
    assert not re.search(r"all-|collective", text) and largest < 16 * 24 * 8
    for key, matrix in zip(keys, stacked(keys), strict=True):
        alone = flaxinit.orthogonal()(jax.device_get(key), (16, 24))
        np.testing.assert_allclose(matrix, alone, atol=1e-6)


@pytest.mark.parametrize("axes", [{"x"}, {"x", "y"}])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_inside_shard_map_each_device_draws_the_whole(axis_type, axes):
    keys = jax.random.split(KEY, 4)
    alone = [flaxinit.orthogonal()(key, (16, 24)) for key in keys]
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    keys = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("x")))
    with jax.set_mesh(mesh):
        draw = jax.shard_map(
            lambda keys: flaxinit.orthogonal()(keys[0], (16, 24))[None],
            in_specs=PartitionSpec("x"),
            out_specs=PartitionSpec("x"),
            axis_names=axes,
        )
        np.testing.assert_allclose(jax.jit(draw)(keys), alone, atol=1e-6)


def test_a_mesh_promotes_no_ranks():
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    with jax.numpy_rank_promotion("raise"):
        spread = flaxinit.orthogonal()(KEY, (24, 40), out_sharding=sharding)
    np.testing.assert_allclose(spread, flaxinit.orthogonal()(KEY, (24, 40)), atol=1e-5)


@pytest.mark.parametrize("spec", [(), ("x",)])
@pytest.mark.parametrize("dtype", ["float32", None])
@pytest.mark.parametrize("setting", ["jax_enable_x64", "jax_threefry_partitionable"])
def test_a_callers_settings_hold_on_a_mesh(setting, dtype, spec, kept_by_case):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    x64 = setting == "jax_enable_x64"
    usual = np.asarray(flaxinit.orthogonal()(KEY, (16, 24)))
    with enable_x64(True) if x64 else jax.threefry_partitionable(False):
        alone = np.asarray(flaxinit.orthogonal(dtype=dtype)(KEY, (16, 24)))
        with kept_by_case():
            spread = flaxinit.orthogonal(dtype=dtype)(KEY, (16, 24), out_sharding=sharding)
        np.testing.assert_allclose(spread, alone, atol=16 * 24 * np.finfo(alone.dtype).eps)
    assert alone.dtype == (np.float64 if x64 and dtype is None else np.float32)
    if alone.dtype == usual.dtype:  # the older way to count makes other numbers
        assert (np.abs(alone - usual).max() < 1e-5) == x64


def test_settings_of_the_process_hold_on_a_mesh():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    usual = np.asarray(flaxinit.orthogonal()(KEY, (16, 24)))
    try:
        jax.config.update("jax_enable_x64", True)
        spread = flaxinit.orthogonal(dtype="float32")(KEY, (16, 24), out_sharding=sharding)
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_allclose(spread, usual, atol=1e-5)


@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_key_is_the_same_on_a_mesh(legacy, impl, batch, small_blocks, kept_by_case):
    make = jax.random.PRNGKey if legacy else jax.random.key
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(*(None for _ in batch), "x"))
    shape, init = (*batch, 32, 32), flaxinit.orthogonal(batch_axis=0 if batch else ())
    with jax.default_prng_impl(impl):
        key = make(5)
        alone = init(key, shape)
        with kept_by_case():
            spread = init(key, shape, out_sharding=sharding)
    np.testing.assert_allclose(spread, alone, atol=1e-5)
    if impl == "threefry2x32":  # JAX's rbg cannot be mapped over no key
        assert jax.vmap(lambda key: init(key, shape))(key[None][:0]).shape == (0, *shape)


one_sharding = pytest.mark.skipif(
    jax.__version_info__ < (0, 8), reason="auto_axes of JAX 0.7 takes one sharding, not several"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "axis_type", [AxisType.Auto, pytest.param(AxisType.Explicit, marks=one_sharding)]
)
def test_heads_are_factorized_where_they_will_be(axis_type, kept_by_case):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    inner, out = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((None, "x"), ("x",)))
    shardings = AttentionKernels(inner, inner, inner, out)
    alone = flaxinit.mimetic()(KEY, 64, 8)
    with kept_by_case():
        spread = flaxinit.mimetic()(KEY, 64, 8, out_sharding=shardings)
    for kernel, whole, sharding in zip(spread, alone, shardings, strict=True):
        assert kernel.sharding.is_equivalent_to(sharding, 3)
        # Factors of products of size about 1: rounding moves them by the gaps of singular values.
        np.testing.assert_allclose(kernel, whole, atol=1e-4)
    with jax.set_mesh(mesh):
        draw = jax.jit(lambda key: flaxinit.mimetic()(key, 64, 8, out_sharding=shardings))
        text, _ = read(compiled(draw))
    assert "all-gather" not in text and "[8,64,64]" not in text


def test_the_search_for_gathers_can_fail():
    def gathered(key, shape, out_sharding):
        values = flaxinit.normal()(key, shape, out_sharding=out_sharding)
        whole = NamedSharding(out_sharding.mesh, PartitionSpec())
        return jax.lax.with_sharding_constraint(values, whole)

    text, largest = program(gathered, (512, 256), "x", "y")
    assert "all-gather" in text and largest == 512 * 256
