"""Kernels made of parts: each part is what its own initializer draws, on any mesh."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from scipy import stats
from value_checks import check_is_a_value

import flaxinit
from benchmarks.bounds import PARENTS, ROUNDING, Rounded, ks_bound, z_score
from flaxinit import concatenate, he, stack, zeros

KEY = jax.random.key(21)
SHAPE = (16, 48)
JOINED = {
    "equal": concatenate([he(), he(), he()]),
    "zero queries": concatenate([zeros, flaxinit.lecun(), flaxinit.lecun()]),
    "sizes": concatenate([he(), flaxinit.he_uniform()], sizes=(32, 16)),
    "families": concatenate([flaxinit.normal(0.1), zeros, flaxinit.uniform(0.1)]),
    "first axis": concatenate([flaxinit.normal(0.1), flaxinit.normal(0.3)], axis=0),
    "numbers": concatenate([flaxinit.ones, flaxinit.constant(2.0), zeros]),
    "orthogonal": concatenate([flaxinit.orthogonal(), flaxinit.orthogonal(2.0), zeros]),
    "nested": concatenate([concatenate([zeros, he()]), he()], sizes=(32, 16)),
    "stack": stack([flaxinit.normal(0.1).times(2.0**-n) for n in range(16)]),
    "stack of matrices": stack([flaxinit.orthogonal(), flaxinit.lecun()], axis=1),
    "bfloat16": concatenate([flaxinit.he_uniform(), zeros], dtype="bfloat16"),
    "complex": concatenate([he(), flaxinit.lecun(), zeros], dtype="complex64"),
}
SHAPES = {"stack": (16, 8), "stack of matrices": (8, 2, 16)}
every = pytest.mark.parametrize("name", JOINED)
# Whose entries are made one by one, so that no device needs another.
ENTRYWISE = set(JOINED) - {"orthogonal", "nested", "stack of matrices"}


def split(name, array):
    init, shape = JOINED[name], SHAPES.get(name, SHAPE)
    array = np.asarray(array)
    if isinstance(init, stack):
        return [np.take(array, i, init.axis) for i in range(len(init.parts))]
    ends = np.cumsum([own[init.axis] for own in init.shapes(shape)])[:-1]
    return np.split(array, ends, init.axis)


@every
def test_is_a_value(name):
    check_is_a_value(JOINED[name], JOINED.values())


@every
def test_same_key_same_bits_however_it_is_called(name):
    init, shape = JOINED[name], SHAPES.get(name, SHAPE)
    eager = init(KEY, shape)
    assert eager.shape == shape and eager.dtype == (init.dtype or jnp.float32)
    np.testing.assert_array_equal(jax.jit(lambda key: init(key, shape))(KEY), eager)
    with jax.numpy_rank_promotion("raise"):
        np.testing.assert_array_equal(jax.vmap(lambda key: init(key, shape))(KEY[None])[0], eager)
    made = flaxinit.fast_init(lambda key: init(key, shape))(KEY)
    np.testing.assert_array_equal(made, eager)


def layouts():
    for kind, spec in ((AxisType.Auto, (None, "y")), (AxisType.Explicit, ("y", "x"))):
        mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
        yield jax.NamedSharding(mesh, jax.P(*spec))


@pytest.mark.parametrize("layout", range(2))
@pytest.mark.parametrize("name", [name for name in JOINED if name != "stack of matrices"])
def test_the_same_values_on_every_mesh(name, layout, kept_by_case):
    init, shape, sharding = JOINED[name], SHAPES.get(name, SHAPE), list(layouts())[layout]
    whole = jax.device_get(init(KEY, shape))
    with kept_by_case():
        drawn = init(KEY, shape, None, sharding)
    assert drawn.sharding.is_equivalent_to(sharding, 2)
    # erf_inv is rounded by the shape of a device's part, a product of matrices by its order.
    sizes = abs(whole) if name in ENTRYWISE else abs(whole).max()
    bound = ROUNDING * float(jnp.finfo(whole.dtype).eps) * sizes
    assert (abs(jax.device_get(drawn) - whole) <= bound).all()


@pytest.mark.parametrize("name", sorted(ENTRYWISE))
def test_independent_entries_are_drawn_in_place(name):
    """Each device draws its own: its program exchanges nothing."""
    init, shape = JOINED[name], SHAPES.get(name, SHAPE)
    exchanges = re.compile("all-gather|all-reduce|collective-permute|all-to-all")
    for sharding in layouts():
        with jax.set_mesh(sharding.mesh):
            draw = jax.jit(lambda key, out=sharding: init(key, shape, None, out))
            assert not exchanges.search(draw.lower(KEY).compile().as_text())


def test_the_search_for_exchanges_finds_them(kept_by_case):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    with kept_by_case(), jax.set_mesh(mesh):
        init, out = JOINED["orthogonal"], jax.P(None, "y")
        text = jax.jit(lambda key: init(key, SHAPE, None, out)).lower(KEY).compile().as_text()
    assert re.search("all-gather|all-reduce|collective-permute|all-to-all", text)


def test_equal_parts_are_one_draw_of_the_whole():
    np.testing.assert_array_equal(JOINED["equal"](KEY, SHAPE), he()(KEY, SHAPE))
    # Not of the fan that the whole would have.
    outs = concatenate([he(mode="fan_out")] * 3)
    np.testing.assert_array_equal(outs(KEY, SHAPE), he(fan_out=16, mode="fan_out")(KEY, SHAPE))


PARTS = [
    (flaxinit.lecun(), "truncated_normal"),
    (flaxinit.lecun_uniform(), "uniform"),
    (flaxinit.glorot("tanh", distribution="normal"), "normal"),
    (flaxinit.lecun().times(0.5), "truncated_normal"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_part_has_its_variance_and_distribution(dtype):
    init, shape = concatenate([part for part, _ in PARTS]), (256, 4 * 512)
    drawn = np.split(np.asarray(init(KEY, shape, dtype), np.float64), 4, axis=1)
    variances = init.variances(shape)
    assert variances == [part.variance((256, 512)) for part, _ in PARTS]
    assert init.variance(shape) == pytest.approx(np.mean(variances), rel=1e-15)
    cases = 4 * 2 * 2
    for (_, name), values, variance in zip(PARTS, drawn, variances, strict=True):
        exact = Rounded(PARENTS[name], np.sqrt(variance), dtype)
        sample = values.ravel()
        assert exact.mean_error(sample) < z_score(cases) > exact.variance_error(sample)
        wrong = Rounded(PARENTS[name], np.sqrt(1.03 * variance), dtype)
        assert wrong.variance_error(sample) > z_score(cases)
    # Parts do not repeat each other.
    errors = [np.corrcoef(a.ravel(), drawn[0].ravel())[0, 1] for a in drawn[1:]]
    assert max(map(abs, errors)) < z_score(3) / np.sqrt(drawn[0].size)


def test_parts_with_a_structure_have_it():
    drawn = split("orthogonal", JOINED["orthogonal"](KEY, SHAPE))
    for values, scale in zip(drawn, (1, 2, 0), strict=True):
        np.testing.assert_allclose(values.T @ values, scale**2 * np.eye(16), atol=1e-5)
    assert abs(drawn[0].T @ drawn[1]).max() > 0.1  # and they are not one matrix


def test_a_stack_has_a_variance_for_each_slice():
    drawn = JOINED["stack"](KEY, (16, 4096))
    scaled = np.asarray(drawn, np.float64) / (0.1 * 2.0 ** -np.arange(16))[:, None]
    for row in scaled:
        assert stats.kstest(row, stats.norm.cdf).statistic < ks_bound(row.size, 16)
    assert abs((scaled**2).mean() - 1) < z_score(1) * np.sqrt(2 / scaled.size)


def test_parts_may_be_empty():
    init = concatenate([he(), zeros, flaxinit.orthogonal()], sizes=(8, 0, 4))
    assert init(KEY, (4, 12)).shape == (4, 12)
    entries = concatenate([he(), flaxinit.lecun()], sizes=(0, 12))
    np.testing.assert_array_equal(entries(KEY, (4, 12)), flaxinit.lecun()(KEY, (4, 12)))
    assert entries.variance((4, 12)) == 0.25


def test_a_scale_of_a_part_may_be_traced():
    def draw(s, parts=lambda s: [flaxinit.normal(s), flaxinit.uniform(s), zeros]):
        return concatenate(parts(s))(KEY, (4, 12))

    np.testing.assert_allclose(jax.jit(draw)(0.5), draw(0.5), rtol=1e-6)
    known = concatenate([he(), flaxinit.orthogonal()]).times(0.5)(KEY, (4, 12))
    traced = jax.jit(lambda s: (s * concatenate([he(), flaxinit.orthogonal()]))(KEY, (4, 12)))(0.5)
    np.testing.assert_allclose(traced, known, rtol=1e-5, atol=1e-6)
    stated = jax.jit(lambda s: concatenate([flaxinit.normal(s), zeros]).variance((4, 12)))(0.5)
    assert stated == 0.125


def test_factors_and_axes_reach_every_part():
    init = concatenate([he(), flaxinit.orthogonal()])
    assert 2 * init == concatenate([2 * he(), flaxinit.orthogonal(2.0)])
    assert concatenate([he(), zeros]).with_axes(1, 0).parts[0] == he(in_axis=1, out_axis=0)
    assert concatenate([zeros, flaxinit.ones]).needs_key is False
    np.testing.assert_array_equal(JOINED["numbers"](None, (3,)), [1, 2, 0])
    with pytest.raises(TypeError, match="needs one key"):
        JOINED["equal"](None, SHAPE)


def test_layers_take_them():
    qkv = concatenate([zeros, flaxinit.lecun(), flaxinit.lecun()])
    kernel = nn.Dense(48, kernel_init=qkv).init(KEY, jnp.ones((1, 16)))["params"]["kernel"]
    assert not kernel[:, :16].any() and kernel[:, 16:].all()
    gates = concatenate([flaxinit.orthogonal()] * 4)
    cell = nnx.OptimizedLSTMCell(8, 8, recurrent_kernel_init=gates, rngs=nnx.Rngs(0))
    kernel = cell.dense_h.kernel[...]
    for gate in jnp.split(kernel, 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)


BAD = {
    "thirds": (lambda: JOINED["equal"](KEY, (4, 16)), "3 equal parts do not add up to the 16"),
    "sizes": (lambda: JOINED["sizes"](KEY, (4, 16)), r"Parts of sizes \(32, 16\) do not add up"),
    "more sizes": (lambda: concatenate([he()], sizes=(1, 2)), "2 numbers for 1 parts"),
    "negative": (lambda: concatenate([he(), he()], sizes=(-1, 2)), "sizes must be a sequence"),
    "one size": (lambda: concatenate([he()], sizes=3), "sizes must be a sequence"),
    "an axis": (lambda: concatenate([he()], 2)(KEY, (4, 16)), "axis=2 is out of range"),
    "slices": (lambda: stack([he()] * 3)(KEY, (4, 4, 4)), "3 parts do not make up the 4 slices"),
    "a part's shape": (lambda: stack([he()])(KEY, (1, 4)), "needs a kernel with an input and"),
    "a part's dtype": (
        lambda: concatenate([flaxinit.uniform(), zeros])(KEY, (2, 4), "complex64"),
        "complex64",
    ),
    "a part's range": (
        lambda: concatenate([flaxinit.constant(1e-10), he()])(KEY, (2, 4), "float16"),
        "float16 cannot represent",
    ),
    "dtypes": (
        lambda: concatenate([he(dtype="float32"), he(dtype="float16")]),
        r"several dtypes \(float16, float32\). Name one",
    ),
    "no parts": (lambda: concatenate([]), "one or more of flaxinit's initializers"),
    "a name": (lambda: concatenate(["he"]), "one or more of flaxinit's initializers"),
    "one": (lambda: concatenate(he()), "one or more of flaxinit's initializers"),
    "JAX's": (lambda: stack([jax.nn.initializers.ones]), "one or more of flaxinit's init"),
}


@pytest.mark.parametrize("case", BAD)
def test_parts_that_do_not_fit_are_refused(case):
    call, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("gates", [3, 4])
def test_an_identity_says_what_it_is_on_a_fused_kernel(gates):
    shape = (6, gates * 6)
    for call in (flaxinit.identity(), flaxinit.identity(2.0)):
        with pytest.raises(ValueError, match=rf"identity\(groups={gates}\) to make each gate"):
            call(None, shape)
        with pytest.raises(ValueError, match=r"identity\(groups=1\)"):
            call.variance(shape)
    fused = flaxinit.identity(2.0, groups=gates)(None, shape)
    np.testing.assert_array_equal(fused, np.tile(2 * np.eye(6), (1, gates)))
    ordinary = flaxinit.identity(groups=1)(None, shape)
    np.testing.assert_array_equal(ordinary, np.eye(*shape))
    np.testing.assert_array_equal(
        concatenate([flaxinit.identity()] * gates)(None, shape) * 2, fused
    )
    np.testing.assert_array_equal(flaxinit.identity()(None, (6, 12)), np.eye(6, 12))


def test_a_cell_whose_kernel_would_be_a_fourth_of_an_identity():
    def cell(init):
        return nnx.OptimizedLSTMCell(8, 8, recurrent_kernel_init=init, rngs=nnx.Rngs(0))

    with pytest.raises(ValueError, match="4 gates of a recurrent cell"):
        cell(flaxinit.identity())
    kernel = cell(flaxinit.identity(groups=4)).dense_h.kernel[...]
    np.testing.assert_array_equal(kernel, np.tile(np.eye(8), (1, 4)))
