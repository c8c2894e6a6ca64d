"""Ways to draw the kernels of a network, each as it is used in practice."""

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
        first: activation name -> initializer of the kernel that reads the inputs.
        hidden: activation name -> initializer of every later kernel.
        bias: activation name -> initializer of the biases.
    """

    title: str
    first: Callable[[str], Callable]
    hidden: Callable[[str], Callable]
    bias: Callable[[str], Callable] = lambda activation: nn.initializers.zeros

    @classmethod
    def everywhere(cls, title: str, initializer: Callable) -> "Technique":
        """Return a technique with one initializer for every kernel and activation."""
        return cls(title, lambda activation: initializer, lambda activation: initializer)

    @classmethod
    def following(cls, title: str, hidden: Callable[[str], Callable]) -> "Technique":
        """Return a technique whose initializer depends on the activation.

        The inputs come from no activation, so the first kernel gets linear's gain.
        """
        return cls(title, lambda activation: hidden("linear"), hidden)


def centered_uniform(limit: float) -> Callable:
    """Return the uniform initializer on [-limit, limit), of variance limit² / 3."""
    return flaxinit.uniform(limit, minval=-limit)


# From the documentation of `torch.nn.init.calculate_gain`.
PYTORCH_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4}


def pytorch(activation: str) -> Callable:
    """Return `kaiming_normal_` with PyTorch's gain for this activation."""
    return flaxinit.variance_scaling(PYTORCH_GAINS[activation] ** 2, "fan_in", "truncated_normal")


def critical_first(activation: str) -> Callable:
    """Return the first kernel's initializer: it takes second moment 1 to the critical variance."""
    found = flaxinit.critical(activation)
    if not found.q:  # every variance is kept, or every variance decays to 0
        return flaxinit.lecun()
    of_bias = found.bias.variance(())
    return flaxinit.variance_scaling(found.q - of_bias, "fan_in", "truncated_normal")


# Those of the textbooks; an orthogonal kernel is multiplied by the gain.
TEXTBOOK = ("normal", "uniform", "xavier", "lecun", "he", "orthogonal")
TECHNIQUES = {
    "normal": Technique.everywhere("Normal σ=0.01", flaxinit.normal(0.01)),
    "uniform": Technique.everywhere("Uniform ±0.05", centered_uniform(0.05)),
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
    # What a Flax layer draws by default, in the dtype of its parameters.
    "jax he": Technique.everywhere("jax.nn.initializers", jax.nn.initializers.he_normal()),
    "pytorch": Technique.following("PyTorch's table", pytorch),
    "flaxinit he": Technique.everywhere("flaxinit", flaxinit.he()),
}


class Branches(NamedTuple):
    """How to scale the two kernels of a transformer block that write to the stream.

    Args:
        title: name in tables and plots.
        factor: number of blocks -> factor on a kernel that keeps the variance.
    """

    title: str
    factor: Callable[[int], float]


BRANCHES = {
    "plain": Branches("unscaled", lambda blocks: 1.0),
    "depth": Branches("1/√(2L)", lambda blocks: (2 * blocks) ** -0.5),
    "zero": Branches("zero", lambda blocks: 0.0),
}


def title(name: str) -> str:
    """Return the name of a technique of either architecture in tables and plots."""
    return (TECHNIQUES | BRANCHES)[name].title
