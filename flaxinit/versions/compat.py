"""The versions of JAX and Flax that work, and today's names for what older ones call differently.

Importing this module raises ImportError if JAX is too old.
"""

import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import jax.experimental
from jax.extend import core

# What the whole of flaxinit needs; initializers and `derive` need pyproject.toml's lower bounds.
WHOLE = {"jax": "0.10", "flax": "0.12.8"}


def require(what: str, **oldest: str) -> None:
    """Raise ImportError if an installed package is too old for `what`."""
    for package, version in oldest.items():
        numbers = [[int(n) for n in re.findall(r"\d+", v)] for v in (have(package), version)]
        if numbers[0] < numbers[1]:
            line = " ".join(f'"{name}>={number}"' for name, number in oldest.items())
            raise ImportError(
                f"{what} needs {package} {version} or later, but {have(package)} is installed. "
                f"Run: pip install -U {line}"
            )


def have(package: str) -> str:
    """Return the version of an installed package."""
    return metadata.version(package)


require("flaxinit", jax="0.7")


def _jaxprs_in_params(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for part in value if isinstance(value, tuple) else (value,):
            if hasattr(part, "eqns"):
                yield getattr(part, "jaxpr", part)


# enable_x64 is experimental before JAX 0.8, and jaxprs_in_params is private before 0.10.
_home: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
enable_x64: Any = _home.enable_x64
jaxprs_in_params: Any = getattr(core, "jaxprs_in_params", _jaxprs_in_params)
