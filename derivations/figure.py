"""The plot of an activation: φ and φ', its Q-map and its C-map."""

import io
import math

import numpy as np
import sympy as sp

from derivations.activation import Activation
from derivations.notation import plain, x

_NODES = np.linspace(-8, 8, 321)  # the plain trapezoidal rule is enough for a plot
_WEIGHTS = np.exp(-(_NODES**2) / 2) / math.sqrt(2 * math.pi) * (_NODES[1] - _NODES[0])
_CORRELATIONS = np.linspace(-1, 1, 41)
_ELEMENTARY = {"erf": np.vectorize(math.erf, otypes=[float])}
_ELEMENTARY["erfc"] = np.vectorize(math.erfc, otypes=[float])


class Curve:
    """A page's piecewise function, to be evaluated at numbers."""

    def __init__(self, page: Activation, pieces):
        self.pieces = [
            (
                float(a.subs(page.at)),
                float(b.subs(page.at)),
                sp.lambdify(x, plain(f).subs(page.at), [_ELEMENTARY, "numpy"]),
            )
            for f, a, b in pieces
        ]

    def parts(self, points: np.ndarray):
        """Yield, for each piece, a mask of the points in it and the values there."""
        for low, high, f in self.pieces:
            inside = (points >= low) & (points <= high)
            yield inside, f(points[inside]) * np.ones(inside.sum())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the values; at a jump, the mean of the two sides."""
        total, count = np.zeros_like(points), np.zeros_like(points)
        for inside, values in self.parts(points):
            total[inside] += values
            count[inside] += 1
        return total / count


def qmap(phi: Curve, variances: np.ndarray) -> np.ndarray:
    """Return E[φ(√q z)²] / E[φ(z)²]: the Q-map with σ_w² = 1/E[φ²] and no bias."""
    second = np.array([_WEIGHTS @ phi(math.sqrt(q) * _NODES) ** 2 for q in variances])
    return second / (_WEIGHTS @ phi(_NODES) ** 2)


def cmap(phi: Curve, correlations: np.ndarray) -> np.ndarray:
    """Return E[φ(u)φ(v)] / E[φ²] for unit normals u, v with each correlation."""
    fine = np.linspace(-12, 12, 24001)
    table = phi(fine)
    first, second = np.meshgrid(_NODES, _NODES, indexing="ij")
    left = phi(_NODES) * _WEIGHTS
    values = [
        left @ np.interp(c * first + math.sqrt(1 - c * c) * second, fine, table) @ _WEIGHTS
        for c in correlations
    ]
    return np.array(values) / (left @ phi(_NODES))


def draw(page: Activation) -> bytes:
    """Return the plot as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.9), layout="constrained")
    function, variance, correlation = figure.subplots(1, 3)
    points = np.linspace(-4, 4, 801)
    phi = Curve(page, page.pieces)
    for curve, label, style in (
        (phi, "φ", {"color": "C0"}),
        (Curve(page, page.slopes), "φ′", {"color": "C1", "linestyle": "--"}),
    ):
        for inside, values in curve.parts(points):
            function.plot(points[inside], values, label=label, **style)
            label = None  # one entry in the legend
    function.set(title="φ and φ′", xlabel="x")
    function.legend(frameon=False)

    variances = np.linspace(0.0, 2.0, 81)[1:]  # a jump of φ at 0 makes q = 0 special
    variance.plot(variances, qmap(phi, variances), color="C0")
    variance.plot([0, 2], [0, 2], color="0.6", linewidth=0.8, linestyle=":")
    variance.set(title="Q-map, σ_w² = 1/E[φ²]", xlabel="q in", ylabel="q out")

    correlation.plot(_CORRELATIONS, cmap(phi, _CORRELATIONS), color="C0")
    correlation.plot([-1, 1], [-1, 1], color="0.6", linewidth=0.8, linestyle=":")
    correlation.set(title="C-map at q = 1", xlabel="c in", ylabel="c out")
    for axes in (function, variance, correlation):
        axes.grid(alpha=0.25)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()
