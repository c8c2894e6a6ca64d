"""Other libraries' defaults and published recipes: initializers, and rules for `reinit`."""

from flaxinit.initializers.like_kernel import like_kernel as like_kernel
from flaxinit.rules import Rule as Rule

__all__ = ["Rule", "like_kernel"]
