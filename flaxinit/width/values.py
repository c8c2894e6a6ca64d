"""The values of a program at two widths: how each grows, and what it is made of."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

ONE = Fraction(1)
Growth = tuple[Fraction, ...]  # for each axis, its size at the target width over that at the base


@dataclass(frozen=True)
class Part:
    """The part that one parameter has in a value computed from parameters alone.

    Attributes:
        axes: by how much that parameter's entries grow along each axis of the value; 1 along an
            axis that it does not have.
        inner: growth of the axes over which it was multiplied with another parameter.
        bent: the operation that is not linear in it; empty if there is none.
        lookup: the place where the inputs chose its entries, if they did.
    """

    axes: Growth
    inner: Fraction | None = None
    bent: str = ""
    lookup: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Value:
    """A value at two widths.

    Attributes:
        signal: whether it is computed from the inputs.
        parts: of parameters, by number, in a value that is computed from them and not from inputs.
        looked_up: whether the inputs chose which entries of the parameters it has.
        size: growth of an entry, where each parameter is scaled as it should be.
        scales: by what a use of a parameter in it, by number, is multiplied besides.
        behind: the uses that it depends on, as bits.
    """

    signal: bool = False
    parts: dict[int, Part] = field(default_factory=dict)
    looked_up: bool = False
    size: float = 1.0
    scales: dict[int, float] = field(default_factory=dict)
    behind: int = 0

    def __post_init__(self):
        # Growths are compared, so products of square roots must not differ by rounding.
        object.__setattr__(self, "size", rounded(self.size))
        object.__setattr__(self, "scales", {n: rounded(s) for n, s in self.scales.items()})

    @property
    def parametric(self) -> bool:
        return bool(self.parts)

    def moved(self, axes) -> "Value":
        """Return the value with other axes; `axes` maps the growth along the axes of a part."""
        parts = {n: replace(part, axes=axes(part.axes)) for n, part in self.parts.items()}
        return replace(self, parts=parts)

    def times(self, factor: float, behind: int = 0) -> "Value":
        """Return the value times another, which grows by a factor and depends on some uses."""
        scales = {n: s * factor for n, s in self.scales.items() if not behind >> n & 1}
        size, behind = self.size * factor, self.behind | behind
        return replace(self, size=size, scales=scales, behind=behind)


def rounded(growth: float) -> float:
    """Round to 12 digits, of the 16 that products and square roots have."""
    return float(f"{growth:.12g}")


def exact(ratio: float) -> float:
    """Replace a ratio of 24-bit numbers by the root of a fraction that it equals to rounding.

    >>> exact(float(np.float32(192) ** -0.5) / float(np.float32(64) ** -0.5)) == (1 / 3) ** 0.5
    True
    """
    square = float(Fraction(ratio**2).limit_denominator(2**12))
    near = abs(square / ratio**2 - 1) < 4 * np.finfo(np.float32).eps
    return square**0.5 if near else ratio


KNOWN = Value()
ZERO = Value(size=0.0)  # whatever it is multiplied with


def growth(base: Sequence[int], target: Sequence[int]) -> Growth:
    """Return by how much each axis grows; an axis of size 0 does not grow.

    >>> growth((3, 64), (3, 256))
    (Fraction(1, 1), Fraction(4, 1))
    """
    return tuple(Fraction(t, b) if b else ONE for b, t in zip(base, target, strict=True))


def product(growths: Iterable[Fraction]) -> Fraction:
    return math.prod(growths, start=ONE)


def reshaped(
    axes: Growth, old: tuple[Sequence[int], Sequence[int]], new: tuple[Sequence[int], Sequence[int]]
) -> Growth | None:
    """Return the growth of a part after a reshape; None if it cannot be told.

    Old and new shape are cut into blocks of equal size at both widths. A part has all axes of a
    block or none. Its growth along the old axes of a block is divided over the new ones as these
    grow.

    Args:
        axes: of the part, before.
        old: the shapes before, at the base and the target width.
        new: the shapes after.

    >>> four = Fraction(4)
    >>> reshaped((ONE, four), ((3, 64), (3, 256)), ((3, 8, 8), (3, 32, 8)))
    (Fraction(1, 1), Fraction(4, 1), Fraction(1, 1))
    """
    result: list[Fraction] = []
    i = j = 0
    olds, news = list(zip(*old, strict=True)), list(zip(*new, strict=True))
    while i < len(olds) or j < len(news):
        first, second = i, j
        left, right = (1, 1), (1, 1)
        while left != right or (i, j) == (first, second):
            short = left[0] < right[0] or left[1] < right[1]
            if i < len(olds) and (short or j >= len(news) or left == right):
                left = (left[0] * olds[i][0], left[1] * olds[i][1])
                i += 1
            elif j < len(news):
                right = (right[0] * news[j][0], right[1] * news[j][1])
                j += 1
            else:
                return None
        had, whole = product(axes[first:i]), Fraction(left[1], left[0]) if left[0] else ONE
        block = growth(*zip(*news[second:j], strict=True)) if j > second else ()
        if had == whole:
            result.extend(block)
        elif had == 1 or j - second == 1:
            result.extend([had] * (j - second))
        else:
            return None
    return tuple(result)
