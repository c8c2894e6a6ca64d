"""Patterns: which arrays of a model are meant, by their paths, their modules or their shapes."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from flaxinit.trees import paths
from flaxinit.trees.modules import nnx_of

# A glob or a regular expression of the path, a class of modules, a function of path and array, or a
# tuple of patterns that must all match.
Matcher = Callable[[str, jax.ShapeDtypeStruct], bool]
Pattern = str | re.Pattern[str] | type | Matcher | tuple["Pattern", ...]


class Found(NamedTuple):
    """An array of a model, and the arrays of the same module that have more axes."""

    name: str
    array: jax.ShapeDtypeStruct
    kernels: dict[str, tuple[int, ...]]


def find(arrays: dict[int, tuple[Any, Any]]) -> dict[int, Found]:
    """Describe arrays, given with their paths."""
    modules: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
    described = {}
    for i, (path, leaf) in arrays.items():
        path = paths.unboxed(path)
        described[i] = path, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        modules.setdefault(path[:-1], {})[paths.name(path[-1:])] = leaf.shape
    found = {}
    for i, (path, array) in described.items():
        beside = modules[path[:-1]].items()
        kernels = {name: shape for name, shape in beside if len(shape) > len(array.shape)}
        found[i] = Found(paths.name(path), array, kernels)
    return found


def checked_pattern(pattern: Any) -> Any:
    """Return a pattern; raise TypeError for anything else."""
    if isinstance(pattern, tuple) and pattern:
        return tuple(map(checked_pattern, pattern))
    if isinstance(pattern, str | re.Pattern | type) or callable(pattern):
        return pattern
    raise TypeError(
        "A pattern must be a glob, a compiled regular expression, a class of modules, a function "
        f"of path and array, or a tuple of those; got {pattern!r}."
    )


def matcher(pattern: Pattern, tree: Any) -> Matcher:
    """Return the pattern as a function of path and array, for one model."""
    if isinstance(pattern, str):
        return lambda path, _: fnmatch.fnmatchcase(path, pattern)
    if isinstance(pattern, re.Pattern):
        return lambda path, _: pattern.search(path) is not None
    if isinstance(pattern, tuple):
        parts = [matcher(part, tree) for part in pattern]
        return lambda path, array: all(part(path, array) for part in parts)
    if isinstance(pattern, type):
        inside = set(_instances(pattern, tree))
        return lambda path, _: any(prefix in inside for prefix in _prefixes(path))
    return pattern


def _prefixes(path: str) -> Iterator[str]:
    """Yield the paths of all that an array lies in: the whole model, its parts, the array."""
    yield ""
    steps = path.split("/")
    yield from ("/".join(steps[: i + 1]) for i in range(len(steps)))


def _instances(kind: type, tree: Any) -> Iterator[str]:
    """Yield the paths of a model's instances of a class, the outermost ones."""
    if nnx := nnx_of(tree):
        nodes: Iterable[tuple[Any, Any]] = nnx.iter_graph(tree)
        return ("/".join(map(str, path)) for path, node in nodes if isinstance(node, kind))
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, kind))
    return (paths.name(path) for path, node in nodes if isinstance(node, kind))


def shown(pattern: Pattern) -> str:
    """Return a pattern as text."""
    return " and ".join(
        f"regular expression {part.pattern!r}"
        if isinstance(part, re.Pattern)
        else getattr(part, "__name__", repr(part))
        for part in _parts(pattern)
    )


def nearest(pattern: Pattern, names: list[str]) -> str:
    """Return a sentence that names the paths nearest to a pattern."""
    texts = (getattr(part, "pattern", part) for part in _parts(pattern))
    text = next((text for text in texts if isinstance(text, str)), "")
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.0)
    return f"The nearest are {', '.join(near)}." if near else "There are none."


def _parts(pattern: Pattern) -> Iterator[Any]:
    """Yield the patterns that a tuple is made of."""
    if isinstance(pattern, tuple):
        for part in pattern:
            yield from _parts(part)
    else:
        yield pattern
