"""The picture of an activation: φ and φ', its Q-map and its C-map."""

import io
import math

import numpy as np
import sympy as sp

from derivations.activation import Activation
from derivations.notation import plain, x

_NODES = np.linspace(-8, 8, 401)  # the plain trapezoidal rule is enough for a picture
_WEIGHTS = np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi) * (_NODES[1] - _NODES[0])
_CORRELATIONS = np.linspace(-1, 1, 41)
_ELEMENTARY = {"erf": np.vectorize(math.erf, otypes=[float])}
_ELEMENTARY["erfc"] = np.vectorize(math.erfc, otypes=[float])


def evaluate(page: Activation, pieces, points: np.ndarray) -> list[tuple]:
    """For each piece, the points that lie in it and the values there."""
    found = []
    for f, a, b in pieces:
        low, high = (float(end.subs(page.at)) for end in (a, b))
        inside = (points >= low) & (points <= high)
        value = sp.lambdify(x, plain(f).subs(page.at), [_ELEMENTARY, "numpy"])(points[inside])
        found.append((inside, points[inside], value * np.ones(inside.sum())))
    return found


def sampled(page: Activation, pieces, points: np.ndarray) -> np.ndarray:
    """Values of a piecewise function; the middle of the two sides where it jumps."""
    total, count = np.zeros_like(points), np.zeros_like(points)
    for inside, _, values in evaluate(page, pieces, points):
        total[inside] += values
        count[inside] += 1
    return total / count


def qmap(page: Activation, variances: np.ndarray) -> np.ndarray:
    """E[φ(√q z)²] / E[φ(z)²]: the Q-map with σ_w² = 1/E[φ²] and no bias."""

    def second(variance):
        return _WEIGHTS @ sampled(page, page.pieces, math.sqrt(variance) * _NODES) ** 2

    return np.array([second(variance) for variance in variances]) / second(1.0)


def cmap(page: Activation, correlations: np.ndarray) -> np.ndarray:
    """E[φ(u)φ(v)] / E[φ²] for unit normals u, v with each correlation."""
    fine = np.linspace(-12, 12, 24001)
    table = sampled(page, page.pieces, fine)
    first, second = np.meshgrid(_NODES, _NODES, indexing="ij")
    left = np.interp(_NODES, fine, table) * _WEIGHTS
    values = [
        left @ np.interp(c * first + math.sqrt(1 - c * c) * second, fine, table) @ _WEIGHTS
        for c in correlations
    ]
    return np.array(values) / (left @ np.interp(_NODES, fine, table))


def draw(page: Activation) -> bytes:
    """The picture as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.9), layout="constrained")
    function, variance, correlation = figure.subplots(1, 3)
    points = np.linspace(-4, 4, 801)
    for pieces, label, style in (
        (page.pieces, "φ", {"color": "C0"}),
        (page.slopes, "φ′", {"color": "C1", "linestyle": "--"}),
    ):
        for _, inside, values in evaluate(page, pieces, points):
            function.plot(inside, values, label=label, **style)
            label = None  # one entry in the legend
    function.set(title="φ and φ′", xlabel="x")
    function.legend(frameon=False)

    variances = np.linspace(0.0, 2.0, 81)
    variance.plot(variances, qmap(page, variances), color="C0")
    variance.plot([0, 2], [0, 2], color="0.6", linewidth=0.8, linestyle=":")
    variance.set(title="Q-map, σ_w² = 1/E[φ²]", xlabel="q in", ylabel="q out")

    correlation.plot(_CORRELATIONS, cmap(page, _CORRELATIONS), color="C0")
    correlation.plot([-1, 1], [-1, 1], color="0.6", linewidth=0.8, linestyle=":")
    correlation.set(title="C-map at q = 1", xlabel="c in", ylabel="c out")
    for axes in (function, variance, correlation):
        axes.grid(alpha=0.25)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()
