"""The textbook techniques and the derived gain, on networks of 20 layers."""

from benchmarks.experiments import Experiment, rates
from benchmarks.units import Classifier


def units(size: str) -> list[Classifier]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 320, 4), "pod": (512, 2000, 64)}[
        size
    ]
    return [
        Classifier(
            activation=activation,
            techniques=("normal", "uniform", "xavier", "he", "derived"),
            learning_rates=rates(20, 4),
            seeds=tuple(range(seeds)),
            depth=20,
            width=width,
            steps=steps,
        )
        for activation in (("relu",) if size == "smoke" else ("relu", "tanh", "gelu"))
    ]


EXPERIMENT = Experiment("Which textbook initializations train 20 layers, and how fast?", units)
