"""The product of a signal with a random kernel: new channels, with the moments that theory gives.

For independent entries of mean μ and variance v, y = W x is, given x, Gaussian across outputs with

    E[y_i y_j] = v Σ x_i x_j  at places i, j, and mean μ Σ x_i,

the sum over the true fan. Kernels whose entries are made to sum to 0 over the fan (weight
standardization) see x - mean(x) alone.

A kernel that is used again agrees with its first use; `again` has the rule.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from flaxinit.signal.rules.again import Again
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.draws import compressed, gaussian, rescaled
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import Signal, squared


@dataclass(frozen=True)
class Law:
    """The law of the entries of a kernel.

    Attributes:
        mean: of an entry.
        variance: of an entry.
        centered: whether the entries sum to 0 over the fan.
    """

    mean: float
    variance: float
    centered: bool = False


def law(kernel: Signal, summed: Sequence[int]) -> Law:
    """Read the law off the held entries of a kernel; `summed` are the axes of its fan."""
    data = kernel.data
    mean = np.mean(data)
    second = float(np.mean(squared(data)))
    # A mean of 0 comes out as what rounding leaves; of a sampled law, as chance leaves it.
    if abs(mean) ** 2 <= (16 / data.size if kernel.sampled else 1e-9) * second:
        mean = np.zeros_like(mean)
    variance = max(0.0, second - float(abs(mean) ** 2))
    sums = np.sum(data, axis=tuple(axis + 1 for axis in summed))
    terms = math.prod(kernel.held[axis] for axis in summed)
    centered = terms > 1 and float(np.mean(squared(sums))) < 1e-9 * terms * second
    return Law(float(mean.real), variance, centered)


def correlated(kernel: Signal, summed: Sequence[int], law: Law) -> bool:
    """Return whether entries of a fan are correlated, and do not sum to 0, or differ in mean."""
    data, variance, terms = kernel.data, law.variance, math.prod(kernel.held[n] for n in summed)
    if law.centered or terms == 1:
        return False
    mean = np.mean(data)
    # The variance of a sum of independent entries is that of one, times their number.
    sums = np.sum(data, axis=tuple(axis + 1 for axis in summed)) - terms * mean
    excess = float(np.mean(squared(sums))) / terms - variance
    if abs(excess) > _CHANCE * math.sqrt(2 / sums.size) * variance:
        return True
    # The mean of one entry over draws strays by its variance, divided by their number.
    means = np.mean(data, axis=0) - mean
    excess = float(np.mean(squared(means))) * kernel.replicas - variance
    return kernel.replicas > 1 and excess > _CHANCE * math.sqrt(2 / means.size) * variance


# Standard errors of a mean square.
_CHANCE = 6


Terms = Callable[[], np.ndarray]


@dataclass
class Use:
    """A kernel's first use, and the kernel once it is used again."""

    inputs: np.ndarray  # replicas × places × terms; the products over terms are a Gram matrix
    terms: Terms | None  # to compare with those of other uses, if the inputs are not
    outputs: np.ndarray  # replicas × channels... × places
    groups: int  # of replicas that have Gram matrices of their own
    again: Again | None = None

    @property
    def size(self) -> int:
        # Terms to compare are those of a signal that is about as large as the outputs.
        signals = self.inputs.size + self.outputs.size * (1 if self.terms is None else 2)
        return signals + (self.again.size if self.again else 0)


@dataclass
class Kernels:
    """Draws of the products of kernels and signals, with a memory of first uses.

    Attributes:
        limits: how much is drawn.
        rng: random numbers.
        first: uses, by kernel and axes contracted.
        kept: entries of these.
        reused: keys that were used again with other inputs.
        lost: keys whose first use is not kept: used again, they are other kernels.
        seeds: of small kernels, which are drawn themselves.
    """

    limits: Limits
    rng: np.random.Generator
    first: dict[Any, Use] = field(default_factory=dict)
    kept: int = 0
    reused: set[Any] = field(default_factory=set)
    lost: set[Any] = field(default_factory=set)
    seeds: dict[Any, int] = field(default_factory=dict)

    def shared(
        self,
        x: np.ndarray,
        outputs: tuple[int, ...],
        key: Any,
        squares: np.ndarray | None = None,
        terms: Terms | None = None,
        apart: bool = False,
    ) -> np.ndarray:
        """Draw channels at places that all see one kernel.

        Args:
            x: replicas × places × terms; the products over terms are the outputs' Gram matrix.
            outputs: true sizes of the kernel's own axes.
            key: names kernel and contraction; uses with one key share one kernel.
            squares: exact second moments of the outputs, if the terms have them only nearly.
            terms: like x, to compare with those of other uses, if x has the Gram matrix alone.
            apart: whether each replica has a Gram matrix of its own.

        Returns:
            replicas × outputs... × places.
        """
        k, places, _ = x.shape
        use = self.first.pop(key, None)
        if use is None:
            held = self.limits.hold(outputs, places)
            # Rather fewer replicas than channels: a sum over a part of these strays more.
            most = max(1, self.limits.entries // (places * math.prod(held)))
            groups = min(k, most) if apart else 1
            factor = _grouped(x, groups)
            times = max(1, self.limits.replicas(held, places) // groups)
            y = self._fresh(factor, times * math.prod(held), squares)
            y = _replicas(y, held)
            self._remember(key, Use(x, terms, y, groups))
            return y
        self.kept -= use.size
        first = use.terms() if use.terms else use.inputs
        x = terms() if terms else x
        if np.array_equal(x, first):  # what a checkpoint computes again
            self._remember(key, use)
            return use.outputs
        self.reused.add(key[0])
        groups = min(k, len(use.outputs)) if apart and use.groups == 1 else use.groups
        x = _grouped(x, groups)
        if (again := use.again) is None or groups != use.groups:
            some = slice(None, None, -(-use.outputs.shape[-1] // self.limits.places))
            first = _grouped(first[:, some], groups)
            made = _channels(use.outputs[..., some], groups)
            again = Again.after(self.rng, first, made, x.shape[-1])
        self._remember(key, replace(use, groups=groups, again=again))
        y = _replicas(again.of(x, squares), use.outputs.shape[1:-1])
        return y[: max(1, self.limits.entries // y[0].size)]

    def _remember(self, key: Any, use: Use) -> None:
        """Keep the latest kernels, as many as fit in memory."""
        self.first[key] = use
        self.kept += use.size
        while len(self.first) > 1 and self.kept > _KEPT:
            oldest = next(iter(self.first))
            self.kept -= self.first.pop(oldest).size
            self.lost.add(oldest[0])

    def _fresh(self, terms: np.ndarray, count: int, squares: np.ndarray | None) -> np.ndarray:
        if terms.shape[1] > self.limits.places and terms.shape[-1] > count // 2:
            # Too many places for a Gram matrix: some of the terms stand for all.
            squares = np.sum(terms**2, axis=-1) if squares is None else squares
            some = self.rng.permutation(terms.shape[-1])[: count // 2]
            terms = terms[..., some] * math.sqrt(terms.shape[-1] / len(some))
        return gaussian(self.rng, terms, count, squares)

    def multiply(
        self,
        x: np.ndarray,
        share: float,
        law: Law,
        outputs: tuple[int, ...],
        key: Any,
        squares: np.ndarray | None = None,
        terms: Terms | None = None,
        apart: bool = False,
        which: Sequence[int] = (),
        turned: Any = None,
    ) -> np.ndarray:
        """Draw what a kernel makes of a signal.

        Args:
            x: replicas × kernels × channels × uses × places × terms. Each kernel and each
                channel has a draw of its own; the uses are channels that share one draw, another
                one in each replica.
            share: how many true terms each term stands for.
            law: of the entries.
            outputs: true sizes of the kernel's own axes.
            key: names kernel and contraction.
            squares: at each place the sum of E[x²] over the terms, if it is known better.
            terms: replicas × places × terms, where x has their Gram matrix alone.
            apart: whether each replica has a Gram matrix of its own.
            which: names each of the kernels, where no channels are apart; some may be the same.
            turned: names the kernel of which this one is the transpose.

        Returns:
            replicas × kernels × channels × uses × outputs... × places.
        """
        k, kernels, channels, uses, places, size = x.shape
        fan = share * size
        mean = law.mean * share * np.sum(x, axis=-1)
        mean = mean.reshape(k, kernels, channels, uses, *(1,) * len(outputs), places)
        if law.variance == 0:
            return mean
        variance = law.variance
        if law.centered:
            x = x - np.mean(x, axis=-1, keepdims=True)
            variance *= fan / (fan - 1)
        if channels == uses == 1:
            scaled = x[:, :, 0, 0] * math.sqrt(variance * share)
            squares = None if squares is None else variance * squares
            same = terms and (lambda: terms() * math.sqrt(law.variance))
            drawn = [
                self.shared(scaled[:, n], outputs, (key, name), squares, same, apart)
                for n, name in enumerate(which or range(kernels))
            ]
            y = drawn[0][:, None] if len(drawn) == 1 else np.stack(drawn, axis=1)
            y = y[:, :, None, None]
        else:
            held = self.limits.hold(outputs, places * channels * uses)
            scaled = x.reshape(-1, uses * places, size) * math.sqrt(variance * share)
            count = math.prod(held)
            few, whole = len(scaled) * count * size <= self.limits.entries, held == outputs
            if few and whole and share == 1 and turned in self.seeds:
                # Gradients depend on the kernel where a norm has divided what it made.
                w = np.swapaxes(self.entries(turned, (len(scaled), size, count)), 1, 2)
                y = (w @ np.swapaxes(scaled, 1, 2)).reshape(k, kernels, channels, -1, uses, places)
            else:
                if few:
                    # The kernels themselves, the same ones if they are used again.
                    y = self.entries(key, (len(scaled), count, size)) @ np.swapaxes(scaled, 1, 2)
                else:
                    y = gaussian(self.rng, scaled, count, plain=len(scaled) > 1)
                    self.lost.add(key)
                y = y.reshape(k, kernels, channels, -1, uses, places)
                scaled = scaled.reshape(k, kernels, channels, uses, places, size)
                parts = [matched(y[:, n], scaled[:, n], self.limits.places) for n in range(kernels)]
                y = np.stack(parts, axis=1)
            y = y.reshape(k, kernels, channels, *held, uses, places)
            y = np.moveaxis(y, -2, 3)
        if not np.any(mean):
            return y
        common = min(len(y), k) if k > 1 else len(y)
        return y[:common] + mean[:common]

    def entries(self, key: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Draw standard normal entries of small kernels, the same ones for one key."""
        seed = self.seeds.setdefault(key, int(self.rng.integers(2**62)))
        return np.random.default_rng(seed).standard_normal(shape)

    def groups_of_channels(
        self, x: np.ndarray, window: Window, share: float, law: Law, outputs: int, key: Any
    ) -> np.ndarray:
        """Draw the kernels of a grouped convolution, small ones, and apply them.

        Args:
            x: replicas × samples × positions... × groups × channels.
            window: over the positions.
            share: how many true channels each channel stands for.
            law: of the entries.
            outputs: channels that come out of each group.
            key: names kernel and contraction.

        Returns:
            replicas × groups × outputs × places.
        """
        replicas, *shape, groups, channels = x.shape
        taps = list(np.ndindex(*window.sizes))
        fan = len(taps) * channels
        kernels = self.entries(key, (replicas, len(taps), groups, channels, outputs))
        if law.centered:
            kernels -= np.mean(kernels, axis=(1, 3), keepdims=True)
            kernels *= math.sqrt(fan / (fan - 1))
        kernels *= math.sqrt(law.variance * share)
        kernels += law.mean * share
        seen = patches(x, window)
        y = np.zeros((replicas, groups, outputs, shape[0], *window.outputs(shape[1:])))
        for n, tap in enumerate(taps):
            y += np.einsum("r...gc,rgco->rgo...", seen[(..., *tap)], kernels[:, n])
        y = y.reshape(replicas, groups, outputs, -1)
        most = min(self.limits.places, y[..., 0].size // 2)
        if max(math.prod(shape), y.shape[-1]) <= most and not (law.centered or law.mean):
            exactly = gram_of_patches(gram(x, len(shape)), window, shape)
            exactly *= law.variance * share * channels
            y = with_gram(y.reshape(-1, y.shape[-1]), exactly).reshape(y.shape)
        return y


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """Return groups × places × terms: of each replica, or all replicas as one network."""
    if len(x) == groups == 1:  # the same without a copy
        return x
    if groups == 1:
        return np.swapaxes(x / math.sqrt(len(x)), 0, 1).reshape(1, x.shape[1], -1)
    return np.take(x, np.arange(groups) % len(x), axis=0)


def _channels(y: np.ndarray, groups: int) -> np.ndarray:
    """Return groups × channels × places: replicas r, r + groups, ... are those of one kernel."""
    y = y[: len(y) // groups * groups].reshape(-1, groups, y[0, ..., 0].size, y.shape[-1])
    return np.moveaxis(y, 1, 0).reshape(groups, -1, y.shape[-1])


def _replicas(y: np.ndarray, held: tuple[int, ...]) -> np.ndarray:
    """Undo this: return replicas × held... × places."""
    y = y.reshape(len(y), -1, *held, y.shape[-1])
    return np.moveaxis(y, 1, 0).reshape(-1, *held, y.shape[-1])


def matched(y: np.ndarray, factor: np.ndarray, places: int) -> np.ndarray:
    """Give samples over places the Gram matrix X Xᵀ in the mean over all groups.

    Args:
        y: groups... × places.
        factor: X, groups... × places × terms.
        places: of which a Gram matrix is made, at most; of more, the second moments are matched.
    """
    size = y.shape[-1]
    flat, x = y.reshape(-1, size), factor.reshape(-1, *factor.shape[-2:])
    if size > min(places, len(flat) // 2):
        return rescaled(flat, np.sum(x**2, axis=-1), (0,)).reshape(y.shape)
    rows = np.swapaxes(x, 0, 1).reshape(size, -1)
    return with_gram(flat, rows @ rows.T / len(x)).reshape(y.shape)


def with_gram(y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Give samples × places this Gram matrix over places, by a linear map.

    >>> with_gram(np.zeros((4, 2)), np.zeros((2, 2))).tolist()[0]  # of a signal of zeros
    [0.0, 0.0]
    """
    if not np.any(y):
        return y
    # y L̂⁻ᵀ Lᵀ has the Gram matrix L Lᵀ, where y has L̂ L̂ᵀ.
    found = compressed(y.T @ y / len(y))
    y = solve_triangular(found, y.T, lower=True).T @ compressed(wanted).T
    return rescaled(y, np.diagonal(wanted)[None], (0,))


# Entries of first uses that are kept: half a gigabyte.
_KEPT = 2**26
