"""The data that experiments train on, scaled as the theory assumes its inputs."""

from functools import cache
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """A classification task, already split and scaled: inputs (examples, features), labels."""

    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.train_labels.max()) + 1

    @property
    def label_entropy(self) -> float:
        """Cross-entropy (nats) of the best constant guess on the training labels."""
        share = np.bincount(self.train_labels) / len(self.train_labels)
        return float(-np.sum(share * np.log(share)))

    @property
    def guess_accuracy(self) -> float:
        """Test accuracy of always naming the most common training label."""
        return float(np.mean(self.test_labels == np.bincount(self.train_labels).argmax()))


@cache
def digits() -> Dataset:
    """The 1797 8x8 digits that scikit-learn bundles: 80 % to train on, 20 % to test.

    Pixels are centred one by one and divided by one common number, so that the second
    moment of an input is 1 on average: the `q = 1` at which gains are defined.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, labels = load_digits(return_X_y=True)
    parts = train_test_split(inputs, labels, test_size=0.2, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = map(np.asarray, parts)
    mean = train.mean(axis=0)
    scale = np.sqrt(np.mean((train - mean) ** 2))
    return Dataset(
        ((train - mean) / scale).astype(np.float32),
        train_labels.astype(np.int32),
        ((test - mean) / scale).astype(np.float32),
        test_labels.astype(np.int32),
    )


DATASETS = {"digits": digits}
