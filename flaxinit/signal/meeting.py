"""Meetings of a signal with a kernel: dot_general and convolutions, brought to one form.

In that form a signal is replicas × kernels × channels × uses × places × terms. Each kernel is a
draw of its own (experts, groups of the inputs' own channels), and the places all see it. Channels
that each have a draw of their own (depthwise convolution) are apart; uses are channels that see
one draw, each by itself (heads, or channels under a kernel that mixes tokens).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flaxinit.signal import fallback
from flaxinit.signal.kernels import Kernels, Law, law
from flaxinit.signal.lookup import Rows
from flaxinit.signal.movement import permuted, reshaped
from flaxinit.signal.products import axes_of, contracted
from flaxinit.signal.signals import CONSTANT, PLACE, WIDTH, Base, Signal, expanded
from flaxinit.signal.statistics import fresh
from flaxinit.signal.tied import with_known_rows
from flaxinit.signal.windows import Window, patches


class Observer:
    """A listener that is told of a run; this one does nothing."""

    def enters(self, kernel: Signal, signal: Signal) -> None:
        """Note that a signal is about to meet a kernel."""

    def met(self, kernel: Signal, signal: Signal, result: Signal, law: Law, fan: float) -> None:
        """Note the result of a meeting; `fan` is the number of terms that an output sums."""

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
    """

    kernels: Kernels
    rows: Rows
    numbers: Iterator[int]
    observer: Observer
    named: dict[Any, int] = field(default_factory=dict)  # one number for all uses of a kernel

    def dot_general(self, equation, signals: Sequence[Signal], side: int) -> Signal:
        w, x = signals[side], signals[1 - side]
        own = axes_of(equation, side, len(w.shape))
        theirs = axes_of(equation, 1 - side, len(x.shape))
        self.observer.enters(w, x)
        known = law(w, own.summed)
        fan = math.prod(w.shape[axis] for axis in own.summed)
        if w.known:
            result = contracted(equation, *signals)
            self.observer.met(w, x, result, known, fan)
            return result
        kernels = [a for a in theirs.batch if x.roles[a] != WIDTH]
        channels = [a for a in theirs.batch if x.roles[a] == WIDTH]
        uses = [a for a in theirs.free if x.roles[a] == WIDTH]
        places = [a for a in theirs.free if x.roles[a] != WIDTH]
        groups = kernels, channels, uses, places, theirs.summed
        full = permuted(expanded(x, theirs.batch), [axis for group in groups for axis in group])
        cuts = itertools.pairwise(np.cumsum([0, *map(len, groups)]))
        sizes = [full.held[a:b] for a, b in cuts]
        y = self.kernels.multiply(
            full.data.reshape(full.replicas, *(math.prod(size) for size in sizes)),
            x.share(theirs.summed),
            known,
            tuple(w.shape[axis] for axis in own.free),
            (w.origin, own),
        )
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
        return self._result(w, x, y, shape, roles, known, fan, theirs.summed, own)

    def convolution(self, equation, signals: Sequence[Signal]) -> Signal:
        x, w = signals
        params = equation.params
        x_spec, w_spec, out_spec = params["dimension_numbers"]
        self.observer.enters(w, x)
        if w.known and w.data.size > 1:  # a fixed filter
            (result,) = fallback.run(equation, signals, self.kernels.limits, self.kernels.rng)
            self.observer.met(
                w, x, result, law(w, w_spec[1:]), math.prod(w.shape[a] for a in w_spec[1:])
            )
            return result
        window = Window.of(params, [w.shape[axis] for axis in w_spec[2:]])
        groups = params["feature_group_count"]
        fan = math.prod(w.shape[axis] for axis in w_spec[1:])
        known = law(w, w_spec[1:])
        # samples, positions..., groups, channels of one
        signal = permuted(x, (x_spec[0], *x_spec[2:], x_spec[1]))
        signal = reshaped(signal, (*signal.shape[:-1], groups, signal.shape[-1] // groups))
        rank = len(w_spec) - 2
        signal = expanded(signal, range(1, rank + 1))
        share = signal.share([rank + 2])
        apart = signal.roles[rank + 1] == WIDTH
        data, thinned, squares = self._thinned(signal.data, window, apart)
        squares = None if squares is None or known.centered else share * squares
        cut = patches(data, window)  # replicas, samples, positions..., groups, channels, window...
        samples, *positions = cut.shape[1 : 2 + rank]
        cut = np.moveaxis(cut, 2 + rank, 1)
        cut = cut.reshape(*cut.shape[:2], samples * math.prod(positions), -1)
        # Groups of channels that came out of a kernel have Gram matrices of their own.
        cut = cut[:, None, :, None] if apart else cut[:, :, None, None]
        outputs = (w.shape[w_spec[0]] // groups,)
        axes = ("conv", tuple(w_spec), groups)
        y = self.kernels.multiply(cut, share, known, outputs, (w.origin, axes), squares, thinned)
        # replicas, groups, outputs, samples, positions...
        y = y.reshape(len(y), -1, y.shape[4], samples, *positions)
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
        return self._result(w, x, data, shape, tuple(roles), known, fan_in, [x_spec[1]], axes)

    def _thinned(
        self, data: np.ndarray, window: Window, apart: bool
    ) -> tuple[np.ndarray, float, np.ndarray | None]:
        """Keep fewer channels, which stand for all, if there are too many patches.

        Args:
            data: replicas × samples × positions... × groups × channels.
            window: over the positions.
            apart: whether each group has a kernel of its own.

        Returns:
            Some of the channels, how many of all replicas each stands for, and what the second
            moments of the outputs would be with all of them, for entries of unit variance; these
            are None if each kept replica and group still has all its channels.
        """
        rank = len(window.sizes)
        limits = self.kernels.limits
        replicas, samples, *rest, groups, channels = data.shape
        positions = math.prod(window.outputs(rest))
        entries = samples * positions * math.prod(window.sizes)
        most = max(64, limits.entries // 2 // entries)
        if replicas * groups * channels <= most:
            return data, 1.0, None
        if apart or groups > 1:
            keep = max(1, most // (groups * channels))
            data = data[:keep]
            if keep == 1 and groups * channels > most:
                kept = max(1, most // channels)
                data = np.take(data, np.arange(kept) * groups // kept, axis=-2)
            return data, 1.0, None
        square = np.mean(np.abs(data) ** 2, axis=(0, -1))[None, ..., None]
        squares = np.sum(patches(square, window), axis=tuple(range(-2 - rank, 0)))
        flat = np.moveaxis(data, 0, -2).reshape(*data.shape[1:-2], 1, -1)
        some = self.kernels.rng.permutation(flat.shape[-1])[:most]
        return flat[None, ..., some], channels / most, channels * squares.reshape(-1)

    def _result(self, w, x, y, shape, roles, known: Law, fan: float, summed, axes) -> Signal:
        if (w.origin, axes) not in self.named:
            self.named[w.origin, axes] = next(self.numbers)
        number = frozenset({self.named[w.origin, axes]})
        result = Signal(y, shape, roles, number, None, x.sampled, backward=x.backward)
        result = replace(
            result,
            level=result.second_moment(),
            strays=(strays := x.carried() + fresh(x, summed, fan)),
            bases=(Base(result.data, strays),),
        )
        self.observer.met(w, x, result, known, fan)
        return result


def _channels(size: int) -> int:
    return WIDTH if size > 1 else CONSTANT
