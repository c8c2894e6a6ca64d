"""The curves of a report: signal, gradient and stream, forecast and measured, by order of use."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flaxinit.signal.reports.repeats import repeats, together

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Layer, Report

# Okabe, Ito (2008): colors that people with any kind of color vision can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Curve:
    """One quantity at repeated layers.

    Attributes:
        label: names the layers.
        color: of line, band and dots.
        order: their places in the order of use.
        forecast: expected values; None where unknown.
        low: lower ends of the band of 95 % of draws.
        high: upper ends.
        measured: of one draw.
    """

    label: str
    color: str
    order: tuple[int, ...]
    forecast: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    measured: tuple[float | None, ...]

    def values(self) -> Iterator[float]:
        """Yield every number."""
        for numbers in (self.forecast, self.low, self.high, self.measured):
            yield from (x for x in numbers if x is not None)


def panels(report: "Report") -> dict[str, list[Curve]]:
    """Return the curves by the title of their panel; only panels that have any."""
    found = {
        "signal: E[y²] of kernels' outputs, in order of use": _curves(report, _signal),
        "gradient: E[δ²] of kernels' outputs, in order of use": _curves(report, _gradient),
    }
    if len(report.stream) > 1:
        order = tuple(range(len(report.stream)))
        sums = tuple(_positive(each.second_moment) for each in report.stream)
        none = (None,) * len(order)
        found["residual stream: E[x²] after each sum, in order"] = [
            Curve("stream", COLORS[0], order, sums, none, none, none)
        ]
    return {
        title: curves
        for title, curves in found.items()
        if any(True for curve in curves for _ in curve.values())
    }


_Four = tuple[float | None, float | None, float | None, float | None]


def _signal(layer: "Layer") -> _Four:
    seen = layer.measured.signal_out if layer.measured else None
    low, high = (not layer.undetermined and layer.band) or (None, None)
    return layer.signal_out, low, high, seen


def _gradient(layer: "Layer") -> _Four:
    seen = layer.measured.gradient_out if layer.measured else None
    band = None if layer.gradient_undetermined else layer.gradient_band
    low, high = band or (None, None)
    return layer.gradient_out, low, high, seen


def _curves(report: "Report", value: Callable[["Layer"], _Four]) -> list[Curve]:
    places = {id(layer): n for n, layer in enumerate(report.layers)}
    curves = []
    for n, group in enumerate(repeats(report.layers)):
        columns = zip(*([_positive(x) for x in value(layer)] for layer in group), strict=True)
        order = tuple(places[id(layer)] for layer in group)
        label = together(layer.path for layer in group)
        curves.append(Curve(label, COLORS[n % len(COLORS)], order, *columns))
    return curves


def _positive(x: float | None) -> float | None:
    """Return what a logarithmic axis shows; None for the rest."""
    return x if x is not None and 0 < x < math.inf else None
