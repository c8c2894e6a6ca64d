"""A report as a figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from flaxinit.signal.reports.curves import panels

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Report


def plot(report: "Report", path: str | Path) -> None:
    """Write a figure with a panel each for signal, gradient and stream.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed. Run: pip install matplotlib. "
            "report.html(path) draws the same without it."
        ) from error
    import numpy as np

    found = panels(report)
    figure = Figure(figsize=(9, 3.2 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for ax, (title, curves) in zip(axes, found.items(), strict=True):
        for curve in curves:
            order = np.array(curve.order)
            forecast, low, high, measured = (
                np.array(x, float) for x in (curve.forecast, curve.low, curve.high, curve.measured)
            )
            several = len(order) > 1
            ax.plot(order, forecast, "-" if several else "_", color=curve.color, ms=12, lw=1.5)
            # A band needs a width to be seen.
            wide, sides = (
                (order, (low, high))
                if several
                else (
                    np.array([order[0] - 0.3, order[0] + 0.3]),
                    (np.repeat(low, 2), np.repeat(high, 2)),
                )
            )
            ax.fill_between(wide, *sides, color=curve.color, alpha=0.2, lw=0)
            ax.plot(order, measured, "o", color=curve.color, ms=4, label=curve.label)
        ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_title(title, loc="left", fontsize=10)
        ax.grid(alpha=0.25)
    labels = {curve.label: curve.color for curve in next(iter(found.values()), [])}
    if len(labels) <= _MOST:
        axes[0].legend(fontsize=7, ncols=2)
    figure.supxlabel(
        "place in the order of use; line: forecast; band: 95 % of draws; dots: measured", fontsize=8
    )
    figure.savefig(path, dpi=130)


_MOST = 14  # labels that a legend holds
