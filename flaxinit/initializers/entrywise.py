"""Initializers that draw their entries one by one, from one parent distribution."""

from typing import Any, NamedTuple

from flaxinit import sampling
from flaxinit.initializers.base import Initializer
from flaxinit.sampling import Distribution


class Parent(NamedTuple):
    """The law of an entry: `multiple` times a draw from `distribution` on the interval `ends`."""

    distribution: Distribution
    multiple: Any
    ends: tuple[Any, Any]


class Entrywise(Initializer):
    """An initializer whose entries are independent and distributed alike."""

    def parent(self, shape: tuple[int, ...], dtype) -> Parent:
        """Return the law of the entries; raise ValueError if the dtype cannot hold them."""
        raise NotImplementedError

    def draw(self, key, shape, dtype, out_sharding):
        distribution, multiple, ends = self.parent(shape, dtype)
        return sampling.draw(
            key,
            multiple,
            ends,
            shape=shape,
            dtype=dtype,
            distribution=distribution,
            out_sharding=out_sharding,
        )


def around_zero(variance: Any, distribution: Distribution, dtype) -> Parent:
    """Return the parent of a draw with mean 0 and this variance."""
    multiple = sampling.checked_factor(distribution, variance, dtype)
    return Parent(distribution, multiple, sampling.ENDS[distribution])
