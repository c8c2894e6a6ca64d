"""A report as one HTML file: table, findings and curves; no script, no network."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from flaxinit.signal.reports.curves import Curve, panels
from flaxinit.signal.reports.repeats import together
from flaxinit.signal.reports.table import MEANINGS, columns_of, remarks

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Report

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 256, 64, 44, 12  # of a plot, in pixels


def page(report: "Report") -> str:
    """Return the page."""
    count = len(report.findings)
    verdict = f"{count} finding{'' if count == 1 else 's'}" if count else "No findings"
    findings = "".join(
        f"<li><strong>{escape(each.what)}</strong> <code>{escape(together(each.paths))}</code>"
        f"<p>{escape(each.text)}</p><p>Write <code>{escape(each.write)}</code></p></li>"
        for each in report.findings
    )
    figures = "".join(_figure(title, curves) for title, curves in panels(report).items())
    legend = (
        "<p class='note'>Lines are forecast, bands hold 95 % of draws, dots are measured.</p>"
        if figures
        else ""
    )
    first = next(iter(panels(report).values()), [])
    key = "".join(
        f"<li><span style='background:{curve.color}'></span><code>{escape(curve.label)}</code></li>"
        for curve in first
    )
    columns = columns_of(report)
    meanings = "".join(
        f"<dt>{escape(heading)}</dt><dd>{escape(MEANINGS[heading])}</dd>" for heading in columns
    )
    notes = "".join(f"<li>{escape(each)}</li>" for each in remarks(report, findings=False))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Signal report</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Signal of a model</h1><p class='verdict'>{verdict}</p>"
        f"<ol>{findings}</ol>{figures}{legend}<ul class='key'>{key}</ul>"
        f"{_table(columns)}<ul>{notes}</ul><h2>Columns</h2><dl>{meanings}</dl>"
        "</main></body></html>"
    )


def _table(columns: dict[str, list[str]]) -> str:
    left = ("kernel", "finding")

    def row(tag: str, cells: Sequence[tuple[str, str]]) -> str:
        kinds = ["l" if heading in left else "n" for heading, _ in cells]
        pairs = zip(kinds, cells, strict=True)
        return "".join(f"<{tag} class='{kind}'>{escape(cell)}</{tag}>" for kind, (_, cell) in pairs)

    head = row("th", [(heading, heading) for heading in columns])
    rows = "".join(
        f"<tr>{row('td', list(zip(columns, cells, strict=True)))}</tr>"
        for cells in zip(*columns.values(), strict=True)
    )
    whole = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f"<div class='wide'><table>{whole}</table></div>"


def _figure(title: str, curves: Sequence[Curve]) -> str:
    values = [math.log10(x) for curve in curves for x in curve.values()]
    low, high = math.floor(min(values)), math.ceil(max(values) + 1e-9)
    last = max(n for curve in curves for n in curve.order) or 1

    def x(n: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * n / last

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)

    step = max(1, -(-(high - low) // 6))
    lines = "".join(
        f"<line x1='{_LEFT}' x2='{_WIDTH - 12}' y1='{y(10.0**n):.1f}' y2='{y(10.0**n):.1f}'/>"
        f"<text x='{_LEFT - 8}' y='{y(10.0**n) + 4:.1f}' text-anchor='end'>{_power(n)}</text>"
        for n in range(low, high + 1, step)
    )
    drawn = "".join(part for curve in curves for part in _drawn(curve, x, y))
    ticks = "".join(
        f"<text x='{x(n):.1f}' y='{_HEIGHT - 26}' text-anchor='middle'>{n}</text>"
        for n in range(0, last + 1, max(1, last // 10))
    )
    below = f"x='{(_LEFT + _WIDTH - 12) / 2:.1f}' y='{_HEIGHT - 8}' text-anchor='middle'"
    ticks += f"<text {below}>place in the order of use</text>"
    return (
        f"<figure><figcaption>{escape(title)}</figcaption><div class='wide'>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='{escape(title)}'>"
        f"<g class='axis'>{lines}{ticks}</g>{drawn}</svg></div></figure>"
    )


def _power(n: int) -> str:
    return f"10{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(c)] if c.isdigit() else '⁻' for c in str(n))}"


def _drawn(curve: Curve, x, y) -> Iterator[str]:
    """Yield the band, the line and the dots; each dot says its kernel and its numbers."""
    points = [
        (x(n), *rest)
        for n, *rest in zip(
            curve.order, curve.forecast, curve.low, curve.high, curve.measured, strict=True
        )
    ]
    band = [(a, low, high) for a, _, low, high, _ in points if low and high]
    if len(band) == 1:  # a band needs a width to be seen
        band = [(band[0][0] - 4, *band[0][1:]), (band[0][0] + 4, *band[0][1:])]
    if band:
        around = [(a, low) for a, low, _ in band] + [(a, high) for a, _, high in band[::-1]]
        corners = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in around)
        yield f"<polygon points='{corners}' fill='{curve.color}' opacity='.2'/>"
    line = [(a, forecast) for a, forecast, *_ in points if forecast]
    if len(line) == 1:
        line = [(line[0][0] - 6, line[0][1]), (line[0][0] + 6, line[0][1])]
    if line:
        path = " ".join(f"{a:.1f},{y(b):.1f}" for a, b in line)
        yield f"<polyline points='{path}' fill='none' stroke='{curve.color}' stroke-width='1.5'/>"
    for a, forecast, _, _, seen in points:
        if seen:
            told = f"{curve.label}: {seen:.3g}" + (f", forecast {forecast:.3g}" if forecast else "")
            yield (
                f"<circle cx='{a:.1f}' cy='{y(seen):.1f}' r='3' fill='{curve.color}'>"
                f"<title>{escape(told)}</title></circle>"
            )


_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1e;--paper:#fff;--line:#d9d9de;--note:#6b6b70}
@media(prefers-color-scheme:dark){:root{--ink:#ececf0;--paper:#161618;--line:#3a3a40;--note:#a0a0a8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.4rem;margin:0}
.verdict{font-size:1.1rem;margin:.3rem 0 1rem}
.note{color:var(--note)}
ol p{margin:.2rem 0;overflow-wrap:anywhere}
.key{list-style:none;padding:0}
.key span{display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:50%}
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
figure{margin:1rem 0}
figcaption{font-weight:600}
svg{width:100%;min-width:420px;height:auto}
.axis line{stroke:var(--line)}
.axis text{fill:var(--note);font-size:11px}
.wide{overflow-x:auto}
h2{font-size:1.1rem;margin:1.5rem 0 .3rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:0;color:var(--note)}
dt{font-weight:600}
dd{margin:0}
table{border-collapse:collapse;font-size:13px;white-space:nowrap}
th,td{padding:.2rem .6rem;text-align:left;border-bottom:1px solid var(--line)}
td:first-child{font-family:ui-monospace,monospace}
.n{text-align:right;font-variant-numeric:tabular-nums}
""".replace("\n", "")
