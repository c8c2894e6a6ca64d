"""What `calibrate` measured and did, kernel by kernel."""

from dataclasses import dataclass

from flaxinit.signal.reports.printed import Printed, grid, span
from flaxinit.signal.reports.repeats import folded, together


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
        rows = (
            (
                together(x.path for x in group),
                group[0].shape,
                *(span(getattr(x, name) for x in group) for name in ("before", "after", "factor")),
                group[0].why,
            )
            for group in folded(self.rows, lambda row: row.why)
        )
        return grid(columns, rows)
