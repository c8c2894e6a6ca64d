"""Parameters that are held whole: their entries meet in an operation that a part does not show.

Such are a spectral norm, a solve, a Gram matrix, a maximum or a quantile of a kernel: none of these
is that of a part of it. A run notes what it comes upon, and is done again with all entries of these
parameters.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flaxinit.signal.samples.signals import CONSTANT, Signal

MOST = 2**24  # entries of a parameter that is held whole: 128 megabytes

T = TypeVar("T")


class MeetError(ValueError):
    """Entries of parameters meet that are held in part.

    Attributes:
        sources: of these parameters.
    """

    def __init__(self, operation: str, sources: frozenset[int]):
        super().__init__(
            f"{operation} works on all entries of a parameter together, and the forecast holds a "
            "part of them. Forecast a narrower model."
        )
        self.sources = sources


def is_partial(signal: Signal, axes: Sequence[int] | None = None) -> bool:
    """Return whether entries along any of these axes stand for others that differ."""
    sizes = list(zip(signal.held, signal.shape, signal.roles, strict=True))
    some = sizes if axes is None else [sizes[axis] for axis in axes]
    return any(held < size and role != CONSTANT for held, size, role in some)


@dataclass
class Partial:
    """The parameters that a run holds in part, and those of them whose entries met.

    Attributes:
        sources: draws of parameters that are held in part.
        met: those whose entries met, by the operation.
    """

    sources: frozenset[int] = frozenset()
    met: dict[str, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, params: Sequence[Signal]) -> "Partial":
        return cls(frozenset().union(*(each.sources for each in params if is_partial(each))))

    def meet(self, operation: str, signals: Sequence[Signal], needed: bool = True) -> None:
        """Note that all entries of each signal meet, of those computed from parameters alone.

        Args:
            operation: in which they meet.
            signals: the operands.
            needed: whether a part says nothing; else signals that are too large stay in part.
        """
        alone = [s for s in signals if s.origin is not None]
        if not needed and any(math.prod(signal.shape) > MOST for signal in alone):
            return
        drawn = frozenset().union(*(signal.sources for signal in alone))
        if found := drawn & self.sources:
            self.met[operation] = self.met.get(operation, frozenset()) | found

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Stop after a run in which entries met, also if what a part made stopped it.

        Raises:
            MeetError: names an operation.
        """
        try:
            yield
        except Exception as error:
            if not self.met:
                raise
            raise self._error() from error
        if self.met:
            raise self._error()

    def _error(self) -> MeetError:
        return MeetError(next(iter(self.met)), frozenset().union(*self.met.values()))


def held_whole(read: Callable[[frozenset[int]], list[Signal]], run: Callable[..., T]) -> T:
    """Run a program on parameters, and again with those whole whose entries meet.

    Args:
        read: which parameters are to be held whole, by number -> the parameters.
        run: parameters -> a result.

    Raises:
        MeetError: if all entries of a parameter are not enough.
    """
    whole: frozenset[int] = frozenset()
    while True:
        params = read(whole)
        try:
            return run(params)
        except MeetError as error:
            mixed = {n for n, each in enumerate(params) if each.sources & error.sources}
            found = {n for n in mixed if is_partial(params[n])}
            if not found:
                raise
            whole |= found
