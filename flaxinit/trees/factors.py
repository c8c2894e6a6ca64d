"""Factors on the draws of a model's parameters, by path, whatever the tree that holds them."""

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.trees import paths
from flaxinit.trees.modules import nnx_of


def scaled_init(init_fn: Callable, factors: Mapping[str, Any], maker: str) -> Callable:
    """Return an initialization with each draw multiplied by its factor.

    Args:
        init_fn: returns parameters, what holds them, an NNX module or its state.
        factors: of each parameter, a number or an array for its first axes.
        maker: the function that made the factors, for errors.

    Raises:
        ValueError: for an initialization that has such factors already; when called, if a
            parameter is missing in what it returns.
    """
    if getattr(init_fn, "scaled_by", None) == maker:
        raise ValueError(
            f"This initialization multiplies its draws by factors of {maker} already. Give it the "
            "model's own initialization."
        )

    @functools.wraps(init_fn)
    def init(*args, **kwargs):
        made = init_fn(*args, **kwargs)
        if nnx := nnx_of(made):
            state = nnx.state(made, nnx.Param)
            nnx.update(made, multiplied(state, factors, maker, whole=True))
            return made
        return multiplied(made, factors, maker, whole=True)

    vars(init)["scaled_by"] = maker
    return init


def multiplied(
    tree: Any,
    factors: Mapping[str, Any],
    maker: str,
    whole: bool = False,
    only_check: bool = False,
) -> Any:
    """Multiply each array by the factor of its path; other arrays must not train.

    A tree may be the parameters, what holds them (Linen's variables) or what they hold (the
    collection ``params``), so that a path is known by its end.

    Raises:
        ValueError: if the tree is not of the model for which the factors were made.
    """
    met: set[str] = set()
    unknown: list[str] = []

    def one(path, leaf):
        found = known(path, factors)
        if found is None:
            if not whole and jnp.issubdtype(leaf.dtype, jnp.floating):
                unknown.append(paths.name(path))
            return leaf
        met.add(found)
        if only_check or (np.ndim(factors[found]) == 0 and factors[found] == 1):
            return leaf
        # A factor may be out of the range of a dtype that has room for the product.
        wide = np.promote_types(leaf.dtype, np.float32)
        factor = jnp.asarray(factors[found], wide)
        factor = factor.reshape(*factor.shape, *(1,) * (leaf.ndim - factor.ndim))
        return (leaf.astype(wide) * factor).astype(leaf.dtype)

    result = jax.tree_util.tree_map_with_path(one, tree)
    missing = sorted(set(factors) - met) if whole else []
    if unknown or missing:
        what = f"has {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise ValueError(
            f"This is not the model that {maker} was given: it {what}. "
            "Make the factors anew for it."
        )
    return result


def by_path(
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    factors: Mapping[tuple[int, tuple[int, ...]], Any],
) -> dict[str, Any]:
    """Return factors by path; those of a loop's rows in one array for the first axes.

    Args:
        names: of the parameters.
        shapes: of the parameters.
        factors: by the number of the parameter and the row that a loop takes of it.

    >>> by_path(["a", "b"], [(2,), (3, 2)], {(0, ()): 2.0, (1, (1,)): 5.0})
    {'a': 2.0, 'b': array([1., 5., 1.])}
    """
    found: dict[str, Any] = {}
    for (number, steps), factor in factors.items():
        if steps:
            array = found.setdefault(names[number], np.ones(shapes[number][: len(steps)]))
            array[steps] = factor
        else:
            found[names[number]] = factor
    return found


def known(path: Any, names: Container[str]) -> str | None:
    """Return the name of a parameter by its path, which may lack the collection ``params``."""
    text = paths.name(path)
    return next((name for name in (text, f"params/{text}") if name in names), None)
