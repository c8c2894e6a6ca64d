"""What is shown: the table on the terminal, the plot, and the page of all results."""

import math
import textwrap
from itertools import groupby
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import experiments, store, summary
from benchmarks.techniques import TECHNIQUES

# Okabe and Ito (2008), told apart with every common form of colour blindness; black is kept
# for the baseline and yellow, which pales on white, is left out.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
MARKERS = "osD^vP"


def show(records: list[dict], console: Console) -> None:
    """Print the final table, one section an architecture."""
    table = Table(
        title=summary.finding(records),
        caption=_small_print(records),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in summary.COLUMNS[1:]:
        table.add_column(name.replace(" ", "\n", 1), no_wrap=True)
    for network, rows in groupby(summary.table(records), key=lambda cells: cells[0]):
        table.add_row(f"[bold]{network}")
        for _, *cells in rows:
            table.add_row(*cells, style="dim" if cells[0] == "guessing" else None)
        table.add_section()
    console.print(table)


def _small_print(records: list[dict]) -> str:
    unit = records[0]["unit"]
    rates = ", ".join(f"{rate:g}" for rate in unit["learning_rates"])
    return (
        f"median (range) over {len(unit['seeds'])} seeds; SGD, momentum {unit['momentum']:g}, "
        f"batches of {unit['batch_size']}, {unit['steps']} steps, width {unit['width']}; each "
        f"technique at that of the rates {rates} "
        "with the lowest training loss (*: an end of that grid)"
    )


def plot(records: list[dict], path: Path) -> None:
    """Training accuracy by step: median and range over seeds, one panel an architecture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    groups = summary.panels(records)
    order = list(TECHNIQUES)  # a technique looks alike in every plot
    columns = min(3, len(groups))
    height = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(max(6, 4.6 * columns), 0.9 + 5.2 * height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(summary.finding(records), max(50, 38 * columns)), fontsize=13)
    grid = figure.subplots(height, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, (name, group) in zip(grid.flat, groups.items(), strict=False):
        for row in group:
            index = order.index(row.technique)
            # Until the first window ends nothing is measured: the curve starts there.
            curve = np.array([run["accuracy"] for run in row.runs])
            steps = row.unit["window"] * np.arange(1, curve.shape[1] + 1)
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(
                steps,
                np.median(curve, axis=0),
                color=colour,
                marker=MARKERS[index % len(MARKERS)],
                markevery=(index, 5),  # staggered, so that curves on one line are all seen
                markersize=5,
                label=f"{row.title}: {_outcome(row)}",
            )
            axes.fill_between(steps, curve.min(0), curve.max(0), color=colour, alpha=0.15, lw=0)
        guess = next(r["guess_accuracy"] for r in records if r["unit"] == group[0].unit)
        axes.axhline(guess, color="black", ls=":", lw=1.2, label=f"guessing: {guess:.0%}")
        axes.axhline(summary.TARGET, color="black", lw=0.6)
        axes.set(title=name, xlabel="optimiser steps", ylim=(0, 1))
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"training accuracy\n(mean of {records[0]['unit']['window']} steps)")
    figure.savefig(path, dpi=120)


def _outcome(row: summary.Row) -> str:
    reached = np.median(row.steps)
    if not math.isinf(reached):
        return f"{summary.TARGET:.0%} after {reached:.0f} steps"
    if row.never_learned.all():
        return f"never learned ({len(row.runs)} of {len(row.runs)} seeds)"
    failed = f" ({row.never_learned.sum()} of {len(row.runs)} never learned)"
    return f"below {summary.TARGET:.0%} at the end{failed if row.never_learned.any() else ''}"


def page(results: Path) -> Path:
    """Write `README.md` in the results folder: every complete experiment, biggest size first."""
    parts = [
        "# Results",
        "Written by `python -m benchmarks report` from the JSON Lines files beside it; "
        "[how to read them](../README.md).",
    ]
    for size in reversed(store.SIZES):
        for name in experiments.names():
            path = store.Journal(results, size, name).path
            if path.exists():
                question = experiments.load(name).question
                records, _ = store.read(path)
                plot(records, path.with_suffix(".png"))
                parts += [f"## {name}, {size} size", question, *_section(name, size, records)]
    target = results / "README.md"
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target


def _section(name: str, size: str, records: list[dict]) -> list[str]:
    here = records[0]["environment"]
    seconds = sum(record["seconds"] for record in records)
    versions = ", ".join(f"{key} {here[key]}" for key in ("jax", "flax", "optax", "flaxinit"))
    lines = [summary.COLUMNS, ["---"] * len(summary.COLUMNS), *summary.table(records)]
    return [
        f"**{summary.finding(records)}.**",
        f"![training accuracy by step]({size}/{name}.png)",
        "\n".join(f"| {' | '.join(cells)} |" for cells in lines),
        f"{_small_print(records)}.",
        f"`python -m benchmarks run {name} --size {size}`: {seconds:.0f} s on {here['devices']} × "
        f"{here['device']} ({here['backend']}), {versions}, commit {here['commit']}.",
    ]
