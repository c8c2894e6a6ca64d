"""Test accuracy at a fixed budget, on a task where there is something left to gain."""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.units import Classifier
from benchmarks.view import COLOURS, View, interval, listed, panels, sentence


def units(size: str) -> list[Classifier]:
    width, steps, seeds, count = {
        "smoke": (16, 40, 2, 1),
        "laptop": (64, 2000, 8, 3),
        "pod": (512, 20000, 64, 6),
    }[size]
    return [
        Classifier(
            activation=activation,
            techniques=(
                "normal",
                "uniform",
                "xavier",
                "lecun",
                "he",
                "orthogonal",
                "derived",
                "derived uniform",
                "backward",
                "critical",
            ),
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


def finding(records: list[dict]) -> str:
    """Which techniques are best, and which are clearly behind."""
    parts = []
    for name, group in summary.by_network(records).items():
        level = summary.level(group, lambda row: -row.test_accuracy)
        top = max(np.median(row.test_accuracy) for row in group)
        behind = [
            f"{row.title} ({np.median(row.test_accuracy):.0%})" for row in group if row not in level
        ]
        text = f"{name}: best {top:.0%} with {listed([row.title for row in level])}"
        if behind:
            text += f", ahead of {listed(behind)}"
        parts.append(text)
    return sentence("; ".join(parts))


def table(records: list[dict]) -> list[list[str]]:
    columns = "best rate", "test accuracy %", "final training loss", "never learned"
    return summary.table(summary.by_network(records), *columns)


def plot(records: list[dict], title: str):
    """A dot at each median with its interval, one panel an activation."""
    groups = summary.by_network(records)
    figure, axes = panels(title, len(groups), width=4.6, height=4, sharey=True)
    for axis, (name, group) in zip(axes, groups.items(), strict=True):
        for place, row in enumerate(reversed(group)):
            values = 100 * row.test_accuracy
            axis.plot(values, [place] * len(values), "|", color="gray", ms=8)
            axis.plot([100 * e for e in interval(row.test_accuracy)], [place] * 2, color=COLOURS[4])
            axis.plot(np.median(values), place, "o", color=COLOURS[4])
        axis.set_yticks(range(len(group)), [row.title for row in reversed(group)])
        axis.axvline(100 * group[0].record["guess_accuracy"], color="black", ls=":")
        axis.set(title=name, xlabel="test accuracy %")
        axis.grid(axis="x", alpha=0.3)
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(records, "MNIST-1D; dotted: guessing")


EXPERIMENT = Experiment(
    "Does good initialization improve accuracy at a fixed budget?",
    units,
    View(finding, table, plot, caption),
)
