"""Parameters that are held whole: their entries meet in an operation that a part does not show.

Such are a spectral norm, a solve, a Gram matrix, a maximum or a quantile of a kernel: none of these
is that of a part of it. A run that comes upon one stops, and begins again with all entries of the
parameter.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from flaxinit.signal.samples.signals import CONSTANT, Signal

MOST = 2**24  # of a parameter that is held whole, at most: 128 megabytes

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


def partial_sources(params: Sequence[Signal]) -> frozenset[int]:
    """Return the draws of the parameters that are held in part."""
    return frozenset().union(*(each.sources for each in params if is_partial(each)))


def must_be_whole(operation: str, signals: Sequence[Signal], partial: frozenset[int]) -> None:
    """Stop if one of these is computed from parameters alone, of which some are held in part.

    Args:
        operation: in which all entries of each signal meet.
        signals: the operands.
        partial: the draws of parameters that are held in part.

    Raises:
        MeetError: names the operation.
    """
    drawn = frozenset().union(*(s.sources for s in signals if s.origin is not None))
    if found := drawn & partial:
        raise MeetError(operation, found)


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
