"""The number of held entries of a signal: enough for the figures, and few enough to fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


class TooLargeError(ValueError):
    """An operation needs too large an array, or too many steps."""


_LARGEST = 2**29  # entries of 64 bits: four gigabytes


def must_fit(entries: float, operation: str, shape: Sequence[int]) -> None:
    """Refuse an array that would not fit in memory.

    Raises:
        TooLargeError: if an operation would make more than four gigabytes.

    >>> must_fit(2**20, "dot_general", (4, 8, 2**15))
    """
    if entries > _LARGEST:
        raise TooLargeError(
            f"{operation} of shape {tuple(shape)} would take {8 * entries / 1e9:.0f} GB to "
            "forecast, and 4 GB is the most: forecast fewer samples or positions, or a narrower "
            "model."
        )


def parts(shape: Sequence[int], room: int) -> tuple[int, ...]:
    """Return how many entries of each axis to hold, so that there is room for their product.

    Parts of one kernel, as queries and keys are, stay whole: one alone would stand for all. They
    are few in front of many channels, at most the root of what is held of these. Of heads some
    stand for all. Their channels, which are summed one by one, are cut last.

    >>> parts((64, 128), 4096), parts((2, 4096), 4096), parts((3, 32, 128), 4096)
    ((32, 128), (2, 2048), (3, 10, 128))
    >>> parts((12, 64), 64), parts((3, 12, 64), 256)
    ((1, 64), (3, 1, 64))
    """
    held = list(shape)
    while (size := math.prod(held)) > room:
        behind = (math.prod(held[axis + 1 :]) * room // size for axis in range(len(held)))
        axis = next(axis for axis, n in enumerate(behind) if n < held[axis] ** 2)
        held[axis] = max(1, held[axis] * room // size)
    return tuple(held)


def must_end(steps: int) -> None:
    """Refuse a loop whose condition holds on.

    Raises:
        TooLargeError: if a while loop takes more than 10000 steps.

    >>> must_end(100)
    """
    if steps > _STEPS:
        raise TooLargeError(
            f"A while loop takes more than {_STEPS} steps: its condition may hold for ever on the "
            "sample that stands for the signal. Bound its steps in the condition, or write it "
            "with jax.lax.fori_loop."
        )


# What a loop of that many steps does is a thousand times as long a program as that of any layer.
_STEPS = 10_000


@dataclass(frozen=True)
class Limits:
    """Sizes of samples.

    Attributes:
        particles: entries drawn at each place, replicas times channels. A mean over them has a
            relative error of about 1/√particles.
        cap: entries of the width axes of one replica, at most.
        longest: of one such axis, at most.
        entries: of one signal, at most; bounds memory.
        places: of which a Gram matrix is made, at most; beyond, channels are projected at random.
        whole: entries of an array that is held whole for an operation without a rule, at most.
        law: whether the sample is there to read the law of single entries.
        alike: whether each slice along the last axis is to have the moments of all.
    """

    particles: int = 4096
    cap: int = 4096
    longest: int = 4096
    entries: int = 2**22
    places: int = 768
    whole: int = 2**20
    law: bool = False
    alike: bool = False

    def hold(self, shape: Sequence[int], places: int = 1) -> tuple[int, ...]:
        """Return how many entries to hold of the width axes of a draw at so many places.

        >>> Limits().hold((12, 64)), Limits().hold((64, 128)), Limits().hold((28672,))
        ((12, 64), (32, 128), (4096,))
        """
        room = max(1, min(self.cap, self.entries // max(places, 1)))
        most = (min(part, self.longest) for part in parts(shape, room))
        return tuple(
            size if size <= part else _divisor(size, part)
            for size, part in zip(shape, most, strict=True)
        )

    def replicas(self, held: Sequence[int], places: int = 1) -> int:
        """Return how many replicas make enough particles with width axes of these held sizes."""
        wanted = min(self.particles, max(1, self.entries // max(places, 1)))
        return max(1, -(-wanted // math.prod(held)))

    def bits(self, shape: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """Return held sizes and replicas of random bits, whose last axis is one of width."""
        if self.law or not shape:
            held = self.hold(shape)
            return held, self.replicas(held)
        places = math.prod(shape[:-1])
        last = self.hold(shape[-1:], places)
        return (*shape[:-1], *last), self.replicas(last, places)


def _divisor(size: int, most: int) -> int:
    """Return the largest divisor of `size` from most/64 to `most`; if there is none, `most`.

    A held axis whose size divides the true one can be split like that.
    """
    shares = range(-(-size // most), min(size, 64 * size // most) + 1)
    return next((size // share for share in shares if size % share == 0), most)
