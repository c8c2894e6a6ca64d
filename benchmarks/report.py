"""The pages of all results: `README.md` with its plots, and one self-contained HTML page."""

import base64
import html
import itertools
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import experiments, store
from benchmarks.view import Outcome, View, save

PAGE = "report.html"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
img { max-width: 100%; height: auto; }
.finding { font-weight: 600; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #e5e5e5; text-align: left; }
.small, nav { font-size: 13px; color: #555; }
"""


class Section(NamedTuple):
    """The report on one experiment at one size."""

    name: str
    size: str
    dtype: str | None
    question: str
    outcomes: list[Outcome]
    finding: str
    plot: Path
    cells: list[list[str]]
    caption: str
    origin: str

    @property
    def title(self) -> str:
        return f"{self.name}, {self.size} size{f', {self.dtype}' if self.dtype else ''}"


def show(view: View, records: list[dict], console: Console) -> None:
    """Print the finding and the table on the terminal."""
    (head, *rows), caption = view.table(records), view.caption(records)
    table = Table(
        title=view.finding(records),
        caption=caption,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in head:
        table.add_column(column.replace(" ", "\n", 1))
    before = None
    for first, *rest in rows:
        # A first cell that repeats the row above stays empty.
        table.add_row("" if first == before else first, *rest)
        before = first
    console.print(table)


def page(results: Path) -> Path:
    """Write every complete experiment into the results folder, largest size first.

    Returns:
        The path of the HTML page.
    """
    sections = list(_sections(results))
    # Smoke runs only show that everything works, so the committed page leaves them out.
    found = [section for section in sections if section.size != "smoke"] or sections
    (results / "README.md").write_text(_markdown(found), encoding="utf-8")
    target = results / PAGE
    target.write_text(_html(sections), encoding="utf-8")
    return target


def _sections(results: Path):
    kinds = itertools.product(reversed(store.SIZES), (None, *store.DTYPES))
    for size, dtype in kinds:
        for name in experiments.names():
            path = store.Journal(results, size, name, dtype).path
            if not path.exists():
                continue
            command = f"{name} --size {size}{f' --dtype {dtype}' if dtype else ''}"
            experiment = experiments.load(name)
            view, (records, _) = experiment.view, store.read(path)
            plot = path.with_suffix(".png")
            try:
                finding = view.finding(records)
                section = Section(
                    name,
                    size,
                    dtype,
                    experiment.question,
                    view.outcomes(records),
                    finding,
                    plot,
                    view.table(records),
                    view.caption(records),
                    _origin(command, records),
                )
                figure = view.plot(records, finding)
            except KeyError as missing:
                raise ValueError(
                    f"{path} lacks {missing}: another version of the experiment wrote it. Run "
                    f"`python -m benchmarks run {command}` again, or delete the file."
                ) from missing
            save(figure, plot)
            yield section


def _origin(command: str, records: list[dict]) -> str:
    """Return the command, and the time, the device and the versions of what it ran at once."""
    packages = ("python", "jax", "flax", "optax", "flaxinit", "commit")
    seconds: dict[str, float] = {}
    for record in records:
        here = record["environment"]
        versions = ", ".join(f"{package} {here[package]}" for package in packages)
        made = f"on {here['devices']} × {here['device']} ({here['backend']}), {versions}"
        seconds[made] = seconds.get(made, 0.0) + record["seconds"]
    times = "; ".join(f"{each:.0f} s {made}" for made, each in seconds.items())
    return f"python -m benchmarks run {command}: {times}"


def _markdown(sections: list[Section]) -> str:
    parts = [
        "# Results",
        "`python -m benchmarks report` writes this page from the JSON Lines files beside it. "
        "[The columns are explained here](../README.md#what-the-columns-mean).",
        _grid([["experiment", *Outcome._fields], *_overview(sections)]),
    ]
    for section in sections:
        command, _, rest = section.origin.partition(":")
        parts += [
            f"## {section.title}",
            section.question,
            f"![{section.name}]({section.plot.parent.name}/{section.plot.name})",
            _grid(section.cells),
            f"{section.caption}.",
            f"`{command}`:{rest}.",
        ]
    return "\n\n".join(parts) + "\n"


def _overview(sections: list[Section]) -> list[list[str]]:
    """Return a row per outcome, with the experiment's link in its first row."""
    return [
        ["" if i else f"[{section.title}](#{_anchor(section)})", *outcome]
        for section in sections
        for i, outcome in enumerate(section.outcomes)
    ]


def _grid(cells: list[list[str]]) -> str:
    """Return a Markdown table, headings first."""
    head, *rows = cells
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _anchor(section: Section) -> str:
    """Return GitHub's anchor of the heading."""
    return section.title.replace(",", "").replace(" ", "-")


def _html(sections: list[Section]) -> str:
    e = html.escape
    links = "".join(f'<li><a href="#{_anchor(s)}">{e(s.title)}</a></li>' for s in sections)
    body = []
    for s in sections:
        picture = base64.b64encode(s.plot.read_bytes()).decode()
        head, *rows = s.cells
        lines = ["".join(f"<th>{e(cell)}</th>" for cell in head)]
        lines += ["".join(f"<td>{e(cell)}</td>" for cell in row) for row in rows]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        body.append(
            f'<h2 id="{_anchor(s)}">{e(s.title)}</h2><p>{e(s.question)}</p>'
            f'<p class="finding">{e(s.finding)}.</p>'
            f'<img alt="{e(s.finding)}" src="data:image/png;base64,{picture}">'
            f'<div class="table"><table>{table}</table></div>'
            f'<p class="small">{e(s.caption)}.<br><code>{e(s.origin)}</code></p>'
        )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>flaxinit: results</title>'
        f"<style>{STYLE}</style><h1>flaxinit: measurements of initialization</h1>"
        f"<nav><ul>{links}</ul></nav>{''.join(body)}</html>\n"
    )
