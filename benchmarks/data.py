"""The training data: bundled with packages or generated, never downloaded."""

import random
from functools import cache
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """A classification task, split and scaled: inputs (examples, features) and labels."""

    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.train_labels.max()) + 1

    def guess(self) -> dict[str, float]:
        """Return the scores of the best constant guess."""
        return guess(self.train_labels, self.test_labels)


def guess(train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, float]:
    """Return a constant guess's training cross-entropy (nats) and test accuracy.

    The best guess's cross-entropy is the entropy of the training labels. The accuracy is that of
    the most common training label.
    """
    counts = np.bincount(train_labels)
    share = counts[counts > 0] / len(train_labels)
    return {
        "label_entropy": float(-np.sum(share * np.log(share))),
        "guess_accuracy": float(np.mean(test_labels == counts.argmax())),
    }


@cache
def digits() -> Dataset:
    """Return scikit-learn's 1797 digits of 8 × 8 pixels: 80 % for training, 20 % for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, labels = load_digits(return_X_y=True)
    parts = train_test_split(inputs, labels, test_size=0.2, random_state=0, stratify=labels)
    return _scaled(*map(np.asarray, parts))


@cache
def mnist1d() -> Dataset:
    """Generate MNIST-1D: 4000 training signals of length 40, and 1000 for testing.

    References: Greydanus, Kobak (2024), Scaling Down Deep Learning with MNIST-1D.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()
    try:
        made = make_dataset(get_dataset_args())  # seeds the global generators
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return _scaled(made["x"], made["x_test"], made["y"], made["y_test"])


def _scaled(train, test, train_labels, test_labels) -> Dataset:
    """Center each input feature, and divide all by one number.

    An input's second moment is then 1 on average: the `q = 1` at which gains are defined.
    """
    mean = train.mean(axis=0)
    scale = np.sqrt(np.mean((train - mean) ** 2))
    return Dataset(
        ((train - mean) / scale).astype(np.float32),
        train_labels.astype(np.int32),
        ((test - mean) / scale).astype(np.float32),
        test_labels.astype(np.int32),
    )


class Text(NamedTuple):
    """A text as one number per character: 90 % for training, the rest for testing."""

    train: np.ndarray
    test: np.ndarray
    characters: str


@cache
def documentation() -> Text:
    """Return the text of Python's language reference, which `pydoc_data` bundles for `help()`.

    The text depends on the version of Python, which every result records.
    """
    from pydoc_data.topics import topics

    whole = "\n\n".join(topics[name] for name in sorted(topics))
    characters = "".join(sorted(set(whole)))
    number = {character: i for i, character in enumerate(characters)}
    coded = np.array([number[character] for character in whole], np.int32)
    cut = len(coded) * 9 // 10
    return Text(coded[:cut], coded[cut:], characters)


DATASETS = {"digits": digits, "mnist1d": mnist1d}
