"""What `tune` and `calibrate` do for the training of models as people write them."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxinit
from benchmarks import data, harness
from benchmarks.experiments import Experiment
from benchmarks.view import Outcome, View, briefly, estimate, interval, look, panels
from benchmarks.zoo import Decoder

TECHNIQUES = ("own", "tune", "calibrate")
RATES = {
    "smoke": (2.0**-10,),
    "laptop": tuple(2.0**n for n in (-12, -10, -8, -6)),
    "pod": tuple(2.0**n for n in range(-15, -3)),
}


class Plain(nn.Module):
    """Twenty dense layers of ReLU, with Flax's own initialization."""

    width: int

    @nn.compact
    def __call__(self, x):
        for _ in range(20):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(10)(x)


class Pooled(nn.Module):
    """Convolutions with maximum pooling between them, and no norms."""

    width: int

    @nn.compact
    def __call__(self, x):
        for stage in range(3):
            for _ in range(2):
                x = nn.relu(nn.Conv(self.width << stage, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


class Residual(nn.Module):
    """Residual blocks of convolutions, before each of which a GroupNorm stands."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (3, 3), (2, 2))(x)
        for _ in range(3):
            h = x
            for _ in range(2):
                h = nn.Conv(self.width, (3, 3))(nn.relu(nn.GroupNorm(4)(h)))
            x = x + h
        return nn.Dense(10)(nn.relu(nn.GroupNorm(4)(x)).mean((1, 2)))


class PostNorm(nn.Module):
    """A vision transformer with its norms after the sums."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (2, 2), (2, 2))(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("places", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(4):
            x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(4)(x))
            h = nn.gelu(nn.Dense(4 * self.width)(x))
            x = nn.LayerNorm()(x + nn.Dense(self.width)(h))
        return nn.Dense(10)(x.mean(1))


class Task(NamedTuple):
    """What a model learns: inputs and labels to train on and to test on."""

    inputs: Any
    labels: Any
    test_inputs: Any
    test_labels: Any


def _images() -> Task:
    found = data.digits()
    return Task(
        found.train_inputs.reshape(-1, 8, 8, 1),
        found.train_labels,
        found.test_inputs.reshape(-1, 8, 8, 1),
        found.test_labels,
    )


def _signals() -> Task:
    found = data.mnist1d()
    return Task(found.train_inputs, found.train_labels, found.test_inputs, found.test_labels)


def _text(length: int = 32) -> Task:
    """Texts of the language reference, each with the same one character further."""
    found = data.documentation()

    def cut(text, count):
        starts = np.linspace(0, len(text) - length - 1, count).astype(int)
        return np.stack([text[n : n + length + 1] for n in starts])

    train, test = cut(found.train, 8000), cut(found.test, 200)
    return Task(train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:])


def _decoder(width: int) -> nn.Module:
    return Decoder(width, blocks=2, vocabulary=len(data.documentation().characters))


MODELS: dict[str, tuple[Callable[[int], nn.Module], Callable[[], Task]]] = {
    "MLP, 20 layers": (Plain, _signals),
    "convolutions, pooling": (Pooled, _images),
    "ResNet, GroupNorm": (Residual, _images),
    "ViT, post-LN": (PostNorm, _images),
    "decoder, SwiGLU": (_decoder, _text),
}


@dataclass(frozen=True)
class Unit:
    """One model, from each initialization at every rate and seed."""

    model: str
    width: int
    techniques: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int = 32
    window: int = 10
    dtype: str = "float32"

    @property
    def title(self) -> str:
        return self.model

    @property
    def work(self) -> int:
        runs = len(self.techniques) * len(self.seeds) * len(self.learning_rates)
        return runs * self.steps * self.width**2


def units(size: str) -> list[Unit]:
    width, steps, seeds = {"smoke": (8, 10, 1), "laptop": (16, 100, 3), "pod": (256, 5000, 8)}[size]
    wider = {"MLP, 20 layers": 4, "ViT, post-LN": 2, "decoder, SwiGLU": 2}
    return [
        Unit(
            model=name,
            width=width * wider.get(name, 1),
            techniques=TECHNIQUES,
            learning_rates=RATES[size],
            seeds=tuple(range(seeds)),
            steps=steps,
        )
        for name in MODELS
    ]


def measure(unit: Unit, tick) -> dict:
    """Train from each initialization, and record the loss along the way and on the test data."""
    began = time.perf_counter()
    build, make = MODELS[unit.model]
    model, task = build(unit.width), make()
    sample = jnp.asarray(task.inputs[: unit.batch])
    tuned = flaxinit.tune(model, sample)
    train = jax.jit(_training(unit, model, task))
    shares = len(unit.techniques) * len(unit.seeds)
    runs = []
    for technique in unit.techniques:
        init = flaxinit.fast_init(tuned if technique == "tune" else model.init, progress=False)
        for seed in unit.seeds:
            start, order = jax.random.split(jax.random.key(seed))
            params = init(start, sample)
            if technique == "calibrate":
                params = flaxinit.calibrate(model.apply, params, sample)
            found = train(params, order, jnp.array(unit.learning_rates))
            tick(1 / shares)
            runs += [
                {
                    "technique": technique,
                    "learning_rate": rate,
                    "seed": seed,
                    **{name: harness.rounded(values[n]) for name, values in found.items()},
                }
                for n, rate in enumerate(unit.learning_rates)
            ]
    guess = data.guess(task.labels.reshape(-1), task.test_labels.reshape(-1))
    seconds = round(time.perf_counter() - began, 2)
    return {"unit": asdict(unit), **guess, "seconds": seconds, "runs": runs}


def _training(unit: Unit, model: nn.Module, task: Task):
    """From parameters, a key and rates to the losses at each rate."""
    inputs, labels = jnp.asarray(task.inputs), jnp.asarray(task.labels)

    def loss(params, inputs, labels):
        logits = jnp.asarray(model.apply(params, inputs), jnp.float32)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def train(params, key, rate):
        optimizer = optax.adam(rate)

        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (unit.batch,), 0, len(inputs))
            value, slopes = jax.value_and_grad(loss)(params, inputs[chosen], labels[chosen])
            updates, state = optimizer.update(slopes, state, params)
            return (optax.apply_updates(params, updates), state), value

        keys = jax.random.split(key, unit.steps)
        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        test = jnp.asarray(task.test_inputs), jnp.asarray(task.test_labels)
        return {
            "loss": values.reshape(-1, unit.window).mean(1),
            "test_loss": loss(params, *test),
        }

    return lambda params, key, rates: jax.lax.map(lambda rate: train(params, key, rate), rates)


class Row(NamedTuple):
    """One technique at its best rate: the lowest median of the last window's training loss."""

    technique: str
    rate: float
    at_end: bool
    losses: np.ndarray  # seeds × windows; infinite where it diverged
    test: np.ndarray


def rows(record: dict) -> list[Row]:
    unit, found = record["unit"], []
    rates = unit["learning_rates"]
    for technique in unit["techniques"]:
        options = []
        for rate in rates:
            runs = [
                run
                for run in record["runs"]
                if (run["technique"], run["learning_rate"]) == (technique, rate)
            ]
            curves = [[math.inf if x is None else x for x in run["loss"]] for run in runs]
            test = [math.inf if run["test_loss"] is None else run["test_loss"] for run in runs]
            at_end = len(rates) > 1 and rate in (rates[0], rates[-1])
            options.append(Row(technique, rate, at_end, np.array(curves), np.array(test)))
        found.append(min(options, key=lambda row: float(np.median(row.losses[:, -1]))))
    return found


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say from where a model learns best, and what the others cost."""
    found = []
    for record in records:
        each = rows(record)
        ends = {row.technique: row.losses[:, -1] for row in each}
        highest = min(interval(values)[1] for values in ends.values())
        level = [name for name, values in ends.items() if interval(values)[0] <= highest]
        margin = ", ".join(f"{name} {estimate(values)}" for name, values in ends.items())
        found.append(Outcome(record["unit"]["model"], briefly(level, list(ends)), margin))
    return found


def table(records: list[dict]) -> list[list[str]]:
    found = [["model", "initialization", "best rate", "first loss", "last loss", "test loss"]]
    for record in records:
        name = record["unit"]["model"]
        for row in rows(record):
            rate = f"{row.rate:.2g}{'*' if row.at_end else ''}"
            losses = (row.losses[:, 0], row.losses[:, -1], row.test)
            found.append([name, row.technique, rate, *(estimate(values) for values in losses)])
        found.append([name, "guessing", "", "", "", f"{record['label_entropy']:.2g}"])
    return found


def plot(records: list[dict], title: str):
    """Training loss against steps, each initialization at its best rate."""
    figure, axes = panels(title, len(records), height=3.6)
    for axis, record in zip(axes, records, strict=True):
        unit, highest = record["unit"], 1.3 * record["label_entropy"]
        for row in rows(record):
            style = look(TECHNIQUES.index(row.technique))
            steps = unit["window"] * np.arange(1, row.losses.shape[1] + 1)
            curves = np.minimum(row.losses, 10 * highest)  # what diverged leaves at the top
            label = f"{row.technique}, rate {row.rate:.2g}"
            axis.plot(steps, np.median(curves, axis=0), label=label, markevery=4, **style)
            low, high = curves.min(0), curves.max(0)
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
        axis.axhline(record["label_entropy"], color="black", ls=":", lw=1)
        axis.set(title=unit["model"], xlabel="optimizer steps", ylim=(0, highest))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("training loss (nats)")
    return figure


def caption(records: list[dict]) -> str:
    unit = records[0]["unit"]
    rates = unit["learning_rates"]
    return (
        f"Adam, {unit['steps']} steps of {unit['batch']} examples, {len(unit['seeds'])} seeds. "
        f"Losses in nats, over {unit['window']} steps: median (95 % bootstrap interval), in the "
        f"plot median and range. Each at the one of {len(rates)} rates from {rates[0]:.2g} to "
        f"{rates[-1]:.2g} with the lowest last training loss (*: an end of the grid). Own is the "
        "model's initialization: Flax's defaults. Calibrate has seen one batch"
    )


EXPERIMENT = Experiment(
    "What do `tune` and `calibrate` do for the training of models as people write them?",
    units,
    View(outcomes, table, plot, caption),
    measure,
)
