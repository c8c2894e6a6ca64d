"""JAX's requirements of its own initializers: shapes, dtypes, zero sizes, equal functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import flaxinit
from flaxinit.versions.compat import enable_x64

KEY = jax.random.key(42)
REAL = ("float16", "bfloat16", "float32")
COMPLEX = ("complex64",)
INITIALIZERS = {
    "uniform": (flaxinit.uniform(0.1), 1, REAL),
    "truncated_normal": (flaxinit.truncated_normal(0.1), 1, REAL),
    "normal": (flaxinit.normal(0.1), 1, REAL + COMPLEX),
    "zeros": (flaxinit.zeros, 1, REAL + COMPLEX),
    "constant": (flaxinit.constant(-7.0), 1, REAL + COMPLEX),
    "glorot_normal": (flaxinit.glorot_normal(), 2, REAL + COMPLEX),
    "glorot_uniform": (flaxinit.glorot_uniform(), 2, REAL + COMPLEX),
    "lecun_normal": (flaxinit.lecun_normal(), 2, REAL + COMPLEX),
    "lecun_uniform": (flaxinit.lecun_uniform(), 2, REAL + COMPLEX),
    "he_normal": (flaxinit.he_normal(), 2, REAL + COMPLEX),
    "he_uniform": (flaxinit.he_uniform(), 2, REAL + COMPLEX),
    "orthogonal": (flaxinit.orthogonal(), 2, REAL + COMPLEX),
    "delta_orthogonal": (flaxinit.delta_orthogonal(), 3, REAL + COMPLEX),
}
SHAPES = {1: [(2,), (2, 3)], 2: [(2, 2), (2, 2, 4)], 3: [(2, 2, 4), (1, 2, 4, 4)]}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_shape_and_dtype(name):
    init, ndim, dtypes = INITIALIZERS[name]
    first, second = SHAPES[ndim]
    for shape, dtype in [(second, "float32"), *((first, dtype) for dtype in dtypes)]:
        values = init(KEY, shape, jnp.dtype(dtype))
        assert values.shape == shape and values.dtype == dtype
        assert np.isfinite(np.asarray(values).astype(np.complex64)).all()
    empty = (*first[:-1], 0)
    assert init(KEY, empty).shape == empty


def test_the_default_dtype_is_the_initializers_then_jaxs():
    assert flaxinit.he()(KEY, (2, 2)).dtype == jnp.float32
    assert flaxinit.he(dtype="float16")(KEY, (2, 2)).dtype == jnp.float16
    assert flaxinit.he(dtype="float16")(KEY, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16
    with enable_x64(True):
        assert flaxinit.he()(KEY, (2, 2)).dtype == jnp.float64


def test_axes_do_not_change_the_draw_of_a_convolution():
    with_in_out = flaxinit.he(in_axis=-2, out_axis=-1)(KEY, (2, 2, 4, 8))
    positive = flaxinit.he(in_axis=(2,), out_axis=(3,))(KEY, (2, 2, 4, 8))
    np.testing.assert_array_equal(with_in_out, positive)


SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=4)
DTYPES = st.sampled_from(REAL + COMPLEX)
FORMS = st.builds(
    flaxinit.variance_scaling,
    st.floats(0, 4),
    st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
    st.sampled_from(["truncated_normal", "normal", "uniform"]),
    dtype=st.one_of(st.none(), DTYPES),
    backward_scale=st.one_of(st.none(), st.floats(1e-3, 4)),
    fan_in=st.one_of(st.none(), st.floats(1, 1e6)),
    groups=st.integers(1, 4),
)


@settings(deadline=None, max_examples=50)
@given(FORMS, SIZES)
def test_every_form_is_a_value_between_its_means(init, shape):
    again = eval(repr(init), {"variance_scaling": flaxinit.variance_scaling})
    assert again == init and hash(again) == hash(init)
    fan_in, fan_out = init.fans(shape)
    backward = init.scale if init.backward_scale is None else init.backward_scale
    ends = sorted((init.scale / fan_in, backward / fan_out))
    assert ends[0] * (1 - 1e-12) <= init.variance(shape) <= ends[1] * (1 + 1e-12)


@settings(deadline=None, max_examples=10)  # each shape compiles
@given(SIZES, DTYPES, st.integers(0, 2**31))
def test_draws_are_finite_and_bounded_for_every_shape(shape, dtype, seed):
    init = flaxinit.he()
    values = np.abs(np.asarray(init(jax.random.key(seed), shape, jnp.dtype(dtype)), np.complex64))
    # Twice the parent's deviation, or once more the last rounding.
    reach = 2 * init.std(shape) / (0.8796 if dtype != "complex64" else 0.9619)
    assert values.shape == tuple(shape) and values.max() <= reach * (1 + 2**-7)


@pytest.mark.slow
@settings(deadline=None, max_examples=8)  # each shape compiles
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["float32", "complex64"]))
def test_orthogonal_for_every_shape(rows, columns, dtype):
    w = np.asarray(flaxinit.orthogonal()(KEY, (rows, columns), jnp.dtype(dtype)))
    gram = w.conj().T @ w if rows >= columns else w @ w.conj().T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=32 * np.finfo("float32").eps)
