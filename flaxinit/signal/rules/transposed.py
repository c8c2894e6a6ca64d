"""A kernel that was used, and then its transpose, as in an autoencoder with tied weights.

Given Y = W X, what the transpose makes of z is

    Wᵀ z = X (Xᵀ X)⁻¹ Yᵀ z + (1 - P) W̃ᵀ z,

where W̃ is a new kernel with the law of W, and P projects on the columns of X. Here Yᵀ z is a mean
over draws: what it strays makes up for P in a square of W z. The first term is 0 for a z that is
uncorrelated with Y, as gradients are.

References: Bolthausen (2014), An iterative construction of solutions of the TAP equations for the
Sherrington-Kirkpatrick model. Yang (2020), Tensor programs III.
"""

import math

import numpy as np

from flaxinit.signal.rules.kernels import Use


def conditioned(
    use: Use, z: np.ndarray, y: np.ndarray, variance: float, sizes: tuple[int, int]
) -> np.ndarray | None:
    """Return what the transpose makes of z; None if z or y hold other entries than the first use.

    Args:
        use: the first use of the kernel, with inputs X and outputs Y.
        z: replicas × places × terms.
        y: W̃ᵀ z, replicas × outputs × places.
        variance: of an entry of the kernel.
        sizes: true numbers of terms of the first use, and of its outputs.
    """
    x, made = use.inputs, use.outputs
    terms, (size, outputs) = x.shape[-1], sizes
    if made.ndim != 3 or y.shape[1] != terms or z.shape[-1] != made.shape[1]:
        return None
    replicas = np.arange(max(len(z), len(made)))
    cross = np.einsum("rcp,rqc->pq", made[replicas % len(made)], z[replicas % len(z)])
    cross *= outputs / (len(replicas) * made.shape[1])
    gram = np.einsum("kpt,kqt->pq", x, x) / len(x)
    # The inputs are scaled by the root of the variance and of what each held one stands for.
    weights = math.sqrt(variance * terms / size) * np.linalg.pinv(gram, _SINGULAR, True) @ cross
    seen = x[np.arange(len(y)) % len(x)]
    return y + np.swapaxes(seen, 1, 2) @ weights


_SINGULAR = 1e-9
