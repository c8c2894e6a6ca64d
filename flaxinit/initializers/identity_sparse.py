"""Kernels with a structure: identity, sparse."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import (
    Deterministic,
    Initializer,
    checked_count,
    checked_dtype,
    checked_number,
    freeze,
)
from flaxinit.initializers.orthogonal_kernels import centred


@dataclasses.dataclass(frozen=True, repr=False)
class Identity(Deterministic):
    """Pass the input on: an identity matrix, or a convolution that is one at its centre (dirac).

    ``W[centre, i, j] = scale`` where ``i = j``, else 0; a kernel that is not square passes on as
    many features as fit. In a grouped convolution, whose kernel is ``(spatial..., in/groups,
    out)``, each group passes on its own features.

    Args:
        scale: of the features, finite.
        dtype: filled where the call names none.
        groups: ``feature_group_count`` of a convolution.

    Raises:
        ValueError: when called, a shape with fewer than two axes, or groups that do not divide
            the outputs.

    >>> identity()(None, (2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    References: Le, Jaitly, Hinton (2015); Zagoruyko, Komodakis (2017), DiracNets.
    """

    scale: float = 1.0
    dtype: Any = None
    _: dataclasses.KW_ONLY
    groups: int = 1

    def __post_init__(self):
        freeze(
            self,
            scale=checked_number("scale", self.scale),
            dtype=checked_dtype(self.dtype),
            groups=checked_count("groups", self.groups),
        )

    def check_shape(self, shape):
        if len(shape) < 2 or shape[-1] % self.groups:
            raise ValueError(
                f"{self!r} needs a kernel (..., in, out) with out a multiple of groups, but the "
                f"shape is {shape}."
            )

    def draw(self, key, shape, dtype, out_sharding):
        sampling.check_representable(dtype, 0.0, abs(self.scale))
        value = np.asarray(self.scale, dtype)
        return _identity(
            value, shape=shape, dtype=dtype, groups=self.groups, out_sharding=out_sharding
        )


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "groups", "out_sharding"))
def _identity(value, *, shape, dtype, groups, out_sharding):
    rows, columns = shape[-2:]

    def fill(value):
        of_group = jnp.arange(columns) % (columns // groups)
        passed = jnp.arange(rows)[:, None] == of_group[None]
        matrix = jnp.where(passed, value, jnp.zeros((), dtype))
        return centred(matrix, shape)

    return sampling.place(fill, out_sharding)(value)


@dataclasses.dataclass(frozen=True, repr=False)
class Sparse(Initializer):
    """Draw a kernel in which each output sees only some of the inputs.

    In every column (last axis) ``round(sparsity · fan_in)`` entries, chosen uniformly, are zero
    and the rest are ``N(0, stddev²)``; fan_in is the product of the other axes. The variance of
    an entry is ``stddev² (1 - round(sparsity · fan_in)/fan_in)``.

    Args:
        sparsity: share of zeros, in [0, 1].
        stddev: of the entries that are not zero, at least 0.
        dtype: drawn where the call names none.

    Raises:
        ValueError: a sparsity outside [0, 1], a negative stddev; when called, a shape with fewer
            than two axes.

    >>> sparse(0.75, 1.0).variance((64, 8))
    0.25

    References: Martens (2010), Deep learning via Hessian-free optimization.
    """

    sparsity: float
    stddev: float = 0.01
    dtype: Any = None

    def __post_init__(self):
        freeze(
            self,
            sparsity=checked_number("sparsity", self.sparsity, minimum=0.0),
            stddev=checked_number("stddev", self.stddev, minimum=0.0),
            dtype=checked_dtype(self.dtype),
        )
        if self.sparsity > 1:
            raise ValueError(f"sparsity must be between 0 and 1, got {self.sparsity}.")

    def zeros(self, shape: Sequence[int]) -> int:
        """How many entries of a column are zero."""
        return round(self.sparsity * math.prod(shape[:-1]))

    def check_shape(self, shape):
        if len(shape) < 2:
            raise ValueError(f"{self!r} needs a kernel with two axes or more, got {shape}.")

    def _variance(self, shape):
        return self.stddev**2 * (1 - self.zeros(shape) / math.prod(shape[:-1]))

    def draw(self, key, shape, dtype, out_sharding):
        largest = self.stddev * sampling.reach(dtype, "normal", sampling.ENDS["normal"])
        sampling.check_representable(dtype, self.stddev, largest)
        return _sparse(
            key,
            sampling.real_dtype(dtype).type(self.stddev),
            shape=shape,
            dtype=dtype,
            zeros=self.zeros(shape),
            out_sharding=out_sharding,
        )


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "zeros", "out_sharding"))
def _sparse(key, stddev, *, shape, dtype, zeros, out_sharding):
    def draw(key, stddev):
        values_key, order_key = jax.random.split(key)
        values = sampling.draw(
            values_key,
            stddev,
            sampling.ENDS["normal"],
            shape=shape,
            dtype=dtype,
            distribution="normal",
        )
        # Ranks in a random order: exactly `zeros` of each column are among the first.
        order = jax.random.bits(order_key, (math.prod(shape[:-1]), shape[-1]))
        rank = jnp.argsort(jnp.argsort(order, axis=0), axis=0).reshape(shape)
        return jnp.where(rank < zeros, jnp.zeros((), dtype), values)

    return sampling.place(draw, out_sharding)(key, stddev)


identity = Identity
sparse = Sparse
