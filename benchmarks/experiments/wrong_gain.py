"""PyTorch's table of gains, and He for everything, against the derived gain, 50 layers deep."""

from benchmarks.experiments import Experiment
from benchmarks.harness import Unit


def units(size: str) -> list[Unit]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 320, 3), "pod": (512, 10000, 64)}[
        size
    ]
    return [
        Unit(
            activation=activation,
            techniques=("pytorch", "he", "derived"),
            learning_rates=(0.001, 0.004, 0.016),
            seeds=tuple(range(seeds)),
            depth=50,
            width=width,
            steps=steps,
        )
        for activation in ("tanh", "selu", "sigmoid")
    ]


EXPERIMENT = Experiment("What does a wrong gain cost at 50 layers?", units)
