"""He, Zhang, Ren and Sun (2015), figures 2 and 3: ReLU networks of 22 and 30 layers.

Theirs are convolutional, on ImageNet. What the figures show is a matter of depth alone: with
Xavier's variance a ReLU halves the signal's second moment in each layer.
"""

from dataclasses import replace

import numpy as np

from benchmarks import curves, summary
from benchmarks.experiments import Experiment, rates
from benchmarks.units import Classifier
from benchmarks.view import sentence


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


def finding(records: list[dict]) -> str:
    """What each reaches at both depths, in its own words."""
    parts = []
    for name, rows in summary.by_network(records, summary.by_steps).items():
        reached = [
            f"{row.title} reaches a training accuracy of {np.median(row.train_accuracy):.0%}"
            for row in rows
        ]
        parts.append(f"with {name} {' and '.join(reached)}")
    return sentence("; ".join(parts))


EXPERIMENT = Experiment(
    "Does Xavier stall at 30 ReLU layers where He converges?",
    units,
    replace(curves.VIEW, finding=finding),
)
