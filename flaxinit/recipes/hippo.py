"""HiPPO-LegS: the state matrix that keeps a history's Legendre coefficients, and its diagonal."""

import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic
from flaxinit.initializers.checks import DType
from flaxinit.initializers.state_space import S4d


class hippo_legs(Deterministic):
    """Fill in HiPPO-LegS, ``x' = A x + B u``, in the last two axes.

    ::

        A[n, k] = -√((2n + 1)(2k + 1))   if n > k
                  -(n + 1)               if n = k
                  0                      if n < k

    The state x holds the coefficients of the input's history in Legendre polynomials. Its input
    vector is ``B[n] = √(2n + 1)``; `input` returns it.

    Args:
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: when called, a shape whose last two axes differ.

    >>> (hippo_legs()(None, (3, 3)) ** 2).round().astype(int).tolist()
    [[1, 0, 0], [3, 4, 0], [5, 15, 9]]

    References: Gu, Dao, Ermon, Rudra, Ré (2020), HiPPO; Gu, Goel, Ré (2022), S4; state-spaces/s4
    e757cef, ``src/models/hippo/hippo.py``.
    """

    dtype: DType = None

    def check_shape(self, shape):
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(
                f"hippo_legs fills square matrices in the last two axes, but the shape is {shape}."
            )

    def draw(self, key, shape, dtype, out_sharding):
        matrix = state_matrix(shape[-1])
        sampling.check_representable(dtype, 0.0, float(np.abs(matrix).max()))
        return sampling.full(
            matrix.astype(dtype), shape=shape, dtype=dtype, out_sharding=out_sharding
        )

    @staticmethod
    def input(n: int) -> np.ndarray:
        """Return B, the vector of n entries that the input is multiplied by."""
        return np.sqrt(2 * np.arange(n) + 1)


class s4d_legs(S4d):
    """S4D-LegS's diagonal: the eigenvalues of HiPPO-LegS without its part of rank 1.

    ``A + P Pᵀ`` with ``P[n] = √(n + 1/2)`` is -1/2 plus a skew-symmetric matrix, so its eigenvalues
    are ``-1/2 ± i ω_n``. The last axis holds one of each conjugate pair, by rising ω > 0. They are
    computed in double precision, in time cubic in the size.

    Args:
        dtype: default dtype if the call gives none; complex.

    Raises:
        ValueError: when called, a real dtype.

    >>> s4d_legs().frequencies(1).round(6).tolist()  # of the skew part of [[-1, 0], [-√3, -2]]
    [0.866025]

    References: Gu, Gupta, Goel, Ré (2022), On the Parameterization and Initialization of Diagonal
    State Space Models; state-spaces/s4 e757cef, ``src/models/hippo/hippo.py``, which keeps the
    other half of each pair.
    """

    dtype: DType = "complex64"

    def frequencies(self, n: int) -> np.ndarray:
        """Return the n positive ω of the matrix of size 2n."""
        lower = np.tril(state_matrix(2 * n), -1)
        skew = (lower - lower.T) / 2
        return np.linalg.eigvalsh(1j * skew)[n:]


def state_matrix(n: int) -> np.ndarray:
    """Return HiPPO-LegS's matrix A of size n, in double precision."""
    root = hippo_legs.input(n)
    return 0 - np.tril(np.outer(root, root), -1) - np.diag(np.arange(1.0, n + 1))
