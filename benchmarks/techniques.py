"""Ways to draw the kernels of a network, each as the people who use it apply it."""

from collections.abc import Callable
from typing import NamedTuple

import flaxinit


class Technique(NamedTuple):
    """How to draw the first kernel, and those that follow the activation.

    Args:
        title: name in tables and plots.
        first: initializer of the kernel that sees the inputs.
        hidden: activation name -> initializer of every later kernel.
    """

    title: str
    first: Callable
    hidden: Callable[[str], Callable]

    @classmethod
    def everywhere(cls, title: str, initializer: Callable) -> "Technique":
        """The same initializer for every kernel, whatever the activation."""
        return cls(title, initializer, lambda activation: initializer)


def centred_uniform(limit: float) -> Callable:
    """Uniform on [-limit, limit): its variance is limit² / 3."""
    return flaxinit.uniform(limit, minval=-limit)


# The table in the documentation of `torch.nn.init.calculate_gain`.
PYTORCH_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4}


def pytorch(activation: str) -> Callable:
    """`kaiming_normal_` with the gain that PyTorch lists for this activation."""
    return flaxinit.variance_scaling(PYTORCH_GAINS[activation] ** 2, "fan_in", "truncated_normal")


TECHNIQUES = {
    "normal": Technique.everywhere("Normal σ=0.01", flaxinit.normal(0.01)),
    "uniform": Technique.everywhere("Uniform ±0.05", centred_uniform(0.05)),
    "xavier": Technique.everywhere("Xavier", flaxinit.glorot()),
    "he": Technique.everywhere("He", flaxinit.he()),
    # The inputs come from no activation, so the first kernel takes linear's gain.
    "derived": Technique("Derived gain", flaxinit.he("linear"), flaxinit.he),
    "pytorch": Technique("PyTorch's table", pytorch("linear"), pytorch),
}
