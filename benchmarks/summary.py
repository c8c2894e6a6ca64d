"""From runs to what is said about them: each technique at its best rate, and the finding."""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from benchmarks.techniques import TECHNIQUES

TARGET = 0.90  # training accuracy that counts as trained


@dataclass(frozen=True)
class Row:
    """One technique on one architecture, at the learning rate that suits it best."""

    unit: dict
    technique: str
    learning_rate: float
    runs: list[dict]
    label_entropy: float

    @property
    def grid(self) -> list[float]:
        return self.unit["learning_rates"]

    @property
    def title(self) -> str:
        return TECHNIQUES[self.technique].title

    @property
    def steps(self) -> np.ndarray:
        """Steps until a window's training accuracy reached the target, infinite if none did."""
        return np.array([_steps(run, self.unit["window"]) for run in self.runs])

    @property
    def test_accuracy(self) -> np.ndarray:
        return np.array([run["test_accuracy"] for run in self.runs])

    @property
    def diverged(self) -> np.ndarray:
        return np.array([run["train_loss"] is None for run in self.runs])

    @property
    def never_learned(self) -> np.ndarray:
        """Whether the trained network predicts no better than the best constant guess."""
        return np.array([_loss(run) >= self.label_entropy for run in self.runs])

    @property
    def gradient_ratio(self) -> np.ndarray:
        first, last = (
            np.array([run[f"{layer}_gradient"] for run in self.runs], dtype=float)
            for layer in ("first", "last")
        )
        return np.divide(last, first, out=np.full_like(last, math.inf), where=first > 0)


def _steps(run: dict, window: int) -> float:
    reached = [i for i, accuracy in enumerate(run["accuracy"], 1) if accuracy >= TARGET]
    return window * reached[0] if reached else math.inf


def _loss(run: dict) -> float:
    return math.inf if run["train_loss"] is None else run["train_loss"]


def rows(records: list[dict]) -> list[Row]:
    """A row per unit and technique, in the order in which they were trained.

    Best is the rate with the lowest final training loss, median over seeds. The test data have
    no say.
    """
    found = []
    for record in records:
        for technique, group in groupby(record["runs"], key=lambda run: run["technique"]):
            rates: dict[float, list[dict]] = {}
            for run in group:
                rates.setdefault(run["learning_rate"], []).append(run)
            best = min(rates, key=lambda rate: np.median([_loss(run) for run in rates[rate]]))
            entropy = record["label_entropy"]
            found.append(Row(record["unit"], technique, best, rates[best], entropy))
    return found


def panels(records: list[dict]) -> dict[str, list[Row]]:
    """The rows of each architecture, under a name with what tells architectures apart."""
    named: dict[str, list[Row]] = {}
    units = [record["unit"] for record in records]
    differing = [
        key
        for key in ("activation", "depth", "width", "dtype")
        if len({unit[key] for unit in units}) > 1
    ] or ["activation"]
    wording = {"activation": "{}", "depth": "{} layers", "width": "width {}", "dtype": "{}"}
    for row in rows(records):
        name = ", ".join(wording[key].format(row.unit[key]) for key in differing)
        named.setdefault(name, []).append(row)
    return named


def finding(records: list[dict]) -> str:
    """One sentence on what came out: who never learns, and who is first.

    Techniques whose median lies within the range of the fastest one's seeds count as level.
    """
    groups = panels(records)
    everywhere = [
        title
        for title in dict.fromkeys(row.title for group in groups.values() for row in group)
        if all(row.never_learned.all() for g in groups.values() for row in g if row.title == title)
    ]
    first: dict[str, list[str]] = {}
    for name, group in groups.items():
        reached = [row for row in group if np.isfinite(np.median(row.steps))]
        who = "nobody"
        if len(reached) == 1:
            who = f"only {reached[0].title}"
        elif reached:
            best = min(reached, key=lambda row: np.median(row.steps))
            slowest = best.steps[np.isfinite(best.steps)].max()
            who = _listed([row.title for row in reached if np.median(row.steps) <= slowest])
        first.setdefault(who, []).append(name)
    answers = ", ".join(f"{who} ({_listed(names)})" for who, names in first.items())
    sentence = f"first to {TARGET:.0%}: {answers}"
    if everywhere:
        depths = {row.unit["depth"] for group in groups.values() for row in group}
        layers = f" at {depths.pop()} layers" if len(depths) == 1 else ""
        verb = "never learns" if len(everywhere) == 1 else "never learn"
        sentence = f"{_listed(everywhere)} {verb}{layers}; {sentence}"
    return sentence[0].upper() + sentence[1:]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


COLUMNS = (
    "network",
    "technique",
    "best rate",
    "steps to 90 %",
    "test accuracy %",
    "never learned",
    "gradient last/first",
)


def table(records: list[dict]) -> list[list[str]]:
    """The cells of the final table, one list per row, under `COLUMNS`."""
    cells = []
    for name, group in panels(records).items():
        for row in group:
            rate = f"{row.learning_rate:g}"
            if row.never_learned.all():
                rate = "none"
            elif len(row.grid) > 1 and row.learning_rate in (min(row.grid), max(row.grid)):
                rate += "*"
            never = f"{row.never_learned.mean():.0%}"
            if row.diverged.any():
                never += f" (diverged {row.diverged.mean():.0%})"
            cells.append(
                [
                    name,
                    row.title,
                    rate,
                    ranged(row.steps, "never"),
                    ranged(100 * row.test_accuracy),
                    never,
                    ranged(row.gradient_ratio),
                ]
            )
        guess = next(r["guess_accuracy"] for r in records if r["unit"] == group[0].unit)
        cells.append([name, "guessing", "", "never", f"{100 * guess:.0f}", "100%", ""])
    return cells


def ranged(values: np.ndarray, infinite: str = "∞") -> str:
    """Median with range, `m (low–high)`; one number where all are shown alike.

    >>> ranged(np.array([0.644, 1.19, 2.01]))
    '1.2 (0.64–2)'
    >>> ranged(np.array([60, 80, np.inf]), "never")
    '80 (60–never)'
    """

    def shown(value):
        if math.isinf(value):
            return infinite
        if value >= 1000:
            return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

    middle, low, high = (shown(f(values)) for f in (np.median, np.min, np.max))
    return middle if low == high else f"{middle} ({low}–{high})"
