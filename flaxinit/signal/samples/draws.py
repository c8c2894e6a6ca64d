"""Draws: Gaussian channels of a given Gram matrix, and random bits that integrate exactly.

Both are samples with less noise than independent ones. Channels come in pairs z, -z and are
whitened, so that their Gram matrix over places is the one asked for, and not one near it. Bits
are the midpoints of a partition, in random order, so that the mean of a function of them is an
integral by the midpoint rule.
"""

import math

import numpy as np
from scipy.linalg import solve_triangular

from flaxinit.signal.samples.signals import squared


def gaussian(
    rng: np.random.Generator,
    factor: np.ndarray,
    count: int,
    squares: np.ndarray | None = None,
    plain: bool = False,
) -> np.ndarray:
    """Draw channels y ~ N(0, X Xᵀ) over places.

    Each group has exactly this second moment at each place, and exactly this Gram matrix if there
    are enough channels.

    Args:
        rng: random numbers.
        factor: X, groups × places × terms; the groups are independent.
        count: channels.
        squares: exact second moment at each place, if the factor has it only nearly.
        plain: whether channels are to be independent draws, because they may be summed.

    Returns:
        groups × count × places.

    >>> x = np.array([[[1.0, 0.0], [1.0, 2.0]]])
    >>> y = gaussian(np.random.default_rng(0), x, 128)
    >>> np.round(np.einsum("gcp,gcq->gpq", y, y) / 128, 6)
    array([[[1., 1.],
            [1., 5.]]])
    """
    groups, places, terms = factor.shape
    if places < terms:
        factor = compressed(factor @ np.swapaxes(factor, 1, 2))
    if plain:
        z = rng.standard_normal((groups, count, factor.shape[-1]))
        return z @ np.swapaxes(factor, 1, 2)
    known = [None] * groups if squares is None else np.broadcast_to(squares, (groups, places))
    made = [_exactly(rng, x, count, each) for x, each in zip(factor, known, strict=True)]
    return made[0][None] if groups == 1 else np.stack(made)


def _exactly(
    rng: np.random.Generator, factor: np.ndarray, count: int, squares: np.ndarray | None
) -> np.ndarray:
    across, rank = factor.T, factor.shape[1]
    half = -(-count // 2)
    z = rng.standard_normal((half, rank))
    if whiten := rank <= half and half >= _MANY and count % 2 == 0:
        # z L⁻ᵀ is white where z has the Gram matrix L Lᵀ.
        root = np.linalg.cholesky(z.T @ z / half)
        across = solve_triangular(root, across, trans=1, lower=True)
    y = z @ across
    y = np.concatenate([y, -y])[rng.permutation(2 * half)[:count]]
    if not whiten or squares is not None:
        wanted = np.sum(factor**2, axis=-1) if squares is None else squares
        return rescaled(y, wanted[None], (0,))
    return y


def rescaled(y: np.ndarray, squares: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Rescale samples to these second moments, in the mean over these axes."""
    wanted = np.mean(squares, axis=axes, keepdims=True)
    found = np.mean(squared(y), axis=axes, keepdims=True)
    return y * np.sqrt(np.divide(wanted, found, out=np.zeros_like(found), where=found > 0))


# Fewer whitened vectors would all be of one length, far from Gaussian.
_MANY = 64


def compressed(gram: np.ndarray) -> np.ndarray:
    """Return a square X with X Xᵀ = `gram`, for each of one or many Gram matrices."""
    size = gram.shape[-1]
    scale = np.trace(gram, axis1=-2, axis2=-1)[..., None, None] / size
    unit = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    # Places may be alike, and the matrix singular: then X is off by the root of this.
    return np.linalg.cholesky(unit + _SINGULAR * np.eye(size)) * np.sqrt(scale)


_SINGULAR = 1e-10


def bits(
    rng: np.random.Generator, shape: tuple[int, ...], width: int, alike: bool = False
) -> np.ndarray:
    """Draw unsigned integers of ``width`` bits: the midpoints of equal parts of their range.

    If they are to be `alike`, each slice along the last axis has one of every so many parts. So a
    part of a kernel, as its queries or one gate, has the moments of all of it; but the sum of such
    a slice over all replicas is nearly the same for all.

    >>> made = bits(np.random.default_rng(0), (4, 2), 8, alike=True)
    >>> sorted(made.ravel().tolist()), sorted((made[:, 0] // 64).tolist())
    ([16, 48, 80, 112, 144, 176, 208, 240], [0, 1, 2, 3])
    """
    count = math.prod(shape)
    if alike:
        parts = np.arange(count).reshape(math.prod(shape[:-1]), *(shape[-1:] or (1,)))
        parts = rng.permuted(rng.permuted(parts, axis=1), axis=0)
    else:
        parts = rng.permutation(count)
    return ((parts + 0.5) / count * 2.0**width).astype(f"u{width // 8}").reshape(shape)
