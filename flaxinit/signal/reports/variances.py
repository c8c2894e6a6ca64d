"""Findings of variances: kernels that are drawn wrong, and what that does over the depth."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flaxinit.signal.reports.finding import DEPTHS, FACTOR, Finding
from flaxinit.signal.reports.gains import (
    ERRORS,
    PYTORCH,
    WRONG_FAN,
    error_of,
    fan_that_fits,
    gain_of,
    he_line,
    hidden_fan,
    line_for,
    ratio_of,
)
from flaxinit.signal.reports.repeats import repeats

if TYPE_CHECKING:
    from flaxinit.signal.measuring.measured import Measured
    from flaxinit.signal.reports.report import Layer, Report

_TUNE = "init = flaxinit.tune(model, x), and draw the parameters with init"

# Of a kernel before a norm, Σ W dW is 0 but for rounding; of another one, it is of the size of
# √Σ (δ y)², and less than a thousandth of it in one of 1250 draws.
_IDLE = 1e-3
# SiLU is critical at K* = 14.3, and no activation of the catalogue is further from 1.
_FURTHEST = 15.0


def wrong_variance(report: "Report") -> Iterator[Finding]:
    """Find kernels that change the second moment by more than e: six of them lose the signal.

    A kernel is judged only if its inputs are a known function of a pre-activation, and if no norm
    follows, which would undo a factor. A variance that is right for the activation at q = 1 is
    right: then the signal has another size. The first kernel may bring the inputs to the variance
    at which the activation is critical, the last kernel of a branch of a residual stream may be
    small, and so may queries: T5 divides them by √d, instead of their products with keys.
    """
    lost = {path for finding in vanishing_or_exploding(report) for path in finding.paths}
    ends = {each.after for each in report.stream}
    found: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for layer in report.layers:
        if _is_judged(layer) and layer.path not in lost:
            ratio, error = ratio_of(layer), error_of(layer)
            if layer.path in ends and max(ratio) < 1:
                continue
            told, change = _told(layer, error), min(map(abs, map(math.log, ratio)))
            if layer.rough == FACTOR and told[0] != WRONG_FAN:
                continue
            first = layer.reads_input and told[0] != WRONG_FAN
            if change > (math.log(_FURTHEST) if first else 1) + ERRORS * error:
                what, text, write = told
                found.setdefault((what, write), (text, []))[1].append(layer.path)
    for (what, write), (text, paths) in found.items():
        yield Finding(what, tuple(paths), text, write)


def unlike_peers(report: "Report") -> Iterator[Finding]:
    """Find the one of three or more repeated kernels with half, or twice, the others' variance."""
    told = {path for finding in wrong_variance(report) for path in finding.paths}
    for group in repeats(report.layers):
        # One that reads the inputs may have the gain of all others: a factor of 2, once.
        some = [layer for layer in group if _is_judged(layer) and not layer.reads_input]
        ratios = [min(ratio_of(layer), key=lambda r: abs(math.log(r))) for layer in some]
        if len(some) < 3:
            continue
        middle = statistics.median_low(ratios)
        error = error_of(some[0])
        far = [
            layer
            for layer, ratio in zip(some, ratios, strict=True)
            if min(abs(math.log(ratio / middle)), abs(math.log(ratio)))
            > math.log(2) - ERRORS * error
        ]
        if len(far) == 1 and far[0].path not in told:
            what, text, write = _told(far[0], error)
            yield Finding(what, (far[0].path,), text, write)


def _is_judged(layer: "Layer") -> bool:
    seen = layer.measured
    return bool(
        seen
        and layer.sigma_w2_wanted
        and layer.sigma_w2 > 1e-5 * seen.sigma_w2  # not of equal entries
        and has_effect(seen)
        and (layer.reads_input or layer.curve is not None)
        and not layer.looked_up  # the size of its rows is that of the stream
    )


def has_effect(seen: "Measured") -> bool:
    """Return whether a factor on a kernel changes the output of the model."""
    return seen.along is not None and abs(seen.along) > _IDLE


def _told(layer: "Layer", error: float) -> tuple[str, str, str]:
    """Say what is wrong with a variance, by its likely cause, and what to write."""
    drawn, wanted = layer.sigma_w2, layer.sigma_w2_wanted or 1.0
    name = layer.activation
    change = f"the second moment becomes {drawn / wanted:.2g} times what it was."
    other = gain_of(drawn, ERRORS * error)
    # Three times as many outputs as inputs are common, but a matrix hides no fan.
    if not (other == PYTORCH and len(layer.shape) == 2) and (found := fan_that_fits(layer)):
        fan, which = found
        text = (
            f"the variance is that of fan {fan:g} ({which}), {layer.fan_in / fan:.3g} times "
            f"too {'large' if fan < layer.fan_in else 'small'}: {layer.fan_in:g} terms are "
            f"summed, and {change}"
        )
        return WRONG_FAN, text, he_line(name, wanted, f"fan_in={layer.fan_in:g}")
    if other and other != name:
        text = (
            f"σ_w² is {drawn:.2g}, that of {other}, but the inputs are those of "
            f"{name or 'another function'}, which needs {wanted:.3g}: {change}"
        )
        return "gain of another activation", text, line_for(layer, wanted)
    text = f"σ_w² is {drawn:.2g}, where {wanted:.3g} keeps the signal: {change}"
    return "wrong variance", text, line_for(layer, wanted)


def vanishing_or_exploding(report: "Report") -> Iterator[Finding]:
    """Find repeated layers whose signal, or gradient, changes by more than e⁶ from end to end."""
    for group in repeats(report.layers):
        for name, value, order in (
            ("signal", signal_of, group),
            ("gradient", _gradient, group[::-1]),
        ):
            numbers = [(layer, value(layer)) for layer in order]
            some = [(layer, x) for layer, x in numbers if x is not None and math.isfinite(x)]
            if len(some) < 2 or not some[0][1]:
                continue
            if name == "gradient" and not some[-1][1] and shut(report):
                continue
            (first, start), (last, end) = some[0], some[-1]
            change = math.log(end / start) if end else -math.inf
            # What one draw strays by does not count: two standard deviations of it.
            chance = 2 * math.hypot(first.log_sd, last.log_sd)
            if abs(change) - chance > DEPTHS:
                word = "vanishing" if change < 0 else "exploding"
                cause, write, _ = _cause(group)
                yield Finding(
                    f"{word} {name}",
                    tuple(layer.path for layer, _ in some),
                    f"its second moment goes from {start:.2g} at {first.path} to {end:.2g} at "
                    f"{last.path}.{cause}",
                    write,
                )


def gains_add_up(report: "Report") -> Iterator[Finding]:
    """Find repeated layers with the gain of another activation, where the signal shows it."""
    lost = {path for f in vanishing_or_exploding(report) for path in f.paths}
    for group in repeats(report.layers):
        cause, write, off = _cause(group)
        start, end = signal_of(group[0]), signal_of(group[-1])
        if cause and start and end and group[0].path not in lost:
            chance = 2 * math.hypot(group[0].log_sd, group[-1].log_sd)
            if abs(math.log(end / start)) - chance > 1:
                other = "that of" in cause
                like = [x for x in report.layers if x not in off and _is_like(x, off[0])]
                yield Finding(
                    "gain of another activation" if other else "wrong variance",
                    tuple(layer.path for layer in (*off, *like)),
                    f"the second moment goes from {start:.2g} to {end:.2g}.{cause}",
                    write,
                )


def shut(report: "Report") -> bool:
    """Return whether a kernel starts at zero by choice: no gradient passes it yet."""
    return any(layer.measured and not layer.measured.kernel for layer in report.layers)


def signal_of(layer: "Layer") -> float | None:
    """Return E[x²] of a kernel's inputs, measured if it was."""
    return layer.measured.signal_in if layer.measured else layer.signal_in


def _gradient(layer: "Layer") -> float | None:
    return layer.measured.gradient_out if layer.measured else layer.gradient_out


def _is_off(layer: "Layer") -> bool:
    """Return whether a known function comes before, and the variance is not the one of its gain."""
    return bool(
        layer.curve is not None
        and layer.sigma_w2_wanted
        and layer.sigma_w2
        and min(map(abs, map(math.log, ratio_of(layer)))) > math.log(2) / 2
    )


def _is_like(layer: "Layer", other: "Layer") -> bool:
    """Return whether a layer of another shape is wrong in the same way."""
    return (
        _is_off(layer)
        and hidden_fan(layer) == hidden_fan(other)  # the same line mends both
        and layer.activation == other.activation
        and abs(math.log(layer.sigma_w2 / other.sigma_w2)) < math.log(2) / 2
    )


def _cause(group: Sequence["Layer"]) -> tuple[str, str, list["Layer"]]:
    """Return why a signal changes along a group, what to write, and which kernels are the cause."""
    off = [layer for layer in group if _is_off(layer)]
    if len(off) < max(1, len(group) - 1):  # the first may read the inputs
        return "", _TUNE, off
    layer = off[0]
    drawn, wanted, name = layer.sigma_w2, layer.sigma_w2_wanted or 1.0, layer.activation
    other = gain_of(drawn, math.log(1.1))
    whose = f", that of {other}" if other and other != name else ""
    cause = f" σ_w² is {drawn:.2g}{whose}; after {name or 'this function'} {wanted:.3g} keeps it."
    return cause, line_for(layer, wanted), off
