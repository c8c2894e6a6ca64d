"""Ways to draw the kernels of a network, each as the people who use it apply it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from flax import linen as nn

import flaxinit


class Technique(NamedTuple):
    """How to draw the parameters of a multilayer perceptron.

    Args:
        title: name in tables and plots.
        first: activation name -> initializer of the kernel that sees the inputs.
        hidden: activation name -> initializer of every later kernel.
        bias: activation name -> initializer of the biases.
    """

    title: str
    first: Callable[[str], Callable]
    hidden: Callable[[str], Callable]
    bias: Callable[[str], Callable] = lambda activation: nn.initializers.zeros

    @classmethod
    def everywhere(cls, title: str, initializer: Callable) -> "Technique":
        """The same initializer for every kernel, whatever the activation."""
        return cls(title, lambda activation: initializer, lambda activation: initializer)

    @classmethod
    def following(cls, title: str, hidden: Callable[[str], Callable]) -> "Technique":
        """An initializer that carries a gain.

        The inputs come from no activation, so the first kernel takes linear's gain.
        """
        return cls(title, lambda activation: hidden("linear"), hidden)


def centred_uniform(limit: float) -> Callable:
    """Uniform on [-limit, limit): its variance is limit² / 3."""
    return flaxinit.uniform(limit, minval=-limit)


# The table in the documentation of `torch.nn.init.calculate_gain`.
PYTORCH_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4}


def pytorch(activation: str) -> Callable:
    """`kaiming_normal_` with the gain that PyTorch lists for this activation."""
    return flaxinit.variance_scaling(PYTORCH_GAINS[activation] ** 2, "fan_in", "truncated_normal")


def critical_first(activation: str) -> Callable:
    """The first kernel takes inputs of second moment 1 to the variance K* that is kept."""
    found = flaxinit.critical(activation)
    if not found.q:  # every variance is kept, or it settles to 0 from wherever it starts
        return flaxinit.lecun()
    of_bias = found.bias.variance(())
    return flaxinit.variance_scaling(found.q - of_bias, "fan_in", "truncated_normal")


TECHNIQUES = {
    "normal": Technique.everywhere("Normal σ=0.01", flaxinit.normal(0.01)),
    "uniform": Technique.everywhere("Uniform ±0.05", centred_uniform(0.05)),
    "xavier": Technique.everywhere("Xavier", flaxinit.glorot()),
    "lecun": Technique.everywhere("LeCun", flaxinit.lecun()),
    "he": Technique.everywhere("He", flaxinit.he()),
    "orthogonal": Technique.following(
        "Orthogonal × gain", lambda name: flaxinit.orthogonal(flaxinit.gain(name))
    ),
    "derived": Technique.following("Derived gain", flaxinit.he),
    "derived uniform": Technique.following(
        "Derived gain (uniform)", partial(flaxinit.he, distribution="uniform")
    ),
    "backward": Technique.following("Derived backward", partial(flaxinit.he, mode="fan_out")),
    "critical": Technique(
        "Derived critical",
        critical_first,
        lambda name: flaxinit.critical(name).kernel,
        lambda name: flaxinit.critical(name).bias,
    ),
    # What a Flax layer draws today in the dtype of its parameters.
    "jax he": Technique.everywhere("jax.nn.initializers", jax.nn.initializers.he_normal()),
    "pytorch": Technique.following("PyTorch's table", pytorch),
    "flaxinit he": Technique.everywhere("flaxinit", flaxinit.he()),
}


class Branches(NamedTuple):
    """How to scale the two kernels of a transformer's block that write to the stream.

    Args:
        title: name in tables and plots.
        factor: number of blocks -> factor on a kernel that keeps variances.
    """

    title: str
    factor: Callable[[int], float]


BRANCHES = {
    "plain": Branches("unscaled", lambda blocks: 1.0),
    "depth": Branches("1/√(2L)", lambda blocks: (2 * blocks) ** -0.5),
    "zero": Branches("zero", lambda blocks: 0.0),
}


def title(name: str) -> str:
    """The name in tables and plots of a technique of either architecture."""
    return (TECHNIQUES | BRANCHES)[name].title
