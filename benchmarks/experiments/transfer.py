"""Does the best learning rate of a narrow network serve a wide one? With and without `mup`."""

import functools
import time
from dataclasses import asdict, dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxinit
from benchmarks import data, harness
from benchmarks.experiments import Experiment
from benchmarks.view import Outcome, View, estimate, listed, look, panels

FACTORIES = {"adam": optax.adam, "sgd": optax.sgd, "muon": optax.contrib.muon}
# Powers of 2 in the middle of the grid, which has a rate for each octave on both sides of it. The
# base is best at about -7, -1 and -6, and what is wider may want less.
CENTERS = {"adam": -8, "sgd": -1, "muon": -6}
SIDE = {"smoke": 1, "laptop": 3, "pod": 6}


@dataclass(frozen=True)
class Width:
    """One width of an MLP with two hidden layers, with one optimizer at every rate and seed."""

    optimizer: str
    scaled: bool
    width: int
    base: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int = 64
    dtype: str = "float32"

    @property
    def title(self) -> str:
        return f"{self.optimizer}, {'mup' if self.scaled else 'standard'}, width {self.width}"

    @property
    def work(self) -> int:
        return self.steps * len(self.seeds) * len(self.learning_rates) * self.width**2

    def model(self, width: int) -> nn.Module:
        options = {"kernel_init": flaxinit.lecun(), "param_dtype": self.dtype, "dtype": self.dtype}
        dense = functools.partial(nn.Dense, **options)
        return nn.Sequential([dense(width), nn.relu, dense(width), nn.relu, dense(10)])


def units(size: str) -> list[Width]:
    widths, seeds, steps = {
        "smoke": ({"adam": (8, 16)}, 2, 10),
        "laptop": ({"adam": (64, 256, 1024), "sgd": (64, 256), "muon": (64, 256)}, 3, 300),
        "pod": (dict.fromkeys(FACTORIES, (32, 64, 128, 256, 512, 1024, 2048, 4096)), 8, 2000),
    }[size]
    return [
        Width(
            optimizer=optimizer,
            scaled=scaled,
            width=width,
            base=each[0],
            learning_rates=tuple(
                2.0 ** (CENTERS[optimizer] + n) for n in range(-SIDE[size], SIDE[size] + 1)
            ),
            seeds=tuple(range(seeds)),
            steps=steps,
        )
        for optimizer, each in widths.items()
        for scaled in (False, True)
        for width in each
    ]


def measure(unit: Width, tick) -> dict:
    """Train at every rate, and record the loss on the training and on the test data."""
    began = time.perf_counter()
    run = jax.jit(_training(unit))
    runs = []
    for rate in unit.learning_rates:
        found = jax.lax.map(lambda seed, rate=rate: run(seed, rate), jnp.array(unit.seeds))
        tick(1 / len(unit.learning_rates))
        runs += [
            {
                "learning_rate": rate,
                "seed": seed,
                **{name: harness.rounded(values[n]) for name, values in found.items()},
            }
            for n, seed in enumerate(unit.seeds)
        ]
    task = data.mnist1d()
    seconds = round(time.perf_counter() - began, 2)
    return {"unit": asdict(unit), **task.guess(), "seconds": seconds, "runs": runs}


def _training(unit: Width):
    """From a seed and a rate to losses."""
    task, model = data.mnist1d(), unit.model(unit.width)
    inputs = jnp.asarray(task.train_inputs, unit.dtype)
    sample = jax.ShapeDtypeStruct((unit.batch, inputs.shape[1]), unit.dtype)
    scale = flaxinit.mup(model, sample, base=unit.model(unit.base), optimizer=unit.optimizer)
    init = scale.init(model.init) if unit.scaled else model.init
    factory: Any = FACTORIES[unit.optimizer]
    make = (lambda rate: scale.optimizer(factory, rate)) if unit.scaled else factory

    def loss(params, inputs, labels):
        logits = jnp.asarray(model.apply(params, inputs), jnp.float32)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def train(seed, rate):
        start, order = jax.random.split(jax.random.key(seed))
        params = init(start, inputs[:1])
        optimizer = make(rate)

        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (unit.batch,), 0, len(inputs))
            batch = inputs[chosen], jnp.asarray(task.train_labels)[chosen]
            updates, state = optimizer.update(jax.grad(loss)(params, *batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(order, unit.steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        test = jnp.asarray(task.test_inputs, unit.dtype), jnp.asarray(task.test_labels)
        return {
            "train_loss": loss(params, inputs, jnp.asarray(task.train_labels)),
            "test_loss": loss(params, *test),
        }

    return train


def losses(record: dict, name: str = "test_loss") -> np.ndarray:
    """Rates × seeds; infinite where training diverged."""
    unit = record["unit"]
    values = [np.inf if run[name] is None else run[name] for run in record["runs"]]
    return np.array(values, float).reshape(len(unit["learning_rates"]), len(unit["seeds"]))


def best(record: dict) -> np.ndarray:
    """log₂ of each seed's best rate: the lowest point of the parabola through three losses.

    At an end of the grid it is that end; nan where no rate trains.
    """
    rates = np.log2(record["unit"]["learning_rates"])
    found = []
    for curve in losses(record).T:
        n = int(np.argmin(curve))
        if not np.isfinite(curve[n]):
            found.append(np.nan)
        elif 0 < n < len(curve) - 1 and np.all(np.isfinite(curve[n - 1 : n + 2])):
            a, b, _ = np.polyfit(rates[n - 1 : n + 2], curve[n - 1 : n + 2], 2)
            found.append(-b / (2 * a) if a > 0 else rates[n])
        else:
            found.append(rates[n])
    return np.array(found)


def groups(records: list[dict]) -> dict[tuple[str, bool], list[dict]]:
    """Group the records by optimizer and form, standard or `mup`; each by width."""
    found: dict = {}
    for record in records:
        unit = record["unit"]
        found.setdefault((unit["optimizer"], unit["scaled"]), []).append(record)
    return found


def regret(narrow: dict, wide: dict) -> np.ndarray:
    """By how much the wide network's test loss is above its best at the narrow one's best rate."""
    curve = losses(wide)
    rate = int(np.argmin(np.median(losses(narrow), axis=1)))
    lowest = np.min(curve, axis=0)
    finite = np.isfinite(lowest)
    return np.where(finite, curve[rate] - np.where(finite, lowest, 0.0), np.nan)


def worse(narrow: dict, wide: dict) -> list[float]:
    """Rates at which the wide network's training loss is above that of the narrow one."""
    one, other = (np.median(losses(record, "train_loss"), axis=1) for record in (narrow, wide))
    rates = narrow["unit"]["learning_rates"]
    return [rate for rate, a, b in zip(rates, one, other, strict=True) if np.isfinite(a) and b > a]


def _name(optimizer: str, scaled: bool) -> str:
    return f"{optimizer}, {'mup' if scaled else 'standard'}"


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say how far the best rate drifts with each optimizer, and which form drifts less."""
    drifts: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for (optimizer, scaled), group in groups(records).items():
        narrow, wide = group[0], group[-1]
        growth = wide["unit"]["width"] // narrow["unit"]["width"]
        drift = best(wide) - best(narrow)
        form = "mup" if scaled else "standard"
        drifts.setdefault((optimizer, growth), {})[form] = drift[np.isfinite(drift)]
    found = []
    for (optimizer, growth), forms in drifts.items():
        sizes = {form: abs(np.median(drift)) for form, drift in forms.items() if len(drift)}
        winner = min(sizes, key=sizes.__getitem__, default="none")
        margin = ", ".join(
            f"{form} drifts {estimate(drift)} octaves" if len(drift) else f"{form} never trains"
            for form, drift in forms.items()
        )
        found.append(Outcome(f"{optimizer}, {growth} times the width", winner, margin))
    return found


def table(records: list[dict]) -> list[list[str]]:
    head = [
        "network",
        "width",
        "best rate (log₂)",
        "drift",
        "test loss",
        "regret",
        "wider is worse",
    ]
    rows = [head]
    for (optimizer, scaled), group in groups(records).items():
        for record in group:
            narrow = group[0]
            drift = best(record) - best(narrow)
            lost = worse(narrow, record) if record is not narrow else []
            rows.append(
                [
                    _name(optimizer, scaled),
                    str(record["unit"]["width"]),
                    estimate(best(record)),
                    "" if record is narrow else estimate(drift),
                    estimate(np.min(losses(record), axis=0)),
                    "" if record is narrow else estimate(regret(narrow, record)),
                    listed([f"{rate:.2g}" for rate in lost]) or "never",
                ]
            )
    return rows


def plot(records: list[dict], title: str):
    """Test loss against rate, a line for each width."""
    found = groups(records)
    finite = [x for record in records for x in losses(record).ravel() if np.isfinite(x)]
    lowest = min(finite, default=0.0)
    figure, axes = panels(title, len(found), sharey=True, columns=2)
    for axis, ((optimizer, scaled), group) in zip(axes, found.items(), strict=True):
        rates = group[0]["unit"]["learning_rates"]
        for n, record in enumerate(group):
            curves = losses(record)
            axis.plot(rates, np.median(curves, axis=1), label=record["unit"]["width"], **look(n))
        guess = group[0]["label_entropy"]
        axis.axhline(guess, color="black", ls=":", lw=1)
        # Said, for the case that no loss is finite.
        ends = rates[0] / 1.3, rates[-1] * 1.3
        axis.set(xscale="log", xlim=ends, title=_name(optimizer, scaled), xlabel="learning rate")
        axis.set_ylim(0.9 * lowest, 1.2 * guess)
        axis.legend(title="width", frameon=False, fontsize=8)
    axes[0].set_ylabel("test loss (nats)")
    return figure


def caption(records: list[dict]) -> str:
    unit = records[0]["unit"]
    return (
        f"MLP with two hidden layers on MNIST-1D, {unit['steps']} steps of {unit['batch']} "
        f"examples, {len(unit['seeds'])} seeds. Best rate: the lowest point of a parabola through "
        "three losses on the test data, by seed. Regret: the test loss at the base's best rate, "
        "less the best at this width. A narrow network that cannot fit its data has another best "
        "rate. What mup does not carry over: weight decay, length of training, batch size."
    )


EXPERIMENT = Experiment(
    "Does the best learning rate of a narrow network serve a wide one?",
    units,
    View(outcomes, table, plot, caption),
    measure,
)
