"""Kernels that are made of one parameter, as w and -w, w and w[:, ::-1], or w and w * mask.

A kernel that was met before with another factor, or with its slices in another order, makes of a
signal what it made then, with that factor or in that order. Another function w' of the parameter
has a part along each kernel w_k that was met:

    w' = Σ c_k w_k + r,    c_k = Cov(w', w_k) / Var(w_k).

These parts are uncorrelated, so what they make of signals is independent in wide layers.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxinit.signal.rules.copies import Copies, matched_slices
from flaxinit.signal.rules.movement import permuted
from flaxinit.signal.samples.alignment import resized
from flaxinit.signal.samples.signals import PRODUCT, Origin, Signal, squared


def overlap(one: Origin, other: Origin) -> bool:
    """Return whether parts of parameters may have entries in common.

    A product of a parameter with another one has none in common with it.

    >>> overlap(frozenset({(0, ((1, 0, 2, 1),))}), frozenset({(0, ((1, 2, 4, 1),))}))
    False
    """
    return any(n == m and not _disjoint(steps, others) for n, steps in one for m, others in other)


def are_uncorrelated(one: Signal, other: Signal) -> bool:
    """Return whether the product of two kernels is uncorrelated with both.

    That is so if they are independent and their entries have mean 0.
    """
    independent = one.sources and other.sources and not one.sources & other.sources
    return bool(independent) and not any(_has_mean(each.data) for each in (one, other))


def _has_mean(data: np.ndarray) -> bool:
    """Return whether the mean of entries is more than chance makes it."""
    return abs(np.mean(data)) > _CHANCE / math.sqrt(data.size) * np.sqrt(np.mean(squared(data)))


def _disjoint(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether steps take different entries of one array."""
    if (PRODUCT in one) != (PRODUCT in other):
        return True
    for mine, theirs in zip(one, other, strict=False):
        if PRODUCT in (mine, theirs):
            return False
        if mine != theirs:
            (axis, *first), (other_axis, *second) = map(_slice, (mine, theirs))
            return axis == other_axis and not set(range(*first)) & set(range(*second))
    return False


def _slice(step: Any) -> Sequence[int]:
    return (0, step, step + 1, 1) if isinstance(step, int) else step


def fitted(known: Signal, kernel: Signal) -> Signal | None:
    """Return a kernel held like another one; None if it has another shape."""
    if known.shape != kernel.shape:
        return None
    # The entries that are added depend on their number alone, as those of the other one did.
    return resized(known, kernel.held, kernel.replicas, np.random.default_rng(0))


def factor(kernel: Signal, known: Signal) -> float:
    """Return the multiple of a kernel, held alike, which another one has in it.

    A multiple that chance explains is 0: the laws are samples. So is one as small as that of a
    transpose, whose diagonal is a larger part of what is held than of all.
    """
    one, other = (each.data - np.mean(each.data) for each in (kernel, known))
    product, square = (float(np.vdot(other, x).real) for x in (one, other))
    least = _CHANCE / math.sqrt(one.size) + 1 / max(kernel.held)
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return product / square if abs(product) > least * norms else 0.0


# Standard errors of a correlation of independent entries.
_CHANCE = 5


def rest(kernel: Signal, parts: Sequence[tuple[float, Signal]]) -> Signal | None:
    """Return what is left of a kernel without multiples of others; None if nothing is."""
    if not parts:
        return kernel
    left = kernel.data - sum(c * known.data for c, known in parts)
    nothing = np.linalg.norm(left) <= _ROUNDING * np.linalg.norm(kernel.data)
    return None if nothing else kernel.with_data(left)


_ROUNDING = 1e-9


def multiple(kernel: Signal, known: Signal) -> float:
    """Return which multiple of a known kernel another one is, and nothing more; 0 if it is none."""
    if (held := fitted(known, kernel)) is None or not (c := factor(kernel, held)):
        return 0.0
    return c if rest(kernel, [(c, held)]) is None else 0.0


def order(kernel: Signal, known: Signal, axes: Sequence[int]) -> tuple[int, Copies] | None:
    """Return along which of these axes a kernel has slices of a known one, and which."""
    if len(kernel.shape) != len(known.shape):
        return None
    for axis in axes:
        others = [n for n in range(len(kernel.shape)) if n != axis]
        alike = all(
            (kernel.held[n], kernel.shape[n]) == (known.held[n], known.shape[n]) for n in others
        )
        share = kernel.held[axis] * known.shape[axis] == known.held[axis] * kernel.shape[axis]
        if alike and share and (found := matched_slices(kernel, known, axis)):
            return axis, found
    return None


def is_transpose(
    kernel: Signal, axes: Sequence[int], known: Signal, known_axes: Sequence[int]
) -> float:
    """Return of which multiple of a known kernel another is the transpose; 0 if of none.

    Args:
        kernel: of two axes.
        axes: its outputs and its terms.
        known: of two axes.
        known_axes: its terms and its outputs.
    """
    if not len(kernel.shape) == len(known.shape) == len(axes) == len(known_axes) == 2:
        return 0.0
    return multiple(permuted(kernel, axes), permuted(known, known_axes))
