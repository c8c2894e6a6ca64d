"""Tables of sines and cosines that tell positions apart."""

import functools
import math
from typing import Annotated, Any

import numpy as np

from flaxinit import sampling
from flaxinit.fans import integers
from flaxinit.initializers.base import AnyAxes, Deterministic
from flaxinit.initializers.checks import DType, checked_number


def _checked_grid(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        grid = integers(value)
    except TypeError:
        grid = ()
    if not isinstance(grid, tuple) or len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"{name} must be (height, width), two positive integers; got {value!r}.")
    return grid


class sincos_positions(AnyAxes, Deterministic):
    """Fill in a table of positions, ``(..., positions, features)``, with sines and cosines.

    For frequencies ``ω_i = base^(-2i/features)``, ``i < features/2``, position p has
    ``sin(ω_i p)`` in the first half of the features and ``cos(ω_i p)`` in the second. With
    ``interleaved=True`` they take turns, as in the first Transformer. With ``grid=(height, width)``
    the positions are the patches of an image, row by row; the first half of the features encodes
    the column and the second half the row, each with sines, then cosines, as in MAE and DiT.

    Args:
        base: the longest wavelength over 2π, above 1.
        grid: height and width, in patches.
        interleaved: whether sines and cosines take turns.
        dtype: default dtype if the call gives none; a position's sine is computed in float64.

    Raises:
        ValueError: a base or grid out of range; when called, features that are not a multiple of 2
            (4 on a grid), or another number of positions than the grid has.

    >>> table = sincos_positions()(None, (2, 4))
    >>> [f"{value:.4f}" for value in table[1]]  # sin 1, sin 1/100, cos 1, cos 1/100
    ['0.8415', '0.0100', '0.5403', '0.9999']

    References: Vaswani et al. (2017), Attention Is All You Need; He et al. (2022), MAE;
    facebookresearch/mae efb2a80, ``util/pos_embed.py``.
    """

    base: Annotated[float, functools.partial(checked_number, above=1.0)] = 10000.0
    grid: Annotated[Any, _checked_grid] = None
    interleaved: bool = False
    dtype: DType = None

    def check_shape(self, shape):
        divisor = 2 if self.grid is None else 4
        if len(shape) < 2 or shape[-1] % divisor:
            raise ValueError(
                f"{self!r} fills tables (..., positions, features) with features a multiple of "
                f"{divisor}, but the shape is {shape}."
            )
        if self.grid is not None and math.prod(self.grid) != shape[-2]:
            raise ValueError(
                f"grid={self.grid} has {math.prod(self.grid)} positions, but the shape {shape} has "
                f"{shape[-2]}. A class token has no position: draw its row separately."
            )

    def draw(self, key, shape, dtype, out_sharding):
        positions, features = shape[-2:]
        number = np.arange(positions)
        if self.grid is None:
            table = self._waves(number, features)
        else:
            row, column = np.divmod(number, self.grid[1])
            halves = [self._waves(place, features // 2) for place in (column, row)]
            table = np.concatenate(halves, axis=1)
        return sampling.full(
            table.astype(dtype), shape=shape, dtype=dtype, out_sharding=out_sharding
        )

    def _waves(self, place: np.ndarray, features: int) -> np.ndarray:
        """Return the sines and cosines of some places."""
        half = features // 2
        phase = np.outer(place, self.base ** -(np.arange(half) / max(half, 1)))
        waves = np.stack([np.sin(phase), np.cos(phase)], axis=2 if self.interleaved else 1)
        return waves.reshape(len(place), features)
