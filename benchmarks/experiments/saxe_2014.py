"""Deep linear networks with Gaussian or orthogonal kernels.

The singular values of a product of Gaussian matrices spread with depth over width; those of a
product of orthogonal matrices do not. Hu et al. prove that a Gaussian network needs a width
proportional to its depth, and an orthogonal one does not.

References: Saxe, McClelland, Ganguli (2014); Hu, Xiao, Pennington (2020).
"""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.summary import TARGET, by_steps
from benchmarks.techniques import TECHNIQUES
from benchmarks.units import Classifier
from benchmarks.view import Outcome, View, interval, listed, look, panels


def units(size: str) -> list[Classifier]:
    widths, depths, steps, seeds, count = {
        "smoke": ((16,), (4, 8), 40, 2, 1),
        "laptop": ((16, 64), (5, 10, 20, 50, 100, 200), 300, 4, 4),
        "pod": ((64, 256, 1024), (5, 10, 20, 50, 100, 200, 500, 1000), 20000, 32, 6),
    }[size]
    return [
        Classifier(
            activation="linear",
            techniques=("lecun", "orthogonal"),
            learning_rates=rates(depth, count),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
            probes=(),
        )
        for width in widths
        for depth in depths
    ]


def by_width(records: list[dict]) -> dict[int, dict[int, tuple[summary.Row, summary.Row]]]:
    """Return width -> depth -> the rows of Gaussian and orthogonal kernels."""
    found: dict = {}
    for record in records:
        pair = {row.technique: row for row in summary.rows([record], by_steps)}
        unit = record["unit"]
        found.setdefault(unit["width"], {})[unit["depth"]] = pair["lecun"], pair["orthogonal"]
    return found


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say from which depth on orthogonal kernels are faster: the intervals no longer overlap.

    Depths at which no network arrives are left out.
    """
    found = []
    for width, depths in by_width(records).items():
        ahead = {
            depth: interval(orthogonal.steps)[1] < interval(gaussian.steps)[0]
            for depth, (gaussian, orthogonal) in depths.items()
            if np.isfinite([*gaussian.steps, *orthogonal.steps]).any()
        }
        # At that depth and at every greater one.
        lasting = [d for d in ahead if all(faster for e, faster in ahead.items() if e >= d)]
        margin = f"from {min(lasting)} layers on" if lasting else "at no depth for good"
        if silent := [str(depth) for depth in depths if depth not in ahead]:
            margin += f" (no network arrives at {listed(silent)})"
        winner = TECHNIQUES["orthogonal"].title if lasting else "none"
        found.append(Outcome(f"width {width}", winner, f"faster {margin}"))
    return found


def table(records: list[dict]) -> list[list[str]]:
    groups = summary.by_network(records, by_steps)
    return summary.table(groups, "best rate", f"steps to {TARGET:.0%}", "never learned")


def plot(records: list[dict], title: str):
    """Plot steps against depth, one panel per width."""
    groups = by_width(records)
    figure, axes = panels(title, len(groups), width=5, height=4.2, sharey=True)
    for axis, (width, depths) in zip(axes, groups.items(), strict=True):
        longest = next(iter(depths.values()))[0].unit["steps"]
        for index in (0, 1):
            rows = [pair[index] for pair in depths.values()]
            # "Never" is drawn on the upper edge.
            middle = np.minimum([np.median(row.steps) for row in rows], longest)
            ends = np.minimum([interval(row.steps) for row in rows], longest)
            style = look(list(TECHNIQUES).index(rows[0].technique))
            axis.plot(list(depths), middle, label=rows[0].title, **style)
            axis.fill_between(list(depths), *ends.T, color=style["color"], alpha=0.2, lw=0)
        axis.axhline(longest, color="black", ls=":", label="never within the run")
        axis.set(xscale="log", title=f"width {width}", xlabel="layers", ylim=(0, 1.05 * longest))
        axis.set_xticks(list(depths), list(depths))
        axis.minorticks_off()
        axis.legend(frameon=False)
    axes[0].set_ylabel(f"steps to {TARGET:.0%} training accuracy")
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(records, "Linear networks", best=by_steps)


EXPERIMENT = Experiment(
    "From which depth on is an orthogonal initialization faster than a Gaussian one?",
    units,
    View(outcomes, table, plot, caption),
)
