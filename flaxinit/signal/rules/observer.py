"""An observer of a run: it is told of the kernels that signals meet, and of sums of signals."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from flaxinit.signal.rules.kernels import Law
from flaxinit.signal.samples.limits import TooLargeError
from flaxinit.signal.samples.signals import PRODUCT, Signal
from flaxinit.trees.paths import part


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

    def averaged(self, kernel: Signal) -> None:
        """Note that a kernel's variances differ between entries, and count as their mean."""

    def forgotten(self, kernel: Signal) -> None:
        """Note that a kernel is used again, but its first use was not kept."""

    def added(self, result: Signal, parts: Sequence[Signal]) -> None:
        """Note the sum of two independent signals, its parts: the residual stream."""


@dataclass
class Named(Observer):
    """An observer that knows the names of parameters, and stops where a signal is not finite.

    Attributes:
        names: of the parameters.
        caller: the function that runs the program.
        last: the kernel that was met last.
    """

    names: Sequence[str]
    caller: str
    last: str = field(default="", init=False)

    def path(self, kernel: Signal) -> str:
        """Name a kernel, or the part of it that is used."""
        origin = sorted(kernel.origin or (), key=str)
        cut = ((number, [step for step in steps if step != PRODUCT]) for number, steps in origin)
        return ", ".join(self.names[number] + part(steps) for number, steps in cut)

    def enters(self, kernel: Signal, signal: Signal) -> None:
        square = signal.second_moment()
        if not math.isfinite(square):
            what = "gradient" if signal.backward else "signal"
            raise ValueError(
                f"The {what} that meets {self.path(kernel)} is not finite: its second moment is "
                f"{square}. Look at the inputs and at what stands before this kernel."
            )

    def met(self, kernel: Signal, *args, **kwargs) -> None:
        self.last = self.path(kernel)

    def refused(self, kernel: Signal, why: str) -> NoReturn:
        raise ValueError(f"{self.caller} does not read {self.path(kernel)}: {why}")

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Say after which kernel an operation stands that is too large."""
        try:
            yield
        except TooLargeError as error:
            after = f"after {self.last}" if self.last else "before the first kernel"
            raise TooLargeError(f"{error} It stands {after}.") from None
