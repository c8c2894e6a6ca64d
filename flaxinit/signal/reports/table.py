"""A report as a table on a terminal, in a file or in a string."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from flaxinit.signal.reports.gains import fan_counted
from flaxinit.signal.reports.printed import span
from flaxinit.signal.reports.repeats import folded, together

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Layer, Report

_READABLE = 32  # columns of a path on a narrow terminal
# What a narrow terminal does without, in this order.
_DISPENSABLE = (
    *(
        "shape",
        "one draw",
        "E[dW²]",
        "samples",
        "positions",
        "fan seen",
        "δ² forecast",
        "in forecast",
    ),
    *("fan_in", "E[δ²]", "out forecast", "wanted", "E[x²]"),
)
# What a column holds, for those who see a report for the first time.
MEANINGS = {
    "kernel": "path of the kernel",
    "finding": "numbers of the findings about it",
    "shape": "shape of the kernel",
    "fan_in": "terms in the sum of one output",
    "fan seen": "the fan of the shape that was drawn, where it is another",
    "σ_w²": "fan_in times the variance of the weights",
    "wanted": "the σ_w² that would keep the signal",
    "E[x²]": "second moment of the inputs",
    "in forecast": "the same, by theory from the network's inputs on",
    "E[y²]": "second moment of the outputs",
    "out forecast": "the same, by theory from the network's inputs on",
    "one draw": "where E[y²] of 19 of 20 draws is, by theory",
    "E[δ²]": "second moment of the gradient of the outputs",
    "δ² forecast": "the same, by theory",
    "E[dW²]": "second moment of the gradient of the kernel",
    "positions": "correlation of the outputs at two positions",
    "samples": "correlation of the outputs for two samples",
}


def render(report: "Report", width: int) -> Iterator:
    """Yield what Rich prints in this width."""
    from rich import box
    from rich.table import Table
    from rich.text import Text  # plain: in markup, [x²] and [2] are styles

    columns = columns_of(report)
    all_of_them = list(columns)
    room = width - 2 - min(_READABLE, max(map(len, columns["kernel"]), default=0))
    for heading in _DISPENSABLE:
        if sum(map(_width, list(columns.items())[1:])) > room:
            columns.pop(heading, None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in columns:
        path = heading == "kernel"
        left = heading in ("kernel", "finding")
        table.add_column(
            Text(heading),
            justify="left" if left else "right",
            no_wrap=not path,
            overflow="fold",
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    yield table
    if left_out := [heading for heading in all_of_them if heading not in columns]:
        yield Text(
            f"in {width} columns without {', '.join(left_out)}: html() or --html FILE has them"
        )
    for remark in remarks(report):
        yield Text(remark)


def columns_of(report: "Report") -> dict[str, list[str]]:
    """Return the cells of each column that has any, by heading."""
    groups = folded(report.layers)

    def each(value: Callable[["Layer"], float | None]) -> list[str]:
        return [span([value(layer) for layer in group], 3) for group in groups]

    def seen(name: str) -> list[str]:
        return each(lambda layer: getattr(layer.measured, name, None))

    def expected(name: str) -> list[str]:
        return each(lambda layer: getattr(layer, name))

    def determined(name: str, why_not: str) -> list[str]:
        cells = zip(expected(name), groups, strict=True)
        return ["undetermined" if getattr(g[-1], why_not) else cell for cell, g in cells]

    numbers = {id(finding): n for n, finding in enumerate(report.findings, 1)}
    columns = {
        "kernel": [together(layer.path for layer in group) for group in groups],
        "finding": [
            ",".join(str(n) for n in sorted({numbers[id(f)] for x in group for f in x.findings}))
            for group in groups
        ],
        "shape": [str(group[0].shape).replace(" ", "") for group in groups],
        "fan_in": [f"{group[0].fan_in:g}" for group in groups],
        "fan seen": each(fan_counted),
        "σ_w²": expected("sigma_w2"),
        "wanted": expected("sigma_w2_wanted"),
    }
    if any(layer.measured for layer in report.layers):
        outside = set(map(id, report.outside))
        marks = ["*" if any(id(x) in outside for x in group) else "" for group in groups]
        outputs = seen("signal_out")
        columns |= {
            "E[x²]": seen("signal_in"),
            "in forecast": _marked(expected("signal_in"), groups),
            "E[y²]": [a + b for a, b in zip(outputs, marks, strict=True)],
            "out forecast": determined("signal_out", "undetermined"),
            "one draw": [_band(group[-1]) for group in groups],
            "E[δ²]": seen("gradient_out"),
            "δ² forecast": determined("gradient_out", "gradient_undetermined"),
            "E[dW²]": seen("gradient_parameter"),
            "positions": seen("positions"),
            "samples": seen("samples"),
        }
    else:
        columns |= {
            "E[x²]": _about(_marked(expected("signal_in"), groups), groups, _by_chance),
            "E[y²]": _about(determined("signal_out", "undetermined"), groups, _by_chance),
            "one draw": [_band(group[-1]) for group in groups],
            "E[δ²]": _about(
                determined("gradient_out", "gradient_undetermined"), groups, _slope_by_chance
            ),
            "E[dW²]": _about(
                determined("gradient_parameter", "parameter_undetermined"),
                groups,
                lambda layer: bool(layer.rough) or _by_chance(layer) or _slope_by_chance(layer),
            ),
            "positions": expected("positions"),
            "samples": expected("samples"),
        }
    return {heading: cells for heading, cells in columns.items() if any(cells)}


def _marked(cells: Sequence[str], groups: Sequence[Sequence["Layer"]]) -> list[str]:
    sampled = ["~" if any(layer.sampled for layer in group) else "" for group in groups]
    return [a + b for a, b in zip(cells, sampled, strict=True)]


# A figure that is off by more than a sixteenth by chance is marked: four times the error that 4096
# independent particles leave.
_CHANCE = 1 / 16


def _by_chance(layer: "Layer") -> bool:
    return layer.chance > _CHANCE


def _slope_by_chance(layer: "Layer") -> bool:
    return layer.gradient_chance > _CHANCE


def _about(
    cells: Sequence[str], groups: Sequence[Sequence["Layer"]], is_rough: Callable[["Layer"], bool]
) -> list[str]:
    rough = ["≈" if any(map(is_rough, group)) else "" for group in groups]
    return [cell and cell + mark for cell, mark in zip(cells, rough, strict=True)]


def _band(layer: "Layer") -> str:
    """Write the band that holds 95 % of draws, if its ends differ."""
    low, high = (f"{value:.2g}" for value in layer.band or (0, 0))
    return "" if layer.undetermined or low == high else f"{low}…{high}"


def _width(column: tuple[str, list[str]]) -> int:
    heading, cells = column
    return 2 + max(map(len, [heading, *cells]))


def remarks(report: "Report", findings: bool = True) -> Iterator[str]:
    """Yield what stands below a table: the findings and the remarks."""
    for n, finding in enumerate(report.findings if findings else (), 1):
        yield f"{n}. {finding.what} ({together(finding.paths)}): {finding.text}"
        yield f"   write: {finding.write}"
    if report.stream:
        first, last = report.stream[0].second_moment, report.stream[-1].second_moment
        yield f"residual stream: E[x²] {first:.3g} after the first sum, {last:.3g} at the end"
    if any(layer.sampled for layer in report.layers):
        yield "~ rests on an operation that has no rule of its own and was sampled"
    forecast = [layer for layer in report.layers if layer.gradient_parameter is not None]
    if kinds := sorted({layer.rough for layer in forecast if layer.rough and not layer.measured}):
        yield f"≈ of a kernel that {' or '.join(kinds)}: off by more than others, at small widths"
    alone = [layer for layer in report.layers if not layer.measured]
    if few := [layer for layer in alone if _by_chance(layer) or _slope_by_chance(layer)]:
        most = max(max(layer.chance, layer.gradient_chance) for layer in few)
        paths = together(dict.fromkeys(layer.path for layer in few))
        yield (
            f"≈ of {paths}: a mean of few values, with a standard error of up to {most:.0%}, as of "
            "sums over channels. Give forecast more particles."
        )
    if uneven := list(dict.fromkeys(each.path for each in report.layers if each.uneven)):
        yield (
            f"variances differ between entries of {together(uneven)}, and the forecast has their "
            "mean: it is off where these channels are treated differently, as in a gate"
        )
    if lost := list(dict.fromkeys(layer.path for layer in report.layers if layer.forgotten)):
        yield (
            "used again as if other kernels, because what they made first takes too much memory "
            f"to be kept: {together(lost)}. Forecast fewer samples or positions."
        )
    for layer in report.layers:
        if layer.looked_up and layer.sigma_w2 > math.e:
            yield (
                f"{layer.path} is looked up, too, and its rows have the size of the stream: unless "
                f"something divides its products (E[y²] {layer.signal_out:.3g}), write "
                f"logits / {layer.fan_in:g}**0.5"
            )
    strays = [layer for layer in report.layers if layer.measured and layer.undetermined]
    if strays:
        reason = strays[-1].undetermined.removeprefix("undetermined: ")
        yield f"another draw may differ from this one at {strays[-1].path}: {reason}"
    if report.outside:
        yield "* not by chance: weights depend on their input or each other, or have a mean"
    for operation in dict.fromkeys(report.others.values()):
        names = [name for name, each in report.others.items() if each == operation]
        if operation:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"not measured, meets the signal in {operation}: {names[0]}{more}"
        else:
            yield f"not measured, never meets the signal: {together(names)}"
    yield from report.remarks
