"""An observer of a run: it is told of the kernels that signals meet, and of sums of signals."""

from collections.abc import Sequence
from typing import NoReturn

from flaxinit.signal.rules.kernels import Law
from flaxinit.signal.samples.signals import Signal


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

    def refused(self, kernel: Signal, why: str) -> NoReturn:
        """Stop at a kernel that no rule reads."""
        raise ValueError(f"forecast does not read this kernel: {why}")

    def forgotten(self, kernel: Signal) -> None:
        """Note that a kernel is used again, but its first use was not kept."""

    def added(self, result: Signal, parts: Sequence[Signal]) -> None:
        """Note the sum of two independent signals, its parts: the residual stream."""
