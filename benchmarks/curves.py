"""The usual view: training accuracy by step, and what each technique reaches at its best rate."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks import summary
from benchmarks.summary import CHOICE, TARGET, Row, by_steps
from benchmarks.techniques import TECHNIQUES
from benchmarks.view import CONFIDENCE, View, estimate, interval, listed, look, panels, sentence


def finding(records: list[dict]) -> str:
    """Who never learns, and who is first.

    Techniques whose median lies within the fastest one's interval count as level.
    """
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
            best = min(reached, key=lambda row: np.median(row.steps))
            slowest = interval(best.steps)[1]
            who = listed([row.title for row in reached if np.median(row.steps) <= slowest])
        first.setdefault(who, []).append(name)
    answers = ", ".join(f"{who} ({listed(names)})" for who, names in first.items())
    text = f"first to {TARGET:.0%}: {answers}"
    if everywhere:
        depths = {row.unit["depth"] for group in groups.values() for row in group}
        layers = f" at {depths.pop()} layers" if len(depths) == 1 else ""
        verb = "never learns" if len(everywhere) == 1 else "never learn"
        text = f"{listed(everywhere)} {verb}{layers}; {text}"
    return sentence(text)


COLUMNS = (
    "network",
    "technique",
    "best rate",
    f"steps to {TARGET:.0%}",
    "test accuracy %",
    "never learned",
    "gradient last/first",
)


def table(records: list[dict]) -> list[list[str]]:
    """One row per technique, under `COLUMNS`, and one for guessing."""
    cells = [list(COLUMNS)]
    for name, group in summary.by_network(records, by_steps).items():
        cells += [
            [
                name,
                row.title,
                row.rate,
                estimate(row.steps, "never"),
                estimate(100 * row.test_accuracy),
                row.never,
                estimate(row.gradient_ratio),
            ]
            for row in group
        ]
        guess = 100 * group[0].record["guess_accuracy"]
        cells.append([name, "guessing", "", "never", f"{guess:.0f}", "100%", ""])
    return cells


def plot(records: list[dict], title: Callable[[list[dict]], str] = finding):
    """Training accuracy by step: median and range over seeds, one panel an architecture."""
    from matplotlib.ticker import PercentFormatter

    groups = summary.by_network(records, by_steps)
    order = list(TECHNIQUES)  # a technique looks alike in every plot
    figure, grid = panels(title(records), len(groups), height=5.2, sharey=True)
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
    unit = records[0]["unit"]
    return (
        f"median ({CONFIDENCE:.0%} bootstrap interval) over {len(unit['seeds'])} seeds, width "
        f"{unit['width']}; {summary.setting(records, CHOICE[by_steps])} (*: an end of that grid)"
    )


VIEW = View(finding, table, plot, caption)
