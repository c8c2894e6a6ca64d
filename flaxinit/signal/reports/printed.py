"""Tables of kernels, printed with Rich on a terminal and as plain text elsewhere."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

_ENDLESS = 10_000  # columns, where nothing is folded


class Printed:
    """A base of classes that Rich prints as a table; their text is that table in its full width."""

    def __str__(self) -> str:
        from rich.console import Console

        file = StringIO()
        Console(file=file, color_system=None, width=_ENDLESS).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    __repr__ = __str__


def span(values: Iterable[float | None], digits: int = 4) -> str:
    """Return the first value and the last, if they differ; empty if none is known.

    >>> span([0.25, None, 0.5]), span([1.0, 1.0])
    ('0.25→0.5', '1')
    """
    known = [f"{value:.{digits}g}" for value in values if value is not None and value == value]
    if not known:
        return ""
    return known[0] if known[0] == known[-1] else f"{known[0]}→{known[-1]}"


def grid(columns: Sequence[str], rows: Iterable[Sequence[Any]]):
    """Lay out rows for Rich; the first and the last column fold, the others are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text  # plain: in markup, [2] is a style

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in columns:
        words = heading in (columns[0], columns[-1])
        justify = "left" if words else "right"
        table.add_column(Text(heading), justify=justify, no_wrap=not words, overflow="fold")
    for cells in rows:
        table.add_row(*(Text(_written(cell)) for cell in cells))
    return table


def _written(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return str(cell).replace(" ", "") if isinstance(cell, tuple) else str(cell)
