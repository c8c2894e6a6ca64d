"""The kernel and bias initializers that put a network at criticality."""

import warnings
from typing import NamedTuple, Unpack

from flaxinit.initializers.base import Initializer
from flaxinit.initializers.constants import zeros
from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.initializers.random import normal
from flaxinit.initializers.scaling import VarianceScaling
from flaxinit.kernels import Activation
from flaxinit.sampling import Distribution


class Critical(NamedTuple):
    """The two initializers that `critical` returns, and the variance K* they keep (None: any)."""

    kernel: VarianceScaling
    bias: Initializer
    q: float | None


@takes_options
def critical(
    activation: Activation,
    *,
    distribution: Distribution = "truncated_normal",
    **kernel: Unpack[KernelOptions],
) -> Critical:
    """Keep signal, correlations and gradients at once: ``χ_∥(K*) = χ_⊥(K*) = 1``.

    ``Var W = C_W / fan_in`` and ``Var b = C_b``. The activation's universality class gives
    (C_W, C_b, K*): (1/E[φ'²], 0, any) if it is scale-invariant, (1/φ'(0)², 0, 0) if the signal
    settles to 0, and the half-stable point if it does not. If there are several critical points,
    this takes the one of the smallest K*, and a warning names the others.

    Args:
        activation: any form that `flaxinit.he` takes.
        distribution: of the kernel; the bias is normal.
        **kernel: as in `flaxinit.he`.

    Returns:
        ``(kernel, bias, q)``, for ``kernel_init``, ``bias_init`` and the inputs' variance.

    Raises:
        ValueError: if no pair of variances makes the activation critical.

    Warns:
        UserWarning: if several pairs do.

    >>> kernel, bias, q = critical("gelu")
    >>> round(kernel.variance((100, 100)) * 100, 6), round(bias.variance(()), 6), round(q, 6)
    (1.983058, 0.172922, 3.561553)

    References: Roberts, Yaida, Hanin (2022), chapter 5; Schoenholz et al. (2017).
    """
    from flaxinit.theory import derive  # loads SymPy
    from flaxinit.theory.meanfield.criticality import SEARCHED

    derivation = derive(activation)
    points = derivation.maps.criticality
    if not points:
        raise ValueError(
            f"{derivation.name} is never critical: no kernel and bias variances with a K* between "
            f"{SEARCHED[0]:g} and {SEARCHED[1]:g} keep both signal and gradients. "
            "Use flaxinit.he(activation) to keep the signal, or "
            'flaxinit.he(activation, mode="fan_out") to keep the gradients.'
        )
    found, *others = points
    if others:
        named = ", ".join(f"K* = {point.q:.6g} ({point.kind})" for point in others)
        warnings.warn(
            f"{derivation.name} is critical at several variances. This pair keeps K* = "
            f"{found.q:.6g} ({found.kind}); flaxinit.derive(activation).maps.criticality also has "
            f"{named}.",
            stacklevel=3,  # the caller of what `takes_options` made
        )
    init = VarianceScaling(found.sigma_w2, "fan_in", distribution, **kernel)
    return Critical(init, normal(found.sigma_b2**0.5) if found.sigma_b2 else zeros, found.q)
