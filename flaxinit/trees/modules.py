"""Flax's modules, told from other values without loading Flax: who has one has imported it."""

import sys
from typing import Any


def nnx_of(value: Any) -> Any:
    """Return Flax's NNX if a value is one of its modules, else None."""
    nnx = sys.modules.get("flax.nnx")
    return nnx if nnx is not None and isinstance(value, nnx.Module) else None


def is_linen(value: Any) -> bool:
    """Return whether a value is a Linen module."""
    linen = sys.modules.get("flax.linen")
    return linen is not None and isinstance(value, linen.Module)


def module_of(method: Any) -> Any:
    """Return the Linen or NNX module that a method belongs to; None for other values."""
    owner = getattr(method, "__self__", None)
    return owner if is_linen(owner) or nnx_of(owner) else None
