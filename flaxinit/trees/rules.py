"""New initial values by path: rules from patterns to initializers."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from flaxinit.initializers.base import Initializer, checked_initializer
from flaxinit.initializers.checks import check_key, checked_choice
from flaxinit.initializers.config import get
from flaxinit.initializers.like_kernel import like_kernel
from flaxinit.sampling import is_traced
from flaxinit.trees import paths
from flaxinit.trees.modules import nnx_of
from flaxinit.trees.patterns import (
    Found,
    Pattern,
    checked_pattern,
    find,
    matcher,
    nearest,
    shown,
)

Tree = TypeVar("Tree")


class Rule(NamedTuple):
    """A pattern, and the initializer of what it matches; None leaves that as it is.

    A pair in the rules of `reinit` must draw something. Recipes are for many models, and say less:
    by ``must="match"`` rules before it may take all that it matches, by None it may match nothing.
    """

    pattern: Pattern
    init: Any
    must: Literal["draw", "match"] | None = "draw"

    def __str__(self) -> str:
        return shown(self.pattern)


Rules = Mapping[Any, Any] | Iterable[tuple[Pattern, Any] | Rule]


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
            instances), a function of the path and a ``jax.ShapeDtypeStruct``, or a tuple of
            patterns that must all match, such as ``(nnx.Linear, "*/kernel")``. The initializer
            is one of flaxinit's, a name or configuration of `get`, another function
            ``(key, shape, dtype) -> array``, or None for what is to stay. For kernels stored as
            (out, in), as Equinox's are, write ``he(in_axis=-1, out_axis=-2)``. `like_kernel`
            draws a bias by the fan of the kernel beside it.
        key: a typed key or a legacy uint32 one.
        report: True prints which rule drew what; a function is called with the `Reinit` instead.

    Returns:
        A tree like the given one, which is not changed; of an NNX module, a new module.

    Raises:
        TypeError: what is no key, pattern or initializer.
        ValueError: a tree without floating arrays, such as a Linen module; arrays of
            ``jax.eval_shape`` that no rule draws; a rule that matches no floating array (the
            nearest paths are named), or only what rules before it take; an initializer that an
            array's shape or dtype does not fit. Everything is matched before anything is drawn.

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
    floating = {i: item for i, item in enumerate(leaves) if _is_floating(item[1])}
    found = find(floating)
    if not found:
        raise ValueError(
            f"reinit finds no floating arrays in {_named(tree)}. Hand in what holds the arrays: of "
            "a Linen module its variables, module.init(key, x); an NNX or Equinox module; or any "
            "pytree of arrays."
        )
    chosen: dict[int, Rule] = {}
    matched: list[list[int]] = []
    for rule in checked:
        matches = matcher(rule.pattern, tree)
        own = [i for i, at in found.items() if matches(at.name, at.array)]
        fresh = {i: fit for i in own if i not in chosen and (fit := _fitted(rule, found[i]))}
        taken = [chosen[i] for i in own if i in chosen]
        if not fresh and (rule.must == "draw" or (rule.must == "match" and not taken)):
            raise ValueError(_useless(rule, taken, [at.name for at in found.values()]))
        matched.append(list(fresh))
        chosen.update(fresh)

    values = {i for i, rule in chosen.items() if rule.init is not None}
    for i, (path, leaf) in enumerate(leaves):
        if isinstance(leaf, jax.ShapeDtypeStruct) and i not in values:
            raise ValueError(
                f"{paths.name(path)} is a jax.ShapeDtypeStruct, a shape without values, and no "
                "rule draws it. To draw a model by its init function and by rules, write "
                "fast_init(init, initializers=rules)(key, ...)."
            )
    drawn = {i: _drawn(rule, found[i].name, leaves[i][1], key) for i, rule in chosen.items()}
    result = rebuild(treedef.unflatten(drawn.get(i, leaf) for i, (_, leaf) in enumerate(leaves)))
    if report:
        rows = zip(checked, matched, strict=True)
        redrawn = tuple((rule, tuple(found[i].name for i in own)) for rule, own in rows)
        left = tuple(at.name for i, at in found.items() if i not in chosen)
        (print if report is True else report)(Reinit(redrawn, left))
    return result


def checked_rules(rules: Any) -> list[Rule]:
    """Return the rules of a mapping or of pairs, with the initializers that names stand for."""
    iterable = isinstance(rules, Mapping | Iterable)
    pairs = list(rules.items() if isinstance(rules, Mapping) else rules if iterable else ())
    if not pairs or not all(isinstance(pair, Rule) or _is_pair(pair) for pair in pairs):
        name = getattr(rules, "__name__", None)
        call = f" Call it: {name}(...)." if name else ""
        raise TypeError(
            'rules must be pairs of a pattern and an initializer, such as {"*/kernel": he()}; got '
            f"{rules!r}.{call}"
        )
    return [_checked_rule(Rule(*pair)) for pair in pairs]


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _checked_rule(rule: Rule) -> Rule:
    init = get(rule.init) if isinstance(rule.init, str | Mapping) else rule.init
    if init is not None:
        checked_initializer("init", init)
    if rule.must is not None:
        checked_choice("Rule.must", rule.must, ("draw", "match"))
    return rule._replace(pattern=checked_pattern(rule.pattern), init=init)


def _taken_apart(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return a pytree of arrays, and a function from such a tree to the model."""
    if nnx := nnx_of(tree):
        graphdef, state = nnx.split(tree)
        return state, lambda state: nnx.merge(graphdef, state)
    return tree, lambda tree: tree


def _is_floating(leaf: Any) -> bool:
    array = hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)
    return array and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _named(tree: Any) -> str:
    if tree is None or isinstance(tree, type):
        return "None" if tree is None else tree.__name__
    kind = type(tree).__name__
    return f"an empty {kind}" if hasattr(tree, "__len__") and not len(tree) else f"this {kind}"


def _fitted(rule: Rule, at: Found) -> Rule | None:
    """Return the rule for one array: with the kernel beside it, if there must be one."""
    if not isinstance(rule.init, like_kernel):
        return rule
    try:
        init = rule.init.beside(at.kernels)
    except ValueError as error:
        raise ValueError(f"{at.name}, by the rule {rule}: {error}") from None
    return None if init is None else rule._replace(init=init)


def _useless(rule: Rule, taken: list[Rule], names: list[str]) -> str:
    """Return the error of a rule by which nothing is drawn."""
    if taken:
        return (
            f"The rule {rule} changes nothing: rules before it, such as {taken[0]}, take all that "
            "it matches, and the first that matches wins. Put it before them."
        )
    beside = " that have a kernel beside them" * isinstance(rule.init, like_kernel)
    return (
        f"The rule {rule} matches none of the {len(names)} floating arrays{beside}. "
        f"{nearest(rule.pattern, names)}"
    )


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
