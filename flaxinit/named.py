"""The initializers everybody knows by name: variance scaling with an activation's moments."""

from typing import Unpack

from flaxinit.activations import Activation, scales
from flaxinit.initializers.checks import did_you_mean
from flaxinit.initializers.scaling import KernelOptions, Mode, VarianceScaling
from flaxinit.sampling import Distribution

KEYWORDS = ("activation", "mode", "distribution", *KernelOptions.__annotations__)


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
    for name in kernel.keys() - KEYWORDS:
        raise TypeError(
            f"he, glorot and lecun take no keyword {name!r}.{did_you_mean(name, KEYWORDS)} They "
            f"take {', '.join(KEYWORDS)}; for a scale of your own use flaxinit.variance_scaling."
        )
    forward, backward = scales(activation, mode)
    return VarianceScaling(forward, mode, distribution, backward_scale=backward, **kernel)


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


def he_normal(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`he` with the truncated normal, as ``jax.nn.initializers.he_normal``.

    >>> he_normal() == he()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


def he_uniform(
    activation: Activation = "relu", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`he` with the uniform distribution.

    >>> he_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


def glorot_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`glorot` with the truncated normal, as ``jax.nn.initializers.glorot_normal``.

    >>> glorot_normal() == glorot()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


def glorot_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_avg", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`glorot` with the uniform distribution.

    >>> glorot_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


def lecun_normal(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`lecun` with the truncated normal, as ``jax.nn.initializers.lecun_normal``.

    >>> lecun_normal() == lecun()
    True
    """
    return he(activation, mode=mode, distribution="truncated_normal", **kernel)


def lecun_uniform(
    activation: Activation = "linear", *, mode: Mode = "fan_in", **kernel: Unpack[KernelOptions]
) -> VarianceScaling:
    """`lecun` with the uniform distribution.

    >>> lecun_uniform().distribution
    'uniform'
    """
    return he(activation, mode=mode, distribution="uniform", **kernel)


kaiming, kaiming_normal, kaiming_uniform = he, he_normal, he_uniform
xavier, xavier_normal, xavier_uniform = glorot, glorot_normal, glorot_uniform
