"""Biases drawn like an entry of their layer's kernel."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Self

from flaxinit.fans import checked_shape
from flaxinit.initializers.base import AnyAxes
from flaxinit.initializers.checks import DType
from flaxinit.initializers.entrywise import Entrywise


def _checked_init(name: str, value: Any) -> Entrywise:
    if isinstance(value, Entrywise) and not isinstance(value, like_kernel):
        return value
    raise TypeError(
        f"{name} must be an initializer whose entries are independent, such as he(), uniform() or "
        f"normal(); got {value!r}."
    )


def _checked_kernel(name: str, value: Any) -> tuple[int, ...] | str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return checked_shape(value)
    except TypeError:
        raise TypeError(
            f"{name} must be the kernel's shape, or its name in a model, got {value!r}."
        ) from None


class like_kernel(AnyAxes, Entrywise):
    """Draw a bias as if it were part of its layer's kernel, so with the kernel's fans.

    An entry has the distribution that ``init`` gives to an entry of the kernel. PyTorch draws its
    biases so: ``U(-1/√fan_in, 1/√fan_in)``, kernel and bias.

    In `reinit` and ``fast_init(initializers=...)`` the kernel is the array beside this one that has
    more axes. A rule with this initializer matches only what has a kernel beside it, so not the
    bias of a normalization. Elsewhere, pass the kernel's shape.

    Args:
        init: the initializer of the kernel; its entries must be independent.
        kernel: the kernel's shape; or its name if a module holds several, such as
            ``"weight_ih"``; or None for the only one.
        dtype: default dtype if the call gives none.

    Raises:
        TypeError: an init whose entries depend on each other, a kernel that is not a shape or name.
        ValueError: when called, a kernel whose shape is not known, or has no such fans.

    >>> from flaxinit import lecun_uniform
    >>> like_kernel(lecun_uniform(), (64, 8)).variance((8,))
    0.015625
    """

    init: Annotated[Entrywise, _checked_init]
    kernel: Annotated[Any, _checked_kernel] = None
    dtype: DType = None

    def times(self, factor: float) -> Self:
        """Return the same initializer with ``init`` multiplied, as in `Initializer.times`."""
        return dataclasses.replace(self, init=self.init.times(factor))

    def beside(self, kernels: Mapping[str, tuple[int, ...]]) -> Self | None:
        """Return the same initializer with the shape of its kernel, one of these; None if of none.

        Args:
            kernels: shapes of the arrays beside the bias that have more axes, by name.

        Raises:
            ValueError: several kernels, of which none is named.
        """
        if isinstance(self.kernel, tuple):
            return self
        if self.kernel is None and len(kernels) > 1:
            raise ValueError(
                f"beside it are {' and '.join(kernels)}. Name the one that is its kernel: "
                f"like_kernel(init, {next(iter(kernels))!r})."
            )
        shapes = [shape for name, shape in kernels.items() if self.kernel in (None, name)]
        return dataclasses.replace(self, kernel=shapes[0]) if shapes else None

    def check_shape(self, shape):
        if not isinstance(self.kernel, tuple):
            raise ValueError(
                f"{self!r} needs the shape of its kernel. Inside flaxinit.reinit it is that of the "
                "array beside the bias; elsewhere pass it: like_kernel(init, (inputs, outputs))."
            )
        self.init.check_shape(self.kernel)

    def _variance(self, shape):
        return self.init.variance(self.kernel)

    def parent(self, shape, dtype):
        return self.init.parent(self.kernel, dtype)
