"""Uses of kernels: what is the same in them, and what has to be drawn.

A kernel is drawn without its copies, in the order in which it was met before, and without its parts
along kernels that were met.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from flaxinit.signal.rules.copies import Copies, copies, distinct, folded, repeated, slices, spread
from flaxinit.signal.rules.gradients import NOWHERE, Copied, Sizes
from flaxinit.signal.rules.kernels import Law, law
from flaxinit.signal.rules.observer import Observer
from flaxinit.signal.rules.products import Axes
from flaxinit.signal.rules.related import (
    factor,
    fitted,
    is_transpose,
    multiple,
    order,
    overlap,
    rest,
)
from flaxinit.signal.rules.scales import even, scales, uneven
from flaxinit.signal.samples.signals import NOTHING, Origin, Signal

# Functions of a parameter that are kept, as a new mask makes one in each step of a loop: what all
# have in common is in the first few.
_FUNCTIONS = 32
_UNORDERED = (
    "its slices repeat, or are used again, in an order that is not known where a part of them "
    "stands for all. Apply the parameter once, and repeat or reorder what it made."
)
_EQUAL = (
    "all its outputs are multiples of one. Apply a kernel with this output, and broadcast what it "
    "made."
)
SHARED = (
    "it shares entries of a parameter with a kernel that was used before, and has others too. "
    "Apply the whole parameter each time, and slice what it made."
)


class Met(NamedTuple):
    """A kernel that was met, or what was left of it without its parts along others.

    Attributes:
        kernel: its sample.
        law: of its entries.
        axes: what names the contraction.
        number: names its draw.
        sources: of the first signal that met it.
        backward: whether that was a gradient.
    """

    kernel: Signal
    law: Law
    axes: Any
    number: int
    sources: frozenset[int]
    backward: bool

    @property
    def sides(self) -> tuple[Sequence[int], Sequence[int]]:
        """Axes of terms and of outputs; none in a convolution, or of a complex kernel."""
        axes, name = self.axes
        return (axes.summed, axes.free) if isinstance(axes, Axes) and not name else ((), ())


class Part(NamedTuple):
    """A multiple of a real kernel: a complex kernel is a sum of two."""

    factor: complex
    met: Met


@dataclass
class Use:
    """A kernel and a signal that meet, without what is copied.

    Attributes:
        kernel: what has to be drawn.
        signal: that meets it.
        sizes: of the kernel.
        repeats: axes of the kernel, and which of the slices that are drawn stand along them.
        uneven: whether its variances differ along two axes, or its entries were met otherwise.
        again: whether some of its entries were met before.
        more: an axis, slices that stand along it behind those of the kernel, and what meets them.
    """

    kernel: Signal
    signal: Signal
    sizes: Sizes
    repeats: list[tuple[int, Copies]] = field(default_factory=list)
    uneven: bool = False
    again: bool = False
    more: tuple[int, Signal, Signal] | None = None


@dataclass
class Uses:
    """A memory of kernels.

    Attributes:
        numbers: names draws.
        observer: is told of kernels that are not read.
        sizes: of kernels that were met, and the sides on which slices of them are used again.
        whole: kernels by parameter, in the order in which they were first met, and their sizes.
        met: what was drawn of them, by origin.
    """

    numbers: Iterator[int]
    observer: Observer
    sizes: dict[Sizes, Copied] = field(default_factory=dict)
    whole: dict[int, list[tuple[Signal, Sizes]]] = field(default_factory=dict)
    met: dict[Origin | None, list[Met]] = field(default_factory=dict)

    def use(
        self, w: Signal, x: Signal, outputs: Sequence[int], terms: Mapping[int, int], sizes: Sizes
    ) -> Use:
        """Leave out what a kernel repeats, and bring it to the order in which it was met.

        Args:
            w: the kernel.
            x: the signal.
            outputs: axes of the kernel.
            terms: axes of the kernel, and those of the signal with which they are summed.
            sizes: of the kernel.
        """
        use = Use(w, x, sizes)
        # What is computed from all entries of a parameter has a gradient of all.
        every = Copied(w.held == w.shape, w.held == w.shape)
        known = (known for n, _ in w.origin or () for known, _ in self.whole.get(n, ()))
        if any(kernel.data is w.data for kernel in known):
            if not x.backward:
                self._note(sizes, every)
            return use
        axes = (*outputs, *terms)
        for axis in axes:
            if found := copies(use.kernel, axis):
                if len(found.firsts) == 1 and axis in outputs and not x.backward:
                    self.observer.refused(w, _EQUAL)
                self._without(use, axis, found, distinct(use.kernel, axis, found), terms)
        self._evened(use, axes, terms)
        first = self._first(use, axes, terms)
        if not x.backward:
            for each in {sizes, first or sizes}:
                self._note(each, every | Copied(use.signal is not x, bool(use.repeats)))
            if first is None:
                for number, _ in w.origin or ():
                    self.whole.setdefault(number, []).append((use.kernel, sizes))
        return use

    def _evened(self, use: Use, axes: Sequence[int], terms: Mapping[int, int]) -> None:
        """Give rows, or columns, one variance: the signal, or the outputs, have their scales.

        It is done along one axis; along two the variance may be no product of one of each.
        """
        found = uneven(use.kernel)
        known = self.overlapping(use.kernel) if found else []
        if len(found) == 1 and found[0] in axes:
            (axis,) = found
            factors = scales(use.kernel, axis)
            kernel = even(use.kernel, axis, factors)
            same = any(multiple(kernel, other) for other, _ in known)
            # Of what meets gradients the transposed kernel may be another one.
            if same or not known or use.signal.backward:
                self._without(use, axis, factors, kernel, terms)
                return
        use.uneven, use.again = bool(found), bool(known)

    def _note(self, sizes: Sizes, copied: Copied) -> None:
        self.sizes[sizes] = self.sizes.get(sizes, NOWHERE) | copied

    def overlapping(self, w: Signal) -> list[tuple[Signal, Sizes]]:
        """Return kernels that were met and may have entries of this one."""
        each = [self.whole.get(number, ()) for number, _ in w.origin or ()]
        known = {id(kernel): (kernel, sizes) for some in each for kernel, sizes in some}
        mine = w.origin or NOTHING
        return [each for each in known.values() if overlap(mine, each[0].origin or NOTHING)]

    def _first(self, use: Use, axes: Sequence[int], terms: Mapping[int, int]) -> Sizes | None:
        """Bring a kernel to the order in which it was first met; return the sizes it had then.

        Raises:
            ValueError: if only some of its entries were met.
        """
        for other, sizes in self.overlapping(use.kernel):
            held = fitted(other, use.kernel)
            if held and factor(use.kernel, held):
                return sizes
            if found := order(use.kernel, other, axes):
                axis, which = found
                kernel, many = use.kernel, other.held[axis]
                self._without(use, axis, which, other, terms)
                if new := [n - many for n in which.firsts[many:]]:
                    self._split(use, axis, slices(kernel, axis, new), terms)
                return sizes
            if other.origin != use.kernel.origin and not use.signal.backward:
                self.observer.refused(use.kernel, SHARED)
        return None

    def _split(self, use: Use, axis: int, new: Signal, terms: Mapping[int, int]) -> None:
        """Let new slices stand behind those of the kernel, each with its part of the signal."""
        signal = use.signal
        if axis in terms:
            x, place = signal, terms[axis]
            first = x.held[place] * use.kernel.held[axis]
            first //= use.kernel.held[axis] + new.held[axis]
            use.signal, signal = (
                slices(x, place, range(*bounds)) for bounds in ((0, first), (first, x.held[place]))
            )
        use.more = axis, new, signal

    def _without(
        self, use: Use, axis: int, found: Copies, kernel: Signal, terms: Mapping[int, int]
    ) -> None:
        if axis not in terms:
            use.repeats.insert(0, (axis, found))
        elif (signal := folded(use.signal, terms[axis], found)) is None:
            self.observer.refused(use.kernel, _UNORDERED)
        else:
            use.signal = signal
        use.kernel = kernel

    def apart(
        self, w: Signal, axes: Mapping[int, int], alone: bool
    ) -> tuple[list[int], np.ndarray]:
        """Return which of several kernels each of them is, and of which multiple.

        Args:
            w: the kernels.
            axes: that count them, with their sizes.
            alone: whether none of them is used for several channels.
        """
        which, factors = np.zeros((), int), np.ones(())
        for axis, size in axes.items():
            numbers, multiples = np.arange(size), np.ones(size)
            if found := copies(w, axis):
                held = round(size * len(found.firsts) / len(found.numbers))
                places = repeated(found, held)
                if places is None or len(places[0]) != size or not alone:
                    self.observer.refused(w, _UNORDERED)
                numbers, multiples = places
            which, factors = which[..., None] * size + numbers, factors[..., None] * multiples
        return which.reshape(-1).tolist(), factors.reshape(-1)

    def outputs(self, use: Use, y: np.ndarray, places: Mapping[int, int]) -> np.ndarray:
        """Return the outputs of the whole kernel.

        Args:
            use: the kernel and the signal.
            y: outputs of what was drawn.
            places: for each axis of the kernel that of the outputs.
        """
        for axis, found in use.repeats:
            made = spread(found, y, places[axis])
            if made is None:
                self.observer.refused(use.kernel, _UNORDERED)
            y = made
        return y

    def parts(self, use: Use, w: Signal, axes: Any, summed: Sequence[int]) -> list[Part]:
        """Return real and uncorrelated kernels of which a kernel is a sum.

        Args:
            use: of which the kernel is at least a part.
            w: the kernel.
            axes: what names the contraction.
            summed: axes of the kernel that are summed.
        """
        x = use.signal
        if not np.iscomplexobj(w.data):
            parts = self._parts(w, x, (axes, ""), summed)
            if len(parts) > 1:  # the gradients of several functions of a parameter are summed
                self._note(use.sizes, Copied(True, True))
            return parts
        both = [(1, np.real(w.data), "real"), (1j, np.imag(w.data), "imaginary")]
        drawn = [part for part in both if np.any(part[1])] or both[:1]
        return [
            Part(unit * factor, met)
            for unit, data, name in drawn
            for factor, met in self._parts(w.with_data(data), x, (axes, name), summed)
        ]

    def _parts(self, w: Signal, x: Signal, axes: Any, summed: Sequence[int]) -> list[Part]:
        met = self.met.setdefault(w.origin, [])
        known = [each for each in met if each.axes == axes]
        if same := [each for each in known if each.kernel.data is w.data]:
            return [Part(1, same[0])]
        alike = [(each, held) for each in known if (held := fitted(each.kernel, w))]
        found = [(c, each, held) for each, held in alike if (c := factor(w, held))]
        parts = [Part(c, each) for c, each, _ in found]
        left = rest(w, [(c, held) for c, _, held in found])
        if left is not None:
            number = next(self.numbers)
            fresh = Met(left, law(left, summed), axes, number, x.sources, x.backward)
            parts.append(Part(1, fresh))
            if len(known) < _FUNCTIONS:
                met.append(fresh)
        return parts

    def transposed(
        self, use: Use, own: Axes, backward: bool, parts: Sequence[Part] = ()
    ) -> tuple[float, Met] | None:
        """Return a kernel of which another is a multiple of the transpose, and the multiple.

        Args:
            use: the kernel.
            own: its axes.
            backward: what the other one met.
            parts: of the kernel itself.
        """
        own_numbers = {part.met.number for part in parts}
        for met in self.met.get(use.kernel.origin, ()):
            if met.backward == backward and met.number not in own_numbers:
                terms, outputs = met.sides
                axes = (*own.free, *own.summed)
                if c := is_transpose(use.kernel, axes, met.kernel, (*terms, *outputs)):
                    return c, met
        return None
