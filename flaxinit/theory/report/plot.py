"""Plot an activation's mean-field theory: φ and φ', Q-map, C-map, edge of chaos."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.meanfield.fixed_points import critical_line
from flaxinit.theory.report.text import classes

if TYPE_CHECKING:
    from flaxinit.theory.derivation import Derivation

# Okabe, Ito (2008): colors that people with any kind of color vision can distinguish.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#999999"


def plot_meanfield(derivation: "Derivation", path: Path) -> Path:
    """Write a plot of four panels.

    Args:
        derivation: of an activation without open parameters.
        path: the PNG, PDF or SVG file to write.

    Returns:
        The path.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed. Run: pip install 'flaxinit[bench]'"
        ) from error
    maps, points = derivation.maps, derivation.maps.criticality
    found = points[0] if points else None
    sigma_w2 = found.sigma_w2 if found else 1 / derivation.second_moment.value
    sigma_b2 = found.sigma_b2 if found else 0.0
    variance = (found and found.q) or 1.0
    figure = Figure(figsize=(11, 8), layout="constrained")
    (shape, qs), (cs, line) = figure.subplots(2, 2)
    figure.suptitle(f"{derivation.name}: {classes(derivation)}")

    x = np.linspace(-4, 4, 1601)
    shape.plot(x, numeric(maps.pieces)(x), color=BLUE, label="φ")
    shape.plot(x, numeric(maps.slopes)(x), color=ORANGE, ls="--", label="φ'")
    shape.set(title="The activation", xlabel="z")
    shape.legend()

    q = np.linspace(1e-3, 2.2 * variance, 120)
    for scale, color in ((0.8, GREEN), (1.0, BLUE), (1.25, ORANGE)):
        y = [maps.qmap(float(v), scale * sigma_w2, sigma_b2) for v in q]
        qs.plot(q, y, color=color, label=f"σ_w² = {scale * sigma_w2:.4g}")
    qs.plot(q, q, color=GRAY, lw=1)
    if found and found.q:
        qs.plot([found.q], [found.q], "o", color="black", label=f"K* = {found.q:.4g}")
    qs.set(title=f"Q-map, σ_b² = {sigma_b2:.4g}", xlabel="q in", ylabel="q out")
    qs.legend()

    # Each point is a double integral. Chebyshev's are close where the map bends, at the ends; in
    # the middle a line between two is off by less than a pixel.
    c = -np.cos(np.linspace(0, np.pi, 33))
    for v, color in ((variance / 4, GREEN), (variance, BLUE), (4 * variance, ORANGE)):
        cs.plot(c, [maps.cmap(float(r), v) for r in c], color=color, label=f"q = {v:.4g}")
    cs.plot(c, c, color=GRAY, lw=1)
    cs.set(title="C-map without bias", xlabel="correlation in", ylabel="correlation out")
    cs.legend()

    table = critical_line(maps, np.logspace(-3, 2, 160))
    if len(table) and np.ptp(table[:, 1]) <= 1e-9 * table[0, 1]:
        line.axvline(float(table[0, 1]), color=BLUE)
    elif len(table):
        line.plot(table[:, 1], table[:, 2], color=BLUE)
        if points:
            pairs = [(point.sigma_w2, point.sigma_b2) for point in points]
            line.plot(*zip(*pairs, strict=True), "o", color="black", label="critical pair")
            line.legend()
    line.set(title="Edge of chaos, χ = 1", xlabel="σ_w²", ylabel="σ_b²")
    figure.savefig(path, dpi=130)
    return path
