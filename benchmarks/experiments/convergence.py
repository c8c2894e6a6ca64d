"""Steps to a target loss: all techniques, seven activations, 5 to 100 layers."""

import numpy as np

from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.techniques import TEXTBOOK, title
from benchmarks.units import Classifier
from benchmarks.view import Outcome, View, estimate, listed, panels

TECHNIQUES_COMPARED = (*TEXTBOOK, "derived", "backward", "critical")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "selu", "sin")
TARGET_SHARE = 0.25  # of the loss of the best constant guess


def units(size: str) -> list[Classifier]:
    width, steps, seeds, count, depths, activations = {
        "smoke": (16, 20, 1, 1, (5,), ("tanh",)),
        "laptop": (64, 240, 3, 4, (5, 20, 50, 100), ACTIVATIONS),
        "pod": (512, 4000, 64, 6, (5, 20, 50, 100), ACTIVATIONS),
    }[size]
    return [
        Classifier(
            activation=activation,
            # A sigmoid has no critical variances.
            techniques=tuple(
                t for t in TECHNIQUES_COMPARED if (activation, t) != ("sigmoid", "critical")
            ),
            learning_rates=rates(depth, count),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
            probes=(),
        )
        for activation in activations
        for depth in depths
    ]


def steps(row: summary.Row) -> np.ndarray:
    """Return each seed's steps until the training loss reaches the target; infinite if never."""
    target = TARGET_SHARE * row.record["label_entropy"]
    return row.steps_until(lambda run: np.array(run["loss"], float) <= target)


def fastest(row: summary.Row) -> tuple[float, ...]:
    """Rank by the median of the steps, then as `by_loss`."""
    return float(np.median(steps(row))), *summary.by_loss(row)


def grid(records: list[dict]) -> dict[str, dict[str, dict[int, summary.Row]]]:
    """Return activation -> technique -> depth -> the row at its best rate."""
    found: dict = {}
    for row in summary.rows(records, fastest):
        of_activation = found.setdefault(row.unit["activation"], {})
        of_activation.setdefault(row.technique, {})[row.unit["depth"]] = row
    return found


def arrives(row: summary.Row) -> bool:
    """Return whether the median seed reaches the target."""
    return bool(np.isfinite(np.median(steps(row))))


def standings(records: list[dict]) -> dict[str, np.ndarray]:
    """Count the networks of each technique: it is fastest or level, it arrives, any arrives."""
    counts = {technique: np.zeros(3, int) for technique in TECHNIQUES_COMPARED}
    for techniques in grid(records).values():
        for depth in next(iter(techniques.values())):
            rows = [by_depth[depth] for by_depth in techniques.values()]
            there = [row for row in rows if arrives(row)]
            if not there:
                continue
            leading = summary.level(there, steps)
            for row in rows:
                counts[row.technique] += (row in leading, row in there, 1)
    return counts


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say which technique leads most often, and how deep a network of each activation trains."""
    counts = {t: count for t, count in standings(records).items() if count[2]}
    within = f"within {records[0]['unit']['steps']} steps"
    if not counts:
        return [Outcome("all networks", "none", f"nobody arrives {within}")]
    first, *rest = sorted(counts, key=lambda t: (-counts[t][0] / counts[t][2], -counts[t][1]))
    led, _, contested = counts[first]
    margin = f"fastest or level in {led} of {contested}"
    if rest:
        led, _, contested = counts[rest[0]]
        margin += f", then {title(rest[0])} in {led} of {contested}"
    deepest: dict[int, list[str]] = {}
    for activation, techniques in grid(records).items():
        reached = [d for by in techniques.values() for d, row in by.items() if arrives(row)]
        deepest.setdefault(max(reached, default=0), []).append(activation)
    (most, winners), *others = sorted(deepest.items(), reverse=True)
    depths = ", ".join([f"{most} layers", *(f"{d} with {listed(a)}" for d, a in others)])
    return [
        Outcome("networks in which any technique arrives", title(first), margin),
        Outcome(f"deepest of those, by activation, {within}", listed(winners), depths),
    ]


def table(records: list[dict]) -> list[list[str]]:
    found = grid(records)
    depths = sorted({d for techniques in found.values() for t in techniques.values() for d in t})
    cells = [["activation", "technique", *(f"{depth} layers" for depth in depths)]]
    for activation, techniques in found.items():
        for technique, by_depth in techniques.items():
            shown = [estimate(steps(by_depth[depth]), "never") for depth in depths]
            cells.append([activation, title(technique), *shown])
    return cells


def plot(records: list[dict], heading: str):
    """Plot techniques by depths, one panel per activation; dark is fast, white is never."""
    found = grid(records)
    longest = records[0]["unit"]["steps"]
    figure, axes = panels(heading, len(found), width=5, height=3.6)
    for axis, (activation, techniques) in zip(axes, found.items(), strict=True):
        depths = sorted(next(iter(techniques.values())))
        values = np.array(
            [[np.median(steps(by_depth[d])) for d in depths] for by_depth in techniques.values()]
        )
        shown = np.ma.masked_invalid(values)
        image = axis.imshow(shown, cmap="viridis", vmin=0, vmax=longest, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            text = "never" if np.isinf(value) else f"{value:.0f}"
            color = "white" if value < longest / 2 else "black"
            axis.text(j, i, text, ha="center", va="center", color=color)
        axis.set_xticks(range(len(depths)), depths)
        axis.set_yticks(range(len(techniques)), map(title, techniques))
        axis.set(title=activation, xlabel="layers")
    figure.colorbar(image, ax=axes, label="steps to the target loss", shrink=0.6)
    return figure


def caption(records: list[dict]) -> str:
    unit = records[0]["unit"]
    return summary.caption(
        records,
        f"Shown: steps until the training loss, averaged over {unit['window']} steps, is "
        f"{TARGET_SHARE:.0%} of the best constant guess's",
        best=summary.by_steps,
    )


EXPERIMENT = Experiment(
    "Does good initialization speed convergence, and which one for which activation?",
    units,
    View(outcomes, table, plot, caption),
)
