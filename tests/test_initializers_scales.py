"""Factors on initializers, the parents of truncated normals, sequences, and short reprs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flaxinit
from benchmarks.bounds import ks_bound, z_score

KEY = jax.random.key(11)
# Those with a scale, and a shape that fits.
SCALED = {
    "normal": (flaxinit.normal(0.02), (16, 8)),
    "truncated_normal": (flaxinit.truncated_normal(0.02, lower=-1, upper=3), (16, 8)),
    "uniform": (flaxinit.uniform(0.25, minval=-0.5), (16, 8)),
    "constant": (flaxinit.constant(3.0), (16, 8)),
    "constant array": (flaxinit.constant(np.arange(8.0)), (16, 8)),
    "constant complex": (flaxinit.constant(1 + 2j, "complex64"), (3,)),
    "variance_scaling": (flaxinit.he("gelu", mode="fan_avg"), (16, 8)),
    "orthogonal": (flaxinit.orthogonal(1.5), (16, 8)),
    "semi_orthogonal": (flaxinit.semi_orthogonal(1.5), (16, 8)),
    "gated_orthogonal": (flaxinit.gated_orthogonal(2), (8, 16)),
    "delta_orthogonal": (flaxinit.delta_orthogonal(), (3, 8, 8)),
    "identity": (flaxinit.identity(2.0), (4, 4)),
    "sparse": (flaxinit.sparse(0.5, 0.02), (16, 8)),
    "forget_bias": (flaxinit.forget_bias(), (8,)),
    "concatenate": (flaxinit.concatenate([flaxinit.he(), flaxinit.zeros]), (4, 8)),
    "stack": (flaxinit.stack([flaxinit.orthogonal(), flaxinit.ones]), (2, 4, 8)),
}
UNSCALED = [
    flaxinit.siren(),
    flaxinit.chrono(50),
    flaxinit.stft(),
    flaxinit.lru_nu(),
    flaxinit.lru_theta(),
    flaxinit.s4d_lin(),
    flaxinit.s4d_inv(),
]
every = pytest.mark.parametrize("name", SCALED)


def classes(cls=flaxinit.Initializer):
    for sub in cls.__subclasses__():
        yield sub
        yield from classes(sub)


def test_every_initializer_is_in_one_of_the_tables():
    public = {cls for cls in classes() if cls.__name__ in flaxinit.__all__}
    scaled = {type(init) for init, _ in SCALED.values()}
    assert scaled | {type(init) for init in UNSCALED} == public
    assert not scaled & {type(init) for init in UNSCALED}


@every
def test_a_factor_multiplies_every_value(name):
    init, shape = SCALED[name]
    dtype = init.dtype or jnp.float32
    # A power of two is exact, so the values are the same ones.
    np.testing.assert_array_equal(init.times(4)(KEY, shape), init(KEY, shape) * dtype_of(4, dtype))
    assert init.times(4).std(shape) == pytest.approx(4 * init.std(shape), rel=1e-15)
    assert init.times(1) == init != init.times(2)
    assert type(init.times(2)) is type(init)


def dtype_of(number, dtype):
    return jnp.asarray(number, dtype)


@every
def test_a_product_with_a_number_is_the_same(name):
    init, _ = SCALED[name]
    twice = init.times(2)
    for two in (2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.array(2.0), jnp.float32(2)):
        assert two * init == init * two == twice


@every
def test_a_factor_may_be_traced(name):
    init, shape = SCALED[name]

    def draw(factor):
        return (factor * init)(KEY, shape)

    np.testing.assert_allclose(jax.jit(draw)(2.0), init.times(2)(KEY, shape), rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(draw)(jnp.array([2.0, 4.0]))[1], init.times(4)(KEY, shape), rtol=1e-6
    )


def test_residual_factors_go_on_every_form():
    init = flaxinit.normal(0.02).times(flaxinit.residual_factor(12, 2))
    assert init.std((768, 768)) == pytest.approx(0.02 / np.sqrt(24), rel=1e-15)


@every
def test_a_wrong_factor_is_refused(name):
    init, _ = SCALED[name]
    for factor, error in ((-1, ValueError), (np.nan, ValueError), ("2", TypeError), (init, None)):
        with pytest.raises(error or TypeError, match=r"^factor must be"):
            init.times(factor)
        with pytest.raises(error or TypeError, match=r"^factor must be"):
            init * factor


@pytest.mark.parametrize("init", UNSCALED, ids=repr)
def test_what_has_no_scale_says_so(init):
    with pytest.raises(TypeError, match=r"has no scale.*Multiply the parameter"):
        2 * init


def test_zeros_and_ones_have_flaxs_names():
    assert flaxinit.zeros_init() is flaxinit.zeros_init is flaxinit.zeros
    assert flaxinit.ones_init() is flaxinit.ones


@pytest.mark.parametrize("ends", [(-2.0, 2.0), (-1.0, 3.0), (0.5, 2.5)])
def test_a_parents_deviation_is_jaxs(ends):
    ours = flaxinit.truncated_normal.from_parent(0.02, *ends)
    theirs = jax.nn.initializers.truncated_normal(0.02, jnp.float32, *ends)
    expected = jax.jit(lambda: theirs(KEY, (64, 48)))()
    np.testing.assert_array_equal(ours(KEY, (64, 48)), expected)
    # Not what the deviation of the values draws.
    assert (flaxinit.truncated_normal(0.02, None, *ends)(KEY, (64, 48)) != expected).any()


@pytest.mark.parametrize(("std", "a", "b"), [(0.02, -2.0, 2.0), (0.02, -0.03, 0.05), (1.0, 0, 3)])
def test_absolute_ends_are_torchs(std, a, b):
    """The distribution of trunc_normal_, by its distribution function."""
    init = flaxinit.truncated_normal.from_parent(std, a, b, absolute=True)
    sample = np.asarray(init(KEY, (200, 200)), np.float64).ravel()
    exact = stats.truncnorm(a / std, b / std, scale=std)
    assert stats.kstest(sample, exact.cdf).statistic < ks_bound(sample.size, 3)
    assert init.std(()) == pytest.approx(exact.std(), rel=1e-9)
    deviation = np.sqrt(2 / sample.size)  # of a mean square, at most a normal's
    assert abs(sample.var() / exact.var() - 1) < z_score(3) * deviation
    assert a - 1e-6 <= sample.min() and sample.max() <= b + 1e-6
    wrong = stats.truncnorm(a / std, b / std, scale=1.05 * std)
    assert stats.kstest(sample, wrong.cdf).statistic > ks_bound(sample.size, 3)


def test_a_parents_deviation_may_be_traced_and_its_ends_not():
    def draw(s):
        return flaxinit.truncated_normal.from_parent(s)(KEY, (4,))

    np.testing.assert_allclose(jax.jit(draw)(0.5), draw(0.5), rtol=1e-6)
    with pytest.raises(TypeError, match="stddev must be a number that is known"):
        jax.jit(
            lambda s: flaxinit.truncated_normal.from_parent(s, -1, 1, absolute=True)(KEY, (4,))
        )(0.5)
    with pytest.raises(ValueError, match="stddev must be positive"):
        flaxinit.truncated_normal.from_parent(0.0, absolute=True)
    with pytest.raises(TypeError, match="absolute must be True or False"):
        flaxinit.truncated_normal.from_parent(0.1, absolute=1)
    with pytest.raises(ValueError, match="must be in order"):
        flaxinit.truncated_normal.from_parent(0.1, 2, -2)


AS = {
    "list": list,
    "iterator": iter,
    "NumPy's": lambda numbers: np.array(numbers, np.int32),
    "JAX's": jnp.array,
    "of NumPy's numbers": lambda numbers: [np.int64(n) for n in numbers],
}


@pytest.mark.parametrize("kind", AS)
def test_axes_and_strides_are_any_integers(kind):
    given = AS[kind]
    assert flaxinit.he(in_axis=given((0, 1))) == flaxinit.he(in_axis=(0, 1))
    assert flaxinit.he(batch_axis=range(2)) == flaxinit.he(batch_axis=(0, 1))
    assert flaxinit.he(strides=given((2, 1))) == flaxinit.he(strides=(2, 1))
    assert flaxinit.orthogonal(batch_axis=given((0,))) == flaxinit.orthogonal(batch_axis=0)
    assert flaxinit.siren(out_axis=given((2, 3))) == flaxinit.siren(out_axis=(2, 3))
    fans = flaxinit.he(in_axis=given((0, 1)), out_axis=2).fans((3, 4, 5))
    assert fans == (12, 5)


def test_what_holds_no_integers_is_refused():
    for bad in ("01", {0: 1}, [0.0, 1.0], np.array([0.5]), [[0], [1]], [None]):
        with pytest.raises(TypeError, match="in_axis must be an integer or a sequence"):
            flaxinit.he(in_axis=bad)
    for bad in ({2, 1}, [2, 0], "2", [True]):
        with pytest.raises(ValueError, match="strides must be a positive integer"):
            flaxinit.he(strides=bad)


@pytest.mark.parametrize("size", [0, 1, 4, 16, 17, 10_000])
@pytest.mark.parametrize("dtype", [float, complex])
def test_the_repr_of_an_array_is_short_and_pasted_where_it_is_whole(size, dtype):
    array = np.random.default_rng(size).normal(size=size).astype(dtype)
    init = flaxinit.constant(array)
    assert len(repr(init)) < 200
    if 0 < size <= 4:  # an empty list does not say that it was complex
        assert eval(repr(init), {"constant": flaxinit.constant}) == init
    if size > 16:
        assert f"array of shape ({size},)" in repr(init)
