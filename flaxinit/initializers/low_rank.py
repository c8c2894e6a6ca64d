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
    """Make initializers of ``W + (α/r) A B`` with ``Var A = scale/inputs`` and ``B = 0``.

    The adapted layer starts equal to the original one. Let G be the gradient of the loss with
    respect to the sum. One step of gradient descent at rate η leaves A unchanged and moves
    ``(α/r) A B`` by ``-η (α/r)² A Aᵀ G``, which has mean ``-η (α²/r) scale/inputs · G``. For a
    normal A its entry ij has variance ``η² (α/r)⁴ r (scale/inputs)² (|G_j|² + G_ij²)``, where
    ``G_j`` is column j of G. To keep the mean step at every rank, let α grow as √r.

    Args:
        scale: ``inputs · Var A``. The default 1/3 is that of the authors' code: He's scale
            ``2/(1 + 5)`` for a leaky ReLU of slope √5.
        distribution: of A.
        dtype: default dtype if the call gives none.

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
