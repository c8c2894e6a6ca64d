"""Pipelines on whole arrays: stages that each have a kernel of their own, and hand on their data.

All stages work at once, as ``jax.vmap`` over their kernels, and what they made is rolled by one
stage. While data come in, the later stages work on zeros. These are no signal, but a mean over all
stages counts them.

References: Xu et al. (2021), GSPMD: general and scalable parallelization for ML computation graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flaxinit.signal.samples.signals import Origin, Signal

_IDLE = (
    "it holds the kernels of a pipeline's stages, and the stages that wait for data work on zeros, "
    "which are no signal. Give a model that applies its stages one after the other."
)


@dataclass
class Stages:
    """Kernels of several stages, of which only one had a signal when they were first used.

    Attributes:
        first: that stage, along each axis of stages, by kernel.
    """

    first: dict[Origin | None, dict[int, int]] = field(default_factory=dict)

    def idle(self, w: Signal, x: Signal, batch: Sequence[int]) -> str:
        """Return what to say if the next stage has a signal now; empty if it has none.

        Args:
            w: the kernels.
            x: the signal.
            batch: axes of the signal that count kernels.
        """
        axes = [axis for axis in batch if x.held[axis] == x.shape[axis] > 1]
        if not axes or (w.origin in self.first and not self.first[w.origin]):
            return ""
        busy = {axis: _busy(x, axis) for axis in axes}
        if w.origin not in self.first:
            alone = {axis: places[0] for axis, places in busy.items() if len(places) == 1}
            self.first[w.origin] = alone
            return ""
        start = self.first[w.origin]
        nexts = (
            n in busy.get(axis, ()) for axis, place in start.items() for n in (place - 1, place + 1)
        )
        return _IDLE if any(nexts) else ""


def _busy(x: Signal, axis: int) -> list[int]:
    """Return the places along an axis where a signal is not 0."""
    over = tuple(n for n in range(x.data.ndim) if n != axis + 1)
    return np.flatnonzero(np.any(x.data, axis=over)).tolist()
