"""Weight initialization for JAX and Flax, with the variance of every draw derived and proven.

``__init__.pyi`` lists the public names; type checkers read it too. Each name is imported on first
use, so ``import flaxinit`` costs next to nothing, and only `derive` loads SymPy.
"""

import ast
import importlib
from pathlib import Path

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
_HOME = {
    alias.name: str(statement.module)
    for statement in _STUB.body
    if isinstance(statement, ast.ImportFrom) and statement.module != __name__
    for alias in statement.names
}
_ROOMS = "recipes", "theory"  # modules with public names of their own

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"flaxinit.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("flaxinit")
    import difflib

    near = difflib.get_close_matches(name, __all__, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise AttributeError(f"module 'flaxinit' has no attribute {name!r}{hint}")


def __dir__():
    return sorted([*__all__, *_ROOMS, "__version__"])
