"""`he`, `glorot`, `lecun` and `critical`: kernels scaled by the moments of an activation."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

from flaxinit.catalogue import MOMENTS, catalogue_name
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.constants import zeros
from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.initializers.random import normal
from flaxinit.initializers.scaling import Mode, VarianceScaling
from flaxinit.sampling import Distribution

# A catalogue name, a formula, a JAX callable, a SymPy expression or a Derivation.
Activation = str | Callable[..., Any] | Any


def moments(activation: Activation) -> tuple[float, float]:
    """Return ``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1).

    A catalogue name is looked up. Every other form is derived, which loads SymPy.

    Args:
        activation: a catalogue name (``"gelu"``), a formula in one symbol
            (``"x * tanh(softplus(x))"``), a JAX callable, a SymPy expression, or a `Derivation`.

    Returns:
        Both second moments.

    Raises:
        ValueError: if the name is unknown, or parameters are open.

    >>> moments("relu")
    (0.5, 0.5)
    """
    if isinstance(activation, str) and (known := MOMENTS.get(catalogue_name(activation) or "")):
        return known
    from flaxinit.theory import derive  # loads SymPy

    return derive(activation).moments


def mean(activation: Activation) -> float:
    """Return ``E[φ(z)]`` for z ~ N(0, 1), which is derived: this loads SymPy.

    >>> round(mean("relu") ** -2, 6)  # 2π
    6.283185
    """
    from flaxinit.theory import derive

    return derive(activation).mean.value


def gain(activation: Activation, mode: Mode = "fan_in", *, centered: bool = False) -> float:
    """Return the factor on the standard deviation that makes up for an activation.

    ``fan_in`` gives ``1/√E[φ²]``, which keeps the forward signal; ``fan_out`` gives
    ``1/√E[φ'²]``, which keeps the gradients. ``fan_avg`` and ``fan_geo_avg`` give the compromise
    for a square kernel: ``√(2/(E[φ²] + E[φ'²]))`` and ``(E[φ²] E[φ'²])^(-1/4)``.

    Args:
        activation: any form that `flaxinit.he` takes.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        centered: whether the kernel's entries sum to 0 over the fan, as in `he`.

    Returns:
        The gain, with which ``std(W) = gain / √fan``.

    Raises:
        ValueError: if the activation or the mode is unknown.

    >>> gain("relu")
    1.4142135623730951

    References: He, Zhang, Ren, Sun (2015).
    """
    return he(activation, mode=mode, centered=centered, fan_in=1, fan_out=1).std((1, 1))


@takes_options
def he(
    activation: Activation = "relu",
    *,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    centered: bool = False,
    **kernel: Unpack[KernelOptions],
) -> VarianceScaling:
    """Keep the signal's second moment: ``Var W = 1/(fan_in · E[φ(z)²])``.

    ``he()`` is ReLU's ``2/fan_in``. ``mode="fan_out"`` keeps the gradients' second moment instead:
    ``1/(fan_out · E[φ'(z)²])``. Pass the activation *before* this layer.

    A kernel whose entries sum to 0 over its fan (weight standardization) does not see the mean of
    the activation: it keeps the signal with ``Var W = 1/(fan_in · Var φ(z))``. A layer that
    standardizes its kernel to unit variance takes ``gain(activation, centered=True)`` as the start
    of its gain, over √fan_in.

    Args:
        activation: a catalogue name, a JAX function, a SymPy expression or a formula.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        centered: whether the layer subtracts from the kernel its mean over the fan.
        **kernel: ``in_axis``, ``out_axis``, ``batch_axis``, ``dtype``, ``fan_in``, ``fan_out``,
            ``groups``, ``strides``, ``transposed``, as in `variance_scaling`.

    Returns:
        An initializer for ``kernel_init``.

    Raises:
        TypeError: if a keyword is none of these.
        ValueError: if the activation, the mode or the distribution is unknown, or no finite
            variance does what the mode asks.

    >>> he()
    variance_scaling(2.0, 'fan_in', 'truncated_normal')
    >>> round(he("gelu").std((256, 128)), 6)
    0.095846
    >>> round(he("relu", centered=True).variance((1, 1)), 3)  # 2π/(π - 1)
    2.934

    References:
        He, Zhang, Ren, Sun (2015). Brock, De, Smith (2021), Characterizing signal propagation to
        close the performance gap in unnormalized ResNets, for centered kernels.
    """
    forward, backward = moments(activation)
    if centered:
        forward -= mean(activation) ** 2
    return VarianceScaling.from_moments(
        (forward, backward), mode, distribution, activation=repr(activation), **kernel
    )


@takes_options
def glorot(
    activation: Activation = "linear",
    *,
    mode: Mode = "fan_avg",
    distribution: Distribution = "truncated_normal",
    **kernel: Unpack[KernelOptions],
) -> VarianceScaling:
    """Compromise between signal and gradients: ``Var W = 2/(fan_in E[φ²] + fan_out E[φ'²])``.

    ``glorot()`` is Glorot and Bengio's ``2/(fan_in + fan_out)``. It takes the arguments of `he`.

    >>> glorot().variance((300, 100))
    0.005

    References: Glorot, Bengio (2010).
    """
    return he(activation, mode=mode, distribution=distribution, **kernel)


@takes_options
def lecun(
    activation: Activation = "linear",
    *,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    **kernel: Unpack[KernelOptions],
) -> VarianceScaling:
    """Keep the second moment of a linear layer's input: ``Var W = 1/fan_in``.

    It also serves SELU, whose second moment is 1. It takes the arguments of `he`.

    >>> lecun().variance((400, 100))
    0.0025

    References: LeCun, Bottou, Orr, Müller (1998); Klambauer et al. (2017).
    """
    return he(activation, mode=mode, distribution=distribution, **kernel)


@takes_options
def he_normal(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `he` with the truncated normal, like ``jax.nn.initializers.he_normal``.

    >>> he_normal() == he()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def he_uniform(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `he` with the uniform distribution.

    >>> he_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


@takes_options
def glorot_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `glorot` with the truncated normal, like ``jax.nn.initializers.glorot_normal``.

    >>> glorot_normal() == glorot()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def glorot_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `glorot` with the uniform distribution.

    >>> glorot_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


@takes_options
def lecun_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `lecun` with the truncated normal, like ``jax.nn.initializers.lecun_normal``.

    >>> lecun_normal() == lecun()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def lecun_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """Return `lecun` with the uniform distribution.

    >>> lecun_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


kaiming = takes_options(he, "kaiming")
kaiming_normal = takes_options(he_normal, "kaiming_normal")
kaiming_uniform = takes_options(he_uniform, "kaiming_uniform")
xavier = takes_options(glorot, "xavier")
xavier_normal = takes_options(glorot_normal, "xavier_normal")
xavier_uniform = takes_options(glorot_uniform, "xavier_uniform")


class Critical(NamedTuple):
    """The two initializers that `critical` returns, and the variance K* they keep (None: any)."""

    kernel: VarianceScaling
    bias: Initializer
    q: float | None

    def __call__(self, *args, **kwargs):
        """Raise TypeError: three things are no initializer."""
        raise TypeError(
            "flaxinit.critical returns a kernel's initializer, a bias's, and the variance that "
            'they keep. Write kernel, bias, q = flaxinit.critical("gelu"), then '
            "nn.Dense(64, kernel_init=kernel, bias_init=bias)."
        )


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
