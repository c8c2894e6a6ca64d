"""Haar-distributed matrices with orthonormal rows, without factorising anything.

The Q of a Gaussian matrix's QR factorisation, with R's diagonal made positive, is uniform (Haar)
over the matrices with orthonormal columns. Householder's method reads the k-th column below its
diagonal only after the earlier reflections; a Gaussian vector stays Gaussian and independent
under them. So the reflections can be drawn directly, from independent Gaussian vectors of
decreasing length, and Q is their product: there is no column-by-column dependence left.
Blocks of reflections ``H_b ... H_1 = I - Vᴴ T V`` (compact WY) make it matrix products. What is
built here is Qᴴ, whose rows lie together in memory.

References: Stewart (1980); Schreiber, Van Loan (1989); Mezzadri (2007).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact

from flaxinit import sampling

# Reflections in a block: enough for a matrix unit (128) to be busy, few enough that the work of a
# block's triangular factor stays small beside the products. On one device each block is compiled by
# itself, so a large matrix has larger ones and not more: 16, whose factors are a 16th of the work.
BLOCK = 128
MOST_BLOCKS = 16
# TPUs round float32 factors to bfloat16 unless asked not to.
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def orthonormal(
    keys,
    rows: int,
    columns: int,
    dtype,
    out_sharding: sampling.OutSharding = None,
    keys_dimension: int | None = None,
) -> Inexact[Array, "keys rows columns"]:  # noqa: F722
    """For each key a uniformly distributed matrix whose rows, or fewer columns, are orthonormal.

    A tall one is the transpose of a wide one. On one device it is built so from the beginning: a
    large matrix is written along its rows.

    Args:
        keys: an array of keys.
        rows: of each matrix.
        columns: of each matrix.
        dtype: float32 or wider, real or complex.
        out_sharding: of the kernel they become. The work is shared by all of its mesh.
        keys_dimension: the kernel's dimension that counts the matrices, if there are several.
    """
    less, more, tall = min(rows, columns), max(rows, columns), rows > columns
    if out_sharding is not None:
        wide = _spread(keys, less, more, dtype, out_sharding, keys_dimension)
        return wide.mT if tall else wide
    alone = functools.partial(_alone, rows=less, columns=more, dtype=dtype, tall=tall)
    return alone(keys[0])[None] if len(keys) == 1 else jax.vmap(alone)(keys)


def _alone(key, rows: int, columns: int, dtype, tall: bool):
    """P, or its transpose if `tall`, with ``P Pᴴ = I``; ``1 <= rows <= columns``.

    ``P = D E H_m ... H_1`` with ``H_k`` the reflection that takes the Gaussian vector ``x_k`` to
    its first axis, E the first m rows of the identity and D the phases of ``-x_k``'s heads.
    """
    starts, width, draw = _units(rows, columns, dtype)
    keys = jax.random.split(key, len(starts))
    together = -(-len(starts) // MOST_BLOCKS)
    # Rows above a block and columns left of it are those of the identity: they are left out.
    shape = 0, columns - rows
    p = jnp.zeros(shape[::-1] if tall else shape, dtype)
    for first in reversed(range(0, len(starts), together)):
        block = keys[first : first + together]
        start = starts[first]
        size = min(len(block) * width, rows - start)
        gaussian = jax.vmap(draw)(block).reshape(-1, columns)
        v, t, phase = _reflectors(gaussian[:size, start:], 0)
        # p grows by the block's rows of the identity, and is then reflected as a whole.
        head, tail = v[:, :size], v[:, size:]
        if tall:
            products = [head.conj() * phase, _product(tail.conj(), p)]
            change = _product(v.T, _product(t.T, jnp.concatenate(products, axis=1)))
        else:
            products = [phase[:, None] * head.conj().T, _product(p, tail.conj().T)]
            change = _product(_product(jnp.concatenate(products), t), v)
        above, beside = (jnp.zeros(shape, dtype) for shape in ((size, p.shape[1]), (len(p), size)))
        p = jnp.block([[jnp.diag(phase), above], [beside, p]]) - change
    return p


def _units(rows: int, columns: int, dtype):
    """Where each unit of Gaussian vectors begins, how many it has, and key -> those.

    They do not depend on how many units are multiplied at once, nor on the mesh.
    """
    width = -(-rows // -(-rows // BLOCK))

    def draw(key):
        return sampling.draw(
            key,
            1.0,
            sampling.ENDS["normal"],
            shape=(width, columns),
            dtype=dtype,
            distribution="normal",
        )

    return range(0, rows, width), width, draw


def _spread(keys, rows: int, columns: int, dtype, out_sharding, keys_dimension):
    """P for each key, by a loop that holds one block of reflections of each at a time.

    Each device takes its own matrices, and some rows of each if there are more devices: a few more
    where these do not divide them. A row evolves by itself, so that devices do not communicate
    until the final layout.
    """
    starts, _, draw = _units(rows, columns, dtype)
    mesh = jax.sharding.get_abstract_mesh()
    mesh = out_sharding.mesh if mesh.empty else mesh
    over_keys = _axes(out_sharding, keys_dimension)
    if len(keys) % math.prod(mesh.shape[axis] for axis in over_keys):
        over_keys = ()  # gates share a dimension with their units, and a device holds part of one
    over_rows = tuple(axis for axis in mesh.axis_names if axis not in over_keys)
    parts = math.prod(mesh.shape[axis] for axis in over_rows)
    spec = PartitionSpec(over_keys, over_rows)

    def of_key(key, index):
        """The rows of one P that one device holds."""

        def block(p, unit):
            key, start = unit
            v, t, phase = _reflectors(draw(key), start, rows)
            return p - _product(_product(_product(p, v.conj().T), t), v), phase

        identity = (index[:, None] == jnp.arange(columns)).astype(dtype)
        units = jax.random.split(key, len(starts)), np.array(starts)
        p, phases = lax.scan(block, identity, units, reverse=True)
        return p * phases.reshape(-1)[index, None]

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec(over_keys), PartitionSpec(over_rows)),
        out_specs=spec,
        check_vma=False,
    )
    def of_device(keys, index):
        return lax.map(lambda key: of_key(key, index), keys)

    return of_device(keys, np.arange(-(-rows // parts) * parts))[:, :rows]


def _axes(out_sharding, dimension: int | None) -> tuple[str, ...]:
    """The mesh axes over which one dimension is spread."""
    spec = getattr(out_sharding, "spec", out_sharding)
    entry = None if dimension is None or dimension >= len(spec) else spec[dimension]
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def _reflectors(x, start, rows: int | None = None):
    """V, T and D's phases, with ``H_b ... H_1 = I - Vᴴ T V``, of the Gaussian rows of x.

    The j-th vector is x's j-th row from column ``start + j`` on. Those that would begin at ``rows``
    or beyond reflect nothing.
    """
    lag = jnp.arange(x.shape[1]) - start - jnp.arange(x.shape[0])[:, None]
    real, zero = x.real.dtype, jnp.zeros((), x.dtype)
    x = jnp.where(lag >= 0, x, zero)
    # A vector of zeros has no direction; the first axis is as good as any.
    x = jnp.where((lag == 0) & (x == 0), jnp.array(jnp.finfo(real).eps, x.dtype), x)
    head = jnp.sum(jnp.where(lag == 0, x, zero), axis=1)
    size, norm = jnp.abs(head), jnp.linalg.norm(x, axis=1)
    phase = head / size.astype(x.dtype)
    # v = x + phase·|x|·e_1 has |v|² = 2|x|(|x| + |x_1|), and no cancellation. The scale that makes
    # it 2, for which H = I - vᴴ v, is left to T: v is the larger.
    scale = 1 / jnp.sqrt(norm * (norm + size))
    if rows is not None:
        scale = jnp.where(start + jnp.arange(len(x)) < rows, scale, jnp.zeros((), real))
    v = x + jnp.where(lag == 0, (phase * norm.astype(x.dtype))[:, None], zero)
    pairs = jnp.outer(scale, scale).astype(x.dtype)
    # With V scaled, T⁻ᴴ = I + striu(V Vᴴ).
    t = pairs * _inverse(jnp.triu(pairs * _product(v, v.conj().T), 1)).conj().T
    return v, t, -phase


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
