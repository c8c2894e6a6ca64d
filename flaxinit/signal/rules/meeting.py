"""Meetings of a signal with a kernel: dot_general and convolutions, brought to one form.

In that form a signal is replicas × kernels × channels × uses × places × terms. Each kernel is a
draw of its own (experts, groups of the inputs' own channels), and the places all see it. Channels
that each have a draw of their own (depthwise convolution) are apart; uses are channels that see
one draw, each by itself (heads, or channels under a kernel that mixes tokens).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flaxinit.signal.rules import fallback
from flaxinit.signal.rules.gradients import Sizes, sizes_of
from flaxinit.signal.rules.kernels import Kernels, Law, Terms, law
from flaxinit.signal.rules.lookup import Rows
from flaxinit.signal.rules.movement import permuted, reshaped
from flaxinit.signal.rules.products import Axes, axes_of, contracted
from flaxinit.signal.rules.tied import with_known_rows
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.draws import compressed
from flaxinit.signal.samples.signals import CONSTANT, PLACE, WIDTH, Base, Signal, expanded
from flaxinit.signal.samples.statistics import fresh


class Observer:
    """A listener that is told of a run; this one does nothing."""

    def enters(self, kernel: Signal, signal: Signal) -> None:
        """Note that a signal is about to meet a kernel."""

    def met(
        self,
        kernel: Signal,
        signal: Signal,
        result: Signal,
        law: Law,
        fan: float,
        small: str = "",
        stacked: bool = False,
    ) -> None:
        """Note the result of a meeting.

        Args:
            kernel: that was met.
            signal: that met it.
            result: of both.
            law: of the kernel.
            fan: the number of terms that an output sums.
            small: what the kernel does instead of mixing channels; empty if it mixes them.
            stacked: whether it is several kernels, such as those of experts.
        """

    def scored(self, one: Signal, other: Signal) -> None:
        """Note that channels of two signals are multiplied and summed, as in attention."""

    def forgotten(self, kernel: Signal) -> None:
        """Note that a kernel is used again, but its first use was not kept."""

    def added(self, result: Signal, parts: Sequence[Signal]) -> None:
        """Note the sum of two independent signals, its parts: the residual stream."""


@dataclass
class Meetings:
    """The products of signals with kernels, with an observer that is told of each.

    Attributes:
        kernels: draws.
        rows: of tables that were looked up.
        numbers: names draws.
        observer: is told of each meeting.
        named: one number for all uses of a kernel.
        sizes: of kernels that were met.
        random: draws whose Gram matrix over places is random at any width.
    """

    kernels: Kernels
    rows: Rows
    numbers: Iterator[int]
    observer: Observer
    named: dict[Any, int] = field(default_factory=dict)
    sizes: set[Sizes] = field(default_factory=set)
    random: set[int] = field(default_factory=set)

    def apart(self, signal: Signal) -> bool:
        """Return whether the Gram matrix of a signal differs from draw to draw at any width.

        It does after kernels that mix positions, which have few entries, and after attention, which
        has few heads.
        """
        return not self.random.isdisjoint(signal.sources)

    def _enters(self, w: Signal, x: Signal, axes: Any) -> None:
        self.observer.enters(w, x)
        if any((w.origin, axes, part) in self.kernels.lost for part in _PARTS):
            self.observer.forgotten(w)

    def dot_general(self, equation, signals: Sequence[Signal], side: int) -> Signal:
        w, x = signals[side], signals[1 - side]
        own = axes_of(equation, side, len(w.shape))
        theirs = axes_of(equation, 1 - side, len(x.shape))
        self._enters(w, x, own)
        known = law(w, own.summed)
        fan = math.prod(w.shape[axis] for axis in own.summed)
        if not x.backward:
            self.sizes.add(sizes_of(x.shape, theirs.batch, theirs.summed, w.shape, own.free))
        if w.known:
            result = contracted(equation, signals[0], signals[1], self.kernels.limits)
            self.observer.met(w, x, result, known, fan, stacked=bool(own.batch))
            return result
        kernels = [a for a in theirs.batch if x.roles[a] != WIDTH]
        channels = [a for a in theirs.batch if x.roles[a] == WIDTH]
        uses = [a for a in theirs.free if x.roles[a] == WIDTH]
        places = [a for a in theirs.free if x.roles[a] != WIDTH]
        groups = kernels, channels, uses, places, theirs.summed
        full = permuted(expanded(x, theirs.batch), [axis for group in groups for axis in group])
        cuts = itertools.pairwise(np.cumsum([0, *map(len, groups)]))
        sizes = [full.held[a:b] for a, b in cuts]

        def multiplied(kernel: Signal, x: np.ndarray, part: str) -> np.ndarray:
            return self.kernels.multiply(
                x,
                share,
                known if kernel is w else law(kernel, own.summed),
                tuple(w.shape[axis] for axis in own.free),
                (w.origin, own, part),
                apart=self.apart(full),
            )

        share = x.share(theirs.summed)
        data = full.data.reshape(full.replicas, *(math.prod(size) for size in sizes))
        y = _in_parts(w, data, 4, multiplied)
        if len(own.free) == len(own.summed) == 1 and y.shape[1:4] == (1, 1, 1):
            (size,) = (w.shape[axis] for axis in own.free)
            y = with_known_rows(
                y.reshape(len(y), *y.shape[4:]), full, w, size, self.rows, self.kernels.rng
            ).reshape(y.shape)
        outputs = [("output", axis) for axis in own.free]
        y = y.reshape(len(y), *sizes[0], *sizes[1], *sizes[2], *y.shape[4:-1], *sizes[3])
        made = [*kernels, *channels, *uses, *outputs, *places]
        left, right = (theirs.free, outputs) if side else (outputs, theirs.free)
        wanted = [*theirs.batch, *left, *right]
        y = np.transpose(y, (0, *(1 + made.index(axis) for axis in wanted)))
        roles = tuple(
            _channels(w.shape[axis[1]]) if isinstance(axis, tuple) else x.roles[axis]
            for axis in wanted
        )
        shape = tuple(equation.outvars[0].aval.shape)
        small = "mixes positions" if uses else ""
        return self._result(w, x, y, shape, roles, known, fan, theirs.summed, own, small)

    def convolution(self, equation, signals: Sequence[Signal]) -> Signal:
        x, w = signals
        params = equation.params
        x_spec, w_spec, out_spec = params["dimension_numbers"]
        groups = params["feature_group_count"]
        axes = ("conv", tuple(w_spec), groups)
        self._enters(w, x, axes)
        if w.known and w.data.size > 1:  # a fixed filter
            (result,) = fallback.run(equation, signals, self.kernels.limits, self.kernels.rng)
            self.observer.met(
                w, x, result, law(w, w_spec[1:]), math.prod(w.shape[a] for a in w_spec[1:])
            )
            return result
        window = Window.of(params, [w.shape[axis] for axis in w_spec[2:]])
        fan = math.prod(w.shape[axis] for axis in w_spec[1:])
        known = law(w, w_spec[1:])
        # samples, positions..., groups, channels of one
        signal = permuted(x, (x_spec[0], *x_spec[2:], x_spec[1]))
        signal = reshaped(signal, (*signal.shape[:-1], groups, signal.shape[-1] // groups))
        rank = len(w_spec) - 2
        signal = expanded(signal, range(1, rank + 1))
        share = signal.share([rank + 2])
        outputs = w.shape[w_spec[0]] // groups
        samples, positions = signal.held[0], window.outputs(signal.held[1 : 1 + rank])

        def multiplied(kernel: Signal, data: np.ndarray, part: str) -> np.ndarray:
            entries, key = known if kernel is w else law(kernel, w_spec[1:]), (w.origin, axes, part)
            if signal.roles[rank + 1] == WIDTH:
                return self.kernels.groups_of_channels(data, window, share, entries, outputs, key)
            cut, each, squares, entries, terms = self._seen(data, window, share, entries)
            cut = cut[:, :, None, None]  # kernels, and no channels or uses apart
            return self.kernels.multiply(cut, each, entries, (outputs,), key, squares, terms)

        y = _in_parts(w, signal.data, 1, multiplied)
        # replicas, groups, outputs, samples, positions...
        y = y.reshape(len(y), -1, y.shape[-2], samples, *positions)
        y = np.moveaxis(y.reshape(len(y), -1, samples, *positions), 1, -1)
        shape = tuple(equation.outvars[0].aval.shape)
        order = (out_spec[0], *out_spec[2:], out_spec[1])
        roles = [0] * len(order)
        data = np.transpose(y, (0, *(1 + order.index(axis) for axis in range(len(order)))))
        for axis, role in zip(
            order, (signal.roles[0], *(PLACE,) * rank, _channels(shape[out_spec[1]])), strict=True
        ):
            roles[axis] = role if shape[axis] > 1 else CONSTANT
        fan_in = fan / math.prod(params["lhs_dilation"])
        small = "is depthwise" if signal.roles[rank + 1] == WIDTH else ""
        summed = [x_spec[1]]
        return self._result(w, x, data, shape, tuple(roles), known, fan_in, summed, axes, small)

    def _seen(
        self, data: np.ndarray, window: Window, share: float, known: Law
    ) -> tuple[np.ndarray, float, np.ndarray | None, Law, Terms | None]:
        """Return what each place sees, or fewer terms that stand for all if they are too many.

        Args:
            data: replicas × samples × positions... × groups × channels.
            window: over the positions.
            share: how many true terms each term stands for.
            known: the law of the kernel.

        Returns:
            replicas × groups × places × terms, how many true terms each term stands for, the sum
            of E[x²] over the terms at each place, if it is known better, the law with which the
            kernel sees these terms, and what other uses may be compared with, if it is not these.
        """
        limits = self.kernels.limits
        replicas, *shape, groups, channels = data.shape
        before, places = math.prod(shape), shape[0] * math.prod(window.outputs(shape[1:]))
        most = max(64, limits.entries // 2 // (places * math.prod(window.sizes)))
        few = replicas * groups * channels <= most
        gathered = max(before, places) <= limits.places
        if few or groups > 1 or known.mean or (known.centered and not gathered):
            data = data[: max(1, most // (groups * channels))]
            return self._patches(data, window), share, None, known, None
        if gathered:  # a Gram matrix that stands for all channels of a window

            def some() -> np.ndarray:
                seen = self._patches(data[: max(1, most // channels)], window)[:, 0]
                seen -= known.centered * np.mean(seen, axis=-1, keepdims=True)
                return seen * math.sqrt(share)

            seen, each = gram_of_patches(gram(data, len(shape)), window, shape), known
            if known.centered:
                fan = share * channels * math.prod(window.sizes)
                terms = self._patches(np.mean(data, axis=(0, -1))[None, ..., None], window)
                mean = np.mean(terms[0, 0], axis=-1)
                seen -= math.prod(window.sizes) * np.outer(mean, mean)
                each = Law(0.0, known.variance * fan / (fan - 1))
            return compressed(seen)[None, None], share * channels, None, each, some
        square = np.mean(np.abs(data) ** 2, axis=(0, -1))[None, ..., None]
        squares = share * channels * np.sum(self._patches(square, window), axis=-1).reshape(-1)
        flat = np.moveaxis(data, 0, -2).reshape(*shape, 1, -1)
        seen = self._patches(flat[None, ..., :most], window)
        return seen, share * channels / most, squares, known, None

    @staticmethod
    def _patches(data: np.ndarray, window: Window) -> np.ndarray:
        """Return replicas × groups × places × terms."""
        rank = len(window.sizes)
        cut = np.moveaxis(patches(data, window), 2 + rank, 1)
        return cut.reshape(*cut.shape[:2], math.prod(cut.shape[2 : 3 + rank]), -1)

    def _result(
        self, w, x, y, shape, roles, known: Law, fan: float, summed, axes, small: str
    ) -> Signal:
        if (w.origin, axes) not in self.named:
            self.named[w.origin, axes] = next(self.numbers)
        number = frozenset({self.named[w.origin, axes]})
        result = Signal(y, shape, roles, number, None, x.sampled, backward=x.backward)
        result = replace(
            result,
            level=result.second_moment(),
            strays=(strays := x.carried + fresh(x, summed, fan)),
            bases=(Base(result.data, strays),),
        )
        if self.apart(x) or small == "mixes positions":
            self.random |= number
        stacked = isinstance(axes, Axes) and bool(axes.batch)
        self.observer.met(w, x, result, known, fan, small, stacked)
        return result


# What a kernel may be: whole, or a part of a complex one. It is in the name of its draw.
_PARTS = "", "real", "imaginary"


def _in_parts(
    w: Signal, x: np.ndarray, axis: int, multiplied: Callable[[Signal, np.ndarray, str], np.ndarray]
) -> np.ndarray:
    """Multiply real and imaginary parts: a complex kernel is two, and a complex signal two places.

    Args:
        w: the kernel.
        x: the signal.
        axis: of x, that the slowest of its places are on.
        multiplied: (real kernel, real signal, the part that the kernel is) -> products, with
            places last.
    """
    whole, real, imaginary = _PARTS
    kernels = [(w, 1, whole)]
    if np.iscomplexobj(w.data):
        both = ((np.real(w.data), 1, real), (np.imag(w.data), 1j, imaginary))
        drawn = [each for each in both if np.any(each[0])] or both[:1]
        kernels = [(w.with_data(data), unit, part) for data, unit, part in drawn]
    parts = np.concatenate([np.real(x), np.imag(x)], axis) if np.iscomplexobj(x) else x
    y, *others = (unit * multiplied(kernel, parts, part) for kernel, unit, part in kernels)
    for other in others:
        y = y[: len(other)] + other[: len(y)]
    if parts is not x:
        one, other = np.split(y, 2, axis=-1)
        y = one + 1j * other
    return y


def _channels(size: int) -> int:
    return WIDTH if size > 1 else CONSTANT
