"""New weights from trained ones: adapters from a kernel's singular vectors, rows for new tokens."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from flaxinit import sampling
from flaxinit.initializers.checks import check_key, checked_count, checked_number


class Pissa(NamedTuple):
    """A kernel in two parts: an adapter ``a @ b`` to train, and the residual, to freeze."""

    a: Inexact[Array, "inputs rank"]  # noqa: F722
    b: Inexact[Array, "rank outputs"]  # noqa: F722
    residual: Inexact[Array, "inputs outputs"]  # noqa: F722


def pissa(kernel: Inexact[Array, "inputs outputs"], rank: int) -> Pissa:  # noqa: F722
    """Split a kernel into a low-rank adapter of its largest singular values, and the rest.

    With the singular value decomposition ``W = U S Vᴴ``, cut to the first r values::

        A = U_r √S_r        B = √S_r V_rᴴ        residual = W - A B

    The layer ``x residual + x A B`` starts as ``x W``. For an adapter scaled by α/r take α = r.

    Args:
        kernel: W, a matrix; of low precision, it is decomposed in float32.
        rank: r, at most the smaller size.

    Returns:
        The three matrices, of W's dtype.

    Raises:
        ValueError: a kernel that is not a floating matrix, a rank out of range.

    >>> split = pissa(jnp.diag(jnp.array([3.0, 1.0, 2.0])), 1)
    >>> (split.a @ split.b).round(5).tolist()
    [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]

    References: Meng, Wang, Zhang (2024), PiSSA; huggingface/peft 5d602fd,
    ``src/peft/tuners/lora/layer.py``.
    """
    kernel = _checked_matrix("kernel", kernel)
    if not checked_count("rank", rank) <= min(kernel.shape):
        raise ValueError(f"rank must be at most {min(kernel.shape)}, got {rank}.")
    whole = kernel.astype(sampling.compute_dtype(kernel.dtype))
    left, values, right = jnp.linalg.svd(whole, full_matrices=False)
    roots = jnp.sqrt(values[:rank]).astype(whole.dtype)
    a, b = (m.astype(kernel.dtype) for m in (left[:, :rank] * roots, roots[:, None] * right[:rank]))
    product = a.astype(whole.dtype) @ b.astype(whole.dtype)  # of what was rounded
    return Pissa(a, b, (whole - product).astype(kernel.dtype))


def new_rows(
    key: Any,
    table: Inexact[Array, "tokens features"],  # noqa: F722
    count: int,
    spread: float = 1.0,
) -> Inexact[Array, "count features"]:  # noqa: F722
    """Draw rows for new tokens, with the mean and covariance of an embedding's rows.

    ``row = μ + spread · Σ_t g_t (e_t - μ)/√n`` over the n old rows ``e_t`` with independent
    ``g_t ~ N(0, 1)``. So a row is normal with mean μ and covariance ``spread² Σ``, and lies in the
    space that the old rows span; Σ is neither formed nor factorized. A small spread keeps the
    probabilities of old tokens nearly as they were: transformers has ``spread=1e-9**0.5``.

    Args:
        key: a typed key or a legacy uint32 one.
        table: the embedding, of n tokens.
        count: number of new rows.
        spread: factor on the standard deviation, at least 0.

    Returns:
        The rows; append them with ``jnp.concatenate([table, rows])``.

    Raises:
        ValueError: a table that is not a floating matrix, a count or spread out of range.

    >>> table = jnp.array([[1.0, 0.0], [3.0, 0.0]])
    >>> new_rows(jax.random.key(0), table, 1, spread=0.0).tolist()
    [[2.0, 0.0]]

    References: Hewitt (2021), Initializing New Word Embeddings for Pretrained Language Models;
    transformers 5.24, ``resize_token_embeddings``.
    """
    check_key(key)
    table = _checked_matrix("table", table)
    checked_count("count", count)
    spread = checked_number("spread", spread, minimum=0.0)
    rows = table.astype(sampling.compute_dtype(table.dtype))
    mean = rows.mean(axis=0)
    real = sampling.real_dtype(table.dtype)
    weights = jax.random.normal(key, (count, len(rows)), real) * sampling.real(
        table.dtype, spread / len(rows) ** 0.5
    )
    drawn = mean[None] + weights.astype(rows.dtype) @ (rows - mean[None])
    return drawn.astype(table.dtype)


def _checked_matrix(name: str, value: Any) -> Array:
    array = jnp.asarray(value)
    if array.ndim != 2 or 0 in array.shape or not jnp.issubdtype(array.dtype, jnp.inexact):
        raise ValueError(
            f"{name} must be a floating matrix with rows and columns, got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array
