"""Weight initialization for JAX and Flax, with the variance of every draw derived and proven.

Only re-exports live here. A name is imported on first use, so that ``import flaxinit``
costs next to nothing and SymPy is loaded only by whoever derives something.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flaxinit.initializers import (
        Initializer as Initializer,
    )

_HOME = {
    "flaxinit.initializers": (
        "Initializer",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("flaxinit")
    raise AttributeError(f"module 'flaxinit' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, "__version__"])
