"""Signal: what is known of an array when parameters are drawn at random.

A signal is a sample of the array. Each of its axes is held in one of three ways:

- *whole*: every entry is there. So are the samples of a batch and its positions.
- *constant*: one entry stands for all, because they are equal. A broadcast makes such an axis.
- *in part*: ``held`` entries stand for ``size`` exchangeable ones. So are axes wider than the cap.

The first axis of the data is not one of the array: it counts *replicas*, independent networks whose
kernels all have the same law. The mean over replicas and width axes estimates an expectation.

The *role* of an axis says what its entries are to each other: those of a ``WIDTH`` axis are
exchangeable (channels that come out of a random kernel); those of a ``PLACE`` axis (samples,
positions, the inputs' own channels) are not.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from flaxinit.signal.samples.fluctuation import Fluctuation, total, widest

CONSTANT, WIDTH, PLACE = 0, 1, 2  # the greater role wins where two arrays meet
# Parameters by number, each with the steps (slices, rows, products) that were taken of it.
Origin = frozenset[tuple[int, tuple[Any, ...]]]
# The step to a product with another parameter: its entries are uncorrelated with the parameter's.
PRODUCT = "product"
NOTHING: Origin = frozenset()


class Base(NamedTuple):
    """A pre-activation, as a base of a signal.

    Attributes:
        data: its sample.
        strays: how its second moment differs from draw to draw.
        mask: how the function of it that the signal is differs between entries: not at all (""),
            by "zeros" that a mask makes, as Dropout's does, or by other "values".
    """

    data: np.ndarray
    strays: Fluctuation
    mask: str = ""

    def slope(self, signal: "Signal") -> float:
        """Return ∂ log E[x²] / ∂ log q for x = φ(u, ...), with u ~ N(0, q) at each place.

        Integration by parts gives E[x² (u²/q - 1)] / 2 E[x²]. The estimate E[u² (u²/q - 1)] / q
        from the same sample replaces the 2: the errors of both cancel, all of them after ReLU.
        """
        if signal.data is self.data:
            return 1.0
        few = some(signal)
        x, u = (squared(y) for y in (few, self.data[: len(few)]))
        over = (0, *(axis + 1 for axis in signal.widths()))
        q, axes = np.mean(u, axis=over), range(u.ndim)
        places = [axis for axis in axes if axis not in over]
        share = np.divide(1, q, out=np.zeros_like(q), where=q > 0)
        # Σ x² (u²/q - 1), and the same of u², without arrays of its terms
        of_x, of_u = (
            np.sum(np.einsum(y, axes, u, axes, places) * share - np.sum(y, axis=over) * (q > 0))
            for y in (x, u)
        )
        total = np.sum(x)
        return float(of_x / total * np.sum(u) / of_u) if total and of_u else 1.0


@dataclass(frozen=True, eq=False)
class Signal:
    """A sample of an array.

    Attributes:
        data: replicas × held entries; floating numbers have 64 bits.
        shape: the true shape of the array.
        roles: CONSTANT, WIDTH or PLACE, for each axis.
        sources: the draws that its entries depend on; if two signals have disjoint sources, the
            expectation of their product is the product of their expectations.
        origin: the parameters, if it was computed from these alone; None if inputs take part.
        sampled: whether it rests on an operation that has no rule of its own.
        level: second moment of the pre-activation that it was made of; nan if of none.
        strays: how its second moment differs from draw to draw; `carried` says it if it is a
            function of known pre-activations.
        backward: whether it is a gradient.
        of_kernel: whether it is the gradient of a kernel.
        bases: the pre-activations that it is a function of, entry by entry; none if that is not
            known.
        rows: of what a loop stacked, where the stack does not hold them as they were; else None.
    """

    data: Any
    shape: tuple[int, ...]
    roles: tuple[int, ...]
    sources: frozenset[int] = frozenset()
    origin: Origin | None = NOTHING
    sampled: bool = False
    level: float = math.nan
    strays: Fluctuation = Fluctuation()
    backward: bool = False
    of_kernel: bool = False
    bases: tuple[Base, ...] = ()
    rows: "tuple[Signal | None, ...]" = ()

    def __post_init__(self):
        if not len(self.shape) == len(self.roles) == self.data.ndim - 1:
            raise ValueError(f"{self.held} entries of an array of shape {self.shape}.")

    @property
    def held(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @property
    def replicas(self) -> int:
        return self.data.shape[0]

    @property
    def known(self) -> bool:
        """Whether nothing in it was drawn."""
        return not self.sources

    @property
    def is_parameter(self) -> bool:
        return bool(self.origin)

    def with_data(self, data, **changes: Any) -> "Signal":
        """Return the signal with other data, whose bases and rows are not known unless given."""
        if not changes.get("bases"):  # these would say how it strays
            changes = {"strays": self.carried, "bases": ()} | changes
        return replace(self, data=data, **{"rows": (), **changes})

    @cached_property
    def carried(self) -> Fluctuation:
        """How the second moment strays with those of the pre-activations it is made of."""
        if not follows(self.bases, self.data):
            return self.strays
        first, *others = (base.strays.scaled(base.slope(self)) for base in self.bases)
        return total([first, *others]) if others else first

    def share(self, axes: Sequence[int]) -> float:
        """Return how many true entries each held entry stands for, on these axes."""
        count = 1.0
        for axis in axes:
            count *= self.shape[axis] / self.held[axis]
        return count

    def widths(self) -> tuple[int, ...]:
        return tuple(i for i, role in enumerate(self.roles) if role == WIDTH)

    def second_moment(self) -> float:
        return self._square

    @cached_property
    def _square(self) -> float:
        flat = self.data.ravel("K")
        return float(np.vdot(flat, flat).real) / flat.size if flat.size else 0.0

    def mean(self) -> float:
        return float(np.mean(self.data).real) if self.data.size else 0.0


def exact(value: Any, origin: Origin | None = NOTHING) -> Signal:
    """Return the signal of an array whose values are known.

    >>> exact(np.ones((2, 3), np.float32)).data.dtype
    dtype('float64')
    """
    if is_key(value):
        return Signal(value[None], tuple(value.shape), (PLACE,) * value.ndim, origin=origin)
    array = wide(np.asarray(value))
    roles = tuple(CONSTANT if size == 1 else PLACE for size in array.shape)
    given = origin is None and array.size
    level = float(np.mean(squared(array))) if given else math.nan
    strays = Fluctuation(sensitivity=float(origin is None))
    return Signal(array[np.newaxis], array.shape, roles, origin=origin, level=level, strays=strays)


def is_key(value: Any) -> bool:
    """Return whether an array holds keys of random numbers, which NumPy does not know."""
    if isinstance(value, np.ndarray):
        return False
    import jax

    dtype = getattr(value, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def wide(array: np.ndarray) -> np.ndarray:
    """Widen floating and complex numbers to 64 bits: no rounding, and no overflow at 1e38."""
    kind = array.dtype.kind
    if kind == "c":
        return array.astype(np.complex128, copy=False)
    if kind in "fV":  # NumPy calls the 8- and 16-bit floats of JAX void
        return array.astype(np.float64, copy=False)
    return array


def squared(data: np.ndarray) -> np.ndarray:
    """Return |x|² in 64 bits."""
    return np.square(np.abs(data) if np.iscomplexobj(data) else data, dtype=np.float64)


def some(signal: Signal) -> np.ndarray:
    """Return as many replicas as a statistic for a report needs."""
    each = max(1, signal.data.size // signal.replicas)
    return signal.data[: max(1, _ENTRIES // each)]


_ENTRIES = 2**20


def follows(bases: Sequence[Base], data: np.ndarray) -> bool:
    """Return whether the pre-activations say how these data stray, entry by entry."""
    return bool(bases) and all(base.data.shape == data.shape for base in bases)


def joined(signals: Sequence[Signal], strays: bool = True) -> dict[str, Any]:
    """Return all fields but data, shape, roles and bases of what is computed from these signals.

    How it strays is left out unless `strays` is set: to find the slopes takes longest.
    """
    origin = _union([signal.origin for signal in signals])
    backward = any(signal.backward for signal in signals)
    fields = {
        "sources": frozenset().union(*(signal.sources for signal in signals)),
        "origin": origin,
        # How the law of a parameter was read says nothing of the signal that meets it.
        "sampled": any(s.sampled for s in signals if s.origin is None or origin is not None),
        "level": joint_level(signals),
        "backward": backward,
        "of_kernel": any(signal.of_kernel for signal in signals),
    }
    if strays:
        fields["strays"] = widest(s.carried for s in signals if s.backward or not backward)
    return fields


def _union(origins: Sequence[Origin | None]) -> Origin | None:
    known = [origin for origin in origins if origin is not None]
    if len(known) < len(origins):
        return None
    union = NOTHING.union(*known)
    # A scan by halves takes slices of slices: many parts of a parameter count as all of it.
    return union if len(union) <= _PARTS else frozenset((number, ()) for number, _ in union)


_PARTS = 8


def all_bases(signals: Sequence[Signal]) -> tuple[Base, ...]:
    """Return the bases of a function of these signals; none if those of one are not known."""
    each = [signal.bases for signal in signals if signal.sources and signal.origin is None]
    if not all(each):
        return ()
    bases = [base for bases in each for base in bases]
    others = [_kind(signal.data) for signal in signals if not signal.bases] if bases else []
    mask = max((*others, *(base.mask for base in bases)), key=_KINDS.index, default="")
    return tuple({id(base.strays): base._replace(mask=mask) for base in bases}.values())


_KINDS = ("", "zeros", "values")


def _kind(data: np.ndarray) -> str:
    """Return what an operand does to a function entry by entry, as `Base.mask` has it."""
    others = data != data.flat[0] if data.size > 1 else np.zeros(0, bool)
    if not np.any(others):
        return ""
    two = (data.flat[0], data[others].flat[0])
    return "zeros" if 0 in two and np.all(data[others] == two[1]) else "values"


def joint_level(signals: Iterable[Signal]) -> float:
    """Return the geometric mean of the levels that are known."""
    signals = list(signals)
    # What is known, as a mask that is made of inputs, says nothing of a pre-activation.
    drawn = [signal for signal in signals if signal.sources and signal.origin is None]
    # A branch of zeros has none.
    known = [signal.level for signal in drawn or signals if signal.level > 0]
    return math.prod(known) ** (1 / len(known)) if known else math.nan


def expanded(signal: Signal, axes: Sequence[int], sizes: Sequence[int] | None = None) -> Signal:
    """Write out the constant ones of these axes to their true or to the given sizes."""
    if is_key(signal.data):
        return signal
    sizes = [signal.shape[axis] for axis in axes] if sizes is None else sizes
    shape = list(signal.data.shape)
    for axis, size in zip(axes, sizes, strict=True):
        if signal.held[axis] == 1:
            shape[axis + 1] = size
    if tuple(shape) == signal.data.shape:
        return signal
    return signal.with_data(np.broadcast_to(signal.data, shape))


def in_part(signal: Signal, axis: int) -> bool:
    """Return whether an axis is of a gradient's channels, which differ, and not all are held."""
    channels = signal.backward and signal.roles[axis] == WIDTH
    return channels and signal.held[axis] < signal.shape[axis]
