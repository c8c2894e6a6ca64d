"""Haar-distributed matrices with orthonormal rows, without factorizing anything.

The Q of a Gaussian matrix's QR factorization, with R's diagonal made positive, is uniform (Haar)
over the matrices with orthonormal columns. Householder's method reads the k-th column below its
diagonal only after the earlier reflections; a Gaussian vector stays Gaussian and independent
under them. So the reflections can be drawn directly, from independent Gaussian vectors of
decreasing length, and Q is their product: no column depends on another one. Blocks of reflections
``H_b ... H_1 = I - Vᴴ T V`` (compact WY) turn the product into matrix products. This module builds
Qᴴ, whose rows lie together in memory.

On several devices each makes only what it will hold, see `partition`. Row i of ``E H_m ... H_1``
is row i of the identity after all reflections, so it needs no other row. A 4×2 matrix is the
transpose of a 2×4 one, so the rows that are made one by one are its two columns. If each of two
devices holds one column, both draw the same two Gaussian vectors from the key; the first reflects
row 0 of the identity and the second row 1, with no exchange. If each holds two entries of both
columns, each makes one column and they exchange halves.

References: Stewart (1980); Schreiber, Van Loan (1989); Mezzadri (2007).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, PRNGKeyArray

from flaxinit import sampling
from flaxinit.initializers.partition import shared

# Reflections in a block: enough to keep a matrix unit (128) busy, few enough to keep the work on a
# block's triangular factor small beside the products. On one device each block is compiled
# separately, so a large matrix has larger blocks instead of more than 16.
BLOCK = 128
MOST_BLOCKS = 16
# Inverses of triangular blocks grow to this size inside one matrix: half of each product is zeros,
# but there is little to compile. Larger blocks are cut out.
SMALL = 16
# Names the draw in a program, for whoever reads one and knows the law of such a matrix.
SCOPE = "flaxinit.orthonormal"
# TPUs round float32 factors to bfloat16 unless asked not to.
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def orthonormal(
    keys: PRNGKeyArray, rows: int, columns: int, dtype
) -> Inexact[Array, "keys rows columns"]:  # noqa: F722
    """Draw a uniform matrix for each key; its rows, or its columns if fewer, are orthonormal.

    Args:
        keys: a row of typed keys.
        rows: of each matrix.
        columns: of each matrix.
        dtype: float32 or wider, real or complex.
    """
    settings = jax.random.key_impl(keys), jax.threefry_partitionable.value
    make = _maker(rows, columns, dtype, *settings)
    with jax.named_scope(SCOPE):
        return make(jax.random.key_data(keys), jnp.arange(min(rows, columns), dtype=jnp.int32))


@functools.cache  # the same function each time: JAX finds what it has compiled by its identity
def _maker(rows: int, columns: int, dtype, impl, partitionable: bool):
    """Return a function from words of keys and row numbers to matrices."""
    tall = rows > columns
    less, more = sorted((rows, columns))
    # The compiler asks for a share in another thread, where the caller's settings do not hold. This
    # setting can be made there, the one for 64 bits cannot.
    as_called = functools.partial(jax.threefry_partitionable, partitionable)

    def typed(words):
        return jax.random.wrap_key_data(words, impl=impl)

    def whole(words, _):
        # A tall matrix is the transpose of a wide one. On one device the transpose is built
        # directly, so a large matrix is written along its rows.
        alone = functools.partial(_alone, rows=less, columns=more, dtype=dtype, tall=tall)
        with as_called():
            if len(words) == 1:
                return alone(typed(words)[0])[None]
            return jax.vmap(alone)(typed(words))

    def share(words, index):
        make = functools.partial(_rows, index=index, rows=less, columns=more, dtype=dtype)
        with as_called():
            wide = lax.map(make, typed(words))
        return wide.mT if tall else wide

    narrow = jnp.finfo(dtype).bits < 64
    # Other generators draw different values from several keys at once than from each key alone.
    partitioned = narrow and impl == "threefry2x32"
    return shared(whole, share, 2 if tall else 1, partitioned=partitioned)


def _alone(key, rows: int, columns: int, dtype, tall: bool):
    """Return P, or its transpose if `tall`, with ``P Pᴴ = I``; ``1 <= rows <= columns``.

    ``P = D E H_m ... H_1`` with ``H_k`` the reflection that takes the Gaussian vector ``x_k`` to
    its first axis, E the first m rows of the identity and D the phases of ``-x_k``'s heads.
    """
    starts, width, draw = _units(rows, columns, dtype)
    size = width * -(-len(starts) // MOST_BLOCKS)
    firsts = range(0, rows, size)
    gaussian = jax.vmap(draw)(jax.random.split(key, len(starts))).reshape(-1, columns)
    gaussian = jnp.pad(gaussian, ((0, len(firsts) * size - len(gaussian)), (0, 0)))
    blocks = gaussian.reshape(-1, size, columns), jnp.arange(len(firsts)) * size
    vectors, scales, phases = jax.vmap(functools.partial(_vectors, rows=rows))(*blocks)
    vectors = [vectors[i, : rows - first, first:] for i, first in enumerate(firsts)]
    grams = jnp.stack([jnp.pad(_gram(v), (0, size - len(v))) for v in vectors])
    triangles = jax.vmap(_triangle)(grams, scales)

    # Rows above a block and columns left of it are those of the identity: they are left out.
    shape = 0, columns - rows
    p = jnp.zeros(shape[::-1] if tall else shape, dtype)
    for v, t, phase in reversed(list(zip(vectors, triangles, phases, strict=True))):
        # p grows by the block's rows of the identity, and is then reflected as a whole.
        n = len(v)
        t, phase, head, tail = t[:n, :n], phase[:n], v[:, :n], v[:, n:]
        if tall:
            products = [head.conj() * phase[None], _product(tail.conj(), p)]
            change = _product(v.T, _product(t.T, jnp.concatenate(products, axis=1)))
        else:
            products = [phase[:, None] * head.conj().T, _product(p, tail.conj().T)]
            change = _product(_product(jnp.concatenate(products), t), v)
        above, beside = jnp.zeros((n, p.shape[1]), dtype), jnp.zeros((len(p), n), dtype)
        p = jnp.block([[jnp.diag(phase), above], [beside, p]]) - change
    return p


def _units(rows: int, columns: int, dtype):
    """Return where each unit of Gaussian vectors begins, its size, and key -> vectors.

    They depend neither on how many units are multiplied at once nor on the mesh.
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


def _rows(key, index, rows: int, columns: int, dtype):
    """Return the rows `index` of P, from a loop that holds one unit of reflections at a time."""
    starts, width, draw = _units(rows, columns, dtype)

    def reflect(p, unit):
        key, start = unit
        v, scale, phase = _vectors(draw(key), start, rows)
        t = _triangle(_gram(v), scale)
        return p - _product(_product(_product(p, v.conj().T), t), v), phase

    identity = (index[:, None] == jnp.arange(columns, dtype=index.dtype)[None]).astype(dtype)
    units = jax.random.split(key, len(starts)), jnp.arange(len(starts)) * width
    p, phases = lax.scan(reflect, identity, units, reverse=True)
    return p * phases.reshape(-1)[index, None]


def _vectors(x, start, rows: int):
    """Return V, a scale for each of its rows, and D's phases, made of the Gaussian rows of x.

    The j-th vector is x's j-th row from column ``start + j`` on. Those that would begin at ``rows``
    or beyond reflect nothing.
    """
    lag = (jnp.arange(x.shape[1]) - start)[None] - jnp.arange(x.shape[0])[:, None]
    real, zero = x.real.dtype, jnp.zeros((), x.dtype)
    x = jnp.where(lag >= 0, x, zero)
    # A vector of zeros has no direction; the first axis is as good as any.
    x = jnp.where((lag == 0) & (x == 0), jnp.array(jnp.finfo(real).eps, x.dtype), x)
    head = jnp.sum(jnp.where(lag == 0, x, zero), axis=1)
    size, norm = jnp.abs(head), jnp.linalg.norm(x, axis=1)
    phase = head / size.astype(x.dtype)
    # v = x + phase·|x|·e_1 has |v|² = 2|x|(|x| + |x_1|), without cancellation. H = I - vᴴ v needs
    # |v|² = 2. The scale for that goes into T, which is smaller than V.
    v = x + jnp.where(lag == 0, (phase * norm.astype(x.dtype))[:, None], zero)
    reflects = start + jnp.arange(len(x)) < rows
    scale = jnp.where(reflects, 1 / jnp.sqrt(norm * (norm + size)), jnp.zeros((), real))
    return v, scale, -phase


def _gram(v):
    return _product(v, v.conj().T)


def _triangle(gram, scale):
    """Return T with ``H_b ... H_1 = I - Vᴴ T V``; for a scaled V, ``T⁻ᴴ = I + striu(V Vᴴ)``."""
    pairs = jnp.outer(scale, scale).astype(gram.dtype)
    return pairs * _inverse(jnp.triu(pairs * gram, 1)).conj().T


def _inverse(upper):
    """Return ``(I + U)⁻¹`` of a strictly upper triangular U, from products alone.

    If A and B are the inverses of both diagonal blocks, the inverse of the whole is
    ``[[A, -A U₁₂ B], [0, B]]``; the blocks grow from 1 by doubling. Small blocks stay inside a
    larger matrix, where a step is two products, which compile quickly. XLA's triangular solver is a
    library call that no mesh partitions. Batched in a loop on several CPU devices, it deadlocks.
    """
    width = len(upper)
    size = 1 << (width - 1).bit_length()
    upper = jnp.pad(upper, (0, size - width))

    def blocks(side, step, right):
        return jnp.stack([upper[i : i + side, i + right :][:, :side] for i in range(0, size, step)])

    small = min(size, SMALL)
    diagonal = blocks(small, small, 0)
    inverse = jnp.broadcast_to(jnp.eye(small, dtype=upper.dtype), diagonal.shape)
    for level in range(small.bit_length() - 1):
        place = jnp.arange(small) >> level
        beside = (place[:, None] % 2 == 0) & (place[:, None] + 1 == place[None])
        between = jnp.where(beside, diagonal, jnp.zeros((), upper.dtype))
        inverse = inverse - _product(_product(inverse, between), inverse)
    while len(inverse) > 1:
        first, second = inverse[0::2], inverse[1::2]
        between = blocks(small, 2 * small, small)
        corner = -_product(_product(first, between), second)
        inverse = jnp.block([[first, corner], [jnp.zeros_like(corner), second]])
        small *= 2
    return inverse[0, :width, :width]
