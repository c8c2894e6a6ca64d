"""What `calibrate` measured and did, kernel by kernel."""

from dataclasses import dataclass

from flaxinit.signal.reports.printed import Printed, grid


@dataclass(frozen=True)
class Calibrated:
    """A kernel before and after.

    Attributes:
        path: as `fast_init` writes it, with the steps of loops: ``params/layers/kernel[3]``.
        shape: of the parameter.
        before: E[y²] of its outputs with the parameters that were given.
        after: the same with the parameters that are returned; below the level at the end of a
            branch.
        factor: on the kernel.
        why: the reason, in words.
    """

    path: str
    shape: tuple[int, ...]
    before: float
    after: float
    factor: float
    why: str


@dataclass(frozen=True, repr=False)
class Calibration(Printed):
    """What `calibrate` measured and did, kernel by kernel; prints as a table."""

    rows: tuple[Calibrated, ...]

    def __rich__(self):
        columns = ("kernel", "shape", "E[y²] before", "after", "factor", "why")
        return grid(columns, self.rows, "before", "after", "factor")
