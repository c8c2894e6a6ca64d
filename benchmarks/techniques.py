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


TECHNIQUES = {
    "normal": Technique.everywhere("Normal σ=0.01", flaxinit.normal(0.01)),
    "uniform": Technique.everywhere("Uniform ±0.05", centred_uniform(0.05)),
    "xavier": Technique.everywhere("Xavier", flaxinit.glorot()),
    "he": Technique.everywhere("He", flaxinit.he()),
    # The inputs come from no activation, so the first kernel takes linear's gain.
    "derived": Technique("Derived gain", flaxinit.he("linear"), flaxinit.he),
}
