"""Keep tracing linear in the depth of NNX models before JAX 0.11.

At every draw an NNX stream advances its counter, and to do so asks the traced value for its
sharding. A traced value has none; JAX 0.10 says so with an error message for which it walks through
all equations so far, and nobody reads it. Forty-eight layers spend ten seconds on that.
"""

import functools
from typing import Any

import jax
from jax.core import Tracer

_LONG = jax.__version_info__ < (0, 11)


def brief(results: Any) -> Any:
    """What an operation has made; traced values among it say briefly that they have no sharding.

    JAX itself is left as it is: these values become instances of a class of their own.
    """
    if _LONG:
        for x in results if isinstance(results, list | tuple) else [results]:
            if isinstance(x, Tracer):
                x.__class__ = _brief(type(x))
    return results


@functools.cache
def _brief(kind: type) -> type:
    named = {"__slots__": (), "sharding": property(_no_sharding)}
    return kind if "sharding" in vars(kind) else type(kind.__name__, (kind,), named)


def _no_sharding(x: Tracer) -> Any:
    raise AttributeError("A traced value has no sharding.")
