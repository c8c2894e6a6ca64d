"""How results are shown: outcomes, estimates with intervals, and figures that everyone can read."""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008): distinct with every common form of color blindness. Black is kept for
# theory and baselines; yellow is left out because it is faint on white.
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
MARKERS = "osD^vPX*"
LINES = ("-", "--", ":")

CONFIDENCE = 0.95
RESAMPLES = 2000  # the interval's ends are order statistics: their own error is 0.5 % of rank


class Outcome(NamedTuple):
    """Who wins on some networks, and by how much."""

    networks: str
    winner: str
    margin: str


@dataclass(frozen=True)
class View:
    """How an experiment's records are reported.

    Args:
        outcomes: what the experiment found, one row per group of networks.
        table: the rows of the table, headings first.
        plot: the figure, under a title.
        caption: how the numbers were made, in sentences without the last full stop.
    """

    outcomes: Callable[[list[dict]], list[Outcome]]
    table: Callable[[list[dict]], list[list[str]]]
    plot: Callable[[list[dict], str], "Figure"]
    caption: Callable[[list[dict]], str]

    def finding(self, records: list[dict]) -> str:
        """Return the outcomes as one line."""
        return "; ".join(
            f"{networks}: {winner} ({margin})"
            for networks, winner, margin in self.outcomes(records)
        )


def interval(values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the median; values may be infinite.

    The ends are medians that were drawn, never averages of two, because one may be infinite. The
    interval is never wider than the range of the values.

    >>> interval([1.0, 1.0, 1.0])
    (1.0, 1.0)

    References: Efron, Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    values = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    medians = np.sort(np.median(drawn, axis=1))
    outside = (1 - confidence) / 2
    low, high = math.floor(outside * RESAMPLES), math.ceil((1 - outside) * RESAMPLES) - 1
    return float(medians[low]), float(medians[high])


def estimate(values, infinite: str = "∞") -> str:
    """Return the median with its bootstrap interval, `m (low–high)`, or `m` if all look alike.

    NaN stands for a network that diverged; these are counted separately.

    >>> estimate([0.644, 1.19, 2.01])
    '1.2 (0.64–2)'
    >>> estimate([60, 80, np.inf], "never")
    '80 (60–never)'
    >>> estimate([2.0, np.nan])
    '2, 1 diverged'
    """
    values = np.asarray(values, float)
    lost = int(np.isnan(values).sum())
    if lost:
        rest = values[~np.isnan(values)]
        return f"{estimate(rest, infinite)}, {lost} diverged" if len(rest) else "diverged"

    def shown(value):
        if math.isinf(value):
            return infinite
        if value and not 1e-3 <= abs(value) < 1000:
            return f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"

    middle, low, high = map(shown, (np.median(values), *interval(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def listed(names: list[str]) -> str:
    """Join names with commas and a final "and".

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def briefly(chosen: list[str], names: list[str]) -> str:
    """Name the chosen ones, or the others if they are less than half as many.

    >>> briefly(["a", "b", "c"], ["a", "b", "c", "d"])
    'all but d'
    >>> briefly(["a"], ["a", "b"]), briefly(["a", "b"], ["a", "b"]), briefly([], ["a", "b"])
    ('a', 'all', 'none')
    """
    others = [name for name in names if name not in chosen]
    if 2 * len(others) < len(chosen):
        return f"all but {listed(others)}" if others else "all"
    return listed(chosen) or "none"


def spans(values: list[float], chosen: list[bool]) -> str:
    """Write the runs of chosen neighbors among `values`.

    >>> spans([1, 2, 3, 4], [True, True, False, True])
    '1 to 2 and 4'
    """
    found, start = [], None
    for i, inside in enumerate([*chosen, False]):
        if inside and start is None:
            start = i
        elif not inside and start is not None:
            low, high = values[start], values[i - 1]
            found.append(f"{low:.3g}" if start == i - 1 else f"{low:.3g} to {high:.3g}")
            start = None
    return listed(found)


def panels(title: str, count: int, width: float = 4.6, height: float = 4.2, columns: int = 3, **kw):
    """Make a figure with `count` panels under a title.

    Returns:
        The figure and its axes, in reading order.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = max(6.5, width * columns), 0.9 + height * rows
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, int(size[0] * 9)), fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False, **kw).flat
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG with 128 colors: the same picture in a third of the bytes."""
    from PIL import Image

    written = BytesIO()
    figure.savefig(written, dpi=110, format="png")
    picture = Image.open(written).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, "png", optimize=True)


def look(index: int) -> dict:
    """Return a distinct color, marker and line for the index-th thing that is compared."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index // len(COLORS) % len(LINES)],
    }
