"""Tied embeddings: a table of weights that is read by row and also multiplies the signal.

The signal has a part along the rows it was made of. Its products with these rows are sums over
the rows that were drawn; with all other rows they are those of a fresh kernel.
"""

import numpy as np

from flaxinit.signal.rules.lookup import Rows
from flaxinit.signal.samples.signals import Signal


def with_known_rows(
    y: np.ndarray, x: Signal, w: Signal, size: int, rows: Rows, rng: np.random.Generator
) -> np.ndarray:
    """Put the products of a table's known rows among its outputs, in their true proportion.

    Args:
        y: replicas × outputs × places, of a fresh kernel.
        x: the signal, places... × terms.
        w: the table.
        size: true number of outputs.
        rows: those that were drawn, by table and index.
        rng: random numbers.

    Returns:
        Like y.
    """
    known = [row for (origin, _), row in rows.items() if origin == w.origin]
    terms = x.held[-1]
    if not known or not x.sources & w.sources or known[0].shape[1:] != (terms,):
        return y
    replicas = min(len(known[0]), *map(len, known), x.replicas)
    table = np.stack([row[:replicas] for row in known], axis=1)  # replicas × rows × terms
    signal = x.data[:replicas].reshape(replicas, -1, terms)
    products = table @ np.swapaxes(signal, 1, 2) * (x.shape[-1] / terms)
    products = products.reshape(-1, products.shape[-1])  # (replicas × rows) × places
    # Of all outputs of all replicas, so many are known rows.
    count = round(y.shape[0] * y.shape[1] * len(known) / size)
    flat = y.reshape(-1, y.shape[-1]).copy()
    order = rng.permutation(len(products))
    flat[rng.permutation(len(flat))[:count]] = products[np.resize(order, count)]
    return flat.reshape(y.shape)
