"""The usual view: training accuracy by step, and what each technique reaches at its best rate."""

import math

import numpy as np

from benchmarks import summary
from benchmarks.summary import TARGET, Row, by_steps
from benchmarks.techniques import TECHNIQUES
from benchmarks.view import View, listed, look, panels, sentence


def finding(records: list[dict]) -> str:
    """Who never learns, and who is first or level with it."""
    groups = summary.by_network(records, by_steps)
    everywhere = [
        title
        for title in dict.fromkeys(row.title for group in groups.values() for row in group)
        if all(row.never_learned.all() for g in groups.values() for row in g if row.title == title)
    ]
    first: dict[str, list[str]] = {}
    for name, group in groups.items():
        reached = [row for row in group if np.isfinite(np.median(row.steps))]
        who = "nobody"
        if len(reached) == 1:
            who = f"only {reached[0].title}"
        elif reached:
            who = listed([row.title for row in summary.level(reached, lambda row: row.steps)])
        first.setdefault(who, []).append(name)
    answers = ", ".join(f"{who} ({listed(names)})" for who, names in first.items())
    text = f"first to {TARGET:.0%}: {answers}"
    if everywhere:
        depths = {row.unit["depth"] for group in groups.values() for row in group}
        layers = f" at {depths.pop()} layers" if len(depths) == 1 else ""
        verb = "never learns" if len(everywhere) == 1 else "never learn"
        text = f"{listed(everywhere)} {verb}{layers}; {text}"
    return sentence(text)


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
    """Training accuracy by step: median and range over seeds, one panel an architecture."""
    from matplotlib.ticker import PercentFormatter

    groups = summary.by_network(records, by_steps)
    order = list(TECHNIQUES)  # a technique looks alike in every plot
    figure, grid = panels(title, len(groups), height=5.2, sharey=True)
    for axes, (name, group) in zip(grid, groups.items(), strict=True):
        for row in group:
            index = order.index(row.technique)
            # Until the first window ends nothing is measured: the curve starts there.
            curve = np.array([run["accuracy"] for run in row.runs], float)
            steps = row.unit["window"] * np.arange(1, curve.shape[1] + 1)
            axes.plot(
                steps,
                np.median(curve, axis=0),
                markevery=(index % 5, 5),  # staggered, so that curves on one line are all seen
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
        axes.set(title=name, xlabel="optimiser steps", ylim=(0, 1))
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


VIEW = View(finding, table, plot, caption)
