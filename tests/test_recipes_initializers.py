"""The initializers of `flaxinit.recipes`: each does what its docstring and its paper state."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from scipy import stats
from value_checks import check_is_a_value

import flaxinit
from benchmarks.bounds import PARENTS, Rounded, ks_bound, z_score
from flaxinit import recipes
from flaxinit.recipes import (
    hippo_legs,
    icnr,
    like_kernel,
    mamba_a_log,
    mamba_dt_bias,
    new_rows,
    pissa,
    s4d_legs,
    sincos_positions,
    spectral_normal,
    upsample,
)

KEY = jax.random.key(11)
VALUES = {
    "dt": mamba_dt_bias(),
    "dt with a floor": mamba_dt_bias(1e-4, 0.01, 1e-3),
    "A_log": mamba_a_log(),
    "LegS": hippo_legs(),
    "S4D-LegS": s4d_legs(),
    "positions": sincos_positions(),
    "positions in turn": sincos_positions(100.0, interleaved=True),
    "positions on a grid": sincos_positions(grid=(2, 8)),
    "spectral": spectral_normal(2.0),
    "ICNR": icnr(flaxinit.he()),
    "ICNR of orthogonal": icnr(flaxinit.orthogonal(), 2, "tile"),
    "ICNR of ones": icnr(flaxinit.ones, 2),
    "bilinear": upsample(),
    "nearest": upsample("nearest", groups=8),
    "bias": like_kernel(flaxinit.he_uniform(), (3, 3, 4, 16)),
}
SHAPES = {"LegS": (2, 8, 8), "bilinear": (4, 3, 8, 8), "nearest": (2, 8, 8), "bias": (16,)}
RANDOM = ("dt", "dt with a floor", "spectral", "ICNR", "ICNR of orthogonal", "bias")
every = pytest.mark.parametrize("name", VALUES)


def shape_of(name):
    return SHAPES.get(name, (16, 8))


@every
def test_is_a_value(name):
    check_is_a_value(VALUES[name], VALUES.values())


@every
def test_same_bits_however_it_is_called(name):
    init, shape = VALUES[name], shape_of(name)
    eager = init(KEY, shape)
    assert eager.shape == shape and eager.dtype == (init.dtype or jnp.float32)
    for other in (
        jax.jit(lambda key: init(key, shape))(KEY),
        jax.vmap(lambda key: init(key, shape))(KEY[None])[0],
        jax.jit(lambda: init(KEY, shape))(),
    ):
        if "orthogonal" in name:  # sums of products round as the program has them
            np.testing.assert_allclose(other, eager, atol=1e-6)
        else:
            np.testing.assert_array_equal(other, eager)
    with jax.numpy_rank_promotion("raise"):
        init(KEY, shape)
    assert (init.needs_key, name in RANDOM) in ((True, True), (False, False))
    if not init.needs_key:
        np.testing.assert_array_equal(init(None, shape), eager)


@every
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex64"])
def test_every_dtype(name, dtype):
    init, shape = VALUES[name], shape_of(name)
    real_only = name.startswith("dt")
    complex_only = name.startswith("S4D")
    if (dtype == "complex64" and real_only) or (dtype != "complex64" and complex_only):
        with pytest.raises(ValueError, match=r"a real parameter|complex eigenvalues"):
            init(KEY, shape, dtype)
        return
    array = init(KEY, shape, dtype)
    assert array.dtype == dtype and np.isfinite(np.asarray(array, np.complex64)).all()
    if name not in RANDOM:  # it is rounded once
        wide = np.asarray(init(KEY, shape, "complex64" if complex_only else "float32"), "complex64")
        np.testing.assert_allclose(
            np.asarray(array, wide.dtype), wide, rtol=float(jnp.finfo(dtype).eps), atol=0
        )


@every
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_on_a_mesh_the_values_are_the_same(name, axis_type):
    init, shape = VALUES[name], shape_of(name)
    axis = next(i for i, size in enumerate(shape) if size % 8 == 0)
    spec = jax.P(*("x" if i == axis else None for i in range(len(shape))))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    sharding = jax.NamedSharding(mesh, spec)
    drawn = init(KEY, shape, None, sharding)
    assert drawn.sharding.is_equivalent_to(sharding, len(shape))
    np.testing.assert_allclose(jax.device_get(drawn), init(KEY, shape), rtol=1e-6, atol=1e-6)


@every
def test_empty_arrays(name):
    shape = (0, *shape_of(name)[1:]) if name not in ("LegS", "positions on a grid") else (0, 8, 8)
    if name == "positions on a grid":
        shape = (0, 16, 8)
    assert VALUES[name](KEY, shape).shape == shape
    with pytest.raises(ValueError, match="no entries"):
        VALUES[name].variance(shape)


@pytest.mark.parametrize("name", RANDOM)
def test_the_variance_is_that_of_the_values(name):
    """The standard error is that of the sample's own fourth moment, or of its independent part."""
    init, shape = VALUES[name], (512, 1024)
    if name == "bias":
        shape = (1024, 512)  # its values do not depend on the shape
    sample = np.asarray(init(KEY, shape), np.float64)
    if name.startswith("ICNR"):
        copies = init.copies
        sample = sample[:, ::copies] if init.order == "repeat" else sample[:, : 1024 // copies]
    values = sample.ravel()
    if name == "ICNR of orthogonal":  # its mean square is exact
        assert np.mean(values**2) == pytest.approx(init.variance(shape), rel=1e-5)
        return
    centered = (values - values.mean()) ** 2
    error = abs(centered.mean() - init.variance(shape))
    assert error < z_score(len(RANDOM)) * centered.std() / np.sqrt(values.size)
    assert 0.02 * init.variance(shape) > z_score(len(RANDOM)) * centered.std() / values.size**0.5


def test_mambas_steps_are_log_uniform_above_their_floor():
    for init in (VALUES["dt"], VALUES["dt with a floor"]):
        bias = np.asarray(init(KEY, (1 << 16,)), np.float64)
        dt = np.log1p(np.exp(bias))
        assert dt.min() >= max(init.dt_min, init.floor) * (1 - 1e-5)
        assert dt.max() <= init.dt_max * (1 + 1e-5)
        low, high = np.log(init.dt_min), np.log(init.dt_max)
        uniform = (np.log(dt) - low) / (high - low)
        start = (max(low, np.log(init.floor)) - low) / (high - low)
        assert abs(np.mean(uniform < start + 1e-4) - start) < ks_bound(uniform.size, 4) + 1e-4
        free = uniform[uniform > start + 1e-4]
        law = stats.uniform(start + 1e-4, 1 - start - 1e-4)
        assert stats.kstest(free, law.cdf).statistic < ks_bound(free.size, 4)


def test_mambas_rates_are_the_whole_numbers():
    a_log = mamba_a_log()(None, (3, 16))
    np.testing.assert_allclose(jnp.exp(a_log), [np.arange(1, 17)] * 3, rtol=1e-6)
    # The diagonal of HiPPO-LegS.
    np.testing.assert_allclose(-jnp.exp(a_log[0]), jnp.diag(hippo_legs()(None, (16, 16))), 1e-6)


def test_legs_keeps_the_coefficients_of_legendre_polynomials():
    """Of the input t on [0, T] they satisfy T x'(T) = A x(T) + B u(T), at every T."""
    n = 6
    a, b = np.asarray(hippo_legs()(None, (n, n)), np.float64), hippo_legs.input(n)
    nodes, weights = np.polynomial.legendre.leggauss(20)

    def state(time, signal):  # its projections on √(2n+1) P_n, which are orthonormal on [0, T]
        t = (nodes + 1) / 2 * time
        basis = np.polynomial.legendre.legvander(nodes, n - 1) * np.sqrt(2 * np.arange(n) + 1)
        return weights / 2 @ (basis * signal(t)[:, None])

    def signal(t):
        return 1 + t - 0.5 * t**3

    time, step = 1.7, 1e-4
    slope = (state(time + step, signal) - state(time - step, signal)) / (2 * step)
    np.testing.assert_allclose(time * slope, a @ state(time, signal) + b * signal(time), atol=1e-5)


def test_s4d_legs_is_the_spectrum_of_the_normal_part():
    n = 8
    a = np.asarray(hippo_legs()(None, (2 * n, 2 * n)), np.float64)
    p = np.sqrt(np.arange(2 * n) + 0.5)
    normal = a + np.outer(p, p)
    np.testing.assert_allclose(normal @ normal.T, normal.T @ normal, atol=1e-3)
    spectrum = np.linalg.eigvals(normal)
    ours = np.asarray(s4d_legs()(None, (n,)))
    for value in (*ours, *ours.conj()):
        assert np.abs(spectrum - value).min() < 1e-4 * abs(value)
    # S4D-Inv approximates it: the paper compares the two.
    inv = np.sort(np.asarray(flaxinit.s4d_inv()(None, (64,))).imag)
    legs = np.asarray(s4d_legs()(None, (64,))).imag
    assert np.corrcoef(np.log(inv[1:]), np.log(legs[1:]))[0, 1] > 0.99


def test_positions_are_those_of_the_papers():
    p, d = 12, 8
    table = np.asarray(sincos_positions()(None, (1, p, d)))[0]
    in_turn = np.asarray(sincos_positions(interleaved=True)(None, (p, d)))
    for pos, i in itertools.product(range(p), range(d // 2)):
        angle = pos / 10000 ** (2 * i / d)
        expected = [np.sin(angle), np.cos(angle)]
        np.testing.assert_allclose([table[pos, i], table[pos, d // 2 + i]], expected, atol=1e-6)
        np.testing.assert_allclose(in_turn[pos, 2 * i : 2 * i + 2], expected, atol=1e-6)
    grid = np.asarray(sincos_positions(grid=(3, 4))(None, (p, d)))
    for row, column in itertools.product(range(3), range(4)):
        line = np.asarray(sincos_positions()(None, (4, d // 2)))
        np.testing.assert_allclose(grid[4 * row + column, : d // 2], line[column], atol=1e-6)
        np.testing.assert_allclose(grid[4 * row + column, d // 2 :], line[row], atol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (3, 3, 32, 64)])
def test_a_spectral_normal_has_the_stated_norm(shape):
    init = spectral_normal()
    matrix = np.asarray(init(KEY, shape), np.float64).reshape(-1, shape[-1])
    rows, columns = matrix.shape
    exact = Rounded(PARENTS["normal"], init.std(shape), "float32")
    assert exact.variance_error(matrix.ravel()) < z_score(3)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    norm = np.sqrt(columns / rows)
    # Davidson and Szarek: above the mean by t σ with probability at most e^(-t²/2); from below the
    # largest value comes within the scale of its fluctuations, σ (√m + √n)^(1/3) (m n)^(-1/12).
    t = np.sqrt(2 * np.log(1e4))
    assert largest < norm + t * init.std(shape)
    assert largest > norm - t * init.std(shape)
    assert init.times(0.5).std(shape) == pytest.approx(0.5 * init.std(shape))


@pytest.mark.parametrize("order", ["repeat", "tile"])
def test_a_shuffled_icnr_convolution_repeats_pixels(order):
    r, outputs, image = 2, 3, jax.random.normal(KEY, (1, 5, 5, 4))
    layer = nn.Conv(outputs * r**2, (3, 3), kernel_init=icnr(flaxinit.he(), r**2, order))
    y = layer.apply(layer.init(KEY, image), image)
    if order == "repeat":  # PyTorch's pixel shuffle
        y = y.reshape(1, 5, 5, outputs, r, r).transpose(0, 1, 4, 2, 5, 3)
    else:  # TensorFlow's depth_to_space
        y = y.reshape(1, 5, 5, r, r, outputs).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(1, 10, 10, outputs)
    np.testing.assert_array_equal(y, jnp.repeat(jnp.repeat(y[:, ::2, ::2], 2, 1), 2, 2))
    one = nn.Conv(outputs, (3, 3)).apply(
        {
            "params": {
                "kernel": flaxinit.he()(path_of(layer, image), (3, 3, 4, outputs)),
                "bias": jnp.zeros(outputs),
            }
        },
        image,
    )
    np.testing.assert_allclose(y[:, ::2, ::2], one, atol=1e-5)


def path_of(layer, image):
    """Return the key from which Flax draws the layer's kernel."""
    seen = []
    layer.clone(kernel_init=lambda key, *rest: seen.append(key) or jnp.zeros(rest[0])).init(
        KEY, image
    )
    return seen[0]


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_bilinear_kernels_interpolate(stride):
    """A plane stays a plane, and pixels keep their values' place, away from the border."""
    size = 2 * stride - stride % 2
    layer = nn.ConvTranspose(
        2, (size, size), (stride, stride), padding="SAME", kernel_init=upsample(), use_bias=False
    )
    rows, columns = np.mgrid[:9, :9]
    image = np.stack([rows + 2.0 * columns, 3.0 - rows], axis=-1)[None].astype(np.float32)
    y = np.asarray(layer.apply(layer.init(KEY, image), image))[0]
    inside = y[2 * stride : -2 * stride, 2 * stride : -2 * stride]
    slopes = [np.diff(inside, axis=axis) for axis in (0, 1)]
    for slope, expected in zip(slopes, ([1, -1], [2, 0]), strict=True):
        np.testing.assert_allclose(
            slope, np.broadcast_to(expected, slope.shape) / stride, atol=1e-5
        )


def test_nearest_kernels_repeat():
    layer = nn.ConvTranspose(
        3, (2, 2), (2, 2), padding="VALID", use_bias=False, kernel_init=upsample("nearest")
    )
    image = jax.random.normal(KEY, (1, 4, 4, 3))
    y = layer.apply(layer.init(KEY, image), image)
    np.testing.assert_allclose(y, jnp.repeat(jnp.repeat(image, 2, 1), 2, 2), rtol=1e-6)
    grouped = upsample(groups=3)(None, (4, 4, 1, 3))
    np.testing.assert_array_equal(
        grouped, jnp.broadcast_to(upsample()(None, (4, 4, 1, 1)), grouped.shape)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_pissa_splits_a_kernel(dtype):
    kernel = flaxinit.lecun()(KEY, (24, 40), dtype)
    a, b, residual = pissa(kernel, 5)
    assert (a.shape, b.shape, a.dtype, residual.dtype) == ((24, 5), (5, 40), dtype, dtype)
    wide = np.complex128 if dtype == "complex64" else np.float64
    a, b, residual, whole = (np.asarray(m, wide) for m in (a, b, residual, kernel))
    atol = 40 * float(jnp.finfo(dtype).eps)  # of sums of 40 products below 1
    np.testing.assert_allclose(a @ b + residual, whole, atol=atol)
    values = np.linalg.svd(whole, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(a @ b, compute_uv=False)[:5], values[:5], rtol=0.02)
    np.testing.assert_allclose(a.conj().T @ a, b @ b.conj().T, atol=atol)  # both are S
    if dtype == "float32":
        np.testing.assert_allclose(np.linalg.norm(residual, 2), values[5], rtol=1e-4)


def test_new_rows_have_the_old_ones_mean_and_covariance():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    count, spread = 1 << 16, 0.5
    rows = np.asarray(new_rows(KEY, jnp.asarray(table, jnp.float32), count, spread), np.float64)
    cov = spread**2 * np.cov(table.T, bias=True)
    cases = 6 + 36
    errors = np.abs(rows.mean(0) - table.mean(0)) / np.sqrt(np.diag(cov) / count)
    assert errors.max() < z_score(cases)
    # For normal rows Var(x_i x_j) = c_ii c_jj + c_ij².
    spread_of = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / count)
    assert (np.abs(np.cov(rows.T) - cov) / spread_of).max() < z_score(cases)
    flat = jnp.asarray(table, jnp.float32).at[:, 3].set(2.0)  # of deficient rank
    assert (new_rows(KEY, flat, 5)[:, 3] == 2).all()
    assert new_rows(KEY, flat.astype(jnp.bfloat16), 5).dtype == jnp.bfloat16


def test_traced_scales():
    shape = (3, 8, 16)

    @jax.jit
    def draw(s):
        inits = (
            spectral_normal(s),
            icnr(flaxinit.normal(s)),
            like_kernel(flaxinit.uniform(s, minval=-s), (4, 8)),
            icnr(flaxinit.orthogonal(s), 2),
        )
        return [init(KEY, shape) for init in inits]

    known = (
        spectral_normal(0.5),
        icnr(flaxinit.normal(0.5)),
        like_kernel(flaxinit.uniform(0.5, minval=-0.5), (4, 8)),
        icnr(flaxinit.orthogonal(0.5), 2),
    )
    for traced, init in zip(draw(0.5), known, strict=True):
        np.testing.assert_allclose(traced, init(KEY, shape), rtol=1e-5, atol=1e-6)


def test_the_distribution_of_a_bias_is_the_kernels():
    """Kernel and bias as PyTorch has them: U(-1/√fan_in, 1/√fan_in), and in bfloat16 too."""
    init = like_kernel(flaxinit.variance_scaling(1 / 3, "fan_in", "uniform"), (64, 8))
    sample = np.asarray(init(KEY, (1 << 16,)), np.float64)
    assert np.abs(sample).max() <= 1 / 8
    law = stats.uniform(-1 / 8, 1 / 4)
    assert stats.kstest(sample, law.cdf).statistic < ks_bound(sample.size, 2)
    low = np.asarray(init(KEY, (1 << 16,), "bfloat16"), np.float64)
    assert Rounded(PARENTS["uniform"], init.std((8,)), "bfloat16").variance_error(low) < z_score(2)


BAD = {
    "steps": (lambda: mamba_dt_bias(0.1, 0.01), "dt_min < dt_max"),
    "floor": (lambda: mamba_dt_bias(floor=0.2), "floor <= dt_max"),
    "a step of 0": (lambda: mamba_dt_bias(0.0), "dt_min must be positive"),
    "no axis": (lambda: mamba_a_log()(None, ()), "the shape is"),
    "not square": (lambda: hippo_legs()(None, (3, 4)), "square matrices"),
    "too large": (lambda: hippo_legs("float8_e4m3fn")(None, (300, 300)), "cannot represent"),
    "odd": (lambda: sincos_positions()(None, (4, 7)), "multiple of 2"),
    "odd on a grid": (lambda: sincos_positions(grid=(2, 2))(None, (4, 6)), "multiple of 4"),
    "a class token": (lambda: sincos_positions(grid=(2, 2))(None, (5, 8)), "has 4 positions"),
    "a grid": (lambda: sincos_positions(grid=4), "grid must be .height, width."),
    "a base": (lambda: sincos_positions(1.0), "base must be above 1"),
    "a norm": (lambda: spectral_normal(-1.0), "scale must be"),
    "a vector": (lambda: spectral_normal()(KEY, (4,)), "A fan needs a kernel"),
    "copies": (lambda: icnr(flaxinit.he())(KEY, (3, 6)), "multiple of 4"),
    "an order": (lambda: icnr(flaxinit.he(), 4, "tlie"), "Did you mean 'tile'"),
    "a method": (lambda: upsample("cubic"), "method must be one of"),
    "no image": (lambda: upsample()(None, (4, 4)), "needs a kernel"),
    "a rank": (lambda: pissa(jnp.ones((3, 4)), 4), "rank must be at most 3"),
    "integers": (lambda: pissa(jnp.ones((3, 4), int), 1), "floating matrix"),
    "an empty table": (lambda: new_rows(KEY, jnp.ones((0, 4)), 1), "floating matrix"),
    "a spread": (lambda: new_rows(KEY, jnp.ones((3, 4)), 1, -1.0), "spread must be"),
    "a kernel without fans": (lambda: like_kernel(flaxinit.he(), (4,))(KEY, (4,)), "A fan needs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_get_a_clear_error(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match="init must be one of flaxinit's initializers"):
        icnr(jax.nn.initializers.he_normal())


def test_every_public_name_of_the_recipes_is_documented():
    for name in recipes.__all__:
        assert getattr(recipes, name).__doc__, name
    assert sorted(recipes.__all__) == recipes.__all__
    assert not set(recipes.__all__) & set(flaxinit.__all__)
