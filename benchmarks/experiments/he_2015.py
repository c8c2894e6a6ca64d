"""ReLU networks of 22 and 30 layers, as in He et al.'s figures 2 and 3.

Their networks are convolutional, on ImageNet. The effect depends on depth alone: with Xavier's
variance, each ReLU layer halves the signal's second moment.

References: He, Zhang, Ren, Sun (2015), Delving Deep into Rectifiers.
"""

from dataclasses import replace

import numpy as np

from benchmarks import curves, summary
from benchmarks.experiments import Experiment, rates
from benchmarks.units import Classifier
from benchmarks.view import Outcome, briefly, listed


def units(size: str) -> list[Classifier]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 640, 8), "pod": (512, 10000, 64)}[
        size
    ]
    return [
        Classifier(
            activation="relu",
            techniques=("xavier", "he"),
            learning_rates=rates(depth, 4),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
        )
        for depth in (22, 30)
    ]


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say whose training accuracy is higher at each depth."""
    found = []
    for name, rows in summary.by_network(records, summary.by_steps).items():
        best = summary.level(rows, lambda row: -row.train_accuracy)
        reached = [f"{row.title} {np.median(row.train_accuracy):.0%}" for row in rows]
        titles = ([row.title for row in some] for some in (best, rows))
        found.append(Outcome(name, briefly(*titles), f"training accuracy: {listed(reached)}"))
    return found


EXPERIMENT = Experiment(
    "Does Xavier stall at 30 ReLU layers where He converges?",
    units,
    replace(curves.VIEW, outcomes=outcomes),
)
