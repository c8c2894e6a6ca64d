"""A wide network with bfloat16 kernels drawn by `jax.nn.initializers` and by flaxinit.

JAX makes a bfloat16 normal from 8 random bits, and its mean is -1.7 % of σ. After a ReLU, whose
outputs are all nonnegative, fan_in such means add up.
"""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment
from benchmarks.techniques import TECHNIQUES
from benchmarks.units import Classifier
from benchmarks.view import Outcome, View, briefly, estimate, look, panels


def units(size: str) -> list[Classifier]:
    width, steps, seeds = {"smoke": (64, 20, 2), "laptop": (2048, 60, 2), "pod": (8192, 2000, 32)}[
        size
    ]
    return [
        Classifier(
            activation="relu",
            techniques=("jax he", "flaxinit he"),
            learning_rates=(0.0005, 0.002),
            seeds=tuple(range(seeds)),
            depth=6,
            width=width,
            steps=steps,
            window=5,
            dtype=dtype,
        )
        for dtype in (("bfloat16",) if size == "smoke" else ("bfloat16", "float32"))
    ]


def shifts(row: summary.Row) -> np.ndarray:
    """Return the pre-activations' initial mean over their standard deviation (seeds, layers)."""
    probes = [run["probes"][0] for run in row.runs]
    mean, square = (
        np.array([p[name] for p in probes], float) for name in ("mean", "second_moment")
    )
    return mean / np.sqrt(square - mean**2)


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say whose loss is lower in each precision, and how far each shifts the pre-activations."""
    found = []
    for dtype, rows in summary.by_network(records).items():
        best = summary.level(rows, lambda row: row.loss)
        each = []
        for row in rows:
            shift = np.median(shifts(row), axis=0)
            largest = f"{shift[np.abs(shift).argmax()]:+.2f} σ"
            moved = largest if np.isfinite(shift).all() else "diverged"
            each.append(f"{row.title}: loss {estimate(row.loss, 'diverged')}, shift {moved}")
        titles = ([row.title for row in some] for some in (best, rows))
        found.append(Outcome(dtype, briefly(*titles), "; ".join(each)))
    return found


def table(records: list[dict]) -> list[list[str]]:
    def shift(layer: int):
        def cell(row: summary.Row) -> str:
            value = np.median(shifts(row)[:, layer - 1])
            return f"{value:+.3f}" if np.isfinite(value) else "diverged"

        return f"mean / σ, layer {layer}", cell

    moved = map(shift, range(1, records[0]["unit"]["depth"]))
    groups = summary.by_network(records)
    return summary.table(groups, *moved, "best rate", "final training loss", "test accuracy %")


def plot(records: list[dict], title: str):
    """Plot the shift by layer, and the training loss by step."""
    figure, (left, right) = panels(title, 2, width=5.5, height=4.4)
    for row in summary.rows(records):
        style = look(list(TECHNIQUES).index(row.technique))
        style["linestyle"] = "-" if row.unit["dtype"] == "bfloat16" else ":"
        shift = np.median(shifts(row), axis=0)
        label = f"{row.title}, {row.unit['dtype']}"
        left.plot(np.arange(1, len(shift) + 1), shift, label=label, **style)
        curve = np.array([run["loss"] for run in row.runs], float)
        steps = row.unit["window"] * np.arange(1, curve.shape[1] + 1)
        right.plot(steps, np.median(curve, axis=0), label=label, **style)
    left.axhline(0, color="black", lw=0.6)
    left.set_xticks(range(1, records[0]["unit"]["depth"]))
    left.set(xlabel="layer", ylabel="mean of the pre-activations / σ, at the start")
    right.set(xlabel="optimizer steps", ylabel="training loss (nats)", yscale="log")
    right.legend(frameon=False, fontsize=8)
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(records, "ReLU networks, with He's variance in both rows")


EXPERIMENT = Experiment(
    "What do bfloat16 kernels cost when JAX draws them, and when flaxinit does?",
    units,
    View(outcomes, table, plot, caption),
)
