"""Kernels for an activation: variance scaling by its moments, under the names everybody knows."""

from collections.abc import Callable
from typing import Any, Unpack

from flaxinit.catalogue import MOMENTS, catalogue_name
from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.initializers.scaling import Mode, VarianceScaling
from flaxinit.sampling import Distribution

# A catalogue name, a formula, a JAX callable, a SymPy expression or a Derivation.
Activation = str | Callable[..., Any] | Any


def moments(activation: Activation) -> tuple[float, float]:
    """``(E[φ(z)²], E[φ'(z)²])`` for z ~ N(0, 1).

    A catalogue name is looked up; every other form is derived, which loads SymPy.

    Args:
        activation: a catalogue name (``"gelu"``), a formula in one symbol
            (``"x * tanh(softplus(x))"``), a JAX callable, a SymPy expression, or what
            `flaxinit.derive` returned.

    Returns:
        Both second moments.

    Raises:
        ValueError: an unknown name, or parameters left open.

    >>> moments("relu")
    (0.5, 0.5)
    """
    if isinstance(activation, str) and (known := MOMENTS.get(catalogue_name(activation) or "")):
        return known
    from flaxinit.theory import derive  # loads SymPy

    return derive(activation).moments


def gain(activation: Activation, mode: Mode = "fan_in") -> float:
    """The factor on the standard deviation that makes up for an activation.

    ``fan_in``: ``1/√E[φ²]``, for the forward signal. ``fan_out``: ``1/√E[φ'²]``, for the
    gradients. ``fan_avg`` and ``fan_geo_avg`` are their means for a square kernel:
    ``√(2/(E[φ²] + E[φ'²]))`` and ``(E[φ²] E[φ'²])^(-1/4)``.

    Args:
        activation: any form that `flaxinit.he` takes.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.

    Returns:
        The gain, so that ``std(W) = gain / √fan``.

    Raises:
        ValueError: an unknown activation or mode.

    >>> gain("relu")
    1.4142135623730951

    References: He, Zhang, Ren, Sun (2015).
    """
    return he(activation, mode=mode, fan_in=1, fan_out=1).std((1, 1))


@takes_options
def he(
    activation: Activation = "relu",
    *,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    **kernel: Unpack[KernelOptions],
) -> VarianceScaling:
    """Keep the signal's second moment: ``Var W = 1/(fan_in · E[φ(z)²])``.

    ``he()`` is ReLU's ``2/fan_in``. ``mode="fan_out"`` keeps the gradients' instead,
    ``1/(fan_out · E[φ'(z)²])``. The activation is the one that makes this layer's **input**.

    Args:
        activation: a catalogue name, a JAX function, a SymPy expression or a formula.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        **kernel: ``in_axis``, ``out_axis``, ``batch_axis``, ``dtype``, ``fan_in``, ``fan_out``,
            ``groups``, ``strides``, ``transposed``, as in `variance_scaling`.

    Returns:
        An initializer for ``kernel_init``.

    Raises:
        TypeError: a keyword that is none of these.
        ValueError: an unknown activation, mode or distribution, or an activation for which no
            finite variance does what the mode asks.

    >>> he()
    variance_scaling(2.0, 'fan_in', 'truncated_normal')
    >>> round(he("gelu").std((256, 128)), 6)
    0.095846

    References: He, Zhang, Ren, Sun (2015).
    """
    return VarianceScaling.from_moments(
        moments(activation), mode, distribution, activation=repr(activation), **kernel
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

    ``glorot()`` is Glorot and Bengio's ``2/(fan_in + fan_out)``. Arguments, result and errors
    are those of `he`.

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

    Also what SELU asks for (its second moment is 1). Arguments, result and errors are those of
    `he`.

    >>> lecun().variance((400, 100))
    0.0025

    References: LeCun, Bottou, Orr, Müller (1998); Klambauer et al. (2017).
    """
    return he(activation, mode=mode, distribution=distribution, **kernel)


@takes_options
def he_normal(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`he` with the truncated normal, as ``jax.nn.initializers.he_normal``.

    >>> he_normal() == he()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def he_uniform(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`he` with the uniform distribution.

    >>> he_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


@takes_options
def glorot_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`glorot` with the truncated normal, as ``jax.nn.initializers.glorot_normal``.

    >>> glorot_normal() == glorot()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def glorot_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`glorot` with the uniform distribution.

    >>> glorot_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


@takes_options
def lecun_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`lecun` with the truncated normal, as ``jax.nn.initializers.lecun_normal``.

    >>> lecun_normal() == lecun()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


@takes_options
def lecun_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`lecun` with the uniform distribution.

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
