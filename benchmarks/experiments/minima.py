"""The distribution of the final training loss over many seeds."""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.techniques import TECHNIQUES, TEXTBOOK
from benchmarks.units import Classifier
from benchmarks.view import Outcome, View, briefly, listed, look, panels


def units(size: str) -> list[Classifier]:
    width, steps, seeds, count = {
        "smoke": (16, 40, 4, 1),
        "laptop": (32, 600, 64, 3),
        "pod": (256, 20000, 1024, 6),
    }[size]
    return [
        Classifier(
            activation=activation,
            techniques=(*TEXTBOOK, "derived"),
            learning_rates=rates(10, count),
            seeds=tuple(range(seeds)),
            depth=10,
            width=width,
            steps=steps,
            window=20,
            probes=(),
        )
        for activation in (("relu",) if size == "smoke" else ("relu", "tanh"))
    ]


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say who never gets stuck, and where those networks end."""
    found = []
    for name, group in summary.by_network(records).items():
        free = [row for row in group if not row.never_learned.any()]
        stuck = [f"{row.title} {row.never_learned.mean():.0%}" for row in group if row not in free]
        parts = []
        if free:
            losses = [float(np.median(row.loss)) for row in free]
            parts.append(f"training loss {min(losses):.2g} to {max(losses):.2g}")
            accuracies = sorted(float(np.median(row.test_accuracy)) for row in free)
            ends = dict.fromkeys(f"{accuracies[i]:.0%}" for i in (0, -1))
            parts.append(f"test accuracy {' to '.join(ends)}")
        if stuck:
            parts.append(f"stuck seeds: {listed(stuck)}")
        titles = ([row.title for row in some] for some in (free, group))
        found.append(Outcome(name, briefly(*titles), "; ".join(parts)))
    return found


def table(records: list[dict]) -> list[list[str]]:
    columns = "best rate", "final training loss", "never learned", "test accuracy %"
    return summary.table(summary.by_network(records), *columns)


def plot(records: list[dict], title: str):
    """Plot the share of seeds whose final loss is at most x, for each technique."""
    groups = summary.by_network(records)
    figure, axes = panels(title, len(groups), width=6, height=4.6, sharey=True)
    for axis, (name, group) in zip(axes, groups.items(), strict=True):
        for row in group:
            losses = np.sort(row.loss)
            style = look(list(TECHNIQUES).index(row.technique)) | {"marker": None}
            share = np.arange(1, len(losses) + 1) / len(losses)
            axis.step(losses, share, where="post", label=row.title, **style)
        entropy = group[0].record["label_entropy"]
        axis.axvline(entropy, color="black", ls=":", label="best constant guess")
        axis.set(xscale="log", title=name, xlabel="final training loss (nats)", ylim=(0, 1.02))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("share of seeds at or below")
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(
        records, "Stuck: the final training loss is not below that of the best constant guess"
    )


EXPERIMENT = Experiment(
    "Does good initialization avoid poor minima?", units, View(outcomes, table, plot, caption)
)
