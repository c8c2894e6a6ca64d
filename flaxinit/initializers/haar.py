"""Haar-distributed matrices with orthonormal rows, without factorising anything.

The Q of a Gaussian matrix's QR factorisation, with R's diagonal made positive, is uniform (Haar)
over the matrices with orthonormal columns. Householder's method reads the k-th column below its
diagonal only after the earlier reflections; a Gaussian vector stays Gaussian and independent
under them. So the reflections can be drawn directly, from independent Gaussian vectors of
decreasing length, and Q is their product: there is no column-by-column dependence left.
Blocks of reflections ``H_1 ... H_b = I - Vᴴ T V`` (compact WY) make it matrix products. What is
built here is Qᴴ, whose rows lie together in memory.

References: Stewart (1980); Schreiber, Van Loan (1989); Mezzadri (2007).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Inexact

from flaxinit import sampling

# Reflections in a block: enough for a matrix unit (128) to be busy, few enough that the work of a
# block's triangular factor stays small beside the products. Each block is compiled by itself, so
# a large matrix has larger blocks and not more of them: 16, whose factors are a 16th of the work.
BLOCK = 128
MOST_BLOCKS = 16
# TPUs round float32 factors to bfloat16 unless asked not to.
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def orthonormal_rows(
    key, rows: int, columns: int, dtype, out_sharding: sampling.OutSharding = None
) -> Inexact[Array, "rows columns"]:  # noqa: F722
    """A uniformly distributed matrix with ``P Pᴴ = I``; ``1 <= rows <= columns``.

    ``P = D E H_m ... H_1`` with ``H_k`` the reflection that takes the Gaussian vector ``x_k`` to
    its first axis, E the first m rows of the identity and D the phases of ``-x_k``'s heads.

    Args:
        key: a random key.
        rows: m.
        columns: n.
        dtype: of the computation: 32 bits a real number, or 64.
        out_sharding: if given, P's rows are spread over the whole mesh while it is computed. Each
            evolves by itself, so devices do not communicate until the final layout.

    Returns:
        P.
    """
    count = min(MOST_BLOCKS, -(-rows // BLOCK)) if out_sharding is None else -(-rows // BLOCK)
    width = -(-rows // count)
    starts = range(0, rows, width)
    keys = jax.random.split(key, len(starts))

    def gaussian(key):
        return sampling.draw(
            key,
            1.0,
            sampling.ENDS["normal"],
            shape=(width, columns),
            dtype=dtype,
            distribution="normal",
        )

    if out_sharding is not None:
        return _spread(keys, np.array(starts), gaussian, rows, columns, dtype, out_sharding)
    # Rows above a block and columns left of it are those of the identity: they are left out.
    p = jnp.zeros((0, columns - rows), dtype)
    for index in reversed(range(len(starts))):
        start = starts[index]
        size = min(width, rows - start)
        v, phase = _reflectors(gaussian(keys[index])[:size, start:], 0)
        t = _triangle(v)
        head = jnp.eye(size, columns - start, dtype=dtype) * phase[:, None]
        weights = phase[:, None] * _product(v[:, :size].conj().T, t)
        older = _product(_product(p, v[:, size:].conj().T), t)
        p = jnp.pad(p, ((0, 0), (size, 0)))
        p = jnp.concatenate([head - _product(weights, v), p - _product(older, v)])
    return p


def _spread(keys, starts, gaussian, rows, columns, dtype, out_sharding):
    """The same, in a loop that holds one block of reflections at a time, on every device."""
    mesh = jax.sharding.get_abstract_mesh()
    mesh = out_sharding.mesh if mesh.empty else mesh  # pyright: ignore
    axes = mesh.axis_names if rows % mesh.size == 0 else None
    whole = NamedSharding(mesh, PartitionSpec())
    layout = NamedSharding(mesh, PartitionSpec(axes))

    def block(p, item):
        key, start = item
        v, phase = _reflectors(gaussian(key), start, rows)
        v = lax.with_sharding_constraint(v, whole)
        p = p - _product(_product(_product(p, v.conj().T), _triangle(v)), v)
        return lax.with_sharding_constraint(p, layout), phase

    p = lax.with_sharding_constraint(jnp.eye(rows, columns, dtype=dtype), layout)
    p, phases = lax.scan(block, p, (keys, starts), reverse=True)
    return p * phases.reshape(-1)[:rows, None]


def _reflectors(x, start, rows: int | None = None):
    """Rows v with ``|v|² = 2``, so that ``H = I - vᴴ v``, and the phases of D.

    The j-th vector is x's j-th row from column ``start + j`` on. Those that would begin at ``rows``
    or beyond reflect nothing.
    """
    lag = jnp.arange(x.shape[1]) - start - jnp.arange(x.shape[0])[:, None]
    real = x.real.dtype
    x = jnp.where(lag >= 0, x, jnp.zeros((), x.dtype))
    # A vector of length 1 is exactly 0 once in 2^23 draws.
    x = jnp.where((lag == 0) & (x == 0), jnp.array(jnp.finfo(real).eps, x.dtype), x)
    head = jnp.sum(jnp.where(lag == 0, x, jnp.zeros((), x.dtype)), axis=1)
    size, norm = jnp.abs(head), jnp.linalg.norm(x, axis=1)
    phase = head / size.astype(x.dtype)
    # v = x + phase·|x|·e_1 has |v|² = 2|x|(|x| + |x_1|), and no cancellation.
    scale = 1 / jnp.sqrt(norm * (norm + size))
    if rows is not None:
        scale = jnp.where(start + jnp.arange(x.shape[0]) < rows, scale, jnp.zeros((), real))
    ends = jnp.where(lag == 0, (phase * norm.astype(x.dtype))[:, None], jnp.zeros((), x.dtype))
    return (x + ends) * scale.astype(x.dtype)[:, None], -phase


def _triangle(v):
    """``Tᴴ``, with ``T⁻¹ = I + striu(V Vᴴ)``."""
    return _inverse(jnp.triu(_product(v, v.conj().T), 1)).conj().T


def _inverse(upper):
    """``(I + U)⁻¹`` of a strictly upper triangular U, from products alone.

    With the inverses A and B of both diagonal blocks, that of the whole is ``[[A, -A U₁₂ B],
    [0, B]]``; the blocks grow from 1 by doubling. XLA's triangular solver is a library call that
    no mesh partitions and that, batched in a loop on several CPU devices, waits for itself
    forever.
    """
    width = len(upper)
    size = 1 << (width - 1).bit_length()
    upper = jnp.pad(upper, (0, size - width))
    inverse = jnp.ones((size, 1, 1), upper.dtype)  # one block in each place of the diagonal
    while len(inverse) > 1:
        first, second = inverse[0::2], inverse[1::2]
        count, block, _ = inverse.shape
        parts = upper.reshape(count, block, count, block)
        between = parts[jnp.arange(0, count, 2), :, jnp.arange(1, count, 2), :]
        corner = -_product(_product(first, between), second)
        inverse = jnp.block([[first, corner], [jnp.zeros_like(corner), second]])
    return inverse[0, :width, :width]
