"""What pooling and attention make of a signal, and the gains that make up for it."""

import math
from typing import Literal, get_args

import numpy as np

from flaxinit.initializers.calls import is_shape
from flaxinit.initializers.checks import checked_choice, checked_count, checked_number
from flaxinit.kernels import Activation

Pooling = Literal["max", "avg"]


def pooling_gain(activation: Activation, window: int, kind: Pooling = "max") -> float:
    """Return the factor on the standard deviation of a kernel that reads pooled activations.

    With k independent units z_i ~ N(0, 1) in a window, it is 1/√E[p²] with

        average   E[p²] = E[φ]² + (E[φ²] - E[φ]²)/k,
        maximum   E[p²] = ∫ φ(z)² k F(φ(z))^(k-1) dN(z),    F(v) = P(φ(z) ≤ v).

    For k = 1 it is `gain`. Units that stand side by side are not independent, because their
    windows of the input overlap; then the truth lies between k = 1 and this. `tune` knows how much.

    Args:
        activation: any form that `flaxinit.he` takes.
        window: number k of units in a window, 4 for 2 × 2.
        kind: ``"max"`` or ``"avg"``.

    Returns:
        The gain, with which ``std(W) = gain / √fan_in``.

    Raises:
        ValueError: a window that is not a positive integer, an unknown kind, or an activation of
            which no moment is known.

    >>> round(pooling_gain("relu", 4), 4), round(pooling_gain("linear", 4, "avg"), 4)
    (0.8048, 2.0)
    >>> from flaxinit import variance_scaling
    >>> kernel_init = variance_scaling(pooling_gain("relu", 4) ** 2, "fan_in", "truncated_normal")

    References: David and Nagaraja (2003), Order statistics, chapter 2, for the maximum.
    """
    if window and is_shape(window):
        raise ValueError(f"window is the number of its units: for {window} {np.prod(window)}.")
    checked_count("window", window)
    checked_choice("kind", kind, get_args(Pooling))
    from flaxinit.theory import derive  # loads SymPy
    from flaxinit.theory.functions.numeric import numeric

    found = derive(activation)
    if kind == "avg":
        mean = found.mean.value
        square = mean**2 + (found.second_moment.value - mean**2) / window
    else:
        values = numeric(found.mean.pieces)(_NODES)
        order = np.argsort(values, kind="stable")
        weights = _WEIGHTS[order]
        # The midpoint of each node's share of the distribution of φ(z).
        share = np.cumsum(weights) - weights / 2
        square = float(np.sum(values[order] ** 2 * window * share ** (window - 1) * weights))
    if not 0 < square < math.inf:
        raise ValueError(
            f"pooling_gain makes up for E[p²] of the pooled {activation!r}, which is {square:g}: "
            "no finite variance does."
        )
    return 1 / math.sqrt(square)


def attention_gain(
    tokens: int, *, scores: float = 1.0, correlation: float = 0.0, causal: bool = False
) -> float:
    """Return the factor on the standard deviation of the kernel after attention.

    Attention averages values v_j with weights p_j = softmax(a)_j. If the tokens' values have the
    correlation ρ, and scores a_j ~ N(0, s) are independent of them,

        E[z²] / E[v²] = ρ + (1 - ρ) E[Σ p²],    E[Σ p²] = T ∫ t m₂(t) m₀(t)^(T-1) dt,

    where m_k(t) = E[exp(k a - t exp(a))]; it tends to e^s / T for many tokens. The gain is
    1/√(E[z²]/E[v²]).

    Args:
        tokens: number T of tokens that are attended to.
        scores: variance s of the scores: 1 for queries and keys of unit variance over √width.
        correlation: ρ of the values of two tokens, in [0, 1]. It grows with depth.
        causal: whether token n of T attends to the first n alone; E[z²] is the mean over all n.

    Returns:
        The gain: ``lecun().times(attention_gain(tokens))`` for the output kernel.

    Raises:
        ValueError: a number out of range.

    >>> round(attention_gain(1)), round(attention_gain(256, scores=0.0))
    (1, 16)
    >>> round(attention_gain(256), 2), round(attention_gain(256, correlation=0.5), 2)
    (9.84, 1.41)

    References:
        Noci et al. (2022), Signal propagation in transformers; Cowsik et al. (2024), Geometric
        dynamics of signal propagation predict trainability of transformers.
    """
    checked_count("tokens", tokens)
    variance = checked_number("scores", scores, minimum=0.0)
    rho = checked_number("correlation", correlation, minimum=0.0, maximum=1.0)
    counts = np.arange(1 if causal else tokens, tokens + 1)
    parts = np.array_split(counts, -(-len(counts) // _ROWS))
    share = sum(float(np.sum(_participation(part, variance))) for part in parts) / len(counts)
    return 1 / math.sqrt(rho + (1 - rho) * share)


_ROWS = 2**10  # counts of tokens that are worked out together


def _participation(counts: np.ndarray, variance: float) -> np.ndarray:
    """Return E[Σ p²] over so many tokens.

    1/S² = ∫ t e^(-tS) dt turns the mean of a quotient into an integral of a product of T means.
    """
    a = math.sqrt(variance) * _NODES[::_STRIDE, None]
    weights = _WEIGHTS[::_STRIDE, None] * _STRIDE
    # t = e^u, and S = Σ e^a is between T e^-reach and T e^reach but for a chance that rounds to 0.
    reach = _REACH * math.sqrt(variance) + variance
    u = np.linspace(-math.log(counts.max()) - reach - 40, reach + 4, 2**10)
    decay = np.exp(np.minimum(u + a, 700))
    none = np.sum(weights * np.exp(-decay), axis=0)
    second = np.sum(weights * np.exp(2 * a + 2 * u - decay), axis=0)
    power = np.log(np.maximum(none, np.finfo(float).tiny)) * (counts[:, None] - 1)
    return counts * np.sum(second * np.exp(power), axis=1) * (u[1] - u[0])


# A normal variable on a grid: beyond its ends less than rounding is left of any moment in use.
_REACH, _STRIDE = 13.0, 2**8
_NODES = np.linspace(-_REACH, _REACH, 2**18 + 1)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi) * (_NODES[1] - _NODES[0])
