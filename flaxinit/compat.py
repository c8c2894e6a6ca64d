"""Which versions of JAX and Flax fit, and what older ones lack, under the names of today."""

import re
from importlib import metadata

import jax
from jax.extend import core

# What the whole of flaxinit needs; initializers and `derive` need pyproject.toml's lower bounds.
WHOLE = {"jax": "0.10", "flax": "0.12.8"}


def require(what: str, **oldest: str) -> None:
    """Raise ImportError in one sentence where an installed package is too old for `what`."""
    for package, version in oldest.items():
        numbers = [[int(n) for n in re.findall(r"\d+", v)] for v in (have(package), version)]
        if numbers[0] < numbers[1]:
            line = " ".join(f'"{name}>={number}"' for name, number in oldest.items())
            raise ImportError(
                f"{what} needs {package} {version} or later, but {have(package)} is installed: "
                f"pip install -U {line}"
            )


def have(package: str) -> str:
    """The version of an installed package."""
    return metadata.version(package)


require("flaxinit", jax="0.7")

if hasattr(jax, "enable_x64"):  # since JAX 0.8
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64 as enable_x64  # pyright: ignore

if hasattr(core, "jaxprs_in_params"):  # since JAX 0.10
    jaxprs_in_params = core.jaxprs_in_params
else:

    def jaxprs_in_params(params):
        """The programs among the parameters of an equation."""
        for value in params.values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, core.Jaxpr | core.ClosedJaxpr):
                    yield getattr(part, "jaxpr", part)
