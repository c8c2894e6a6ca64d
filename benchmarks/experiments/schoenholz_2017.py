"""The trainable depth against the depth scale ξ_c, as in Schoenholz et al.'s figure 5.

tanh networks with `Var b = 0.05`, on a grid of σ_w² and depths, are trained for a fixed number of
steps. According to the paper, information survives about 6 depth scales ξ_c.

References: Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), Deep Information Propagation.
"""

import functools
import math

import numpy as np

import flaxinit
from benchmarks import summary
from benchmarks.experiments import Experiment, rates
from benchmarks.techniques import TECHNIQUES, Technique
from benchmarks.units import Classifier
from benchmarks.view import Outcome, View, estimate, panels, spans

SIGMA_B2 = 0.05  # as in the paper
MULTIPLE = 6  # as in the paper
TRAINED = 0.5  # training accuracy that counts as trained: five times that of guessing
_kernel, _bias = flaxinit.lecun_normal(), flaxinit.normal(SIGMA_B2**0.5)

# The kernels have σ_w² = 1; a unit's gains multiply it by their squares.
TECHNIQUES["mean field"] = Technique(
    "σ_w²", lambda name: _kernel, lambda name: _kernel, lambda name: _bias
)


def units(size: str) -> list[Classifier]:
    width, steps, seeds, depths, count = {
        "smoke": (16, 20, 1, (5, 10), 4),
        "laptop": (96, 300, 2, (10, 20, 30, 45, 60, 80, 100), 13),
        "pod": (300, 20000, 16, (10, 20, 40, 60, 80, 100, 150, 200, 300), 31),
    }[size]
    return [
        Classifier(
            activation="tanh",
            techniques=("mean field",),
            gains=tuple(float(gain) for gain in np.sqrt(np.linspace(1, 4, count))),
            learning_rates=rates(depth, 2),
            seeds=tuple(range(seeds)),
            depth=depth,
            width=width,
            steps=steps,
            window=20,
            probes=(),
        )
        for depth in depths
    ]


def grid(records: list[dict]) -> tuple[list[float], list[int], np.ndarray]:
    """Return σ_w², depths, and the training accuracy at the end (depths, σ_w², seeds)."""
    gains, depths = records[0]["unit"]["gains"], [r["unit"]["depth"] for r in records]
    accuracy = [np.nan_to_num(row.train_accuracy) for row in summary.rows(records)]
    shape = len(depths), len(gains), -1
    return [gain**2 for gain in gains], depths, np.reshape(accuracy, shape)


def scales(sigma_w2: list[float]) -> np.ndarray:
    """Return ξ_c of each σ_w²."""
    return np.array([_scale(float(value)) for value in sigma_w2])


@functools.cache  # the table and the figure need the same values
def _scale(sigma_w2: float) -> float:
    return flaxinit.derive("tanh").maps.depth_scales(sigma_w2, SIGMA_B2)[1]


def trainable(records: list[dict]) -> np.ndarray:
    """Return the depth at which the training accuracy falls below `TRAINED` (σ_w², seeds).

    It is interpolated between the depths that were run. It is infinite if the deepest network
    trains, and 0 if not even the shallowest does.
    """
    _, depths, accuracy = grid(records)

    def limit(column):
        below = np.flatnonzero(column < TRAINED)
        if not len(below):
            return math.inf
        if not (i := below[0]):
            return 0.0
        share = (column[i - 1] - TRAINED) / (column[i - 1] - column[i])
        return depths[i - 1] + share * (depths[i] - depths[i - 1])

    return np.apply_along_axis(limit, 0, accuracy)


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say where networks of every depth train, and at which multiple of ξ_c the others stop."""
    sigma_w2, depths, _ = grid(records)
    limit, scale = np.median(trainable(records), axis=1), scales(sigma_w2)
    edge = flaxinit.derive("tanh").maps.edge_of_chaos(SIGMA_B2).sigma_w2
    all_train, none_trains = np.isinf(limit), limit == 0
    parts = [f"the edge of chaos is at {edge:.3g}"]
    if none_trains.any():
        parts.append(f"not even {min(depths)} train at {spans(sigma_w2, list(none_trains))}")
    known = ~all_train & ~none_trains
    if known.any():
        ratio = limit[known] / scale[known]
        parts.append(
            f"elsewhere the trainable depth is {ratio.min():.2g} to {ratio.max():.2g} ξ_c "
            f"(median {np.median(ratio):.2g}; in the paper {MULTIPLE})"
        )
    winner = f"σ_w² = {spans(sigma_w2, list(all_train))}" if all_train.any() else "none"
    return [Outcome(f"up to {max(depths)} layers", winner, "; ".join(parts))]


def table(records: list[dict]) -> list[list[str]]:
    sigma_w2, depths, accuracy = grid(records)
    cells = [
        [
            "σ_w²",
            "ξ_c",
            f"{MULTIPLE} ξ_c",
            "trainable depth",
            *(f"{depth} layers, %" for depth in depths),
        ]
    ]
    limits = zip(
        sigma_w2, scales(sigma_w2), trainable(records), accuracy.swapaxes(0, 1), strict=True
    )
    for value, scale, limit, column in limits:
        shown = estimate(limit, f"> {max(depths)}") if limit.any() else f"< {min(depths)}"
        percent = [estimate(100 * values) for values in column]
        cells.append([f"{value:.2f}", f"{scale:.1f}", f"{MULTIPLE * scale:.0f}", shown, *percent])
    return cells


def plot(records: list[dict], title: str):
    """Plot the heat map of training accuracy, with the theory's curves."""
    sigma_w2, depths, accuracy = grid(records)
    figure, (axis,) = panels(title, 1, width=8, height=5)
    image = axis.pcolormesh(
        sigma_w2, depths, np.median(accuracy, 2), shading="nearest", cmap="cividis", vmin=0, vmax=1
    )
    fine = np.linspace(min(sigma_w2), max(sigma_w2), 60).tolist()
    scale = scales(fine)
    for multiple, line in ((MULTIPLE, "-"), (MULTIPLE / 2, "--")):
        axis.plot(fine, multiple * scale, "w", ls=line, lw=2, label=f"{multiple:g} ξ_c (theory)")
    edge = flaxinit.derive("tanh").maps.edge_of_chaos(SIGMA_B2).sigma_w2
    axis.axvline(edge, color="white", ls=":", label="edge of chaos (theory)")
    axis.set(xlabel="σ_w²", ylabel="layers", ylim=(min(depths), max(depths)))
    axis.legend(loc="upper right", facecolor="gray")
    figure.colorbar(image, ax=axis, label="training accuracy at the end")
    return figure


def caption(records: list[dict]) -> str:
    return summary.caption(
        records,
        f"Networks with tanh and σ_b² = {SIGMA_B2}",
        f"Trainable depth: where the training accuracy falls below {TRAINED:.0%}",
    )


EXPERIMENT = Experiment(
    "Does the trainable depth follow the theory's depth scale ξ?",
    units,
    View(outcomes, table, plot, caption),
)
