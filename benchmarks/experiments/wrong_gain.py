"""PyTorch's table of gains, He's gain for every activation, and the derived gain."""

from benchmarks.experiments import Experiment, rates
from benchmarks.units import Classifier


def units(size: str) -> list[Classifier]:
    width, steps, seeds = {"smoke": (16, 40, 2), "laptop": (64, 320, 4), "pod": (512, 10000, 64)}[
        size
    ]
    return [
        Classifier(
            activation=activation,
            techniques=("pytorch", "he", "derived"),
            learning_rates=rates(depth),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
        )
        for activation in (("tanh",) if size == "smoke" else ("tanh", "selu", "sigmoid"))
        for depth in ((10,) if size == "smoke" else (10, 50))
    ]


EXPERIMENT = Experiment("What does a wrong gain cost at 10 and at 50 layers?", units)
