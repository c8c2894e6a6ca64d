"""What every initializer has in common: JAX's signature and values, equality, hash, repr."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from value_checks import check_is_a_value

import flaxinit
from benchmarks.bounds import ROUNDING
from flaxinit import he, lecun, variance_scaling
from flaxinit.versions.compat import enable_x64

KEY = jax.random.key(7)
MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")

VALUES = {
    "he": he("gelu"),
    "he_bfloat16": flaxinit.he_uniform("tanh", mode="fan_avg", dtype=jnp.bfloat16),
    "glorot": flaxinit.glorot(in_axis=[0, 1], out_axis=[2], batch_axis=()),
    "conv": he(groups=4, strides=(2, 2), mode="fan_out"),
    "explicit": lecun(fan_in=128, fan_out=64, mode="fan_avg"),
    "normal": flaxinit.normal(0.02),
    "truncated_normal": flaxinit.truncated_normal(0.02, lower=-1, upper=3),
    "half_normal": flaxinit.truncated_normal(1.0, lower=0, upper=np.inf),
    "uniform": flaxinit.uniform(0.05, minval=-0.05),
    "constant": flaxinit.constant(-7),
    "constant_array": flaxinit.constant(np.arange(3.0)),
    "zeros": flaxinit.zeros,
    "ones": flaxinit.ones,
    "orthogonal": flaxinit.orthogonal(2.0, batch_axis=0),
    "semi_orthogonal": flaxinit.semi_orthogonal(2.0, batch_axis=0),
    "gated_orthogonal": flaxinit.gated_orthogonal(2, 1.5),
    "delta_orthogonal": flaxinit.delta_orthogonal(column_axis=-2),
    "identity": flaxinit.identity(groups=2),
    "sparse": flaxinit.sparse(0.25, dtype="complex64"),
    "siren": flaxinit.siren(10.0),
    "forget_bias": flaxinit.forget_bias(order="fiog"),
    "chrono": flaxinit.chrono(50),
    "stft": flaxinit.stft(window="hamming"),
    "complex_disk": flaxinit.lecun_uniform(dtype="complex64"),
    "complex_cut": flaxinit.he_normal(dtype="complex64"),
    "complex_normal": flaxinit.normal(dtype="complex64"),
    "lru_nu": flaxinit.lru_nu(0.5, 0.9),
    "lru_theta": flaxinit.lru_theta(0.3),
    "s4d_lin": flaxinit.s4d_lin(),
    "s4d_inv": flaxinit.s4d_inv("complex64"),
}
SHAPES = {
    "glorot": (3, 8, 4),
    "conv": (3, 3, 4, 8),
    "constant_array": (2, 3),
    "orthogonal": (2, 16, 8),
    "semi_orthogonal": (2, 16, 8),
    "delta_orthogonal": (3, 4, 8),
    "stft": (8, 1, 10),
}
every = pytest.mark.parametrize("name", VALUES)
# One for each way of drawing, without matrix products. Those may be summed in another order, and
# test_sampling_mesh.py bounds how far that moves them.
DRAWS = (
    "he",
    "he_bfloat16",
    "normal",
    "truncated_normal",
    "uniform",
    "constant_array",
    "ones",
    "lru_nu",
    "lru_theta",
    "s4d_inv",
    "identity",
    "sparse",
    "siren",
    "forget_bias",
    "chrono",
    "stft",
    "complex_disk",
    "complex_cut",
    "complex_normal",
)


@every
def test_is_a_value(name):
    check_is_a_value(VALUES[name], VALUES.values())


@pytest.mark.parametrize("name", DRAWS)
def test_same_key_same_bits_however_it_is_called(name):
    init, shape = VALUES[name], SHAPES.get(name, (16, 8))
    eager = init(KEY, shape)
    assert eager.shape == shape and eager.dtype == (init.dtype or jnp.float32)
    assert jax.eval_shape(lambda key: init(key, shape), KEY) == jax.eval_shape(lambda: eager)
    np.testing.assert_array_equal(jax.jit(lambda key: init(key, shape))(KEY), eager)
    np.testing.assert_array_equal(jax.vmap(lambda key: init(key, shape))(KEY[None])[0], eager)
    np.testing.assert_array_equal(jax.jit(lambda: init(KEY, shape))(), eager)


@every
def test_no_draw_promotes_ranks(name):
    with jax.numpy_rank_promotion("raise"):
        VALUES[name](KEY, SHAPES.get(name, (16, 8)))


@every
def test_empty_arrays_can_be_drawn_and_have_no_variance(name):
    shape = (0, *SHAPES.get(name, (16, 8))[1:])
    assert VALUES[name](KEY, shape, jnp.bfloat16).shape == shape
    with pytest.raises(ValueError, match="no entries"):
        VALUES[name].variance(shape)


UNFIT = [
    (he(), (0,)),
    (he(in_axis=2), (0, 3)),
    (he(batch_axis=1), (0, 3)),
    (he(strides=(2, 2)), (0, 3, 3)),
    (flaxinit.siren(out_axis=5), (0, 3)),
    (flaxinit.orthogonal(), (0,)),
    (flaxinit.orthogonal(batch_axis=3), (0, 3, 3)),
    (flaxinit.gated_orthogonal(2), (0, 3)),
    (flaxinit.delta_orthogonal(), (0, 3)),
    (flaxinit.identity(groups=2), (0, 3)),
    (flaxinit.sparse(0.5), (0,)),
    (flaxinit.forget_bias(), (0, 3)),
    (flaxinit.chrono(9), (0, 3)),
    (flaxinit.stft(), (0, 3)),
    (flaxinit.constant(np.arange(3.0)), (0, 4)),
]


@pytest.mark.parametrize(("init", "shape"), UNFIT, ids=str)
def test_a_shape_that_does_not_fit_is_refused_even_if_empty(init, shape):
    for size in (0, 7):
        for call in (lambda s: init(KEY, s), init.variance, init.std):
            with pytest.raises(ValueError, match=r"shape|axes|kernel") as refused:
                call((size, *shape[1:]))
            assert "no entries" not in str(refused.value)


@every
def test_the_variance_of_an_invalid_shape_is_refused(name):
    for shape, error, message in (
        ((3, -4), ValueError, "sizes of a shape must be at least 0"),
        (5, TypeError, "sequence of integers, got 5"),
        ((True, 4), TypeError, "sequence of integers"),
        ((3, 4.0), TypeError, "sequence of integers"),
    ):
        for call in (VALUES[name].variance, VALUES[name].std):
            with pytest.raises(error, match=message):
                call(shape)


def test_axes_are_a_set():
    assert he(batch_axis=0) == he(batch_axis=(0,)) == he(batch_axis=[np.int64(0)])
    assert hash(he(batch_axis=0)) == hash(he(batch_axis=(0,)))
    assert repr(he(in_axis=(-2,))) == repr(he())
    assert he(in_axis=(1, 0)) == he(in_axis=(0, 1))
    assert flaxinit.orthogonal(batch_axis=(0,)) == flaxinit.orthogonal(batch_axis=0)
    # But one stride is for all spatial axes, and a row of one for the only one.
    assert he(strides=(2,)) != he(strides=2) and he(strides=(2, 1)) != he(strides=(1, 2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_scale_that_is_replaced_is_the_scale_that_is_drawn(activation, mode):
    init, shape = he(activation, mode=mode), (6, 24)
    if mode in ("fan_in", "fan_out") or activation == "relu":  # one scale, in whichever sense
        assert init.backward_scale is None
        replaced = dataclasses.replace(init, scale=4 * init.scale)
        assert replaced.variance(shape) == 4 * init.variance(shape)
        assert replaced == init.times(2)
    else:  # two, of which one is replaced, as it stands in the repr
        replaced = dataclasses.replace(init, scale=0.5)
        backward = init.backward_scale
        assert replaced == variance_scaling(0.5, mode, "truncated_normal", backward_scale=backward)
    assert init.times(2).variance(shape) == pytest.approx(4 * init.variance(shape), rel=1e-15)


def test_a_mode_of_one_fan_needs_only_that_fan():
    assert he(fan_in=4)(KEY, (3,)).shape == (3,)
    assert he(fan_in=4).variance((3,)) == he(fan_in=4).variance((4, 9)) == 0.5
    assert he(fan_out=4, mode="fan_out").variance(()) == 0.5
    for mode in set(MODES) - {"fan_in"}:
        with pytest.raises(ValueError, match="input and an output axis"):
            he(fan_in=4, mode=mode).variance((3,))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_and_legacy_keys(impl):
    typed = he()(jax.random.key(3, impl=impl), (8, 4))
    with jax.default_prng_impl(impl):
        legacy = he()(jax.random.PRNGKey(3, impl=impl), (8, 4))
    np.testing.assert_array_equal(typed, legacy)


def jitted(init, shape):
    return jax.jit(lambda key: init(key, shape))(KEY)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_float32_is_jitted_jax_bit_for_bit(mode, distribution):
    ours = variance_scaling(2.0, mode, distribution, -3, 0, 1)
    theirs = jax.nn.initializers.variance_scaling(2.0, mode, distribution, -3, 0, 1)
    # Every axis has a different size. Index arithmetic by powers of two compiles five times faster.
    for shape in ((2, 4, 8, 16, 32), (1, 2, 300, 7, 1)):
        np.testing.assert_array_equal(ours(KEY, shape), jitted(theirs, shape))


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_narrow_arrays_are_jax_up_to_the_rounding_of_erf_inv(distribution, last):
    ours = variance_scaling(2.0, "fan_in", distribution)(KEY, (512, last))
    theirs = jitted(jax.nn.initializers.variance_scaling(2.0, "fan_in", distribution), (512, last))
    units = 0 if distribution == "uniform" else ROUNDING
    assert (abs(ours - theirs) <= units * np.finfo(np.float32).eps * abs(theirs)).all()


def test_plain_and_named_forms_are_jitted_jax_bit_for_bit():
    jax_init = jax.nn.initializers
    for ours, theirs in [
        (flaxinit.normal(0.3), jax_init.normal(0.3)),
        (flaxinit.uniform(0.3), jax_init.uniform(0.3)),
        (flaxinit.constant(-7), jax_init.constant(-7)),
        (flaxinit.zeros, jax_init.zeros),
        (flaxinit.ones, jax_init.ones),
        (flaxinit.he_normal(), jax_init.he_normal()),
        (flaxinit.kaiming_uniform(), jax_init.kaiming_uniform()),
        (flaxinit.glorot_normal(), jax_init.glorot_normal()),
        (flaxinit.xavier_uniform(), jax_init.xavier_uniform()),
        (flaxinit.lecun_normal(), jax_init.lecun_normal()),
        (flaxinit.lecun_uniform(), jax_init.lecun_uniform()),
    ]:
        np.testing.assert_array_equal(ours(KEY, (30, 20)), jitted(theirs, (30, 20)))


def test_layers_of_one_shape_share_one_program():
    from flaxinit.sampling import draw

    variance_scaling(1.0, "fan_in", "normal")(KEY, (19, 23))
    programs = draw._cache_size()
    variance_scaling(2.0, "fan_in", "normal")(KEY, (19, 23))
    assert draw._cache_size() == programs
    variance_scaling(2.0, "fan_in", "normal")(KEY, (23, 19))
    assert draw._cache_size() == programs + 1


def test_filled_constants_have_both_of_jaxs_spellings():
    assert flaxinit.zeros() is flaxinit.zeros
    np.testing.assert_array_equal(flaxinit.ones()(KEY, (2,)), [1, 1])


def test_float64_without_x64_says_what_it_draws():
    with pytest.warns(UserWarning, match=r"float64 was asked for.*drawing float32"):
        assert he()(KEY, (2, 2), jnp.float64).dtype == jnp.float32


def test_pythons_float_means_jaxs_default_dtype(recwarn):
    assert he(dtype=float) == he() and he()(KEY, (2, 2), float).dtype == jnp.float32
    assert not recwarn
    with enable_x64(True):
        assert he(dtype=float)(KEY, (2, 2)).dtype == jnp.float64


BAD = {
    "activation": (lambda: he("gelo"), ValueError, "'gelo' is not in the catalogue.*'gelu'"),
    "activation type": (lambda: he(3.0j), (TypeError, ValueError), "3j"),
    "mode": (lambda: he(mode="fan_im"), ValueError, "mode must be one of.*Did you mean 'fan_in'"),
    "keyword": (
        lambda: flaxinit.glorot_uniform(mdoe="fan_in"),
        TypeError,
        "^glorot_uniform takes no keyword 'mdoe'. Did you mean 'mode'.*in_axis",
    ),
    "keyword of another": (lambda: he(scale=2.0), TypeError, "'scale'.*use flaxinit.variance_sc"),
    "distribution": (lambda: he(distribution="gauss"), ValueError, "distribution must be one of"),
    "flat activation": (lambda: he("sign", mode="fan_avg"), ValueError, "E.φ'.z.². = 0"),
    "scale < 0": (lambda: variance_scaling(-1, "fan_in", "normal"), ValueError, "at least 0"),
    "scale nan": (lambda: variance_scaling(np.nan, "fan_in", "normal"), ValueError, "finite"),
    "scale inf": (lambda: variance_scaling(np.inf, "fan_in", "normal"), ValueError, "finite"),
    "scale str": (lambda: variance_scaling("2x", "fan_in", "normal"), TypeError, "scale must be"),
    **{
        f"{bad!r} for a number": (lambda n=bad: flaxinit.normal(n), TypeError, "must be a number")
        for bad in (True, np.True_, "3", b"3", 1j, np.complex64(1), [1.0], np.ones(1), None, KEY)
    },
    "huge": (lambda: flaxinit.normal(10**400), ValueError, "must be finite"),
    "True for a scale": (lambda: variance_scaling(True, "fan_in", "normal"), TypeError, "scale"),
    "True for an end": (lambda: flaxinit.truncated_normal(upper=True), TypeError, "upper"),
    "True for a count": (lambda: flaxinit.gated_orthogonal(True), ValueError, "positive integer"),
    "True for an axis": (lambda: he(in_axis=True), TypeError, "in_axis must be"),
    "True for a stride": (lambda: he(strides=(True, 2)), ValueError, "strides must be"),
    "True for a size": (lambda: he()(KEY, (True, 3)), TypeError, "shape must be"),
    "-1.0 for an axis": (
        lambda: flaxinit.delta_orthogonal(column_axis=-1.0),
        TypeError,
        "column_axis must be",
    ),
    "traced": (
        lambda: jax.jit(lambda x: flaxinit.sparse(x)(KEY, (2, 2)))(0.5),
        TypeError,
        "known when",
    ),
    "stddev": (lambda: flaxinit.normal(-0.1), ValueError, "stddev must be.*-0.1"),
    "interval": (lambda: flaxinit.uniform(-1.0), ValueError, "minval=0.0 is above"),
    "cut": (lambda: flaxinit.truncated_normal(1.0, lower=5, upper=6), ValueError, "1/1000"),
    "int dtype": (lambda: he(dtype=jnp.int32), ValueError, "int32"),
    "int dtype called": (lambda: he()(KEY, (2, 2), jnp.int8), ValueError, "int8"),
    "big-endian": (lambda: he(dtype=">f4"), ValueError, "dtype of JAX, got >f4"),
    "no dtype": (lambda: he(dtype="floatish"), TypeError, "floatish"),
    "axes": (lambda: he(in_axis="rows"), TypeError, "in_axis must be an integer"),
    "groups": (lambda: he(groups=0), ValueError, "groups must be a positive integer"),
    "fan": (lambda: he(fan_in=0), ValueError, "fan_in must be positive"),
    "bias": (lambda: he()(KEY, (3,)), ValueError, "flaxinit.zeros"),
    "scalar": (lambda: he()(KEY, ()), ValueError, "flaxinit.zeros"),
    "axis range": (lambda: he(in_axis=2)(KEY, (3, 3)), ValueError, "in_axis=2 is out of range"),
    "batch axis": (lambda: he(batch_axis=0)(KEY, (3, 3)), ValueError, "batch_axis=0 shares"),
    "strides": (lambda: he(strides=(2, 2))(KEY, (3, 3, 3)), ValueError, "strides"),
    **{
        f"no key for {name}": (
            lambda init=init: init(None, (3, 4, 4)),
            TypeError,
            "needs one key.*got None",
        )
        for name, init in VALUES.items()
        if name in ("he", "orthogonal", "delta_orthogonal", "sparse", "chrono", "lru_nu")
    },
    "gates, no key": (
        lambda: flaxinit.gated_orthogonal()(None, (3, 4)),
        TypeError,
        "needs one key",
    ),
    **{
        f"{init}, no key": (lambda init=init: init(None, (4, 4)), TypeError, "needs one key")
        for init in (flaxinit.normal(0.0), flaxinit.orthogonal(0.0), flaxinit.sparse(1.0))
    },
    **{
        f"{init}, flushed to zero": (
            lambda init=init: init(KEY, (4, 4)),
            ValueError,
            "standard deviation of 1e-38",
        )
        for init in (flaxinit.normal(1e-38), flaxinit.sparse(0.0, 1e-38))
    },
    "positive numbers only": (
        lambda: he(dtype="float8_e8m0fnu"),
        ValueError,
        "holds no negative numbers",
    ),
    "one sharding": (
        lambda: flaxinit.mimetic()(KEY, 4, 2, None, jax.P(None, "x", None, None)),
        TypeError,
        "one sharding for each of query",
    ),
    "attention, no key": (lambda: flaxinit.mimetic()(None, 4, 2), TypeError, "needs one key"),
    "a seed": (lambda: he()(3, (3, 3)), TypeError, r"needs one key, jax.random.key\(seed\); got 3"),
    "keys": (lambda: he()(KEY[None], (3, 3)), TypeError, r"of shape \(1,\).*jax.vmap"),
    "NNX's streams": (
        lambda: he()(nnx.Rngs(0), (3, 3)),
        TypeError,
        r"needs one key.*pass rngs\.params\(\)",
    ),
    "a device": (
        lambda: he()(KEY, (3, 3), None, jax.devices()[0]),
        TypeError,
        "NamedSharding or a Partition",
    ),
    "column": (lambda: flaxinit.orthogonal(column_axis=(0, 1)), ValueError, "one axis"),
    "shape": (lambda: he()(KEY, 3), TypeError, "shape must be a sequence"),
    "negative size": (
        lambda: he()(KEY, (3, -1)),
        ValueError,
        "sizes of a shape must be at least 0",
    ),
    "keyless": (lambda: flaxinit.zeros(KEY), TypeError, "takes .key, shape"),
    "spec": (
        lambda: he()(KEY, (2, 2), None, jax.sharding.PartitionSpec("x")),
        ValueError,
        "no mesh is set",
    ),
    "complex interval": (lambda: flaxinit.uniform()(KEY, (2,), jnp.complex64), ValueError, "disk"),
    "complex constant": (lambda: flaxinit.constant(1j)(KEY, (2,)), ValueError, "complex constant"),
    "wide interval": (
        lambda: flaxinit.uniform(3e38, minval=-3e38)(KEY, (2,)),
        ValueError,
        r"float32 cannot represent values up to 6e\+38",
    ),
    "narrow interval": (
        lambda: flaxinit.uniform(1 + 1e-9, minval=1)(KEY, (2,)),
        ValueError,
        "float32 has steps of 1.19e-07 at 1, too wide for a standard deviation of 2.89e-10",
    ),
    "narrow in bfloat16": (
        lambda: flaxinit.uniform(1.01, minval=0.99)(KEY, (2,), jnp.bfloat16),
        ValueError,
        "bfloat16 has steps of 0.00781 at 1.01",
    ),
    "long memory": (
        lambda: flaxinit.chrono(1e30)(KEY, (8,), jnp.float8_e3m4),
        ValueError,
        "float8_e3m4 cannot represent values up to 69",
    ),
    "longer memory": (
        lambda: flaxinit.chrono(1e300)(KEY, (8,)),
        ValueError,
        r"float32 cannot represent values up to 1e\+300",
    ),
    "unit circle": (
        lambda: flaxinit.lru_nu()(KEY, (8,), jnp.float8_e3m4),
        ValueError,
        "float8_e3m4 cannot represent values up to 17.3",
    ),
    "flat transform": (
        lambda: flaxinit.stft(scaling="spectrum")(None, (8000, 1, 5), jnp.float8_e3m4),
        ValueError,
        "float8_e3m4 cannot represent values of at most",
    ),
    "traced, not numbers": (
        lambda: jax.jit(lambda x: flaxinit.constant(x)(None, (2,)))(True),
        TypeError,
        "known when it is built",
    ),
    "ragged": (lambda: flaxinit.constant([[1, 2], [3]]), TypeError, "needs a number or an array"),
    "text": (lambda: flaxinit.constant("a"), TypeError, "needs a number"),
    "a constant True": (lambda: flaxinit.constant(True), TypeError, "needs a number.*got True"),
    "constant nan": (lambda: flaxinit.constant(np.nan), ValueError, "must be finite, got nan"),
    "constant inf": (lambda: flaxinit.constant([0, np.inf]), ValueError, "must be finite"),
    **{
        f"{init}, all zeros": (
            lambda init=init, shape=shape: init(None, shape, jnp.float16),
            ValueError,
            "float16 cannot represent values of at most 1e-10.*round to zero",
        )
        for init, shape in (
            (flaxinit.constant(1e-10), (2,)),
            (flaxinit.constant([-1e-10, 0.0]), (2,)),
            (flaxinit.identity(-1e-10), (2, 2)),
            (flaxinit.forget_bias(1e-10), (4,)),
        )
    },
    "broadcast": (
        lambda: flaxinit.constant(np.ones((2, 1)))(None, (3, 4)),
        ValueError,
        r"value of a constant has shape \(2, 1\), which does not broadcast to the shape \(3, 4\)",
    ),
    "broadcast up": (
        lambda: flaxinit.constant(np.ones((2, 1)))(None, (4,)),
        ValueError,
        "does not broadcast",
    ),
}


def test_counts_may_be_numpy_integers():
    assert flaxinit.gated_orthogonal(np.int64(2)) == flaxinit.gated_orthogonal(2)
    assert flaxinit.fixup_factor(np.int64(16)) == flaxinit.fixup_factor(16)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_clear_error(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_constants_are_equal_by_what_they_fill_with():
    for filled, value in ((flaxinit.zeros, 0.0), (flaxinit.ones, 1)):
        assert filled == flaxinit.constant(value) == filled
        assert hash(filled) == hash(flaxinit.constant(value))
        assert filled not in (flaxinit.constant(0.5), flaxinit.constant(value, "float16"))
    replaced = dataclasses.replace(flaxinit.ones, value=2.0)
    assert repr(replaced) == "constant(2.0)" and (replaced(None, (2,)) == 2).all()
    # Some values of an array may round to zero, as some values of a draw do.
    kept = flaxinit.constant([1.0, 1e-10])(None, (2,), jnp.float16)
    np.testing.assert_array_equal(kept, [1, 0])


def test_filled_constants_take_a_dtype_and_stay_as_they_are():
    assert flaxinit.ones(dtype=jnp.bfloat16)(None, (2,)).dtype == jnp.bfloat16
    assert flaxinit.zeros() is flaxinit.zeros
    array = flaxinit.constant(np.arange(3.0))
    for same in (array, copy.deepcopy(array), pickle.loads(pickle.dumps(array))):
        with pytest.raises(ValueError, match="read-only"):
            same.value[1] = 7
