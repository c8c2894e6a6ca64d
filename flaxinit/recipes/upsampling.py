"""Kernels that enlarge images: sub-pixel convolutions and transposed ones."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import jax.numpy as jnp
import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic, Initializer
from flaxinit.initializers.checks import Count, DType
from flaxinit.initializers.parts import numbers


def _checked_part(name: str, value: Any) -> Initializer:
    if isinstance(value, Initializer):
        return value
    raise TypeError(f"{name} must be one of flaxinit's initializers, such as he(); got {value!r}.")


class icnr(Initializer):
    """Draw a sub-pixel convolution whose output, once shuffled, has no checkerboard.

    The kernel ``(..., in, outputs · copies)`` of a convolution before a pixel shuffle holds
    `copies` equal kernels, each drawn by ``init``. At the start the layer therefore enlarges its
    output by nearest neighbors. Variance and fans are those of one copy.

    Args:
        init: the initializer of one copy.
        copies: pixels made of one: the square of the factor for images.
        order: where the copies of an output lie: ``"repeat"`` side by side, as PyTorch's
            ``PixelShuffle`` reads them, or ``"tile"`` with all outputs between them, as
            TensorFlow's ``depth_to_space`` does.
        dtype: default dtype if the call gives none.

    Raises:
        TypeError: an init that is not one of flaxinit's initializers.
        ValueError: an unknown order; when called, outputs that are not a multiple of the copies, or
            a shape of one copy that ``init`` refuses.

    >>> from flaxinit import he
    >>> init = icnr(he(), copies=4)
    >>> init.variance((3, 3, 16, 32)) == he().variance((3, 3, 16, 8))
    True

    References: Aitken, Ledig, Theis, Caballero, Wang, Shi (2017), Checkerboard artifact free
    sub-pixel convolution; fastai/fastai aed484f, ``fastai/layers.py``.
    """

    init: Annotated[Initializer, _checked_part]
    copies: Count = 4
    order: Literal["repeat", "tile"] = "repeat"
    dtype: DType = None

    @property
    def needs_key(self) -> bool:  # of this one, not of its class
        return self.init.needs_key

    def times(self, factor: float) -> Self:
        """Return the same initializer with ``init`` multiplied, as in `Initializer.times`."""
        return dataclasses.replace(self, init=self.init.times(factor))

    def with_axes(self, in_axis, out_axis):
        """Return the same initializer with the axes of ``init`` replaced."""
        return dataclasses.replace(self, init=self.init.with_axes(in_axis, out_axis))

    def check_shape(self, shape):
        self.init.check_shape(self._one(shape))

    def _variance(self, shape):
        return self.init.variance(self._one(shape))

    def _one(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of one copy."""
        if not shape or shape[-1] % self.copies:
            raise ValueError(
                f"{self!r} needs a last axis that is a multiple of {self.copies}, but the shape is "
                f"{tuple(shape)}."
            )
        return (*shape[:-1], shape[-1] // self.copies)

    def draw(self, key, shape, dtype, out_sharding):
        options = {"init": self.init, "shape": self._one(shape), "dtype": dtype}
        options |= {"copies": self.copies, "order": self.order}
        if sampling.is_traced(*numbers(self)):  # it cannot be a cache key
            return sampling.place(functools.partial(_copied, **options), out_sharding)(key)
        return _compiled(key, **options, out_sharding=out_sharding)


def _copied(key, *, init, shape, dtype, copies, order):
    one = init.draw(key, shape, dtype, None)
    stacked = jnp.stack([one] * copies, axis=-1 if order == "repeat" else -2)
    return stacked.reshape(*shape[:-1], -1)


_compiled = sampling.program(_copied)


class upsample(Deterministic):
    """Enlarge an image by a transposed convolution, ``(spatial..., in, out)``; nothing is random.

    ``"bilinear"`` weighs a pixel at distance t from the center of k by ``1 - t/f`` along each axis,
    ``f = ⌈k/2⌉``: a kernel of size ``2s - s % 2`` and stride s interpolates. ``"nearest"`` weighs
    all alike: a kernel of size s and stride s repeats. Each feature is enlarged separately; a
    kernel that is not square enlarges as many as fit.

    Args:
        method: ``"bilinear"`` or ``"nearest"``.
        groups: ``feature_group_count``, see `flaxinit.identity`.
        dtype: default dtype if the call gives none.

    Raises:
        ValueError: an unknown method; when called, a shape without a spatial axis, or groups that
            do not divide the outputs.

    >>> upsample()(None, (4, 1, 1)).ravel().tolist()
    [0.25, 0.75, 0.75, 0.25]

    References: Long, Shelhamer, Darrell (2015), Fully Convolutional Networks;
    shelhamer/fcn.berkeleyvision.org 1305c73, ``surgery.py``.
    """

    method: Literal["bilinear", "nearest"] = "bilinear"
    groups: Count = 1
    dtype: DType = None

    def check_shape(self, shape):
        if len(shape) < 3 or shape[-1] % self.groups:
            raise ValueError(
                f"{self!r} needs a kernel (spatial..., in, out) with out a multiple of groups, but "
                f"the shape is {shape}."
            )

    def draw(self, key, shape, dtype, out_sharding):
        weights = [self._weights(size) for size in shape[:-2]]
        window = functools.reduce(np.multiply.outer, weights).astype(dtype)
        return _upsample(window, shape=shape, groups=self.groups, out_sharding=out_sharding)

    def _weights(self, size: int) -> np.ndarray:
        if self.method == "nearest":
            return np.ones(size)
        return 1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)


@sampling.program
def _upsample(window, *, shape, groups):
    rows, columns = shape[-2:]
    of_group = jnp.arange(columns) % (columns // groups)
    passed = jnp.arange(rows)[:, None] == of_group[None]
    return jnp.where(passed, window[..., None, None], jnp.zeros((), window.dtype))
