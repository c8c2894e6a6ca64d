"""Repeated layers: kernels with the same role in blocks that are alike."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

_NUMBER = re.compile(r"\d+")
# Rows that a screen shows; in longer tables, repeated layers share a row.
_SCREEN = 40


class Kernel(Protocol):
    """What layers are told by: the path and the shape of a kernel."""

    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


Row = TypeVar("Row", bound=Kernel)


def folded(rows: Sequence[Row], alike: Callable[[Row], Any] | None = None) -> list[list[Row]]:
    """Group the rows of a table, if it is longer than a screen.

    Args:
        rows: one for each kernel.
        alike: what rows must have in common to share one.
    """
    if len(rows) <= _SCREEN:
        return [[row] for row in rows]
    groups: list[list[Row]] = []
    for group in repeats(rows):
        parts: dict[Any, list[Row]] = {}
        for row in group:
            parts.setdefault(alike and alike(row), []).append(row)
        groups += parts.values()
    return groups


def repeats(layers: Sequence[Row]) -> list[list[Row]]:
    """Group layers of one shape whose paths differ in one number.

    Groups, and the layers of each, are in order of use.
    """
    alike: dict[tuple, list[int]] = {}
    for n, layer in enumerate(layers):
        for key in _keys(layer):
            alike.setdefault(key, []).append(n)
    groups: list[list[Row]] = []
    placed: dict[int, int] = {}
    for n, layer in enumerate(layers):
        if n in placed:
            continue
        keys = [key for key in _keys(layer) if len(alike[key]) > 1]  # the outermost number first
        members = [m for m in alike[keys[0]] if m not in placed] if keys else [n]
        placed.update(dict.fromkeys(members, len(groups)))
        groups.append([layers[m] for m in members])
    return groups


def _keys(layer: Kernel) -> Iterator[tuple]:
    for match in _NUMBER.finditer(layer.path):
        yield layer.path[: match.start()], layer.path[match.end() :], layer.shape


def together(paths: Iterable[str]) -> str:
    """Name several kernels: paths that differ in numbers only are written as one.

    >>> together(["a/Dense_1/kernel", "a/Dense_2/kernel", "a/Dense_3/kernel", "head/kernel"])
    'a/Dense_{1..3}/kernel, head/kernel'
    >>> together(["w[0]", "w[2]", "w[4]", "v[0]", "v[5]"])
    'w[{0..4..2}], v[{0,5}]'
    """
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        groups.setdefault(_NUMBER.sub("#", path), []).append(path)
    return ", ".join(map(_one_name, groups.values()))


def _one_name(paths: Sequence[str]) -> str:
    columns = zip(*(map(int, _NUMBER.findall(path)) for path in paths), strict=True)
    texts = iter([_range(sorted(set(numbers))) for numbers in columns])
    return _NUMBER.sub(lambda _: next(texts), paths[0])


def _range(numbers: Sequence[int]) -> str:
    first, *others = numbers
    if not others:
        return str(first)
    step = others[0] - first
    if len(numbers) > 2 and list(numbers) == list(range(first, numbers[-1] + 1, step)):
        return f"{{{first}..{numbers[-1]}{'' if step == 1 else f'..{step}'}}}"
    return f"{{{','.join(map(str, numbers))}}}"
