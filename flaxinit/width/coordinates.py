"""The findings of a coordinate check: how each pre-activation's change grows with the width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flaxinit.signal.reports.printed import Printed


@dataclass(frozen=True)
class Coordinate:
    """One pre-activation after some steps.

    Attributes:
        name: of its kernel.
        step: after how many steps of training.
        widths: of the models.
        changes: root mean square of the change of its entries, seeds × widths.
        sizes: root mean square of the entries themselves, seeds × widths.
        slope: of log change on log width, the mean over seeds; nan if it did not move.
        low: lower end of its interval, at 95 %.
        high: upper end.
        allowed: the slope that is small enough.
    """

    name: str
    step: int
    widths: tuple[int, ...]
    changes: np.ndarray
    sizes: np.ndarray
    slope: float
    low: float
    high: float
    allowed: float

    def _where(self, marked) -> str:
        return ", ".join(str(self.widths[n]) for n in np.flatnonzero(marked))

    @property
    def finding(self) -> str:
        """In words: ``steady`` if the whole interval is small enough."""
        bad = ~np.isfinite(self.changes).all(axis=0)
        if bad.any():
            return f"not finite at width {self._where(bad)}"
        if not self.changes.any():
            return "did not move"
        if not self.changes.all():
            return f"did not move at width {self._where(~self.changes.all(axis=0))}"
        if -self.allowed <= self.low and self.high <= self.allowed:
            return "steady"
        if self.low > self.allowed:
            return "grows"
        if self.high < -self.allowed:
            return "shrinks"
        return "undetermined"

    @property
    def size_slope(self) -> float:
        """Slope of log size on log width, the mean over seeds."""
        return float(np.mean(_slopes(self.widths, self.sizes)))


def coordinate(
    name: str, step: int, widths: Sequence[int], changes: Any, sizes: Any, allowed: float
) -> Coordinate:
    """Compute the slope, and Student's interval for the mean of the seeds' slopes.

    >>> widths, noise = np.array([8, 16, 32]), np.array([[1.0], [1.1], [0.9]])
    >>> each = coordinate("w", 2, widths, noise * widths**0.5, noise * widths, 0.1)
    >>> round(each.slope, 3), each.finding
    (0.5, 'grows')
    """
    from scipy.stats import t

    changes, sizes = np.asarray(changes, np.float64), np.asarray(sizes, np.float64)
    slope = low = high = math.nan
    if np.isfinite(changes).all() and changes.all():
        slopes = _slopes(widths, changes)
        slope = float(np.mean(slopes))
        error = float(np.std(slopes, ddof=1)) / math.sqrt(len(slopes))
        reach = float(t.ppf(0.975, len(slopes) - 1)) * error
        low, high = slope - reach, slope + reach
    return Coordinate(name, step, tuple(widths), changes, sizes, slope, low, high, allowed)


def _slopes(widths: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Fit the slope of each seed by least squares."""
    x = np.log(np.asarray(widths, np.float64))
    x = x - np.mean(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values) @ x / np.sum(x**2)


@dataclass(frozen=True, repr=False)
class CoordinateCheck(Printed):
    """The change of every pre-activation at several widths; prints as a table.

    Attributes:
        coordinates: each pre-activation after each number of steps.
        losses: before each step, seeds × widths × steps.
        widths: of the models.
        learning_rate: at every width.
        remarks: what else to know.
    """

    coordinates: tuple[Coordinate, ...]
    losses: np.ndarray
    widths: tuple[int, ...]
    learning_rate: float
    remarks: tuple[str, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """Each finding of change that is not ``steady``, in words."""
        return tuple(
            f"{each.name} after {each.step} steps: {each.finding}"
            + ("" if math.isnan(each.slope) else f", slope {_interval(each)}")
            for each in self.coordinates
            if each.finding not in ("steady", "did not move")
        )

    def check(self) -> None:
        """Raise if the change of some pre-activation depends on the width, or may.

        Raises:
            ValueError: with the findings.
        """
        moved = any(each.finding != "did not move" for each in self.coordinates)
        findings = self.findings if moved else ("nothing moved: raise the learning rate",)
        if findings:
            raise ValueError(
                "Training depends on the width, or may: " + "; ".join(findings) + ". Where the "
                "interval is wide, take more seeds or widths."
            )

    def plot(self, path: str) -> None:
        """Draw change against width, a panel for each number of steps, to an image file."""
        from matplotlib.figure import Figure

        steps = sorted({each.step for each in self.coordinates})
        figure = Figure(figsize=(6 * len(steps), 4.5), layout="constrained")
        panels = figure.subplots(1, len(steps), squeeze=False, sharey=True)[0]
        for step, panel in zip(steps, panels, strict=True):
            for each in self.coordinates:
                if each.step == step and np.isfinite(each.slope):
                    logs = np.log(each.changes)
                    middle = np.exp(np.mean(logs, axis=0))
                    ends = np.exp(np.quantile(logs, [0.0, 1.0], axis=0))
                    (line,) = panel.loglog(each.widths, middle, marker=".", label=each.name)
                    panel.fill_between(each.widths, *ends, color=line.get_color(), alpha=0.15)
            panel.set(title=f"after {step} steps", xlabel="width")
            panel.set_xticks(self.widths, [str(w) for w in self.widths])
            panel.minorticks_off()
        panels[0].set_ylabel("change of a pre-activation (root mean square)")
        panels[-1].legend(fontsize=7)
        figure.savefig(path)

    def __rich__(self):
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("pre-activation", no_wrap=True)
        ends = (self.widths[0], self.widths[-1])
        headings = ("steps", *(f"change at {w}" for w in ends), "slope", "size's slope")
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("finding", no_wrap=True)
        for each in self.coordinates:
            means = np.mean(each.changes, axis=0)
            numbers = (f"{means[0]:.3g}", f"{means[-1]:.3g}")
            slope = "" if math.isnan(each.slope) else _interval(each)
            size = f"{each.size_slope:.2f}" if np.isfinite(each.size_slope) else ""
            row = (str(each.step), *numbers, slope, size, each.finding)
            table.add_row(Text(each.name), *map(Text, row))
        first, last = self.losses[:, :, 0], self.losses[:, :, -1]
        title = (
            f"{len(self.losses)} seeds, widths {', '.join(map(str, self.widths))}, learning rate "
            f"{self.learning_rate:g}; loss {np.mean(first):.3g} to {np.mean(last):.3g}"
        )
        return Group(Text(title), table, *(Text(f"* {remark}") for remark in self.remarks))


def _interval(each: Coordinate) -> str:
    return f"{each.slope:.2f} [{each.low:.2f}, {each.high:.2f}]"
