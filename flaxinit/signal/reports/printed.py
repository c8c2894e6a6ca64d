"""Tables of kernels, printed with Rich on a terminal and as plain text elsewhere."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from flaxinit.signal.reports.repeats import folded, together

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


def grid(columns: Sequence[str], rows: Sequence[Any], *numbers: str):
    """Lay out kernels for Rich: the path, the shape, numbers by name, and the reason ``why``.

    In a long table, repeated kernels with one reason share a row. The first and the last column
    fold.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text  # plain: in markup, [2] is a style

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in columns:
        words = heading in (columns[0], columns[-1])
        justify = "left" if words else "right"
        table.add_column(Text(heading), justify=justify, no_wrap=not words, overflow="fold")
    for group in folded(rows, lambda row: row.why):
        values = (span(getattr(row, name) for row in group) for name in numbers)
        shape = str(group[0].shape).replace(" ", "")
        cells = (together(row.path for row in group), shape, *values, group[0].why)
        table.add_row(*map(Text, cells))
    return table
