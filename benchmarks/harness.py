"""The training loop: every network of one architecture in one compiled program.

Techniques, learning rates and seeds differ only in numbers, so they are one batch dimension
(`jax.vmap`), spread over the devices along a mesh axis `seed`. The steps of a window are one
`jax.lax.scan`; between windows the host hears how far training is.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.data import DATASETS, Dataset
from benchmarks.model import ACTIVATIONS, MLP
from benchmarks.techniques import TECHNIQUES, Technique


@dataclass(frozen=True)
class Unit:
    """What one compiled program trains: an architecture, and all that is compared on it.

    Args:
        steps: optimiser steps, a multiple of `window`.
        window: steps over which training loss and accuracy are averaged: the curves' resolution.
        learning_rates: each technique is trained at all of them and judged at its best.
    """

    activation: str
    techniques: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    depth: int
    width: int
    steps: int
    batch_size: int = 64
    window: int = 10
    momentum: float = 0.9
    dtype: str = "float32"
    data: str = "digits"

    def __post_init__(self):
        for kind, name, known in (
            ("activation", self.activation, ACTIVATIONS),
            ("data", self.data, DATASETS),
            *(("technique", name, TECHNIQUES) for name in self.techniques),
        ):
            if name not in known:
                raise ValueError(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
        if self.depth < 3:
            raise ValueError(f"depth must be at least 3 (one hidden kernel), got {self.depth}")
        if self.steps <= 0 or self.steps % self.window:
            raise ValueError(
                f"steps must be a positive multiple of window = {self.window}, got {self.steps}"
            )

    @property
    def work(self) -> int:
        """Size relative to other units, for the time that is left."""
        runs = len(self.techniques) * len(self.learning_rates) * len(self.seeds)
        return runs * self.steps * self.batch_size * self.depth * self.width**2


def train(unit: Unit, tick: Callable[[float], Any] = lambda share: None) -> dict:
    """Train every technique × learning rate × seed of a unit.

    Args:
        tick: called after each window with the share of the unit's steps that it made.

    Returns:
        What to record: the unit, what guessing would score, seconds, and one entry per run.
    """
    began = time.perf_counter()
    data = DATASETS[unit.data]()
    runs = list(product(unit.techniques, unit.learning_rates, unit.seeds))
    network = _network(unit, data, TECHNIQUES[unit.techniques[0]])
    optimizer = partial(optax.sgd, momentum=unit.momentum)

    drawn = _draw(unit, data)
    gradients = _starting_gradients(network, drawn, data)
    place = {pair: i for i, pair in enumerate(product(unit.techniques, unit.seeds))}
    start = [place[technique, seed] for technique, _, seed in runs]

    state, rates, keys = _spread(
        (
            jax.tree.map(lambda leaf: leaf[np.asarray(_padded(start))], drawn),
            jnp.asarray(_padded([rate for _, rate, _ in runs])),
            _seed_keys(_padded([seed for _, _, seed in runs])),
        )
    )
    state = state, _spread(jax.vmap(optimizer(0.0).init)(state))
    advance = _window(unit, network, optimizer, data)
    curves = []
    for window in range(unit.steps // unit.window):
        state, curve = advance(state, rates, keys, window * unit.window)
        curves.append(np.asarray(curve))
        tick(unit.window / unit.steps)
    losses, accuracies = np.stack(curves, axis=-1)
    final = [np.asarray(score) for score in _evaluate(network, state[0], data)]

    return {
        "unit": asdict(unit),
        "label_entropy": data.label_entropy,
        "guess_accuracy": data.guess_accuracy,
        "seconds": round(time.perf_counter() - began, 2),
        "runs": [
            {
                "technique": technique,
                "learning_rate": rate,
                "seed": seed,
                "loss": _rounded(losses[i]),
                "accuracy": _rounded(accuracies[i]),
                "train_loss": _rounded(final[0][i]),
                "train_accuracy": _rounded(final[1][i]),
                "test_accuracy": _rounded(final[2][i]),
                "first_gradient": _rounded(gradients[0][start[i]]),
                "last_gradient": _rounded(gradients[1][start[i]]),
            }
            for i, (technique, rate, seed) in enumerate(runs)
        ],
    }


def _network(unit: Unit, data: Dataset, technique: Technique) -> MLP:
    return MLP(
        depth=unit.depth,
        width=unit.width,
        classes=data.classes,
        activation=ACTIVATIONS[unit.activation],
        first_init=technique.first,
        hidden_init=technique.hidden(unit.activation),
        dtype=unit.dtype,
    )


def _seed_keys(seeds: list[int]) -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))


def _draw(unit: Unit, data: Dataset):
    """Parameters of every technique × seed, stacked; one seed means the same key in each."""
    networks = [_network(unit, data, TECHNIQUES[name]) for name in unit.techniques]
    # Run once, and five times slower to compile when optimised on a CPU.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None

    @partial(jax.jit, compiler_options=options)
    def draw(keys):
        parts = [
            jax.vmap(lambda key, net=net: net.init(key, data.train_inputs[:1]))(keys)
            for net in networks
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    return draw(_seed_keys(list(unit.seeds)))


def _padded(values: list) -> list:
    """Repeat the last entry until every device has the same number of runs."""
    return values + values[-1:] * (-len(values) % jax.device_count())


def _spread(tree):
    mesh = jax.make_mesh((jax.device_count(),), ("seed",), axis_types=(AxisType.Auto,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("seed")))


def _scores(network: MLP, params, inputs, labels):
    """Mean cross-entropy and accuracy on a batch."""
    logits = cast(jax.Array, network.apply(params, inputs))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, jnp.mean(logits.argmax(-1) == labels, dtype=jnp.float32)


def _window(unit: Unit, network: MLP, optimizer: Callable, data: Dataset):
    """The compiled program: `window` steps of all runs, and the mean scores over them."""

    def advance(state, rate, key, first_step):
        def step(state, index):
            params, opt_state = state
            chosen = jax.random.randint(
                jax.random.fold_in(key, index), (unit.batch_size,), 0, len(data.train_labels)
            )
            batch = jnp.asarray(data.train_inputs)[chosen], jnp.asarray(data.train_labels)[chosen]
            (loss, accuracy), gradient = jax.value_and_grad(
                lambda params: _scores(network, params, *batch), has_aux=True
            )(params)
            updates, opt_state = optimizer(rate.astype(unit.dtype)).update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), (loss, accuracy)

        state, scores = jax.lax.scan(step, state, first_step + jnp.arange(unit.window))
        return state, jnp.stack([score.mean() for score in scores])

    program = jax.vmap(advance, in_axes=(0, 0, 0, None), out_axes=(0, -1))
    return jax.jit(program, donate_argnums=0)


def _evaluate(network: MLP, params, data: Dataset):
    @jax.jit
    @jax.vmap
    def evaluate(params):
        _, test_accuracy = _scores(network, params, data.test_inputs, data.test_labels)
        return *_scores(network, params, data.train_inputs, data.train_labels), test_accuracy

    return evaluate(params)


def _starting_gradients(network: MLP, drawn, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square over examples of `‖∂loss/∂h‖`, at the first and the last layer.

    The gradient with respect to a layer's pre-activations `h` of one example is that with
    respect to its bias. (A kernel's gradient is a product of this and the forward signal: where
    both vanish at the same rate, its norm is equal in all layers and shows nothing.)
    """
    examples = slice(0, 128)

    def bias_gradients(params, x, label):
        gradient = jax.grad(lambda params: _scores(network, params, x[None], label[None])[0])
        layers = gradient(params)["params"]
        return layers["first"]["bias"], layers["last"]["Dense_0"]["bias"]

    over_examples = jax.vmap(bias_gradients, in_axes=(None, 0, 0))
    first, last = jax.jit(jax.vmap(over_examples, in_axes=(0, None, None)))(
        drawn, data.train_inputs[examples], data.train_labels[examples]
    )
    # Squares of vanishing gradients underflow in float32.
    first, last = (np.asarray(g, dtype=np.float64) for g in (first, last))
    return tuple(np.sqrt(np.mean(np.sum(g**2, axis=-1), axis=-1)) for g in (first, last))


def _rounded(values):
    """Five significant digits, None where not finite (JSON knows no NaN)."""
    if np.ndim(values):
        return [_rounded(value) for value in values]
    return float(f"{values:.5g}") if np.isfinite(values) else None
