"""SELU drives activations to mean 0 and variance 1.

Nothing is trained. Inputs of several means and variances pass through layers with LeCun's
variance, and the mean and variance of the activations are recorded after each layer.

References: Klambauer, Unterthiner, Mayr, Hochreiter (2017), Self-Normalizing Neural Networks.
"""

import time
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks import harness
from benchmarks.experiments import Experiment
from benchmarks.view import Outcome, View, look, panels


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """Untrained networks, and the inputs that pass through them.

    Args:
        starts: mean and variance of the inputs.
        seeds: each seed draws one network and its inputs.
        depth: number of layers.
        width: entries of an input, and features of each layer.
        samples: inputs to each network.
        activation: name of the activation.
        dtype: of kernels and arithmetic.
    """

    starts: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    depth: int
    width: int
    samples: int = 64
    activation: str = "selu"
    dtype: str = "float32"

    @property
    def title(self) -> str:
        return f"{self.activation}, {self.depth} layers"

    @property
    def work(self) -> int:
        runs = len(self.starts) * len(self.seeds)
        return runs * self.samples * self.depth * self.width**2


def units(size: str) -> list[Propagation]:
    width, depth, seeds = {"smoke": (64, 8, 2), "laptop": (1024, 32, 8), "pod": (8192, 128, 64)}[
        size
    ]
    starts = tuple((mean, variance) for mean in (-1.0, 0.0, 1.0) for variance in (0.3, 1.0, 3.0))
    return [Propagation(starts=starts, seeds=tuple(range(seeds)), depth=depth, width=width)]


def measure(unit: Propagation, tick) -> dict:
    """Measure the mean and variance of the inputs and of the activations after each layer."""
    began = time.perf_counter()
    kernel = flaxinit.lecun_normal()

    def moments(x):
        x = x.astype("float32")
        return x.mean(), x.var()

    @jax.jit
    def propagate(key, mean, variance):
        first, rest = jax.random.split(key)
        x = mean + jnp.sqrt(variance) * jax.random.normal(first, (unit.samples, unit.width))
        x = x.astype(unit.dtype)

        def layer(x, key):
            y = jax.nn.selu(x @ kernel(key, (unit.width, unit.width), unit.dtype))
            return y, moments(y)

        start = moments(x)
        _, later = jax.lax.scan(layer, x, jax.random.split(rest, unit.depth))
        return [jnp.append(first, rest) for first, rest in zip(start, later, strict=True)]

    runs = []
    for start in unit.starts:
        for seed in unit.seeds:
            mean, variance = map(np.asarray, propagate(jax.random.key(seed), *start))
            found = {"mean": harness.rounded(mean), "variance": harness.rounded(variance)}
            runs.append({"start": list(start), "seed": seed, **found})
        tick(1 / len(unit.starts))
    predictions = [predicted(unit, *start) for start in unit.starts]
    seconds = round(time.perf_counter() - began, 2)
    return {"unit": asdict(unit), "runs": runs, "predicted": predictions, "seconds": seconds}


def predicted(unit: Propagation, mean: float, variance: float) -> dict[str, list[float]]:
    """Predict the means and variances in a network of infinite width."""
    derivation = flaxinit.derive(unit.activation)
    means, variances = [mean], [variance]
    for _ in range(unit.depth):
        q = variances[-1] + means[-1] ** 2
        means.append(float(derivation.mean.at(q)))
        variances.append(derivation.maps.qmap(q, 1.0) - means[-1] ** 2)
    return {"mean": means, "variance": variances}


def ends(record: dict) -> np.ndarray:
    """Return mean and variance after the last layer (starts, seeds, 2)."""
    values = [[run["mean"][-1], run["variance"][-1]] for run in record["runs"]]
    return np.reshape(np.array(values, float), (len(record["unit"]["starts"]), -1, 2))


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say how near every start comes to (0, 1), and the medians to the theory."""
    (record,) = records
    found, title = ends(record), f"{record['unit']['depth']} layers"
    if lost := (~np.isfinite(found)).any(-1).sum():
        return [Outcome(title, "none", f"{lost} of {len(record['runs'])} networks diverged")]
    starts = np.array(record["unit"]["starts"], float)
    theory = np.array([[p["mean"][-1], p["variance"][-1]] for p in record["predicted"]])
    before, after, apart = (
        np.abs(values).max(axis=axes)
        for values, axes in (
            (starts - (0, 1), 0),
            (found - (0, 1), (0, 1)),
            (np.median(found, axis=1) - theory, None),
        )
    )
    margin = (
        f"means within {after[0]:.2g} of 0 (before: {before[0]:.2g}), variances within "
        f"{after[1]:.2g} of 1 (before: {before[1]:.2g}), medians within {apart:.2g} of the theory"
    )
    return [Outcome(title, f"all {len(starts)} starts", margin)]


def table(records: list[dict]) -> list[list[str]]:
    (record,) = records
    cells = [["start: mean, variance", "mean", "mean predicted", "variance", "variance predicted"]]
    starts = zip(record["unit"]["starts"], ends(record), record["predicted"], strict=True)
    for start, values, prediction in starts:
        row = [f"{start[0]:g}, {start[1]:g}"]
        for i, name in enumerate(("mean", "variance")):
            low, middle, high = np.quantile(values[:, i], (0, 0.5, 1))
            measured = f"{middle:.3f} ({low:.3f}–{high:.3f})"
            row += [
                measured if np.isfinite(values[:, i]).all() else "diverged",
                f"{prediction[name][-1]:.3f}",
            ]
        cells.append(row)
    return cells


def plot(records: list[dict], title: str):
    """Plot mean and variance by layer: every seed in color, the theory in black."""
    (record,) = records
    figure, axes = panels(title, 2, width=5.5, height=4.4)
    starts = record["unit"]["starts"]
    for axis, name, goal in zip(axes, ("mean", "variance"), (0, 1), strict=True):
        for index, start in enumerate(starts):
            runs = [run[name] for run in record["runs"] if list(run["start"]) == list(start)]
            axis.plot(
                np.transpose(np.array(runs, float)), color=look(index)["color"], lw=0.7, alpha=0.6
            )
            axis.plot(record["predicted"][index][name], color="black", lw=1, ls="--")
        axis.axhline(goal, color="black", lw=0.6)
        axis.set(xlabel="layer", ylabel=f"{name} of the activations")
    axes[0].plot([], [], color=look(0)["color"], label=f"measured, from {len(starts)} starts")
    axes[0].plot([], [], color="black", ls="--", label="theory")
    axes[0].legend(frameon=False)
    return figure


def caption(records: list[dict]) -> str:
    unit = records[0]["unit"]
    return (
        f"Nothing is trained. SELU, LeCun normal, width {unit['width']}, {unit['samples']} inputs. "
        f"Median (range) over {len(unit['seeds'])} seeds"
    )


EXPERIMENT = Experiment(
    "Does SELU with LeCun's variance go to mean 0 and variance 1 from other starts?",
    units,
    View(outcomes, table, plot, caption),
    measure,
)
