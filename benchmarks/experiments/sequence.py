"""A character-level transformer on English text: the initial scale of its residual branches."""

import math

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment
from benchmarks.techniques import BRANCHES
from benchmarks.units import LanguageModel
from benchmarks.view import Outcome, View, briefly, estimate, listed, look, panels

BITS = 1 / math.log(2)  # bits per nat


def units(size: str) -> list[LanguageModel]:
    width, depths, steps, seeds, rates = {
        "smoke": (16, (2,), 20, 1, (0.003,)),
        "laptop": (48, (3, 9), 200, 2, (0.001, 0.004, 0.016)),
        "pod": (512, (12, 24, 48, 96), 20000, 16, (0.0001, 0.0003, 0.001, 0.003)),
    }[size]
    return [
        LanguageModel(
            techniques=tuple(BRANCHES),
            learning_rates=rates,
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            normalize=normalize,
            steps=steps,
            batch_size=8,
            window=20,
        )
        for normalize in ((True,) if size == "smoke" else (True, False))
        for depth in depths
    ]


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say which scaling is best for each network, and what the worst costs."""
    found = []
    for name, rows in summary.by_network(records).items():
        medians = [float(np.median(_bits(row))) for row in rows]
        worst = max(rows, key=lambda row: float(np.median(_bits(row))))
        titles = ([row.title for row in some] for some in (summary.level(rows, _bits), rows))
        bits = estimate([max(medians)], "diverged")
        margin = f"{min(medians):.2f} bits per character (worst: {worst.title}, {bits})"
        found.append(Outcome(name, briefly(*titles), margin))
    return found


def _bits(row: summary.Row) -> np.ndarray:
    """Return the test loss in bits per character; infinite if it is not finite."""
    losses = [run["test_loss"] for run in row.runs]
    return BITS * np.array([math.inf if loss is None else loss for loss in losses])


def table(records: list[dict]) -> list[list[str]]:
    bits = "bits per character", lambda row: estimate(_bits(row), "diverged")
    cells = summary.table(summary.by_network(records), "best rate", bits, "never learned")
    entropy = f"{BITS * records[0]['label_entropy']:.2g}"
    return [*cells, ["character frequencies alone", "", "", entropy, ""]]


def plot(records: list[dict], title: str):
    """Plot the training loss by step, one panel per network."""
    groups = summary.by_network(records)
    figure, axes = panels(title, len(groups), width=5, height=3.6, columns=2, sharey=True)
    for axis, (name, rows) in zip(axes, groups.items(), strict=True):
        for row in rows:
            curve = BITS * np.array([run["loss"] for run in row.runs], float)
            steps = row.unit["window"] * np.arange(1, curve.shape[1] + 1)
            style = look(list(BRANCHES).index(row.technique))
            label = f"{row.title}, rate {row.rate}"
            axis.plot(steps, np.median(curve, axis=0), label=label, **style)
        entropy = BITS * rows[0].record["label_entropy"]
        axis.axhline(entropy, color="black", ls=":", label="frequencies alone")
        axis.set(title=name, xlabel="optimizer steps")
        axis.legend(frameon=False, fontsize=8)
    for axis in axes[::2]:
        axis.set_ylabel("training loss (bits per character)")
    lowest = min(axis.dataLim.y0 for axis in axes)
    axes[0].set_ylim(0.9 * lowest, 1.5 * entropy)
    return figure


def caption(records: list[dict]) -> str:
    titles = listed([branches.title for branches in BRANCHES.values()])
    return summary.caption(
        records,
        "The technique is the scale of a block's two kernels that write to the residual stream, "
        f"relative to kernels that keep the variance: {titles}",
        f"Texts of {records[0]['unit']['length']} characters",
    )


EXPERIMENT = Experiment(
    "How should the residual branches of a transformer be scaled, with and without LayerNorm?",
    units,
    View(outcomes, table, plot, caption),
)
