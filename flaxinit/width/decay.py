"""Weight decay, taken out of an optimizer so that the factors on rates do not reach it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# The option of an amount, of its mask, and of the rate that multiplies it, or None.
_OPTIONS = (
    ("weight_decay", ("mask", "weight_decay_mask"), "learning_rate"),
    ("adam_weight_decay", (), "adam_learning_rate"),
    ("weight_decay_rate", ("weight_decay_mask",), None),
)


class Decay(NamedTuple):
    """A weight decay of an optimizer.

    Attributes:
        option: its name.
        amount: of a parameter that is taken in a step, over the rate.
        mask: a tree or a function of one, as Optax takes it; None for all parameters.
        rate: a number or a schedule.
    """

    option: str
    amount: Any
    mask: Any
    rate: Any


def without_decay(
    factory: Callable, learning_rate: Any, options: dict[str, Any]
) -> tuple[list[Decay], dict[str, Any]]:
    """Return the decays of an optimizer, and its options without them."""
    rest = dict(options)
    defaults = inspect.signature(factory).parameters
    decays = []
    for option, masks, rate in _OPTIONS:
        if option not in defaults:
            continue
        amount = rest.pop(option, defaults[option].default)
        if defaults[option].default is not None:
            rest[option] = 0.0
        mask = next((rest.pop(name) for name in masks if name in rest), None)
        if amount:
            given = options.get(rate) if rate else 1.0
            decays.append(Decay(option, amount, mask, learning_rate if given is None else given))
    return decays, rest


def decaying(decay: Decay, independent: bool, chosen: Callable[[Any], bool]):
    """Return a transformation that adds a decay of the parameters to their updates.

    Args:
        decay: the decay.
        independent: whether to take the amount alone, whatever the rate.
        chosen: whether to decay a parameter at all, by its path.
    """
    import optax

    def mask(params):
        own = decay.mask(params) if callable(decay.mask) else decay.mask
        own = True if own is None else own
        # A mask of Optax may be a prefix of the tree.
        whole = jax.tree.map(lambda m, part: jax.tree.map(lambda _: m, part), own, params)
        return jax.tree_util.tree_map_with_path(lambda path, m: m and chosen(path), whole)

    rate = optax.scale_by_learning_rate(1.0 if independent else decay.rate)
    chain = optax.chain(optax.add_decayed_weights(decay.amount, mask), rate)

    def update(updates, state, params=None):
        zeros = jax.tree.map(jnp.zeros_like, updates)
        added, state = chain.update(zeros, state, params)
        return jax.tree.map(jnp.add, updates, added), state

    return optax.GradientTransformation(chain.init, update)
