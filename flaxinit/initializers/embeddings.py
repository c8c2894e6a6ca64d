"""Tables of embeddings whose sum starts a stream of unit second moment."""

import math
from typing import Any

from flaxinit.initializers.checks import checked_count, checked_number
from flaxinit.initializers.random import normal


def embedding(tables: int = 1, *, multiplier: float = 1.0, dtype: Any = None) -> normal:
    """Make an initializer of embedding tables: ``Var = 1/(tables · multiplier²)``.

    A looked-up row is not a sum over a fan, so its entries have the variance of the table. With K
    tables (tokens, positions, segments) whose rows are added and multiplied by m,

        E[(m Σ_k e_k)²] = K m² Var = 1,

    where a residual stream should start whose branches keep the signal. Flax's default is 1/width:
    a stream that starts there is soon all branches. A head that is tied to the table sums over the
    width; after a norm its logits have the second moment ``width · Var``, so such models draw with
    ``multiplier=√width``, or multiply the logits by 1/√width.

    Args:
        tables: number K of tables that are added.
        multiplier: m, by which the model multiplies their sum; √width in the first transformers.
        dtype: default dtype if the call gives none.

    Returns:
        The initializer, for ``embedding_init``.

    Raises:
        ValueError: a number that is not positive.

    >>> round(embedding(2).variance((1000, 64)), 6)
    0.5
    >>> embedding(multiplier=8.0).std((1000, 64))
    0.125

    References: Vaswani et al. (2017), Attention is all you need, section 3.4.
    """
    root = math.sqrt(checked_count("tables", tables))
    return normal(1 / (checked_number("multiplier", multiplier, above=0.0) * root), dtype=dtype)
