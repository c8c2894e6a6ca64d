"""What the places of a convolution see, or fewer terms that stand for all."""

import math
from typing import NamedTuple

import numpy as np

from flaxinit.signal.rules.kernels import Law, Terms
from flaxinit.signal.rules.windows import Window, gram, gram_of_patches, patches
from flaxinit.signal.samples.draws import compressed
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import squared


class Seen(NamedTuple):
    """What the places of a convolution see.

    Attributes:
        data: replicas × groups × places × terms.
        share: how many true terms each term stands for.
        law: with which the kernel sees these terms.
        squares: the sum of E[x²] over the terms at each place, if it is known better.
        terms: what other uses may be compared with, if it is not these.
    """

    data: np.ndarray
    share: float
    law: Law
    squares: np.ndarray | None = None
    terms: Terms | None = None


def seen(data: np.ndarray, window: Window, share: float, known: Law, limits: Limits) -> Seen:
    """Return what each place sees, or fewer terms that stand for all if they are too many.

    Args:
        data: replicas × samples × positions... × groups × channels.
        window: over the positions.
        share: how many true terms each term stands for.
        known: the law of the kernel.
        limits: how many terms are held.
    """
    replicas, *shape, groups, channels = data.shape
    before, places = math.prod(shape), shape[0] * math.prod(window.outputs(shape[1:]))
    most = max(64, limits.entries // 2 // (places * math.prod(window.sizes)))
    few = replicas * groups * channels <= most
    gathered = max(before, places) <= limits.places
    if few or groups > 1 or known.mean or (known.centered and not gathered):
        data = data[: max(1, most // (groups * channels))]
        return Seen(_patches(data, window), share, known)
    if gathered:  # a Gram matrix that stands for all channels of a window

        def some() -> np.ndarray:
            found = _patches(data[: max(1, most // channels)], window)[:, 0]
            mean = known.centered * np.mean(found, axis=-1, keepdims=True)
            return (found - mean) * math.sqrt(share)

        found, each = gram_of_patches(gram(data, len(shape)), window, shape), known
        if known.centered:
            fan = share * channels * math.prod(window.sizes)
            terms = _patches(np.mean(data, axis=(0, -1))[None, ..., None], window)
            mean = np.mean(terms[0, 0], axis=-1)
            found -= math.prod(window.sizes) * np.outer(mean, mean)
            each = Law(0.0, known.variance * fan / (fan - 1))
        return Seen(compressed(found)[None, None], share * channels, each, terms=some)
    square = np.mean(squared(data), axis=(0, -1))[None, ..., None]
    squares = share * channels * np.sum(_patches(square, window), axis=-1).reshape(-1)
    flat = np.moveaxis(data, 0, -2).reshape(*shape, 1, -1)
    found = _patches(flat[None, ..., :most], window)
    return Seen(found, share * channels / most, known, squares)


def _patches(data: np.ndarray, window: Window) -> np.ndarray:
    """Return replicas × groups × places × terms."""
    rank = len(window.sizes)
    cut = np.moveaxis(patches(data, window), 2 + rank, 1)
    return cut.reshape(*cut.shape[:2], math.prod(cut.shape[2 : 3 + rank]), -1)
