"""Repeated layers: kernels with the same role in blocks that are alike."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Layer

_NUMBER = re.compile(r"\d+")


def repeats(layers: Sequence["Layer"]) -> list[list["Layer"]]:
    """Group layers of one shape whose paths differ in one number.

    Groups, and the layers of each, are in order of use.
    """
    alike: dict[tuple, list[int]] = {}
    for n, layer in enumerate(layers):
        for key in _keys(layer):
            alike.setdefault(key, []).append(n)
    groups: list[list[Layer]] = []
    placed: dict[int, int] = {}
    for n, layer in enumerate(layers):
        if n in placed:
            continue
        keys = [key for key in _keys(layer) if len(alike[key]) > 1]  # the outermost number first
        members = [m for m in alike[keys[0]] if m not in placed] if keys else [n]
        placed.update(dict.fromkeys(members, len(groups)))
        groups.append([layers[m] for m in members])
    return groups


def _keys(layer: "Layer") -> Iterator[tuple]:
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
