"""Low-rank adapters: a product that starts at zero."""

from typing import Any, NamedTuple

from flaxinit.initializers.constants import Constant
from flaxinit.initializers.scaling import VarianceScaling
from flaxinit.sampling import Distribution


class Lora(NamedTuple):
    """Initializers of a low-rank adapter ``x A B``: A of (inputs, rank), B of (rank, outputs)."""

    a: VarianceScaling
    b: Constant


def lora(
    scale: float = 1 / 3, distribution: Distribution = "uniform", *, dtype: Any = None
) -> Lora:
    """Initializers of ``W + (α/r) A B``: ``Var A = scale/inputs``, ``B = 0``.

    The adapted layer starts as the layer. With G the gradient of the loss in the sum, one step of
    gradient descent at rate η leaves A and moves the product by ``-η (α/r)² A Aᵀ G``, which has
    mean ``-η (α²/r) scale/inputs · G`` and, for a normal A, variance ``η² (α/r)⁴ r (scale/inputs)²
    (|G_j|² + G_ij²)`` in entry ij, ``G_j`` the column. To keep the mean step at every rank let α
    grow as √r.

    Args:
        scale: ``inputs · Var A``. 1/3 is the authors' code's: He's with the gain of a leaky ReLU
            of slope √5, ``2/(1 + 5)``.
        distribution: of A.
        dtype: drawn where the call names none.

    Returns:
        The initializers, for ``nnx.LoRA(..., a_initializer=init.a, b_initializer=init.b)``.

    Raises:
        ValueError: a negative or infinite scale, an unknown distribution.

    >>> lora().a.variance((300, 8)) == 1 / 900
    True

    References: Hu et al. (2021), LoRA; Kalajdzievski (2023), for the √r.
    """
    a = VarianceScaling(scale, "fan_in", distribution, dtype=dtype)
    return Lora(a, Constant(0.0, dtype))
