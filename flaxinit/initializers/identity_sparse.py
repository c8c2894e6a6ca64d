"""Kernels with zeros: identity and sparse ones."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic, Initializer
from flaxinit.initializers.checks import Count, DType, NonNegative, checked_number
from flaxinit.initializers.orthogonal_kernels import centered


class identity(Deterministic):
    """Pass the input on: an identity matrix, or a convolution that is one at its center (dirac).

    ``W[center, i, j] = scale`` where ``i = j``, else 0; a kernel that is not square passes on as
    many features as fit. In a grouped convolution, whose kernel is ``(spatial..., in/groups,
    out)``, each group passes on its own features.

    The fused kernel ``(n, 4n)`` of an LSTM, or ``(n, 3n)`` of a GRU, holds one matrix for each
    gate: ``groups=4`` makes all of them identities. Its shape may also be that of a dense layer,
    so it is refused until ``groups`` says which.

    Args:
        scale: factor on the features, finite.
        dtype: default dtype if the call gives none.
        groups: ``feature_group_count`` of a convolution, or the gates of a fused kernel; 1 for
            an ordinary one.

    Raises:
        ValueError: when called, a shape with fewer than two axes, or groups that do not divide
            the outputs; a shape ``(n, 3n)`` or ``(n, 4n)`` if groups is not given.

    >>> identity()(None, (2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    References: Le, Jaitly, Hinton (2015); Zagoruyko, Komodakis (2017), DiracNets.
    """

    scale: float = 1.0
    dtype: DType = None
    _: dataclasses.KW_ONLY
    groups: Count | None = None
    scales = ("scale",)

    def check_shape(self, shape):
        if len(shape) < 2 or shape[-1] % (self.groups or 1):
            raise ValueError(
                f"{self!r} needs a kernel (..., in, out) with out a multiple of groups, but the "
                f"shape is {shape}."
            )
        rows, columns = shape[-2:]
        if self.groups is None and len(shape) == 2 and columns in (3 * rows, 4 * rows) and rows:
            gates = columns // rows
            raise ValueError(
                f"A kernel {shape} may hold {gates} gates of a recurrent cell side by side. Write "
                f"identity(groups={gates}) to make each gate an identity, identity(groups=1) for "
                "an ordinary kernel, whose other columns are then zero."
            )

    def draw(self, key, shape, dtype, out_sharding):
        sampling.check_representable(dtype, 0.0, abs(self.scale))
        return _identity(
            sampling.array_module(self.scale).asarray(self.scale, dtype),
            shape=shape,
            groups=self.groups or 1,
            out_sharding=out_sharding,
        )


@sampling.program
def _identity(value, *, shape, groups):
    rows, columns = shape[-2:]
    of_group = jnp.arange(columns) % (columns // groups)
    passed = jnp.arange(rows)[:, None] == of_group[None]
    return centered(jnp.where(passed, value, jnp.zeros_like(value)), shape)


class sparse(Initializer):
    """Draw a kernel in which each output sees only some of the inputs.

    In every column (last axis) ``round(sparsity · fan_in)`` entries, chosen uniformly, are zero
    and the rest are ``N(0, stddev²)``; fan_in is the product of the other axes. The variance of
    an entry is ``stddev² (1 - round(sparsity · fan_in)/fan_in)``.

    Args:
        sparsity: share of zeros, in [0, 1].
        stddev: of the entries that are not zero, at least 0.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: a sparsity outside [0, 1], a negative stddev; when called, a shape with fewer
            than two axes.

    >>> sparse(0.75, 1.0).variance((64, 8))
    0.25

    References: Martens (2010), Deep learning via Hessian-free optimization.
    """

    sparsity: Annotated[float, functools.partial(checked_number, minimum=0.0, maximum=1.0)]
    stddev: NonNegative = 0.01
    dtype: DType = None
    scales = ("stddev",)

    def zeros(self, shape: Sequence[int]) -> int:
        """Return how many entries of a column are zero."""
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
            sampling.real(dtype, self.stddev),
            shape=shape,
            dtype=dtype,
            zeros=self.zeros(shape),
            out_sharding=out_sharding,
        )


@sampling.program
def _sparse(key, stddev, *, shape, dtype, zeros):
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
