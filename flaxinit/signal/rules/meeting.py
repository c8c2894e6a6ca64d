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
from flaxinit.signal.rules.copies import copies, is_one, repeats
from flaxinit.signal.rules.gradients import NOWHERE, sizes_of, sizes_of_window
from flaxinit.signal.rules.kernels import Kernels, Law, correlated, law
from flaxinit.signal.rules.lookup import Rows
from flaxinit.signal.rules.movement import permuted, reshaped
from flaxinit.signal.rules.observer import Observer
from flaxinit.signal.rules.products import Axes, axes_of, contracted
from flaxinit.signal.rules.seen import seen
from flaxinit.signal.rules.stages import Stages
from flaxinit.signal.rules.taps import are_turned
from flaxinit.signal.rules.tied import with_known_rows
from flaxinit.signal.rules.transposed import conditioned
from flaxinit.signal.rules.uses import SHARED, Met, Part, Use, Uses
from flaxinit.signal.rules.windows import Window
from flaxinit.signal.samples.draws import rescaled
from flaxinit.signal.samples.signals import (
    CONSTANT,
    PLACE,
    WIDTH,
    Base,
    Origin,
    Signal,
    expanded,
    squared,
)
from flaxinit.signal.samples.statistics import fresh
from flaxinit.signal.samples.whole import Partial


@dataclass
class Meetings:
    """The products of signals with kernels, with an observer that is told of each.

    Attributes:
        kernels: draws.
        rows: of tables that were looked up.
        numbers: names draws.
        observer: is told of each meeting.
        partial: parameters that are held in part.
        structured: origins of kernels that are multiplied entry by entry.
        random: draws whose Gram matrix over places is random at any width.
        stages: that are used one after the other.
        turned: draws of which the transpose was used, too, where both met signals.
    """

    kernels: Kernels
    rows: Rows
    numbers: Iterator[int]
    observer: Observer
    partial: Partial
    structured: set[Origin | None] = field(default_factory=set)
    random: set[int] = field(default_factory=set)
    stages: Stages = field(default_factory=Stages)
    turned: set[int] = field(default_factory=set)

    def __post_init__(self):
        self.uses = Uses(self.numbers, self.observer)

    def apart(self, signal: Signal) -> bool:
        """Return whether the Gram matrix of a signal differs from draw to draw at any width.

        It does after kernels that mix positions, which have few entries, and after attention, which
        has few heads.
        """
        return not self.random.isdisjoint(signal.sources)

    def dot_general(self, equation, signals: Sequence[Signal], side: int) -> Signal:
        w, x = signals[side], signals[1 - side]
        own = axes_of(equation, side, len(w.shape))
        theirs = axes_of(equation, 1 - side, len(x.shape))
        self.observer.enters(w, x)
        known = law(w, own.summed)
        fan = math.prod(w.shape[axis] for axis in own.summed)
        sizes = sizes_of(x.shape, theirs.batch, theirs.summed, w.shape, own.free)
        if w.known:
            if not x.backward:
                self.uses.sizes.setdefault(sizes, NOWHERE)
            result = contracted(equation, signals[0], signals[1], self.kernels.limits)
            self.observer.met(w, x, result, known, fan, stacked=bool(own.batch))
            return result
        if not x.backward and (idle := self.stages.idle(w, x, theirs.batch)):
            self.observer.refused(w, idle)
        terms = dict(zip(own.summed, theirs.summed, strict=True))
        use = self.uses.use(w, x, own.free, terms, sizes)
        entries = w.origin in self.structured or (use.uneven and not use.again)
        if entries or (not x.backward and correlated(w, own.summed, known)):
            return self._entries(equation, signals, side, known, fan)
        if use.uneven:
            self.observer.averaged(w)
        batch = dict(zip(own.batch, theirs.batch, strict=True))
        several = [other for mine, other in batch.items() if not is_one(w, mine)]
        kernels = [a for a in several if x.roles[a] != WIDTH]
        channels = [a for a in several if x.roles[a] == WIDTH]
        alike = [a for a in (*theirs.batch, *theirs.free) if a not in several]
        uses = [a for a in alike if x.roles[a] == WIDTH]
        places = [a for a in alike if x.roles[a] != WIDTH]
        groups = kernels, channels, uses, places, theirs.summed
        count = {mine: x.shape[other] for mine, other in batch.items() if other in kernels}
        which, factors = self.uses.apart(w, count, alone=not (channels or uses))
        # A kernel of few entries meets the gradients as itself.
        first = self.uses.transposed(use, own, False) if uses and x.backward else None
        turned = first[1].number if first and first[0] == 1 else None
        cuts = list(itertools.pairwise(np.cumsum([0, *map(len, groups)])))

        def drawn(kernel: Signal, signal: Signal) -> tuple[list[Part], Signal, np.ndarray]:
            share, apart = signal.share(theirs.summed), self.apart(signal)
            full = expanded(signal, theirs.batch)
            full = permuted(full, [axis for group in groups for axis in group])
            sizes = (math.prod(full.held[a:b]) for a, b in cuts)
            data = full.data.reshape(full.replicas, *sizes)
            if np.any(factors != 1):
                data = data * factors.reshape(-1, 1, 1, 1, 1)

            def multiplied(part: Met, x: np.ndarray) -> np.ndarray:
                outputs = tuple(part.kernel.shape[axis] for axis in own.free)
                return self.kernels.multiply(
                    x,
                    share,
                    part.law,
                    outputs,
                    part.number,
                    apart=apart,
                    which=which,
                    turned=turned,
                )

            parts = self._parts(use, kernel, own, own.summed)
            return parts, full, _summed(parts, data, 4, multiplied)

        parts, full, y = drawn(use.kernel, use.signal)
        also = frozenset() if turned is None else frozenset({turned})
        if len(own.free) == len(own.summed) == 1 and y.shape[1:4] == (1, 1, 1):
            y, tied = self._transposed(use, own, full, y, parts)
            also |= tied
            (size,) = (use.kernel.shape[axis] for axis in own.free)
            y = with_known_rows(
                y.reshape(len(y), *y.shape[4:]), full, use.kernel, size, self.rows, self.kernels.rng
            ).reshape(y.shape)
        if not x.backward and self.turned & self.kernels.reused:
            self.observer.refused(w, _IN_TURN)
        if use.more:
            axis, *others = use.more
            more, _, behind = drawn(*others)
            y, behind = y[: len(behind)], behind[: len(y)]
            y = y + behind if axis in terms else np.append(y, behind, 4 + own.free.index(axis))
            parts += more
        outputs = [("output", axis) for axis in own.free]
        sizes = [full.held[a:b] for a, b in cuts]
        y = y.reshape(len(y), *sizes[0], *sizes[1], *sizes[2], *y.shape[4:-1], *sizes[3])
        made = [*kernels, *channels, *uses, *outputs, *places]
        left, right = (theirs.free, outputs) if side else (outputs, theirs.free)
        wanted = [*theirs.batch, *left, *right]
        y = np.transpose(y, (0, *(1 + made.index(axis) for axis in wanted)))
        roles = tuple(
            _channels(w.shape[axis[1]]) if isinstance(axis, tuple) else x.roles[axis]
            for axis in wanted
        )
        places_of = {axis: 1 + wanted.index(("output", axis)) for axis in own.free}
        y = self.uses.outputs(use, y, places_of)
        shape = tuple(equation.outvars[0].aval.shape)
        small = "mixes positions" if uses else ""
        made = self._result(
            _numbers(parts), w, x, y, shape, roles, known, fan, theirs.summed, own, small
        )
        return replace(made, sources=made.sources | also)

    def _entries(
        self, equation, signals: Sequence[Signal], side: int, known: Law, fan: float
    ) -> Signal:
        """Multiply a signal by the sample of a kernel whose entries have no common law.

        Where they are independent, the second moment at each place is Σ E[W²] E[x²].
        """
        w, x = signals[side], signals[1 - side]
        self.partial.meet("a product with a kernel of unequal or correlated entries", [w])
        self.structured.add(w.origin)
        own, theirs = (axes_of(equation, n, len(signals[n].shape)) for n in (side, 1 - side))
        made = contracted(equation, signals[0], signals[1], self.kernels.limits)
        batch = made.roles[: len(own.batch)]
        places = tuple(x.roles[axis] for axis in theirs.free)
        channels = tuple(_channels(w.shape[axis]) for axis in own.free)
        roles = (*batch, *places, *channels) if side else (*batch, *channels, *places)
        first = len(batch) + (len(places) if side else 0)
        own_axes = range(first, first + len(channels))
        y = made.data
        if x.sources & w.sources or correlated(w, own.summed, known):
            w = replace(w, sampled=True)
        else:
            variances = np.mean(squared(w.data), axis=0, keepdims=True)
            square = x.with_data(squared(x.data))
            kernel = w.with_data(variances, sources=frozenset())
            left, right = (square, kernel) if side else (kernel, square)
            wanted = contracted(equation, left, right, self.kernels.limits).data
            over = (0, *(axis + 1 for axis in own_axes))
            y = rescaled(y, np.mean(wanted, axis=over, keepdims=True), over)
        result = self._result(
            made.sources, w, x, y, made.shape, roles, known, fan, theirs.summed, own, ""
        )
        return replace(result, sampled=x.sampled or w.sampled)

    def _transposed(
        self, use: Use, own: Axes, x: Signal, y: np.ndarray, parts: Sequence[Part]
    ) -> tuple[np.ndarray, frozenset[int]]:
        """Return outputs of a kernel that is the transpose of another, and what they depend on."""
        # For those that meet gradients, what met signals may be taken as independent.
        if not (found := self.uses.transposed(use, own, use.signal.backward, parts)):
            return y, frozenset()
        factor, met = found
        if not (first := self.kernels.first.get((met.number, 0))):
            self.observer.forgotten(use.kernel)
            return y, frozenset()
        (size,), (outputs,) = ([met.kernel.shape[n] for n in axes] for axes in met.sides)
        z = factor * x.data.reshape(x.replicas, -1, x.held[-1])
        flat = y.reshape(len(y), *y.shape[4:])
        made = conditioned(first, z, flat, met.law.variance, (size, outputs))
        if made is None:
            self.observer.refused(use.kernel, _TRANSPOSED)
        if not x.backward:
            self.turned |= {met.number, *(part.met.number for part in parts)}
        return made.reshape(-1, *y.shape[1:]), frozenset({met.number}) | met.sources

    def convolution(self, equation, signals: Sequence[Signal]) -> Signal:
        x, w = signals
        params = equation.params
        x_spec, w_spec, out_spec = params["dimension_numbers"]
        groups = params["feature_group_count"]
        axes = ("conv", tuple(w_spec), groups)
        self.observer.enters(w, x)
        if w.known and w.data.size > 1:  # a fixed filter
            (result,) = fallback.run(equation, signals, self.kernels.limits, self.kernels.rng)
            self.observer.met(
                w, x, result, law(w, w_spec[1:]), math.prod(w.shape[a] for a in w_spec[1:])
            )
            return result
        window = Window.of(params, [w.shape[axis] for axis in w_spec[2:]])
        outputs, terms = (w_spec[:1], {w_spec[1]: x_spec[1]}) if groups == 1 else ((), {})
        before = [kernel for kernel, _ in self.uses.overlapping(w)]
        use = self.uses.use(w, x, outputs, terms, sizes_of_window(w.shape, w_spec))
        if not x.backward:
            turned = repeats(use.kernel) or are_turned(use.kernel, w_spec, before)
            if turned or any(copies(w, n) for n in w_spec[2:]):
                self.observer.refused(w, _TURNED)
        fan = math.prod(w.shape[axis] for axis in w_spec[1:])
        known = law(w, w_spec[1:])
        # samples, positions..., groups, channels of one
        signal = permuted(use.signal, (x_spec[0], *x_spec[2:], x_spec[1]))
        signal = reshaped(signal, (*signal.shape[:-1], groups, signal.shape[-1] // groups))
        rank = len(w_spec) - 2
        signal = expanded(signal, range(1, rank + 1))
        share = signal.share([rank + 2])
        channels = use.kernel.shape[w_spec[0]] // groups
        samples, positions = signal.held[0], window.outputs(signal.held[1 : 1 + rank])

        def multiplied(part: Met, data: np.ndarray) -> np.ndarray:
            if signal.roles[rank + 1] == WIDTH:
                return self.kernels.groups_of_channels(
                    data, window, share, part.law, channels, part.number
                )
            found = seen(data, window, share, part.law, self.kernels.limits)
            return self.kernels.multiply(
                found.data[:, :, None, None],  # kernels, and no channels or uses apart
                found.share,
                found.law,
                (channels,),
                part.number,
                found.squares,
                found.terms,
            )

        if use.more:
            self.observer.refused(w, SHARED)
        parts = self._parts(use, use.kernel, axes, w_spec[1:])
        y = _summed(parts, signal.data, 1, multiplied)
        # replicas, outputs of all groups, samples, positions...
        y = y.reshape(len(y), -1, samples, *positions)
        y = self.uses.outputs(use, y, {w_spec[0]: 1})
        y = np.moveaxis(y, 1, -1)
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
        roles = tuple(roles)
        if use.uneven:
            self.observer.averaged(w)
        return self._result(
            _numbers(parts), w, x, data, shape, roles, known, fan_in, summed, axes, small
        )

    def _parts(self, use: Use, w: Signal, axes: Any, summed: Sequence[int]) -> list[Part]:
        parts = self.uses.parts(use, w, axes, summed)
        if any(part.met.number in self.kernels.lost for part in parts):
            self.observer.forgotten(w)
        return parts

    def _result(
        self, sources, w, x, y, shape, roles, known: Law, fan: float, summed, axes, small: str
    ) -> Signal:
        result = Signal(y, shape, roles, sources, None, x.sampled, backward=x.backward)
        result = replace(
            result,
            level=result.second_moment(),
            strays=(strays := x.carried + fresh(x, summed, fan)),
            bases=(Base(result.data, strays),),
        )
        if self.apart(x) or small == "mixes positions":
            self.random |= sources
        stacked = isinstance(axes, Axes) and bool(axes.batch)
        self.observer.met(w, x, result, known, fan, small, stacked)
        return result


_TURNED = (
    "its entries repeat along its window or after a turn of it, and what it makes there is not "
    "independent. Turn the images instead, apply the parameter as it is, and turn what it made "
    "back."
)
_IN_TURN = (
    "it is used in turn with its transpose, more than once, and the forecast follows one use of "
    "each. Forecast the model with a kernel for each use, which is another model."
)
_TRANSPOSED = (
    "it is the transpose of a kernel that was used before, and of one of both signals the forecast "
    "holds another part. Forecast a narrower model."
)


def _summed(
    parts: Sequence[Part], x: np.ndarray, axis: int, multiplied: Callable[[Met, np.ndarray], Any]
) -> np.ndarray:
    """Multiply a signal by the parts of a kernel; a complex signal is one of two places.

    Args:
        parts: of the kernel.
        x: the signal.
        axis: of x, that the slowest of its places are on.
        multiplied: real kernel, real signal -> products, with places last.
    """
    both = np.concatenate([np.real(x), np.imag(x)], axis) if np.iscomplexobj(x) else x
    y: Any = None
    for factor, met in parts:
        made = multiplied(met, both)
        made = made if factor == 1 else factor * made
        y = made if y is None else y[: len(made)] + made[: len(y)]
    if both is not x:
        one, other = np.split(y, 2, axis=-1)
        y = one + 1j * other
    return y


def _numbers(parts: Sequence[Part]) -> frozenset[int]:
    return frozenset(part.met.number for part in parts)


def _channels(size: int) -> int:
    return WIDTH if size > 1 else CONSTANT
