"""From runs to statements about them: each technique at its best rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from benchmarks import techniques
from benchmarks.view import CONFIDENCE, estimate, interval, listed

T = TypeVar("T")

TARGET = 0.90  # training accuracy that counts as trained


@dataclass(frozen=True)
class Row:
    """One technique on one architecture, at its best learning rate."""

    record: dict
    technique: str
    gain: float
    learning_rate: float
    runs: list[dict]

    @property
    def unit(self) -> dict:
        return self.record["unit"]

    @property
    def title(self) -> str:
        return techniques.title(self.technique)

    @property
    def rate(self) -> str:
        """The learning rate; `*` at an end of the grid, `none` if the network never learns."""
        grid = self.unit["learning_rates"]
        if self.never_learned.all():
            return "none"
        at_end = len(grid) > 1 and self.learning_rate in (min(grid), max(grid))
        return f"{self.learning_rate:.2g}{'*' if at_end else ''}"

    @property
    def steps(self) -> np.ndarray:
        """Steps to the first window with the target accuracy; infinite if there is none."""
        return self.steps_until(lambda run: np.array(run["accuracy"], float) >= TARGET)

    def steps_until(self, reached) -> np.ndarray:
        """Return, for each run, the steps to the first window for which `reached(run)` is true."""
        windows = [np.flatnonzero(reached(run)) for run in self.runs]
        return np.array(
            [self.unit["window"] * (w[0] + 1) if len(w) else math.inf for w in windows], float
        )

    @property
    def loss(self) -> np.ndarray:
        """Final training loss; infinite if it is not finite."""
        return np.array([_loss(run) for run in self.runs])

    @property
    def test_accuracy(self) -> np.ndarray:
        return np.array([run["test_accuracy"] for run in self.runs], float)

    @property
    def train_accuracy(self) -> np.ndarray:
        return np.array([run["train_accuracy"] for run in self.runs], float)

    @property
    def diverged(self) -> np.ndarray:
        return np.array([run["train_loss"] is None for run in self.runs])

    @property
    def never_learned(self) -> np.ndarray:
        """Whether the trained network predicts no better than the best constant guess."""
        return self.loss >= self.record["label_entropy"]

    @property
    def never(self) -> str:
        """The share of seeds that never learned, and the share that diverged."""
        diverged = f" (diverged {self.diverged.mean():.0%})" if self.diverged.any() else ""
        return f"{self.never_learned.mean():.0%}{diverged}"

    @property
    def gradient_ratio(self) -> np.ndarray:
        """The last layer's gradient over the first layer's, before the first step.

        Infinite if the first has vanished, NaN if one is not finite.
        """
        gradients = [run["probes"][0]["gradient"] for run in self.runs]
        first, last = (np.array([g[at] for g in gradients], float) for at in (0, -1))
        return np.divide(last, first, out=np.full_like(last, math.inf), where=first != 0)


def _loss(run: dict) -> float:
    return math.inf if run["train_loss"] is None else run["train_loss"]


def by_loss(row: Row) -> tuple[float, ...]:
    """Rank by the median of the final training loss, then by the share that never learned."""
    return float(np.median(row.loss)), float(row.never_learned.mean())


def by_steps(row: Row) -> tuple[float, ...]:
    """Rank by the median of the steps to the target accuracy, then as `by_loss`."""
    return float(np.median(row.steps)), *by_loss(row)


CHOICE = {by_loss: "the lowest training loss", by_steps: "the fewest steps"}


def rows(records: list[dict], best: Callable[[Row], tuple[float, ...]] = by_loss) -> list[Row]:
    """Return a row per unit, technique and gain, in the order of training.

    Args:
        records: the experiment's records.
        best: the rank of a row, lower is better. It sees only the training data, and chooses the
            learning rate of each row.
    """
    found = []
    for record in records:
        kinds = groupby(record["runs"], key=lambda run: (run["technique"], run["gain"]))
        for (technique, gain), group in kinds:
            rates: dict[float, list[dict]] = {}
            for run in group:
                rates.setdefault(run["learning_rate"], []).append(run)
            candidates = [Row(record, technique, gain, rate, runs) for rate, runs in rates.items()]
            found.append(min(candidates, key=best))
    return found


# The settings that distinguish architectures, in words.
WORDING: dict[str, Callable] = {
    "activation": str,
    "depth": "{} layers".format,
    "width": "width {}".format,
    "dtype": str,
    "normalize": lambda on: f"with{'' if on else 'out'} LayerNorm",
}


def by_network(records: list[dict], best=by_loss) -> dict[str, list[Row]]:
    """Return the rows of each architecture, named by the settings that differ."""
    differing, alike = _settings(records)
    named: dict[str, list[Row]] = {}
    for row in rows(records, best):
        name = ", ".join(WORDING[key](row.unit[key]) for key in differing or alike[:1])
        named.setdefault(name, []).append(row)
    return named


def _settings(records: list[dict]) -> tuple[list[str], list[str]]:
    """Return the keys of `WORDING` that differ among the units, and the others."""
    units = [record["unit"] for record in records]
    known = [key for key in WORDING if key in units[0]]
    differing = [key for key in known if len({unit[key] for unit in units}) > 1]
    return differing, [key for key in known if key not in differing]


def level(rows: list[T], values: Callable[[T], np.ndarray]) -> list[T]:
    """Return the rows that no other row's interval is entirely below; lower is better."""
    intervals = [interval(values(row)) for row in rows]
    highest = min(high for _, high in intervals)
    return [row for row, (low, _) in zip(rows, intervals, strict=True) if low <= highest]


COLUMNS: dict[str, Callable[[Row], str]] = {
    "best rate": lambda row: row.rate,
    f"steps to {TARGET:.0%}": lambda row: estimate(row.steps, "never"),
    "test accuracy %": lambda row: estimate(100 * row.test_accuracy),
    "final training loss": lambda row: estimate(row.loss),
    "never learned": lambda row: row.never,
    "gradient last/first": lambda row: estimate(row.gradient_ratio),
}


def table(
    groups: dict[str, list[Row]], *columns: str | tuple[str, Callable[[Row], str]]
) -> list[list[str]]:
    """Return a row per technique, and a row for guessing if there is an accuracy.

    Args:
        groups: network -> its rows.
        *columns: names in `COLUMNS`, or pairs of a heading and a function from row to cell.
    """
    shown = dict((c, COLUMNS[c]) if isinstance(c, str) else c for c in columns)
    cells = [["network", "technique", *shown]]
    for name, group in groups.items():
        cells += [[name, row.title, *(cell(row) for cell in shown.values())] for row in group]
        if "test accuracy %" in shown:
            guess = f"{100 * group[0].record['guess_accuracy']:.0f}"
            accuracy = [guess if column == "test accuracy %" else "" for column in shown]
            cells.append([name, "guessing", *accuracy])
    return cells


def caption(records: list[dict], *details: str, best: Callable = by_loss) -> str:
    """Say how the numbers were made.

    Args:
        records: the experiment's records.
        *details: sentences to begin with.
        best: how the learning rate was chosen, as for `rows`.
    """
    unit = records[0]["unit"]
    shared = [WORDING[key](unit[key]) for key in _settings(records)[1] if key in ("depth", "width")]
    grids = {tuple(record["unit"]["learning_rates"]) for record in records}
    lowest, highest = min(map(min, grids)), max(map(max, grids))
    grid = f"{len(unit['learning_rates'])} rates between {lowest:.2g} and {highest:.2g}"
    if len(grids) == 1:
        grid = f"the rates {listed([f'{rate:.2g}' for rate in grids.pop()])}"
    median = f"Median ({CONFIDENCE:.0%} bootstrap interval) over {len(unit['seeds'])} seeds"
    return ". ".join(
        [
            *details,
            ", ".join([median, *shared]),
            f"Optimizer {unit['optimizer']}, batches of {unit['batch_size']}, "
            f"{unit['steps']} steps",
            f"Each technique is shown at the one of {grid} with {CHOICE[best]} "
            "(*: an end of the grid)",
        ]
    )
