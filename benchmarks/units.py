"""Units: what one compiled program trains, an architecture on its data with all its variants."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax

import flaxinit
from benchmarks.data import DATASETS, Dataset, documentation, guess
from benchmarks.model import ACTIVATIONS, MLP, Transformer
from benchmarks.techniques import BRANCHES, TECHNIQUES

OPTIMIZERS = {"sgd": partial(optax.sgd, momentum=0.9), "adam": optax.adam}
GRADIENT_EXAMPLES = 128  # examples over which a layer's gradient is averaged
SCORED_EXAMPLES = 2000  # most training examples that are scored: an error of about 1 %


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One program: every technique × gain × learning rate × seed.

    Args:
        techniques: names of ways to draw the parameters.
        learning_rates: each technique is trained at all of them and shown at its best.
        seeds: each seed gives every technique the same key, so the same batches in the same order.
        steps: optimizer steps, a multiple of `window`.
        gains: extra factors on the standard deviation of every kernel.
        batch_size: examples in a batch.
        window: steps over which training loss and accuracy are averaged.
        optimizer: "sgd" (momentum 0.9) or "adam" (Optax's defaults).
        probes: steps before which the network is probed, multiples of `window`.
        dtype: dtype of parameters and arithmetic; the loss is float32.
    """

    techniques: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    gains: tuple[float, ...] = (1.0,)
    batch_size: int = 64
    window: int = 10
    optimizer: str = "sgd"
    probes: tuple[int, ...] = (0,)
    dtype: str = "float32"

    known: ClassVar[dict[str, Any]] = TECHNIQUES

    def __post_init__(self):
        for technique in self.techniques:
            _check_name("technique", technique, self.known)
        _check_name("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("techniques", "gains", "learning_rates", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different from each other, got {values}.")
        if self.steps <= 0 or self.steps % self.window:
            raise ValueError(
                f"steps must be a positive multiple of window = {self.window}, got {self.steps}."
            )
        if any(step % self.window or not 0 <= step <= self.steps for step in self.probes):
            raise ValueError(
                f"probes must be multiples of window = {self.window} up to {self.steps} steps, "
                f"got {self.probes}."
            )

    @property
    def title(self) -> str:
        """The unit's name in the progress bar."""
        raise NotImplementedError  # each architecture names itself

    @property
    def cost(self) -> int:
        """Multiplications in one step of one network, to estimate the time left."""
        raise NotImplementedError  # each architecture counts its own

    @property
    def work(self) -> int:
        """The unit's size relative to other units."""
        runs = len(self.techniques) * len(self.gains) * len(self.learning_rates) * len(self.seeds)
        return runs * self.steps * self.cost

    def init(self, technique: str) -> Callable[[jax.Array], Any]:
        """Return the function from a key to the parameters."""
        raise NotImplementedError  # each architecture draws its own

    def batch(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draw a random batch of the training data: inputs and labels."""
        raise NotImplementedError  # each architecture has its own data

    def logits(self, params: Any, inputs: jax.Array) -> jax.Array:
        """Return the unnormalized log-probability of each label, in float32."""
        raise NotImplementedError  # each architecture makes its own

    def scores(self, params: Any, inputs, labels) -> tuple[jax.Array, jax.Array]:
        """Return the mean cross-entropy (nats) and the accuracy on a batch."""
        logits = self.logits(params, inputs)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, jnp.mean(logits.argmax(-1) == labels, dtype=jnp.float32)

    def evaluate(self, params: Any) -> dict[str, jax.Array]:
        """Return the scores of a trained network on the training and test data."""
        train, test = (self.scores(params, *part) for part in self.parts)
        return dict(
            zip(
                ("train_loss", "train_accuracy", "test_loss", "test_accuracy"),
                (*train, *test),
                strict=True,
            )
        )

    @property
    def parts(self) -> tuple[tuple, tuple]:
        """Inputs and labels to score: training data, then test data."""
        raise NotImplementedError  # each architecture has its own data

    def probe(self, params: Any) -> dict[str, jax.Array]:
        """Return measurements inside the network."""
        raise NotImplementedError  # each architecture has its own inside

    def guess(self) -> dict[str, float]:
        """Return the scores of the best constant guess."""
        raise NotImplementedError  # each architecture has its own data


@dataclass(frozen=True, kw_only=True)
class Classifier(Unit):
    """A multilayer perceptron on a classification task.

    Args:
        activation: name in `ACTIVATIONS`.
        depth: number of kernels.
        width: features of each hidden layer.
        data: name in `DATASETS`.
    """

    activation: str
    depth: int
    width: int
    data: str = "digits"

    def __post_init__(self):
        super().__post_init__()
        _check_name("activation", self.activation, ACTIVATIONS)
        _check_name("data", self.data, DATASETS)
        if self.depth < 3:
            raise ValueError(f"depth must be at least 3 (one hidden kernel), got {self.depth}.")

    @property
    def title(self) -> str:
        return f"{self.activation}, {self.depth} layers"

    @property
    def cost(self) -> int:
        return 3 * self.batch_size * (self.depth - 1) * self.width**2

    @cached_property
    def dataset(self) -> Dataset:
        return DATASETS[self.data]()

    def network(self, technique: str) -> MLP:
        """Return the model with a technique's initializers."""
        way = TECHNIQUES[technique]
        return MLP(
            depth=self.depth,
            width=self.width,
            classes=self.dataset.classes,
            activation=ACTIVATIONS[self.activation],
            first_init=way.first(self.activation),
            hidden_init=way.hidden(self.activation),
            bias_init=way.bias(self.activation),
            dtype=self.dtype,
        )

    @cached_property
    def _network(self) -> MLP:
        """The model to apply; its initializers do not matter then."""
        return self.network(self.techniques[0])

    def init(self, technique):
        network, example = self.network(technique), self.dataset.train_inputs[:1]
        return lambda key: network.init(key, example)

    def batch(self, key):
        labels = jnp.asarray(self.dataset.train_labels)
        chosen = jax.random.randint(key, (self.batch_size,), 0, len(labels))
        return jnp.asarray(self.dataset.train_inputs)[chosen], labels[chosen]

    def logits(self, params, inputs):
        return cast(jax.Array, self._network.apply(params, inputs))

    @property
    def parts(self):
        full, some = self.dataset, slice(SCORED_EXAMPLES)
        return (
            (full.train_inputs[some], full.train_labels[some]),
            (full.test_inputs, full.test_labels),
        )

    def probe(self, params):
        """Return, by layer, the root mean square of `‖∂loss/∂h‖`, and the means of `h` and `h²`.

        For one example, the gradient with respect to a layer's pre-activations `h` is the gradient
        with respect to its bias. (A kernel's gradient is this times the forward signal. If both
        vanish at the same rate, its norm is equal in all layers and shows nothing.)
        """
        examples = slice(GRADIENT_EXAMPLES)
        inputs, labels = self.dataset.train_inputs[examples], self.dataset.train_labels[examples]

        def gradients(x, label):
            def loss(params):
                return self.scores(params, x[None], label[None])[0]

            layers = jax.grad(loss)(params)["params"]
            biases = (
                layers["first"]["bias"][None],
                layers["hidden"]["Dense_0"]["bias"],
                layers["last"]["Dense_0"]["bias"][None],
            )
            return [_norm(bias.astype("float32"), -1) for bias in biases]

        norms = jnp.concatenate(jax.vmap(gradients)(inputs, labels), axis=1)
        signal = cast(jax.Array, self._network.apply(params, inputs, layers=True))
        signal = signal.astype("float32")
        return {
            "gradient": _norm(norms, 0) / len(norms) ** 0.5,
            "mean": signal.mean((1, 2)),
            "second_moment": jnp.square(signal).mean((1, 2)),
        }

    def guess(self):
        return self.dataset.guess()


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Unit):
    """A character-level transformer on English text.

    Args:
        depth: number of blocks.
        width: features of the residual stream.
        normalize: whether LayerNorm precedes each branch.
        heads: attention heads.
        length: characters in the context.
    """

    depth: int
    width: int
    normalize: bool
    heads: int = 4
    length: int = 64
    optimizer: str = "adam"
    probes: tuple[int, ...] = ()

    known: ClassVar[dict[str, Any]] = BRANCHES

    @property
    def title(self) -> str:
        return f"transformer, {self.depth} blocks"

    @property
    def cost(self) -> int:
        attention = 2 * self.length * self.width
        return 3 * self.batch_size * self.length * self.depth * (12 * self.width**2 + attention)

    def network(self, technique: str) -> Transformer:
        factor = BRANCHES[technique].factor(self.depth)
        block = {
            "kernel_init": flaxinit.lecun(),
            "output_init": flaxinit.lecun().times(factor),
            "hidden_init": flaxinit.he("gelu").times(factor),
        }
        vocabulary = len(documentation().characters)
        shape = self.depth, self.width, self.heads, vocabulary
        return Transformer(*shape, self.normalize, block, self.dtype)

    def init(self, technique):
        network, example = self.network(technique), jnp.zeros((1, self.length), "int32")
        return lambda key: network.init(key, example)

    def batch(self, key):
        return self._windows(documentation().train, key, self.batch_size)

    def _windows(self, text, key, count: int):
        starts = jax.random.randint(key, (count, 1), 0, len(text) - self.length)
        windows = jnp.asarray(text)[starts + jnp.arange(self.length + 1)]
        return windows[:, :-1], windows[:, 1:]

    def logits(self, params, inputs):
        return cast(jax.Array, self.network(self.techniques[0]).apply(params, inputs))

    @property
    def parts(self):
        text, key = documentation(), jax.random.key(0)
        count = SCORED_EXAMPLES // self.length
        return self._windows(text.train, key, count), self._windows(text.test, key, count)

    def guess(self):
        return guess(documentation().train, documentation().test)


def _norm(values: jax.Array, axis: int) -> jax.Array:
    """Return the Euclidean norm, scaled so that the squares of small values do not underflow."""
    largest = jnp.abs(values).max(axis, keepdims=True)
    safe = jnp.where(largest > 0, largest, 1)
    return jnp.squeeze(largest, axis) * jnp.linalg.norm(values / safe, axis=axis)


def _check_name(kind: str, name: str, known: dict) -> None:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}. Choose from {', '.join(known)}.")
