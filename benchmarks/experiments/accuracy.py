"""Test accuracy at a fixed budget, on a task that leaves room for gains."""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.techniques import TEXTBOOK
from benchmarks.units import Classifier
from benchmarks.view import COLORS, Outcome, View, briefly, interval, panels


def units(size: str) -> list[Classifier]:
    width, steps, seeds, count = {
        "smoke": (16, 40, 2, 1),
        "laptop": (64, 2000, 8, 3),
        "pod": (512, 20000, 64, 6),
    }[size]
    return [
        Classifier(
            activation=activation,
            techniques=(*TEXTBOOK, "derived", "derived uniform", "backward", "critical"),
            learning_rates=rates(6, count),
            seeds=tuple(range(seeds)),
            depth=6,
            width=width,
            steps=steps,
            window=20,
            probes=(),
            data="mnist1d",
        )
        for activation in (("tanh",) if size == "smoke" else ("relu", "tanh", "gelu"))
    ]


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say which techniques are best, and how far ahead of the others."""
    found = []
    for name, group in summary.by_network(records).items():
        best = summary.level(group, lambda row: -row.test_accuracy)
        median = {row.title: float(np.median(row.test_accuracy)) for row in group}
        winners = [row.title for row in best]
        margin = f"test accuracy {max(median[title] for title in winners):.0%}"
        if behind := median.keys() - winners:
            margin += f", others at most {max(median[title] for title in behind):.0%}"
        found.append(Outcome(name, briefly(winners, list(median)), margin))
    return found


def table(records: list[dict]) -> list[list[str]]:
    columns = "best rate", "test accuracy %", "final training loss", "never learned"
    return summary.table(summary.by_network(records), *columns)


def plot(records: list[dict], title: str):
    """Plot each median with its interval, one panel per activation."""
    groups = summary.by_network(records)
    figure, axes = panels(title, len(groups), width=4.6, height=4, sharey=True)
    for axis, (name, group) in zip(axes, groups.items(), strict=True):
        for place, row in enumerate(reversed(group)):
            values = 100 * row.test_accuracy
            axis.plot(values, [place] * len(values), "|", color="gray", ms=8)
            axis.plot([100 * e for e in interval(row.test_accuracy)], [place] * 2, color=COLORS[4])
            axis.plot(np.median(values), place, "o", color=COLORS[4])
        axis.set_yticks(range(len(group)), [row.title for row in reversed(group)])
        axis.axvline(100 * group[0].record["guess_accuracy"], color="black", ls=":")
        axis.set(title=name, xlabel="test accuracy %")
        axis.grid(axis="x", alpha=0.3)
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(records, "Data: MNIST-1D. Dotted line: guessing")


EXPERIMENT = Experiment(
    "Does good initialization improve accuracy at a fixed budget?",
    units,
    View(outcomes, table, plot, caption),
)
