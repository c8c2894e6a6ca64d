"""Initializers in the call forms of Haiku and Keras, whose keys come from elsewhere."""

import importlib
import random
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self

import jax
import numpy as np
from jaxtyping import Array, Inexact

from flaxinit.initializers.base import (
    Initializer,
    Value,
    checked_initializer,
    declared,
)
from flaxinit.initializers.checks import checked_count

Init = Annotated[Initializer | Callable[..., Any], checked_initializer]


@declared
class for_haiku(Value):
    """An initializer as Haiku calls it: ``init(shape, dtype)``, inside `hk.transform`.

    The key is `hk.next_rng_key()`; an initializer that draws nothing takes none, so the keys of the
    parameters after it stay as they are.

    Args:
        init: the initializer, or another function ``(key, shape, dtype) -> array``.

    Raises:
        TypeError: what is not an initializer.

    >>> from flaxinit import he
    >>> for_haiku(he())  # for hk.Linear(8, w_init=...)
    for_haiku(variance_scaling(2.0, 'fan_in', 'truncated_normal'))
    """

    init: Init

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Inexact[Array, "..."]:
        """Draw an array with Haiku's next key."""
        if not getattr(self.init, "needs_key", True):
            return self.init(None, shape, dtype)
        haiku: Any = importlib.import_module("haiku")
        return self.init(haiku.next_rng_key(), shape, dtype)


@declared
class for_keras(Value):
    """An initializer as Keras 3 calls it: ``init(shape, dtype=...)``, on every backend.

    Without a seed each call draws its own from Python's generator, as Keras's initializers do:
    `keras.utils.set_random_seed` sets that, and layers that share the initializer differ. With a
    seed every call with the same shape and dtype draws the same values.

    A saved model holds the initializer as its configuration. Keras finds the class again where
    ``custom_objects={"for_keras": flaxinit.for_keras}`` names it.

    Args:
        init: the initializer.
        seed: a positive integer, or None.

    Raises:
        TypeError: what is not an initializer.
        ValueError: a seed that is not a positive integer.

    >>> from flaxinit import he
    >>> for_keras(he(), seed=3)  # for keras.layers.Dense(8, kernel_initializer=...)
    for_keras(variance_scaling(2.0, 'fan_in', 'truncated_normal'), seed=3)
    """

    init: Init
    seed: Annotated[int, checked_count] | None = None

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Draw a tensor of Keras's backend."""
        keras: Any = importlib.import_module("keras")
        seed = random.randint(1, 10**9) if self.seed is None else self.seed
        name = keras.backend.floatx() if dtype is None else getattr(dtype, "name", str(dtype))
        drawn = self.init(jax.random.key(seed), tuple(shape), name.removeprefix("torch."))
        if keras.backend.backend() == "jax":
            return drawn
        return keras.ops.convert_to_tensor(np.asarray(drawn), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration that Keras saves."""
        if not isinstance(self.init, Initializer):
            raise TypeError(f"Keras saves flaxinit's initializers alone, got {self.init!r}.")
        return {"init": self.init.to_config(), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the initializer from a configuration that `get_config` returned."""
        from flaxinit.initializers.config import get

        return cls(get(config["init"]), config["seed"])
