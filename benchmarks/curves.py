"""The usual view: training accuracy by step, each technique at its best rate."""

import math

import numpy as np

from benchmarks import summary
from benchmarks.summary import TARGET, Row, by_steps
from benchmarks.techniques import TECHNIQUES
from benchmarks.view import Outcome, View, briefly, listed, look, panels


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say who is first to the target accuracy, and who never learns."""
    found = []
    for name, group in summary.by_network(records, by_steps).items():
        reached = [row for row in group if np.isfinite(np.median(row.steps))]
        first = summary.level(reached, lambda row: row.steps) if reached else []
        rest = [row for row in reached if row not in first]
        margin = f"nobody reaches {TARGET:.0%}"
        if first:
            margin = f"{TARGET:.0%} after {min(np.median(row.steps) for row in first):.0f} steps"
        if rest:
            second = min(rest, key=lambda row: float(np.median(row.steps)))
            margin += f", then {second.title} after {np.median(second.steps):.0f}"
        if lost := [row.title for row in group if row.never_learned.all()]:
            margin += f"; {listed(lost)} never {'learns' if len(lost) == 1 else 'learn'}"
        winner = briefly([row.title for row in first], [row.title for row in group])
        found.append(Outcome(name, winner, margin))
    return found


def table(records: list[dict]) -> list[list[str]]:
    return summary.table(
        summary.by_network(records, by_steps),
        "best rate",
        f"steps to {TARGET:.0%}",
        "test accuracy %",
        "never learned",
        "gradient last/first",
    )


def plot(records: list[dict], title: str):
    """Plot training accuracy by step: median and range over seeds, one panel per architecture."""
    from matplotlib.ticker import PercentFormatter

    groups = summary.by_network(records, by_steps)
    order = list(TECHNIQUES)  # a technique looks alike in every plot
    figure, grid = panels(title, len(groups), height=5.2, sharey=True)
    for axes, (name, group) in zip(grid, groups.items(), strict=True):
        for row in group:
            index = order.index(row.technique)
            # Nothing is measured before the first window ends, so the curve starts there.
            curve = np.array([run["accuracy"] for run in row.runs], float)
            steps = row.unit["window"] * np.arange(1, curve.shape[1] + 1)
            axes.plot(
                steps,
                np.median(curve, axis=0),
                markevery=(index % 5, 5),  # staggered: curves on one line stay visible
                markersize=5,
                label=f"{row.title}: {_outcome(row)}",
                **look(index),
            )
            axes.fill_between(
                steps, curve.min(0), curve.max(0), color=look(index)["color"], alpha=0.15, lw=0
            )
        guess = group[0].record["guess_accuracy"]
        axes.axhline(guess, color="black", ls=":", lw=1.2, label=f"guessing: {guess:.0%}")
        axes.axhline(TARGET, color="black", lw=0.6)
        axes.set(title=name, xlabel="optimizer steps", ylim=(0, 1))
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=9)
    for axes in grid[:1]:
        axes.set_ylabel(f"training accuracy (mean of {records[0]['unit']['window']} steps)")
    return figure


def _outcome(row: Row) -> str:
    reached = np.median(row.steps)
    if not math.isinf(reached):
        return f"{TARGET:.0%} after {reached:.0f} steps"
    if row.never_learned.all():
        return f"never learned ({len(row.runs)} of {len(row.runs)} seeds)"
    failed = f" ({row.never_learned.sum()} of {len(row.runs)} never learned)"
    return f"below {TARGET:.0%} at the end{failed if row.never_learned.any() else ''}"


def caption(records: list[dict]) -> str:
    return summary.caption(records, best=by_steps)


VIEW = View(outcomes, table, plot, caption)
