"""Does the best learning rate of a narrow network serve a wide one? With and without `mup`."""

import functools
import itertools
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
from benchmarks import data, harness, store, summary
from benchmarks.experiments import Experiment
from benchmarks.view import Outcome, View, briefly, estimate, listed, look, panels

FACTORIES = {"adam": optax.adam, "sgd": optax.sgd, "muon": optax.contrib.muon}
LENGTH = 32  # characters that a transformer reads
SCORED = 64  # texts of this length, of the training and of the test data


def _mlp(width: int, dense: Callable, conv: Callable) -> nn.Module:
    return nn.Sequential([dense(width), nn.relu, dense(width), nn.relu, dense(10)])


def _convolutional(width: int, dense: Callable, conv: Callable) -> nn.Module:
    """On images of 8 × 8: two convolutions, and the largest value over positions.

    With the mean in its place, the loss has two lowest points along the rate in so short a run.
    """
    square, largest = (lambda x: x.reshape(-1, 8, 8, 1)), (lambda x: jnp.max(x, (1, 2)))
    layers = [conv(width, (3, 3)), nn.relu, conv(width, (3, 3), strides=2), nn.relu]
    return nn.Sequential([square, *layers, largest, dense(10)])


class _Characters(nn.Module):
    """A block of attention and MLP, with heads of 16."""

    width: int
    dense: Callable
    characters: int

    @nn.compact
    def __call__(self, tokens):
        drawn = flaxinit.normal(1.0)
        x = nn.Embed(self.characters, self.width, embedding_init=drawn)(tokens)
        x = x + self.param("places", drawn, (tokens.shape[1], self.width))
        y = nn.LayerNorm()(x)
        split = (*y.shape[:-1], self.width // 16, 16)
        q, k, v = (self.dense(self.width)(y).reshape(split) for _ in range(3))
        y = nn.dot_product_attention(q, k, v, mask=nn.make_causal_mask(tokens))
        x = x + self.dense(self.width)(y.reshape(x.shape))
        y = nn.gelu(self.dense(4 * self.width)(nn.LayerNorm()(x)))
        x = x + self.dense(self.width)(y)
        return self.dense(self.characters)(nn.LayerNorm()(x))


def _texts(key, count: int) -> tuple[jax.Array, jax.Array]:
    text = data.documentation().train
    starts = jax.random.randint(key, (count, 1), 0, len(text) - LENGTH)
    rows = jnp.asarray(text)[starts + jnp.arange(LENGTH + 1)]
    return rows[:, :-1], rows[:, 1:]


def _examples(task: Callable[[], data.Dataset]):
    def batch(key, count: int) -> tuple[jax.Array, jax.Array]:
        inputs, labels = map(jnp.asarray, task()[:2])
        chosen = jax.random.randint(key, (count,), 0, len(inputs))
        return inputs[chosen], labels[chosen]

    def scored():
        each = task()
        return (each.train_inputs, each.train_labels), (each.test_inputs, each.test_labels)

    return batch, scored


def _scored_texts():
    text = data.documentation()
    size = SCORED * (LENGTH + 1)
    rows = (part[:size].reshape(SCORED, LENGTH + 1) for part in (text.train, text.test))
    return tuple((each[:, :-1], each[:, 1:]) for each in rows)


class Task(NamedTuple):
    """What is learned.

    Attributes:
        model: from a width, and makers of layers, to a model.
        batch: from a key and a number of examples to inputs and labels.
        scored: makes inputs and labels to score: training data, then test data.
        title: of the model and its data.
    """

    model: Callable[..., nn.Module]
    batch: Callable[..., tuple[jax.Array, jax.Array]]
    scored: Callable[[], tuple]
    title: str


TASKS = {
    "mlp": Task(_mlp, *_examples(data.mnist1d), "MLP with two hidden layers on MNIST-1D"),
    "conv": Task(_convolutional, *_examples(data.digits), "two convolutions on digits"),
    "characters": Task(
        lambda width, dense, conv: _Characters(width, dense, len(data.documentation().characters)),
        _texts,
        _scored_texts,
        "a transformer block on the characters of Python's language reference",
    ),
}


@dataclass(frozen=True)
class Width:
    """One width of a model, with one optimizer at every rate and seed.

    Attributes:
        schedule: how the rate falls over the steps: `"constant"` or `"linear"`, to 0.
    """

    task: str
    optimizer: str
    scaled: bool
    width: int
    base: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int
    schedule: str = "linear"
    dtype: str = "float32"

    @property
    def title(self) -> str:
        form = "mup" if self.scaled else "standard"
        return f"{self.task}, {self.optimizer}, {form}, width {self.width}"

    @property
    def work(self) -> int:
        runs = self.steps * len(self.seeds) * len(self.learning_rates)
        return runs * self.batch * (32 * self.width + self.width**2)

    def model(self, width: int) -> nn.Module:
        options = {"kernel_init": flaxinit.lecun(), "param_dtype": self.dtype, "dtype": self.dtype}
        dense, conv = (functools.partial(each, **options) for each in (nn.Dense, nn.Conv))
        return TASKS[self.task].model(width, dense, conv)


class Plan(NamedTuple):
    """Widths of a model from its base on, and powers of 2 that are its rates.

    Attributes:
        seeds: how many, in parts. A part that is added later is run alone, beside what is stored.
    """

    task: str
    optimizer: str
    widths: tuple[int, ...]
    rates: range
    seeds: tuple[int, ...]
    steps: int
    batch: int = 64
    schedule: str = "linear"


PLANS = {
    "smoke": [
        Plan("mlp", "adam", (8, 16), range(-9, -6), (2,), 10),
        Plan("conv", "sgd", (4,), range(-2, 0), (1,), 5),
        Plan("characters", "adam", (32,), range(-7, -5), (1,), 5, 4),
    ],
    "laptop": [
        Plan("mlp", "adam", (64, 256, 1024), range(-10, -4), (6,), 150, schedule="constant"),
        Plan("mlp", "adam", (32, 128, 512), range(-10, -4), (4,), 150, schedule="constant"),
        Plan("mlp", "muon", (64, 256), range(-9, -2), (3,), 300, schedule="constant"),
        Plan("mlp", "sgd", (64, 256, 1024), range(-3, 3), (6,), 150),
        Plan("conv", "adam", (64, 256), range(-11, -3), (4, 2), 100, 32),
        Plan("conv", "sgd", (64, 256), range(-5, 2), (4, 2), 100, 32),
        Plan("conv", "muon", (64, 256), range(-9, -2), (4, 2), 100, 32),
        Plan("characters", "adam", (32, 128), range(-10, -3), (4, 2), 150, 8),
        Plan("characters", "sgd", (32, 128), range(-4, 3), (4, 2), 150, 8),
        Plan("characters", "muon", (32, 128), range(-8, -1), (4, 2), 150, 8),
    ],
    "pod": [
        Plan(task, optimizer, (base, 2 * base, 4 * base, 16 * base, 64 * base), rates, (8,), 2000)
        for task, bases in (("mlp", (32, 64)), ("conv", (32, 64)), ("characters", (32, 64)))
        for optimizer, rates in (
            ("adam", range(-14, -2)),
            ("sgd", range(-7, 6)),
            ("muon", range(-12, 1)),
        )
        for base in bases
    ],
}


def units(size: str) -> list[Width]:
    return [
        Width(
            task=plan.task,
            optimizer=plan.optimizer,
            scaled=scaled,
            width=width,
            base=plan.widths[0],
            learning_rates=tuple(2.0**n for n in plan.rates),
            seeds=part,
            steps=plan.steps,
            batch=plan.batch,
            schedule=plan.schedule,
        )
        for plan in PLANS[size]
        for scaled in (False, True)
        for width in plan.widths
        for part in _parts(plan.seeds)
    ]


def _parts(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    ends = list(itertools.accumulate(counts, initial=0))
    return [tuple(range(*ends)) for ends in itertools.pairwise(ends)]


def measure(unit: Width, tick) -> dict:
    """Train at every rate, and record the loss on the training and on the test data."""
    began = time.perf_counter()
    train = _training(unit)
    runs = []
    for rate in unit.learning_rates:
        for seed in unit.seeds:
            found = {name: harness.rounded(value) for name, value in train(seed, rate).items()}
            runs.append({"learning_rate": rate, "seed": seed, **found})
            tick(1 / len(unit.learning_rates) / len(unit.seeds))
    (_, labels), (_, others) = TASKS[unit.task].scored()
    seconds = round(time.perf_counter() - began, 2)
    guess = data.guess(np.ravel(labels), np.ravel(others))
    return {"unit": asdict(unit), **guess, "seconds": seconds, "runs": runs}


def _training(unit: Width):
    """From a seed and a rate to losses."""
    task, model = TASKS[unit.task], unit.model(unit.width)
    sample = jax.eval_shape(lambda: task.batch(jax.random.key(0), unit.batch)[0])
    scale = flaxinit.mup(model, sample, base=unit.model(unit.base), optimizer=unit.optimizer)
    init = scale.init(model.init) if unit.scaled else model.init
    factory: Any = FACTORIES[unit.optimizer]
    make = (lambda rate: scale.optimizer(factory, rate)) if unit.scaled else factory

    def loss(params, inputs, labels):
        logits = jnp.asarray(model.apply(params, inputs), jnp.float32)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    @jax.jit
    def begin(key, rate):
        params = init(key, jnp.zeros((1, *sample.shape[1:]), sample.dtype))
        return params, make(rate).init(params)

    # Steps are a loop of Python's: in XLA's loops, a CPU takes 20 to 40 times as long for the
    # gradient of a convolution.
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key, rate):
        gradient = jax.grad(loss)(params, *task.batch(key, unit.batch))
        updates, state = make(rate).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def score(params):
        parts = zip(("train_loss", "test_loss"), task.scored(), strict=True)
        return {name: loss(params, *map(jnp.asarray, part)) for name, part in parts}

    def train(seed, rate):
        start, order = jax.random.split(jax.random.key(seed))
        params, state = begin(start, rate)
        for n, key in enumerate(jax.random.split(order, unit.steps)):
            share = 1 - n / unit.steps if unit.schedule == "linear" else 1.0
            params, state = step(params, state, key, rate * share)
        return score(params)

    return train


def losses(record: dict, name: str = "test_loss") -> np.ndarray:
    """Rates × seeds; infinite where training diverged."""
    unit = record["unit"]
    values = [np.inf if run[name] is None else run[name] for run in record["runs"]]
    return np.array(values, float).reshape(len(unit["learning_rates"]), len(unit["seeds"]))


def best(record: dict) -> np.ndarray:
    """log₂ of each seed's best rate: the lowest point of the parabola through three losses.

    At an end of the grid it is that end; nan where no rate trains. A loss above that of the best
    constant guess counts as that: how large it is, once training diverges, says nothing.
    """
    rates = np.log2(record["unit"]["learning_rates"])
    guess = record["label_entropy"]
    found = []
    for curve in np.minimum(losses(record), guess).T:
        n = int(np.argmin(curve))
        if curve[n] == guess:
            found.append(np.nan)
        elif 0 < n < len(curve) - 1:
            a, b, _ = np.polyfit(rates[n - 1 : n + 2], curve[n - 1 : n + 2], 2)
            found.append(-b / (2 * a) if a > 0 else rates[n])
        else:
            found.append(rates[n])
    return np.array(found)


def groups(records: list[dict]) -> dict[tuple[str, bool], list[dict]]:
    """Group the records by network and optimizer, and by form, standard or `mup`; by width."""
    found: dict = {}
    for record in _whole(records):
        unit = record["unit"]
        title = f"{unit['task']} from {unit['base']}, {unit['optimizer']}"
        if unit["schedule"] == "constant":
            title += ", constant rate"
        found.setdefault((title, unit["scaled"]), []).append(record)
    return found


def _whole(records: list[dict]) -> list[dict]:
    """Make one record of those that differ only in their seeds."""
    parts: dict[str, list[dict]] = {}
    for record in records:
        parts.setdefault(store.key({**record["unit"], "seeds": ()}), []).append(record)
    found = []
    for first, *rest in parts.values():
        seeds = [seed for record in (first, *rest) for seed in record["unit"]["seeds"]]
        runs = [run for record in (first, *rest) for run in record["runs"]]
        runs.sort(key=lambda run: run["learning_rate"])
        found.append({**first, "unit": {**first["unit"], "seeds": seeds}, "runs": runs})
    return found


def regret(narrow: dict, wide: dict) -> np.ndarray:
    """By how much the wide network's test loss is above its best at the narrow one's best rate.

    Infinite if it does not train at that rate, nan if it trains at none.
    """
    curve = losses(wide)
    rate = int(np.argmin(np.median(losses(narrow), axis=1)))
    lowest, guess = np.min(curve, axis=0), wide["label_entropy"]
    kept = np.where(curve[rate] < guess, curve[rate], np.inf)
    return np.where(lowest < guess, kept - np.minimum(lowest, guess), np.nan)


def worse(narrow: dict, wide: dict) -> list[float]:
    """Rates at which the wide network's training loss is above that of the narrow one."""
    one, other = (np.median(losses(record, "train_loss"), axis=1) for record in (narrow, wide))
    rates = narrow["unit"]["learning_rates"]
    return [rate for rate, a, b in zip(rates, one, other, strict=True) if np.isfinite(a) and b > a]


def _name(title: str, scaled: bool) -> str:
    return f"{title}, {'mup' if scaled else 'standard'}"


def outcomes(records: list[dict]) -> list[Outcome]:
    """Say how far the best rate drifts with each optimizer, and which form drifts less."""
    drifts: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for (title, scaled), group in groups(records).items():
        narrow, wide = group[0], group[-1]
        growth = wide["unit"]["width"] // narrow["unit"]["width"]
        drift = best(wide) - best(narrow)
        form = "mup" if scaled else "standard"
        drifts.setdefault((title, growth), {})[form] = drift[np.isfinite(drift)]
    found = []
    for (title, growth), forms in drifts.items():
        sizes = {form: abs(drift) for form, drift in forms.items() if len(drift)}
        level = summary.level(list(sizes), sizes.__getitem__) if sizes else []
        winner = briefly(level, list(sizes))
        margin = ", ".join(
            f"{form} drifts {estimate(drift)} octaves" if len(drift) else f"{form} never trains"
            for form, drift in forms.items()
        )
        found.append(Outcome(f"{title}, {growth} times the width", winner, margin))
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
    for (title, scaled), group in groups(records).items():
        for record in group:
            narrow = group[0]
            drift = best(record) - best(narrow)
            lost = worse(narrow, record) if record is not narrow else []
            rows.append(
                [
                    _name(title, scaled),
                    str(record["unit"]["width"]),
                    estimate(best(record)),
                    "" if record is narrow else estimate(drift),
                    estimate(np.min(losses(record), axis=0)),
                    "" if record is narrow else estimate(regret(narrow, record)),
                    listed([f"{rate:.2g}" for rate in lost]) or "never",
                ]
            )
    return rows


def plot(records: list[dict], finding: str):
    """Test loss against rate, a line for each width. The finding, of all networks, is too long."""
    found = groups(records)
    figure, axes = panels(
        "Test loss against learning rate, by width", len(found), columns=4, width=3.6, height=3.2
    )
    for axis, ((network, scaled), group) in zip(axes, found.items(), strict=True):
        rates = group[0]["unit"]["learning_rates"]
        for n, record in enumerate(group):
            curves = losses(record)
            axis.plot(rates, np.median(curves, axis=1), label=record["unit"]["width"], **look(n))
        guess = group[0]["label_entropy"]
        axis.axhline(guess, color="black", ls=":", lw=1)
        # Both forms of a network have one scale. It is said, for the case that no loss is finite.
        both = [each for each in records if _alike(each, group[0])]
        finite = [x for each in both for x in losses(each).ravel() if np.isfinite(x)]
        ends = rates[0] / 1.3, rates[-1] * 1.3
        axis.set(xscale="log", xlim=ends, xlabel="learning rate")
        axis.set_title(_name(network, scaled), fontsize=9)
        axis.set_ylim(0.9 * min(finite, default=0.0), 1.2 * guess)
        axis.legend(title="width", frameon=False, fontsize=7, title_fontsize=7)
    for axis in axes[::4]:
        axis.set_ylabel("test loss (nats)")
    return figure


def _alike(one: dict, other: dict) -> bool:
    names = ("task", "base", "optimizer", "schedule")
    return all(one["unit"][name] == other["unit"][name] for name in names)


def caption(records: list[dict]) -> str:
    units = [record["unit"] for record in _whole(records)]
    titles = dict.fromkeys(f"{unit['task']}: {TASKS[unit['task']].title}" for unit in units)
    steps, seeds, batches = (
        listed(sorted({str(value) for value in values}, key=int))
        for values in (
            [unit["steps"] for unit in units],
            [len(unit["seeds"]) for unit in units],
            [unit["batch"] for unit in units],
        )
    )
    return (
        f"{'; '.join(titles)}. {steps} steps of {batches} examples, {seeds} seeds. The rate falls "
        "linearly to 0 unless it is called constant. Best rate: the "
        "lowest point of a parabola through three losses on the test data, by seed. Regret: the "
        "test loss at the base's best rate, less the best at this width. A narrow network that "
        "cannot fit its data has another best rate, so a base of 32 is shown beside one of 64. "
        "The transformer starts from 32 and grows 4-fold because of what two cores can train. "
        "What mup does not carry over: weight decay, length of training, batch size, and the "
        "embeddings of large vocabularies"
    )


EXPERIMENT = Experiment(
    "Does the best learning rate of a narrow network serve a wide one?",
    units,
    View(outcomes, table, plot, caption),
    measure,
)
