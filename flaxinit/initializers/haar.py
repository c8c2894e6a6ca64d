"""Haar-distributed matrices with orthonormal columns, without factorising anything.

The Q of a Gaussian matrix's QR factorisation, with R's diagonal made positive, is uniform (Haar)
over the matrices with orthonormal columns. Householder's method reads the k-th column below its
diagonal only after the earlier reflections; a Gaussian vector stays Gaussian and independent
under them. So the reflections can be drawn directly, from independent Gaussian vectors of
decreasing length, and Q is their product: there is no column-by-column dependence left.
Blocks of reflections ``H_1 ... H_b = I - V T Vᴴ`` (compact WY) make it matrix products.

References: Stewart (1980); Schreiber, Van Loan (1989); Mezzadri (2007).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Inexact

from flaxinit import sampling

# Reflections in a block: wide enough for a matrix unit (128) to be busy, narrow enough that the
# b² work of a block's triangular factor stays small beside the products.
BLOCK = 256
# TPUs round float32 factors to bfloat16 unless asked not to.
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def orthonormal_columns(
    key, rows: int, columns: int, dtype, out_sharding=None
) -> Inexact[Array, "rows columns"]:  # noqa: F722
    """A uniformly distributed matrix with ``QᴴQ = I``; ``rows >= columns >= 1``.

    ``Q = H_1 ... H_m E D`` with ``H_k`` the reflection that takes the Gaussian vector ``x_k`` to
    its first axis, E the first m columns of the identity and D the phases of ``-x_k``'s heads.

    Args:
        key: a random key.
        rows: n.
        columns: m.
        dtype: of the computation: 32 bits a real number, or 64.
        out_sharding: if given, Q's columns are spread over the whole mesh while it is computed.
            Each evolves by itself, so devices do not communicate until the final layout.

    Returns:
        Q.
    """
    blocks = range(0, columns, BLOCK)
    keys = jax.random.split(key, len(blocks))
    copy, place = _spread_columns(columns, out_sharding)
    q = place(jnp.zeros((rows - columns, 0 if out_sharding is None else columns), dtype))
    phases = []
    for index in reversed(range(len(blocks))):
        start = blocks[index]
        width = min(BLOCK, columns - start)
        # The barrier keeps XLA from drawing all blocks at once, which would hold n² numbers.
        block_key, q = lax.optimization_barrier((keys[index], q))
        v, phase = map(copy, _reflectors(block_key, rows - start, width, dtype))
        phases.insert(0, phase)
        # Columns left of this block are still zero: drop them, unless that would move the others
        # from device to device.
        dropped = start if out_sharding is None else 0
        head = jnp.eye(width, columns - dropped, k=start - dropped, dtype=dtype)
        q = jnp.pad(q, ((0, 0), (columns - dropped - q.shape[1], 0)))
        q = place(_reflect(v, place(jnp.concatenate([head, q]))))
    return q * jnp.concatenate(phases)


def _reflectors(key, length: int, width: int, dtype):
    """Columns v with ``|v|² = 2``, so that ``H = I - v vᴴ``, and the phases of D."""
    x = sampling.draw(
        key,
        1.0,
        sampling.ENDS["normal"],
        shape=(length, width),
        dtype=dtype,
        distribution="normal",
    )
    x = jnp.tril(x)  # the j-th vector of a block is j shorter
    norm = jnp.linalg.norm(x, axis=0)
    head = jnp.diagonal(x)
    # A vector of length 1 is exactly 0 once in 2^23 draws.
    head = jnp.where(head == 0, jnp.array(jnp.finfo(dtype).eps, dtype), head)
    size = jnp.abs(head)
    norm = jnp.maximum(norm, size)
    phase = head / size.astype(dtype)
    # v = x + phase·|x|·e_1 has |v|² = 2|x|(|x| + |x_1|), and no cancellation.
    diagonal = head + phase * norm.astype(dtype)
    below = jnp.tril(x, -1) / jnp.sqrt(norm * (norm + size)).astype(dtype)
    on = diagonal / jnp.sqrt(norm * (norm + size)).astype(dtype)
    return below.at[jnp.arange(width), jnp.arange(width)].set(on), -phase


def _reflect(v, q):
    """``(I - V T Vᴴ) q`` with ``T⁻¹ = I + striu(VᴴV)``."""
    adjoint = v.conj().T
    t = _inverse(jnp.triu(_product(adjoint, v), 1))
    return q - _product(v, _product(t, _product(adjoint, q)))


def _inverse(upper):
    """``(I + U)⁻¹`` of a strictly upper triangular U, from products alone.

    With the inverses of both diagonal blocks, that of the whole is ``[[A, -A U₁₂ B], [0, B]]``;
    the blocks grow from 1 by doubling. XLA's triangular solver is a library call that no mesh
    partitions and that, batched in a loop on several CPU devices, waits for itself forever.
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


def _spread_columns(columns: int, out_sharding: sampling.OutSharding):
    """Functions that put a copy of an array on every device, and that spread its columns."""
    if out_sharding is None:
        return (lambda array: array,) * 2
    mesh = jax.sharding.get_abstract_mesh()
    mesh = out_sharding.mesh if mesh.empty else mesh  # pyright: ignore
    axes = mesh.axis_names if columns % mesh.size == 0 else None
    copied = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec(None, axes))
    return tuple(
        functools.partial(lax.with_sharding_constraint, shardings=sharding)
        for sharding in (copied, spread)
    )
