"""The product of a signal with a random kernel: new channels, with the moments that theory gives.

For independent entries of mean μ and variance v, y = W x is, given x, Gaussian across outputs with

    E[y_i y_j] = v Σ x_i x_j  at places i, j, and mean μ Σ x_i,

the sum over the true fan. Kernels whose entries are made to sum to 0 over the fan (weight
standardization) see x - mean(x) alone.

A kernel that is used again is drawn conditionally on its earlier uses:

    y₂ | y₁ ~ N(K₂₁ K₁₁⁻¹ y₁, K₂₂ - K₂₁ K₁₁⁻¹ K₁₂).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.draws import compressed, gaussian
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import Signal


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
    second = float(np.mean(np.abs(data) ** 2))
    # A mean of 0 comes out as what rounding leaves; of a sampled law, as chance leaves it.
    if abs(mean) ** 2 <= (16 / data.size if kernel.sampled else 1e-9) * second:
        mean = np.zeros_like(mean)
    variance = max(0.0, second - float(abs(mean) ** 2))
    sums = np.sum(data, axis=tuple(axis + 1 for axis in summed))
    terms = math.prod(kernel.held[axis] for axis in summed)
    centered = terms > 1 and float(np.mean(np.abs(sums) ** 2)) < 1e-9 * terms * second
    return Law(float(mean.real), variance, centered)


@dataclass
class Used:
    """A kernel's earlier uses: what it met, and what came out."""

    inputs: np.ndarray  # places × terms; the products over terms are the outputs' Gram matrix
    outputs: np.ndarray  # channels × places

    @property
    def size(self) -> int:
        return self.inputs.size + self.outputs.size


def _aligned(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring two uses of a kernel to the same terms.

    A signal with known values has each channel once; a sampled one has it in each replica. If two
    uses have no such relation, they count as orthogonal.
    """
    few, many = sorted((x.shape[1], z.shape[1]))
    if many % few:
        none = np.zeros((len(x), z.shape[1])), np.zeros((len(z), x.shape[1]))
        return np.concatenate([x, none[0]], axis=1), np.concatenate([none[1], z], axis=1)
    times = [many // each.shape[1] for each in (x, z)]
    x, z = (np.tile(each, n) / math.sqrt(n) for each, n in zip((x, z), times, strict=True))
    return x, z


@dataclass
class Kernels:
    """Draws of the products of kernels and signals, with a memory of earlier uses.

    Attributes:
        limits: how much is drawn.
        rng: random numbers.
        used: earlier uses, by kernel and axes contracted.
        kept: entries of these.
    """

    limits: Limits
    rng: np.random.Generator
    used: dict[Any, Used] = field(default_factory=dict)
    kept: int = 0

    def outputs(self, sizes: Sequence[int], places: int) -> tuple[tuple[int, ...], int]:
        """Return held sizes of a kernel's own axes, and replicas."""
        held = self.limits.hold(sizes, places)
        return held, self.limits.replicas(held, places)

    def shared(
        self, terms: np.ndarray, count: int, key: Any, squares: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw channels at places that all see one kernel.

        Args:
            terms: places × terms; the products over terms are the outputs' Gram matrix.
            count: channels.
            key: names kernel and contraction; uses with one key share one kernel.
            squares: exact second moments of the outputs, if the terms have them only nearly.

        Returns:
            channels × places.
        """
        earlier = self.used.pop(key, None)
        self.kept -= earlier.size if earlier else 0
        if earlier is None or len(earlier.outputs) != count:
            fresh = self._fresh(terms, count, squares)
            self._remember(key, Used(terms, fresh))
            return fresh
        before, terms = _aligned(earlier.inputs, terms)
        fresh = self._again(before, earlier.outputs, terms)
        inputs = np.concatenate([before, terms])
        self._remember(key, Used(inputs, np.concatenate([earlier.outputs, fresh], axis=1)))
        return fresh

    def _remember(self, key: Any, use: Used) -> None:
        """Keep the latest uses, as many as fit in memory."""
        self.used[key] = use
        self.kept += use.size
        while len(self.used) > 1 and self.kept > _KEPT:
            self.kept -= self.used.pop(next(iter(self.used))).size

    def _fresh(self, terms: np.ndarray, count: int, squares: np.ndarray | None) -> np.ndarray:
        if len(terms) > self.limits.places and terms.shape[1] > count // 2:
            # Too many places for a Gram matrix: some of the terms stand for all.
            squares = np.sum(terms**2, axis=1) if squares is None else squares
            some = self.rng.permutation(terms.shape[1])[: count // 2]
            terms = terms[:, some] * math.sqrt(terms.shape[1] / len(some))
        return gaussian(self.rng, terms[None], count, squares)[0]

    def _again(self, x: np.ndarray, outputs: np.ndarray, z: np.ndarray) -> np.ndarray:
        # The part of z that lies in the span of x is known, the rest is not.
        solved, *_ = np.linalg.lstsq(x.T, z.T, rcond=None)
        rest = z - solved.T @ x
        y = outputs @ solved
        if np.sum(rest**2) > _ROUNDING * np.sum(z**2):
            y = y + gaussian(self.rng, rest[None], len(y))[0]
        return rescaled(y, np.sum(z**2, axis=1)[None], (0,))

    def multiply(
        self,
        x: np.ndarray,
        share: float,
        law: Law,
        outputs: tuple[int, ...],
        key: Any,
        squares: np.ndarray | None = None,
        apart: bool = False,
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
            apart: whether each replica has a Gram matrix of its own.

        Returns:
            replicas × kernels × channels × uses × outputs... × places.
        """
        k, kernels, channels, uses, places, terms = x.shape
        fan = share * terms
        mean = law.mean * share * np.sum(x, axis=-1)
        mean = mean.reshape(k, kernels, channels, uses, *(1,) * len(outputs), places)
        if law.variance == 0:
            return mean
        variance = law.variance
        if law.centered:
            x = x - np.mean(x, axis=-1, keepdims=True)
            variance *= fan / (fan - 1)
        if channels == uses == 1 < k and apart:
            # Rather fewer replicas than channels: a sum over a part of these strays more.
            held = self.limits.hold(outputs, places)
            replicas = min(k, max(1, self.limits.entries // (places * math.prod(held))))
            # Of few outputs, as of a head, each replica has several draws.
            times = max(1, self.limits.replicas(held, places) // replicas)
            scaled = x[:, :, 0, 0] * math.sqrt(variance * share)
            drawn = [
                self.shared(scaled[r, n], times * math.prod(held), (key, r, n))
                for r, n in np.ndindex(replicas, kernels)
            ]
            y = np.stack(drawn).reshape(replicas, kernels, times, *held, places)
            y = np.moveaxis(y, 2, 0).reshape(-1, kernels, 1, 1, *held, places)
        elif channels == uses == 1:
            held = self.limits.hold(outputs, places)
            replicas = self.limits.replicas(held, places)
            scaled = x[:, :, 0, 0] * math.sqrt(variance * share / k)
            squares = None if squares is None else variance * squares
            drawn = [
                self.shared(
                    np.swapaxes(scaled[:, n], 0, 1).reshape(places, k * terms),
                    replicas * math.prod(held),
                    (key, n),
                    squares,
                ).reshape(replicas, 1, 1, 1, *held, places)
                for n in range(kernels)
            ]
            y = np.concatenate(drawn, axis=1)
        else:
            held = self.limits.hold(outputs, places * channels * uses)
            scaled = x.reshape(-1, uses * places, terms) * math.sqrt(variance * share)
            y = gaussian(self.rng, scaled, math.prod(held))
            y = y.reshape(k, kernels, channels, -1, uses, places)
            scaled = scaled.reshape(k, kernels, channels, uses, places, terms)
            parts = [matched(y[:, n], scaled[:, n], self.limits.places) for n in range(kernels)]
            y = np.stack(parts, axis=1).reshape(k, kernels, channels, *held, uses, places)
            y = np.moveaxis(y, -2, 3)
        if not np.any(mean):
            return y
        common = min(len(y), k) if k > 1 else len(y)
        return y[:common] + mean[:common]

    def groups_of_channels(
        self, x: np.ndarray, window: Window, share: float, law: Law, outputs: int
    ) -> np.ndarray:
        """Draw the kernels of a grouped convolution, small ones, and apply them.

        Args:
            x: replicas × samples × positions... × groups × channels.
            window: over the positions.
            share: how many true channels each channel stands for.
            law: of the entries.
            outputs: channels that come out of each group.

        Returns:
            replicas × groups × outputs × places.
        """
        replicas, *shape, groups, channels = x.shape
        taps = list(np.ndindex(*window.sizes))
        fan = len(taps) * channels
        kernels = self.rng.standard_normal((len(taps), replicas, groups, channels, outputs))
        if law.centered:
            kernels -= np.mean(kernels, axis=(0, 3), keepdims=True)
            kernels *= math.sqrt(fan / (fan - 1))
        kernels *= math.sqrt(law.variance * share)
        kernels += law.mean * share
        seen = patches(x, window)
        y = np.zeros((replicas, groups, outputs, shape[0], *window.outputs(shape[1:])))
        for tap, kernel in zip(taps, kernels, strict=True):
            y += np.einsum("r...gc,rgco->rgo...", seen[(..., *tap)], kernel)
        y = y.reshape(replicas, groups, outputs, -1)
        most = min(self.limits.places, y[..., 0].size // 2)
        if max(math.prod(shape), y.shape[-1]) <= most and not (law.centered or law.mean):
            exactly = gram_of_patches(gram(x, len(shape)), window, shape)
            exactly *= law.variance * share * channels
            y = with_gram(y.reshape(-1, y.shape[-1]), exactly).reshape(y.shape)
        return y


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
    """Give samples × places this Gram matrix over places, by a linear map."""
    # y L̂⁻ᵀ Lᵀ has the Gram matrix L Lᵀ, where y has L̂ L̂ᵀ.
    found = compressed(y.T @ y / len(y))
    y = solve_triangular(found, y.T, lower=True).T @ compressed(wanted).T
    return rescaled(y, np.diagonal(wanted)[None], (0,))


def rescaled(y: np.ndarray, squares: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Rescale samples to these second moments, in the mean over these axes."""
    wanted = np.mean(squares, axis=axes, keepdims=True)
    found = np.mean(np.abs(y) ** 2, axis=axes, keepdims=True)
    return y * np.sqrt(np.divide(wanted, found, out=np.zeros_like(found), where=found > 0))


# What 64 bits leave of the square of a difference that is 0.
_ROUNDING = 1e-18
# Entries of earlier uses that are kept: half a gigabyte.
_KEPT = 2**26
