"""A traced scale gives the draw that the same number gives when it is known."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxinit
from benchmarks.bounds import z_score

KEY = jax.random.key(5)
SHAPES = {"delta_orthogonal": (3, 8, 4), "array": (2, 3)}
NUMBER = math.sqrt(2) / 3
# A scale s -> an initializer.
SCALED = {
    "normal": flaxinit.normal,
    "truncated_normal": flaxinit.truncated_normal,
    "uniform": lambda s: flaxinit.uniform(s, minval=-s),
    **{
        f"variance_scaling {mode} {distribution}": lambda s, m=mode, d=distribution: (
            flaxinit.variance_scaling(s, m, d)
        )
        for mode, distribution in (
            ("fan_in", "truncated_normal"),
            ("fan_out", "uniform"),
            ("fan_avg", "normal"),
            ("fan_geo_avg", "normal"),
        )
    },
    "he times": lambda s: flaxinit.he().times(s),
    **{
        f"he {mode} times": lambda s, m=mode: flaxinit.he("gelu", mode=m).times(s)
        for mode in ("fan_out", "fan_avg", "fan_geo_avg")
    },
    "orthogonal": flaxinit.orthogonal,
    "semi_orthogonal": flaxinit.semi_orthogonal,
    "gated_orthogonal": lambda s: flaxinit.gated_orthogonal(2, s),
    "delta_orthogonal": flaxinit.delta_orthogonal,
    "identity": flaxinit.identity,
    "sparse": lambda s: flaxinit.sparse(0.5, s),
    "siren": flaxinit.siren,
    "forget_bias": flaxinit.forget_bias,
    "constant": flaxinit.constant,
    "array": lambda s: flaxinit.constant(s * np.arange(3, dtype=np.float32)),
}
# The scale, the variance, its root and the product each have a float32 error of half a unit. A
# variance is at most three operations from the scale.
ROUNDINGS = 8
every = pytest.mark.parametrize("name", SCALED)


def close(traced, known) -> bool:
    """Assert equality up to the roundings of float32 and of the dtype itself."""
    traced, known = (np.asarray(x).astype(np.complex128) for x in (traced, known))
    return bool((abs(traced - known) <= ROUNDINGS * np.finfo(np.float32).eps * abs(known)).all())


@every
def test_the_draw_is_that_of_the_same_number(name):
    init, shape = SCALED[name], SHAPES.get(name, (16, 8))
    known = init(NUMBER)(KEY, shape)

    def draw(s):
        return init(s)(KEY, shape)

    assert close(jax.jit(draw)(NUMBER), known)
    assert close(jax.jit(draw)(jnp.asarray(NUMBER)), known)
    stacked = jax.vmap(draw)(jnp.array([NUMBER, 2 * NUMBER]))
    assert close(stacked[0], known) and close(stacked[1], init(2 * NUMBER)(KEY, shape))
    assert jax.eval_shape(draw, 1.0) == jax.eval_shape(lambda: known)
    if np.asarray(known).any():  # another number is another draw
        assert not close(jax.jit(draw)(NUMBER * (1 + 1e-5)), known)


@every
def test_the_variance_is_stated_traced(name):
    init, shape = SCALED[name], SHAPES.get(name, (16, 8))
    known = init(NUMBER)
    variance, std = jax.jit(lambda s: (init(s).variance(shape), init(s).std(shape)))(NUMBER)
    assert close(variance, known.variance(shape)) and close(std, known.std(shape))


NUMBERS = (jnp.bfloat16(0.5), np.float16(0.5), jnp.int32(2), 2, 0.0)


@pytest.mark.parametrize("name", [n for n in SCALED if n not in ("siren", "array")])
def test_any_real_dtype_and_zero(name):
    """A scale of 0 draws zeros; the ω of a siren must be positive."""
    init, shape = SCALED[name], SHAPES.get(name, (16, 8))
    dtypes = jnp.float32, jnp.bfloat16
    # One program: numbers of different dtypes share their random bits.
    traced = jax.jit(lambda numbers: [[init(s)(KEY, shape, d) for d in dtypes] for s in numbers])
    for number, row in zip(NUMBERS, traced(NUMBERS), strict=True):
        for dtype, drawn in zip(dtypes, row, strict=True):
            known = init(float(number))(KEY, shape, dtype)
            assert drawn.dtype == dtype and close(drawn, known)


@every
def test_a_traced_initializer_cannot_be_hashed_or_compared(name):
    init, known = SCALED[name], SCALED[name](1.0)

    @jax.jit
    def inside(s):
        traced = init(s)
        assert traced == traced and traced in [traced]
        assert dataclasses.replace(traced, dtype="bfloat16").dtype == jnp.bfloat16
        assert "Tracer" in repr(traced)
        for call in (
            lambda: hash(traced),
            lambda: traced == init(s),
            lambda: traced == known,
            lambda: known != traced,
        ):
            with pytest.raises(TypeError, match=r"traced .* cannot be hashed or compared.*NumPy"):
                call()
        return s

    inside(1.0)


def test_what_decides_about_shapes_and_ends_must_be_known():
    for init in (
        flaxinit.sparse,
        flaxinit.chrono,
        flaxinit.lru_nu,
        flaxinit.lru_theta,
        lambda s: flaxinit.truncated_normal(lower=-s),
        lambda s: flaxinit.he(fan_in=s),
        lambda s: flaxinit.normal(s * jnp.ones(3)),
        lambda s: flaxinit.normal(s > 0),
        lambda s: flaxinit.normal(s * 1j),
    ):
        with pytest.raises(TypeError, match=r"must be a (real )?number"):
            jax.jit(lambda s, init=init: init(s)(KEY, (4, 4)))(0.5)


def test_attention_takes_traced_weights():
    known = flaxinit.mimetic(0.5, value_identity=0.25)(KEY, 8, 2)
    traced = jax.jit(lambda s: flaxinit.mimetic(s, value_identity=s / 2)(KEY, 8, 2))(0.5)
    for ours, theirs in zip(traced, known, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


class Layer(nn.Module):
    """Its scales are computed by JAX, or known."""

    traced: bool

    @nn.compact
    def __call__(self, x, depth=None):
        if depth is not None:
            return nn.Dense(8, kernel_init=flaxinit.he().times(1 / jnp.sqrt(1.0 + depth)))(x), None
        stddev = 1 / jnp.sqrt(64.0) if self.traced else 0.125
        share = jnp.log(3.0) if self.traced else math.log(3)
        bias = flaxinit.constant(share)
        return nn.Dense(8, kernel_init=flaxinit.normal(stddev), bias_init=bias)(x)


class Block(nnx.Module):
    """The same for NNX."""

    def __init__(self, traced, rngs):
        init = flaxinit.orthogonal(jnp.sqrt(2.0) if traced else math.sqrt(2))
        self.layer = nnx.Linear(8, 8, kernel_init=init, rngs=rngs)


ONES = np.ones((1, 8), np.float32)
INSIDE = {
    "eagerly": lambda traced: Layer(traced).init(KEY, ONES),
    "jit": lambda traced: jax.jit(Layer(traced).init)(KEY, ONES),
    "eval_shape": lambda traced: jax.eval_shape(Layer(traced).init, KEY, ONES),
    "fast_init": lambda traced: flaxinit.fast_init(Layer(traced).init)(KEY, ONES),
    "nn.jit": lambda traced: nn.jit(Layer)(traced).init(KEY, ONES),
    "nn.remat": lambda traced: nn.remat(Layer)(traced).init(KEY, ONES),
    "nnx eagerly": lambda traced: nnx.state(Block(traced, nnx.Rngs(0))),
    "nnx.jit": lambda traced: nnx.state(nnx.jit(lambda: Block(traced, nnx.Rngs(0)))()),
    "nnx.eval_shape": lambda traced: nnx.state(nnx.eval_shape(lambda: Block(traced, nnx.Rngs(0)))),
    "nnx fast_init": lambda traced: nnx.state(
        flaxinit.fast_init(lambda: Block(traced, nnx.Rngs(0)))()
    ),
}


@pytest.mark.parametrize("how", INSIDE)
def test_inside_a_module_under_every_transformation(how):
    traced, known = (jax.tree.leaves(INSIDE[how](traced)) for traced in (True, False))
    assert len(traced) == len(known) > 1
    for ours, theirs in zip(traced, known, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        abstract = isinstance(ours, jax.ShapeDtypeStruct)
        assert abstract == ("eval_shape" in how)
        if not abstract and jnp.issubdtype(ours.dtype, jnp.floating):
            assert close(ours, theirs)


def test_a_variance_by_depth_in_a_scan():
    """The mean square of a normal number has variance 2, and of one that is cut less."""
    stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=64)(
        True
    )
    params = stack.init(KEY, ONES, jnp.arange(64.0))["params"]
    kernels = np.asarray(params["Dense_0"]["kernel"]) * np.sqrt(1 + np.arange(64))[:, None, None]
    assert abs((kernels**2).mean() * 8 / 2 - 1) < z_score(1) * np.sqrt(2 / kernels.size)
