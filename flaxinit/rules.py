"""New initial values by path: rules from patterns to initializers."""

import difflib
import fnmatch
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from flaxinit import paths
from flaxinit.initializers.base import Initializer, checked_initializer
from flaxinit.initializers.checks import check_key
from flaxinit.initializers.config import get
from flaxinit.sampling import is_traced

Tree = TypeVar("Tree")
# A glob or a regular expression of the path, a class of modules, or a function of path and array.
Pattern = str | re.Pattern[str] | type | Callable[[str, jax.ShapeDtypeStruct], bool]
Rules = Mapping[Any, Any] | Iterable[tuple[Pattern, Any]]


class Rule(NamedTuple):
    """A pattern, and the initializer of what it matches; None leaves that as it is."""

    pattern: Pattern
    init: Any

    def matches(self, path: str, array: jax.ShapeDtypeStruct, around: list[Any]) -> bool:
        """Return whether the array, which lies in the objects `around`, is this rule's."""
        pattern = self.pattern
        if isinstance(pattern, str):
            return fnmatch.fnmatchcase(path, pattern)
        if isinstance(pattern, re.Pattern):
            return pattern.search(path) is not None
        if isinstance(pattern, type):
            return any(isinstance(node, pattern) for node in around)
        return bool(pattern(path, array))

    def __str__(self) -> str:
        if isinstance(self.pattern, re.Pattern):
            return f"regular expression {self.pattern.pattern!r}"
        name = getattr(self.pattern, "__name__", None)
        return repr(self.pattern) if name is None else name


@dataclass(frozen=True)
class Reinit:
    """What `reinit` did: the arrays of each rule, and those that were left as they were."""

    redrawn: tuple[tuple[Rule, tuple[str, ...]], ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        blocks = [(f"{rule} -> {rule.init!r}", names) for rule, names in self.redrawn]
        if self.left:
            blocks.append(("left as they were", self.left))
        return "\n".join("\n  ".join((title, *names)) for title, names in blocks)


def reinit(
    tree: Tree,
    rules: Rules,
    key: Any,
    *,
    report: bool | Callable[[Reinit], None] = False,
) -> Tree:
    """Draw the arrays of a model again, each by the first rule that matches it.

    The key of an array is the given one with the array's path folded in, so its values do not
    depend on the other arrays or rules. Shape, dtype and layout stay; the model and its code do,
    too.

    Args:
        tree: Linen's variables, an NNX module, an Equinox module, or any pytree of arrays; inside
            `fast_init` what the init function makes, so that nothing is drawn twice.
        rules: pairs, or a mapping, of a pattern and an initializer. A pattern is a glob of the
            whole path (``"*/c_proj/kernel"``; ``*`` goes over ``/``), a compiled regular
            expression that is searched in it, a class of modules (all arrays inside its
            instances), or a function of the path and a ``jax.ShapeDtypeStruct``. The initializer
            is one of flaxinit's, a name or configuration of `get`, another function
            ``(key, shape, dtype) -> array``, or None for what is to stay. For kernels stored as
            (out, in), as Equinox's are, write ``he(in_axis=-1, out_axis=-2)``.
        key: a typed key or a legacy uint32 one.
        report: True prints which rule drew what; a function is called with the `Reinit` instead.

    Returns:
        A tree like the given one, which is not changed; of an NNX module, a new module.

    Raises:
        TypeError: what is no key, pattern or initializer.
        ValueError: a rule that matches no floating array (the nearest paths are named), or only
            what rules before it take; an initializer that an array's shape or dtype does not fit.
            Everything is matched before anything is drawn.

    >>> import flaxinit
    >>> params = {"c_proj": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
    >>> drawn = reinit(params, {"*/bias": "zeros"}, jax.random.key(0))
    >>> drawn["c_proj"]["bias"].tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    check_key(key)
    checked = checked_rules(rules)
    arrays, rebuild = _taken_apart(tree)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(arrays)
    found = {i: paths.name(path) for i, (path, leaf) in enumerate(leaves) if _is_floating(leaf)}
    chosen: dict[int, Rule] = {}
    matched: list[list[int]] = []
    for rule in checked:
        own = [i for i, name in found.items() if _matches(rule, name, leaves[i], tree)]
        if not own:
            raise ValueError(_nothing(rule, list(found.values())))
        if all(i in chosen for i in own):
            first = chosen[own[0]]
            raise ValueError(
                f"The rule {rule} changes nothing: rules before it, such as {first}, take all that "
                "it matches, and the first that matches wins. Put it before them."
            )
        fresh = [i for i in own if i not in chosen]
        matched.append(fresh)
        chosen.update(dict.fromkeys(fresh, rule))

    drawn = {i: _drawn(rule, found[i], leaves[i][1], key) for i, rule in chosen.items()}
    result = rebuild(treedef.unflatten(drawn.get(i, leaf) for i, (_, leaf) in enumerate(leaves)))
    if report:
        rows = zip(checked, matched, strict=True)
        redrawn = tuple((rule, tuple(found[i] for i in own)) for rule, own in rows)
        left = tuple(name for i, name in found.items() if i not in chosen)
        (print if report is True else report)(Reinit(redrawn, left))
    return result


def checked_rules(rules: Any) -> list[Rule]:
    """Return the rules of a mapping or of pairs, with the initializers that names stand for."""
    iterable = isinstance(rules, Mapping | Iterable)
    pairs = list(rules.items() if isinstance(rules, Mapping) else rules if iterable else ())
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            'rules must be pairs of a pattern and an initializer, such as {"*/kernel": he()}; got '
            f"{rules!r}."
        )
    return [Rule(_checked_pattern(pattern), _checked(init)) for pattern, init in pairs]


def _checked_pattern(pattern: Any) -> Any:
    if isinstance(pattern, str | re.Pattern | type) or callable(pattern):
        return pattern
    raise TypeError(
        "A pattern must be a glob, a compiled regular expression, a class of modules or a function "
        f"of path and array; got {pattern!r}."
    )


def _checked(init: Any) -> Any:
    if init is None:
        return None
    return checked_initializer("init", get(init) if isinstance(init, str | Mapping) else init)


def _taken_apart(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return a pytree of arrays, and a function from such a tree to the model."""
    nnx = sys.modules.get("flax.nnx")  # a model made of NNX modules has imported it
    if nnx is not None and isinstance(tree, nnx.Module):
        graphdef, state = nnx.split(tree)
        return state, lambda state: nnx.merge(graphdef, state)
    return tree, lambda tree: tree


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _matches(rule: Rule, name: str, item: tuple[Any, Any], tree: Any) -> bool:
    path, leaf = item
    around = list(_around(tree, paths.unboxed(path))) if isinstance(rule.pattern, type) else []
    return rule.matches(name, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), around)


def _around(tree: Any, path: tuple[Any, ...]) -> Iterable[Any]:
    """Yield the objects along a path, from the whole inwards."""
    yield tree
    for step in path:
        at = getattr(step, "name", getattr(step, "key", getattr(step, "idx", None)))
        inside = getattr(tree, at, None) if isinstance(at, str) else None
        try:
            tree = inside if inside is not None else tree[at]
        except (TypeError, KeyError, IndexError):
            return
        yield tree


def _nothing(rule: Rule, names: list[str]) -> str:
    """Return the error of a rule that matches no array."""
    text = rule.pattern.pattern if isinstance(rule.pattern, re.Pattern) else rule.pattern
    near = difflib.get_close_matches(str(text), names, n=3, cutoff=0.0)
    nearest = f"The nearest are {', '.join(near)}." if near else "There are none."
    return f"The rule {rule} matches none of the {len(names)} floating arrays. {nearest}"


def path_key(key: Any, path: str) -> Any:
    """Return the key of one array: 64 bits of a hash of its path are folded in."""
    digest = hashlib.sha256(path.encode()).digest()
    for word in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, int.from_bytes(word, "little"))
    return key


def _drawn(rule: Rule, name: str, leaf: Any, key: Any) -> Any:
    """Return a new array in place of `leaf`, with its shape, dtype and layout."""
    init, layout = rule.init, None
    if init is None:
        return leaf
    if isinstance(leaf, jax.Array) and not is_traced(leaf):
        layout = leaf.sharding
    in_place = isinstance(init, Initializer) and isinstance(layout, NamedSharding)
    options: dict[str, Any] = {"out_sharding": layout} if in_place else {}
    try:
        array = init(path_key(key, name), leaf.shape, leaf.dtype, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}, by the rule {rule}: {error}") from error
    if array.shape != leaf.shape or array.dtype != leaf.dtype:
        raise ValueError(
            f"{name}, by the rule {rule}: {init!r} made {array.dtype}{array.shape} in place of "
            f"{leaf.dtype}{leaf.shape}."
        )
    if layout is None or is_traced(array) or array.sharding == layout:
        return array
    return jax.device_put(array, layout)
