"""The table of a model's parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flaxinit.signal.reports.repeats import folded, together


@dataclass(frozen=True)
class Row:
    """One parameter in the table.

    Attributes:
        path: as `fast_init` writes it.
        shape: of the parameter.
        base: its shape in the base model.
        kind: ``input``, ``hidden``, ``output``, ``vector``, ``fixed`` or ``unused``.
        init: factor on its draw.
        rate: factor on its learning rate.
        epsilon: factor on Adam's epsilon.
        decay: factor on a weight decay that is multiplied by the learning rate.
        why: the reason, in words.
    """

    path: str
    shape: tuple[int, ...]
    base: tuple[int, ...]
    kind: str
    init: float
    rate: float
    epsilon: float
    decay: float
    why: str


def table(title: str, rows: Sequence[Row], remarks: Sequence[str], epsilon: bool):
    """Lay out the rows for Rich, with a column for Adam's epsilon or without."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # plain: in markup, [2] is a style

    factors = ("init", "rate", "decay", *(["epsilon"] if epsilon else []))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("parameter", "shape", "kind"):
        grid.add_column(heading, no_wrap=True)
    for heading in factors:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("why", overflow="fold")
    for group in folded(rows, lambda row: replace(row, path="")):
        row = group[0]
        numbers = (f"{getattr(row, name):.4g}" for name in factors)
        grid.add_row(
            Text(together(each.path for each in group)), _shape(row), row.kind, *numbers, row.why
        )
    return Group(Text(title), grid, *(Text(f"* {remark}") for remark in remarks))


def _shape(row: Row) -> str:
    """Write each axis, with its size in the base if that differs."""
    pairs = zip(row.base, row.shape, strict=True)
    return "×".join(str(t) if b == t else f"{b}→{t}" for b, t in pairs) or "scalar"
