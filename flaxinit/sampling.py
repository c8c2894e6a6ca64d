"""Draws whose moments hold in every dtype.

A draw is a multiple of one of three parents: the standard normal, the standard normal cut to an
interval, or the uniform on an interval. It is made in float32 or wider and rounded once. JAX
instead draws low-precision values from as few random bits as the dtype has, which leaves bfloat16
with 128 distinct values and a mean of -1.7 % of the standard deviation.

Rounding to steps of d adds about d²/12 to a variance. A draw whose standard deviation is below the
dtype's smallest step is refused. At one step the rounding moves the variance by up to 14 %, from
three steps on by up to 4 % in eight bits, and from 16 steps on by less than 0.1 % in sixteen.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Inexact, PRNGKeyArray

from flaxinit.versions.threefry import one_pass

Distribution = Literal["truncated_normal", "normal", "uniform"]
DISTRIBUTIONS: tuple[str, ...] = ("truncated_normal", "normal", "uniform")
OutSharding = NamedSharding | PartitionSpec | None
# The interval of each parent in variance scaling. JAX too cuts at two standard deviations.
ENDS = {"truncated_normal": (-2.0, 2.0), "normal": (-math.inf, math.inf), "uniform": (-1.0, 1.0)}


def compute_dtype(dtype) -> np.dtype:
    """Return the dtype in which to draw: float32 for narrower dtypes, otherwise `dtype` itself."""
    return np.dtype(np.float32) if jnp.finfo(dtype).bits < 32 else np.dtype(dtype)


def real_dtype(dtype) -> np.dtype:
    """Return the dtype of the real part of a draw."""
    return np.dtype(jnp.finfo(compute_dtype(dtype)).dtype)


def normal_mass(lower: float, upper: float) -> float:
    """Return the probability that a standard normal lies between two numbers."""
    return NormalDist().cdf(upper) - NormalDist().cdf(lower)


def truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Return the mean and the variance of a standard normal cut to ``(lower, upper)``.

    ``mean = (φ(a) - φ(b))/P`` and ``var = 1 + (aφ(a) - bφ(b))/P - mean²``, ``P = Φ(b) - Φ(a)``.

    Args:
        lower: left end a, in standard deviations; may be ``-inf``.
        upper: right end b, in standard deviations; may be ``inf``.

    Returns:
        The mean and the variance.

    >>> mean, variance = truncated_moments(-2.0, 2.0)
    >>> round(variance ** 0.5, 12)
    0.879625661034

    References: Johnson, Kotz, Balakrishnan (1994), Continuous Univariate Distributions 1, §10.1.
    """
    z, mass = NormalDist(), normal_mass(lower, upper)
    weighted = [0.0 if math.isinf(end) else end * z.pdf(end) for end in (lower, upper)]
    mean = (z.pdf(lower) - z.pdf(upper)) / mass
    return mean, 1 + (weighted[0] - weighted[1]) / mass - mean**2


def disk_variance(cut: float) -> float:
    """Return ``E|z|²`` of a complex standard normal whose modulus is cut at ``cut``.

    ``|z|²`` is exponential with mean 1, so this is the mean of an exponential cut at c²:
    ``1 - c²/(exp(c²) - 1)``.
    """
    return 1 - cut**2 / math.expm1(cut**2)


def is_traced(*values: Any) -> bool:
    """Tell whether one of the values is known only when the program runs."""
    return any(isinstance(value, Tracer) for value in values)


def array_module(*values: Any) -> Any:
    """Return `jax.numpy` if one of the values is traced, otherwise NumPy."""
    return jnp if is_traced(*values) else np


def root(number: Any) -> Any:
    """Return ``√number``, traced if the number is."""
    return jnp.sqrt(number) if is_traced(number) else math.sqrt(number)


def real(dtype, number: Any) -> Any:
    """Return a number as a scalar of the dtype in which the real part of a draw is made."""
    return array_module(number).asarray(number, real_dtype(dtype))


def factor(distribution: str, variance: float | Array, dtype) -> np.generic | Array:
    """Return the multiple of its parent that gives a distribution this variance.

    It computes in the dtype of the draw and in the order of a jitted initializer of
    `jax.nn.initializers`, so float32 values are the same.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        variance: of the values, ``E|w|²`` for complex ones.
        dtype: of the values.

    Returns:
        A real scalar of the compute dtype: a NumPy one unless the variance is traced.
    """
    v = real(dtype, variance)
    sqrt = array_module(v).sqrt
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    if distribution == "uniform":  # a disk of radius √2 has E|z|² = 1
        return sqrt(v) if is_complex else sqrt(real(dtype, 3) * v)
    if distribution == "normal":
        return sqrt(v)
    lower, upper = ENDS[distribution]
    kept = disk_variance(upper) if is_complex else truncated_moments(lower, upper)[1]
    return sqrt(v) / real(dtype, math.sqrt(kept))


def check_representable(dtype, stddev: float, largest: float) -> None:
    """Raise ValueError if a dtype cannot hold a distribution. Do not check traced numbers.

    Args:
        dtype: of the values.
        stddev: their standard deviation; 0 if nothing is random.
        largest: the largest magnitude that can be drawn.
    """
    if is_traced(stddev, largest):
        return
    info = jnp.finfo(dtype)
    name = np.dtype(dtype).name
    # XLA flushes the subnormal numbers of the dtype in which it computes to zero.
    step = max(float(info.smallest_subnormal), float(jnp.finfo(real_dtype(dtype)).tiny))
    limit = float(info.max)
    if 0 < (size := stddev or largest) < step:
        what = "a standard deviation of" if stddev else "values of at most"
        raise ValueError(
            f"{name} cannot represent {what} {size:.3g}: its smallest step is {step:.3g}, so "
            "nearly every value would round to zero. Draw in a wider dtype, or keep the parameter "
            "at unit scale and multiply in the forward pass."
        )
    if largest > limit:
        origin = f", which a standard deviation of {stddev:.3g} can give" if stddev else ""
        raise ValueError(
            f"{name} cannot represent values up to {largest:.5g}{origin}: its largest number is "
            f"{limit:.5g}. Draw in a wider dtype."
        )


def reach(dtype, distribution: str, ends: tuple[float, float]) -> float:
    """Return the largest magnitude a parent can take."""
    farthest = max(-ends[0], ends[1])
    if distribution == "uniform":
        return farthest
    # Normals come from uniforms, and the last one below 1 is epsneg away from it.
    return min(farthest, -NormalDist().inv_cdf(float(jnp.finfo(real_dtype(dtype)).epsneg) / 2))


def checked_factor(distribution: str, variance: float | Array, dtype) -> np.generic | Array:
    """Return `factor`. Raise ValueError if the dtype cannot hold such a draw around 0."""
    multiple = factor(distribution, variance, dtype)
    if not is_traced(variance):
        farthest = reach(dtype, distribution, ENDS[distribution])
        _check_drawable(dtype, float(variance), float(multiple) * farthest)
    return multiple


def _check_drawable(dtype, variance: float, largest: float) -> None:
    least = float(jnp.finfo(real_dtype(dtype)).tiny)
    if 0 < variance < least:
        raise ValueError(
            f"A variance of {variance:.3g} is too small: it is drawn in {real_dtype(dtype).name}, "
            f"which resolves {least:.3g}. Draw in float64, or keep the parameter at unit scale "
            "and multiply in the forward pass."
        )
    check_representable(dtype, math.sqrt(variance), largest)


def place(draw: Callable[..., Any], out_sharding: Any) -> Callable[..., Any]:
    """Return `draw` with its result laid out as asked; under jit a device computes its own shard.

    If it draws a tuple of arrays, `out_sharding` is a tuple too.
    """
    if out_sharding is None:
        return draw
    out_sharding = jax.tree.map(_named, out_sharding, is_leaf=lambda s: s is None)
    explicit = {axis for s in jax.tree.leaves(out_sharding) for axis in s.mesh.explicit_axes}
    if explicit:
        return jax.sharding.auto_axes(draw, axes=tuple(explicit), out_sharding=out_sharding)
    return lambda *args: lax.with_sharding_constraint(draw(*args), out_sharding)


def _named(out_sharding: Any) -> NamedSharding:
    if isinstance(out_sharding, NamedSharding):
        return out_sharding
    if not isinstance(out_sharding, PartitionSpec):
        raise TypeError(
            f"out_sharding must be a NamedSharding or a PartitionSpec, got {out_sharding!r}. To "
            "move an array to one device use jax.device_put."
        )
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise ValueError(
            f"out_sharding={out_sharding} names mesh axes, but no mesh is set. Wrap the call "
            "in `with jax.set_mesh(mesh)`, or pass a NamedSharding."
        )
    return NamedSharding(mesh, out_sharding)


def uneven(shape: tuple[int, ...], spec: PartitionSpec, mesh: Any) -> tuple[int, str] | None:
    """Return the first dimension that a mesh cannot split evenly, and what to do; None if none."""
    for dimension, (size, entry) in enumerate(zip(shape, spec, strict=False)):
        axes = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        parts = math.prod(mesh.shape.get(axis, 1) for axis in axes)
        if size % parts:
            return dimension, (
                f"has size {size}, which the {parts} parts of mesh axes {axes} do not divide. Use "
                f"None for that dimension in {spec}, another mesh, or a padded size."
            )
    return None


def mesh_context(out_sharding: Any) -> contextlib.AbstractContextManager:
    """Set the mesh of `out_sharding` for an eager call if it has explicit axes and none is set."""
    meshes = (getattr(s, "mesh", None) for s in jax.tree.leaves(out_sharding))
    mesh = next((m for m in meshes if isinstance(m, Mesh) and m.explicit_axes), None)
    if mesh is not None and jax.sharding.get_abstract_mesh().empty:
        with contextlib.suppress(ValueError):  # inside jit; there JAX itself asks for set_mesh
            return jax.set_mesh(mesh)
    return contextlib.nullcontext()


def program(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a draw, with positional arguments traced and keywords static.

    The compiled draw takes one more keyword, ``out_sharding``, the layout of its result (see
    `place`). Calls that differ only in positional arguments share one compiled program.
    """

    def placed(*traced, out_sharding=None, **static):
        return place(functools.partial(draw, **static), out_sharding)(*traced)

    functools.update_wrapper(placed, draw)
    del placed.__wrapped__  # its signature lacks out_sharding
    parameters = inspect.signature(draw).parameters.values()
    static = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return jax.jit(placed, static_argnames=(*static, "out_sharding"))


@program
def draw(
    key: PRNGKeyArray,
    factor: float | np.generic,
    ends: tuple[float, float],
    *,
    shape: tuple[int, ...],
    dtype,
    distribution: str,
) -> Inexact[Array, "..."]:
    """Draw ``factor`` times a parent distribution, rounded once to ``dtype``.

    Layers of one shape share one compiled program, even if their standard deviations differ.

    Args:
        key: a typed key or a legacy uint32 one.
        factor: the multiple of the parent, see `factor`.
        ends: of the parent's interval; unused by ``"normal"``.
        shape: of the result.
        dtype: of the result, real or complex.
        distribution: one of `DISTRIBUTIONS`.

    Returns:
        An array of that shape and dtype.

    >>> key = jax.random.key(0)
    >>> draw(key, 2.0, (-1, 1), shape=(2, 3), dtype=jnp.bfloat16, distribution="uniform").dtype
    dtype(bfloat16)
    """
    parent = _complex_parent if jnp.issubdtype(dtype, jnp.complexfloating) else _real_parent

    # XLA reassociates products with constants, and does so differently in an eager call and inside
    # a larger jit. Behind the barrier the factors are not constants: a key gives the same bits.
    multiple, ends = lax.optimization_barrier((factor, ends))
    values = parent(one_pass(key), shape, compute_dtype(dtype), distribution, ends)
    multiple = lax.convert_element_type(multiple, real_dtype(dtype))
    if distribution == "normal" and parent is _real_parent:
        multiple *= np.array(math.sqrt(2), multiple.dtype)  # before `values`, as in jitted JAX
    return (values * lax.convert_element_type(multiple, values.dtype)).astype(dtype)


def _real_parent(key, shape, dtype, distribution, ends):
    if distribution == "uniform":
        return jax.random.uniform(key, shape, dtype, ends[0], ends[1])
    if distribution == "truncated_normal":
        return jax.random.truncated_normal(key, ends[0], ends[1], shape, dtype)
    # A normal of variance 1/2, as the parts of a complex normal have. A real one is √2 times it.
    least = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    return lax.erf_inv(jax.random.uniform(key, shape, dtype, least, 1))


def _complex_parent(key, shape, dtype, distribution, ends):
    """Draw isotropically on the plane: normal, normal cut to a disk, or uniform on a disk."""
    real = real_dtype(dtype)
    first, second = jax.random.split(key)
    if distribution == "normal":
        parts = (_real_parent(k, shape, real, "normal", ends) for k in (first, second))
        return lax.complex(*parts)
    u = jax.random.uniform(first, shape, real)
    if distribution == "uniform":
        modulus = jnp.sqrt(2 * u)
    else:  # |z|² is exponential; invert its distribution function cut at ends[1]²
        modulus = jnp.sqrt(-jnp.log1p(jnp.expm1(-jnp.square(ends[1])).astype(real) * u))
    angle = 2 * np.pi * jax.random.uniform(second, shape, real)
    return lax.complex(modulus * jnp.cos(angle), modulus * jnp.sin(angle))


@program
def full(value, *, shape: tuple[int, ...], dtype) -> Array:
    """Return an array filled with one value, or broadcast from `value`."""
    return jnp.full(shape, value, dtype)
