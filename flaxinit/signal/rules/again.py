"""A kernel that is used again: what it made of its first inputs binds what it makes of others.

Across its outputs the products of a Gaussian kernel with inputs x, z have the Gram matrix of these,

    E[(W x)(W z)] = v x·z,

for every pair of uses. So has, without an error, an isometry O: random signs and cosine transforms,
which take n log n operations and no memory. With n terms they differ from a Gaussian kernel by
about uses/n, as a network of n channels differs from theory. The first use was drawn already, and

    W z = Y U z + H O (z - Uᵀ U z)

agrees with it: U has an orthonormal basis of the first inputs as its rows, Y what was made of
them, and H is the orthogonal map that takes A = O Uᵀ to an orthonormal basis B of the columns of Y:

    H = 1 - (A - B) S⁻¹ (A - B)ᵀ,    S = 1 - Bᵀ A.

References: Yang (2019), Wide feedforward or recurrent neural networks of any architecture are
Gaussian processes. Choromanski, Rowland, Weller (2017), The unreasonable effectiveness of
structured random orthogonal embeddings.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft

from flaxinit.signal.samples.draws import rescaled

# Of signs and transforms: an entry of O looks Gaussian after two.
_ROUNDS = 3
_SINGULAR = 1e-10


@dataclass(frozen=True)
class Again:
    """Random kernels of which a first use is known, one for each group.

    Attributes:
        basis: U, groups × rank × terms.
        made: Y, groups × outputs × rank.
        signs: of O, rounds × groups × 1 × entries.
        apart: A - B, groups × entries × rank.
        inverse: S⁻¹ Bᵀ, groups × rank × entries.
    """

    basis: np.ndarray
    made: np.ndarray
    signs: np.ndarray
    apart: np.ndarray
    inverse: np.ndarray

    @property
    def size(self) -> int:
        parts = self.basis, self.made, self.signs, self.apart, self.inverse
        return sum(part.size for part in parts)

    @classmethod
    def after(
        cls, rng: np.random.Generator, inputs: np.ndarray, outputs: np.ndarray, terms: int
    ) -> "Again":
        """Return kernels whose first use is known.

        Args:
            rng: random numbers.
            inputs: of the first use, groups × places × terms.
            outputs: groups × outputs × places, whose Gram matrices are those of the inputs.
            terms: of the inputs to come.
        """
        groups, count, _ = outputs.shape
        # Of a signal with known values each replica has the same channels.
        most = max(terms, inputs.shape[-1])
        inputs = fitted(inputs, most * max(1, count // most))
        squares, vectors = np.linalg.eigh(inputs @ np.swapaxes(inputs, 1, 2))
        squares, vectors = (each[..., ::-1][..., : count // 2] for each in (squares, vectors))
        kept = squares > _SINGULAR * squares[:, :1]
        roots = np.sqrt(np.divide(1, squares, out=np.zeros_like(squares), where=kept))
        scaled = vectors * roots[:, None]
        basis, made = np.swapaxes(scaled, 1, 2) @ inputs, outputs @ scaled
        size = max(inputs.shape[-1], count)
        signs = rng.choice((-1.0, 1.0), (_ROUNDS, groups, 1, size))
        target = np.zeros((groups, size, basis.shape[1]))
        target[:, :count] = np.linalg.qr(made)[0] * kept[:, None]
        start, across = _turned(basis, signs), np.swapaxes(target, 1, 2)
        inverse = np.linalg.solve(np.eye(basis.shape[1]) - across @ start, across)
        return cls(basis, made, signs, start - target, inverse)

    def of(self, inputs: np.ndarray, squares: np.ndarray | None = None) -> np.ndarray:
        """Return what the kernels make of inputs, groups × outputs × places.

        If there are fewer outputs than terms, the second moments are exact, or those given.
        """
        inputs = fitted(inputs, self.basis.shape[-1])
        known = inputs @ np.swapaxes(self.basis, 1, 2)
        rest = _turned(inputs - known @ self.basis, self.signs)
        rest += self.apart @ (self.inverse @ rest)
        rest = rest[:, : self.made.shape[1]] * math.sqrt(rest.shape[1])
        y = self.made @ np.swapaxes(known, 1, 2) + rest
        wanted = np.sum(inputs**2, axis=-1) if squares is None else squares
        return rescaled(y, np.broadcast_to(wanted, y[:, 0].shape)[:, None], (1,))


def fitted(inputs: np.ndarray, terms: int) -> np.ndarray:
    """Bring inputs to so many terms: those of a signal with known values stand for several each."""
    have = inputs.shape[-1]
    if have == terms:
        return inputs
    return np.take(inputs, np.arange(terms) % have, axis=-1) * math.sqrt(have / terms)


def _turned(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return O x for each place: groups × entries × places."""
    y = np.zeros((*x.shape[:-1], signs.shape[-1]))
    y[..., : x.shape[-1]] = x
    for each in signs:
        y = fft.dct(y * each, norm="ortho", axis=-1, overwrite_x=True)
    return np.swapaxes(y, 1, 2)
