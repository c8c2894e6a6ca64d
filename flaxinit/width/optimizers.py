"""The factor on each parameter's learning rate, by optimizer."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from flaxinit.initializers.checks import did_you_mean
from flaxinit.trees import paths
from flaxinit.width.analysis import Parameter
from flaxinit.width.values import exact, rounded

# Optax's optimizers by the rule that they follow. All of Adam's family divide each entry of the
# gradient by its own size, so an update does not depend on it. A family's first name is its own.
FAMILIES = {
    "sgd": ("sgd", "noisy_sgd", "optimistic_gradient_descent"),
    "adam": (
        *("adam", "adamw", "adamax", "adamaxw", "amsgrad", "nadam", "nadamw", "radam", "lion"),
        *("adabelief", "adagrad", "adan", "ademamix", "adopt", "optimistic_adam_v2"),
        *("rmsprop", "rprop", "sign_sgd", "signum", "simplified_ademamix"),
        "yogi",
    ),
    "muon": ("muon",),
    "adafactor": ("adafactor",),
}
# Adafactor in optax multiplies an update by the root mean square of the parameter, or by this.
_SMALLEST = 1e-3


def rate(optimizer: str, parameter: Parameter, options: dict[str, Any]) -> float:
    """Return the factor on the learning rate of one parameter."""
    wanted = parameter.scaling
    if optimizer == "sgd":
        return wanted.sgd
    if optimizer == "muon" and (axes := muon_axes(parameter, options)):
        shapes = parameter.base, parameter.shape
        small, large = (_muon_factor(shape, *axes, options) for shape in shapes)
        return rounded(wanted.orthogonal * small / large)
    if optimizer == "adafactor":
        factor = deviation(parameter)
        sizes = [math.sqrt(law.square) for law in parameter.laws]
        if any(map(math.isnan, sizes)):
            raise ValueError(
                f"Adafactor multiplies by the size of {parameter.name}, which mup cannot read. Use "
                "another optimizer, or draw it by an initializer whose entries are independent."
            )
        return wanted.adam * max(sizes[0], _SMALLEST) / max(sizes[1] * factor, _SMALLEST)
    return wanted.adam


def deviation(parameter: Parameter) -> float:
    """Return the factor on a draw: the growth that its deviation should have, over the one it has.

    Raises:
        ValueError: if the law of the draw is not known, if it has a mean, if a factor on it does
            not multiply the signal by that factor, or if a constant sums to more than at the base.
    """
    base, law = parameter.laws
    name, wanted = parameter.name, parameter.scaling
    sums = wanted.kind in ("hidden", "output")
    if wanted.bent and sums:
        raise _bent(name, wanted.bent)
    if wanted.kind == "unused":
        return 1.0
    if not law.drawn:
        _check_constant(parameter)
        return 1.0
    for each in (base, law):
        if each.unread:
            raise ValueError(
                f"mup cannot read what {name} is drawn from: {each.unread}. Use an initializer "
                "that draws its entries independently, such as flaxinit.lecun()."
            )
    factor = exact(wanted.deviation * math.sqrt(base.square / law.square))
    if wanted.bent and factor != 1:
        raise _bent(name, wanted.bent)
    if not law.centered and (sums or factor != 1):
        raise ValueError(
            f"{name} is drawn with mean {law.mean:.3g}, which would sum to more as the width "
            "grows. Draw it with mean 0, as flaxinit.lecun() does in every dtype; JAX's own "
            "initializers do not in 16-bit floats."
        )
    return factor


def _check_constant(parameter: Parameter) -> None:
    """Refuse a kernel that is not drawn if its mean sums to more than at the base.

    The mean of an identity, 1/n, does not, nor does 1/n in every entry.
    """
    base, law = parameter.laws
    deviates = law.square - law.mean**2
    if law.unread or base.unread or not law.mean or law.mean**2 < deviates:
        return
    grown = exact(abs(law.mean / base.mean)) if base.mean else math.inf
    more = rounded(grown * parameter.scaling.summed)
    if parameter.scaling.summed != 1 and more > 1:
        raise ValueError(
            f"{parameter.name} starts with mean {law.mean:.3g} and is not drawn: it would sum to "
            f"{more:.4g} times as much as at the base. Draw it with mean 0, as flaxinit.lecun() "
            "does, let it start at zeros, or divide its values by the number of terms that it sums."
        )


def _bent(name: str, operation: str) -> ValueError:
    return ValueError(
        f"mup cannot tell how {name} should scale with the width: it goes through {operation} "
        "before it meets the signal, so a factor on its draw is not a factor on what the signal "
        "meets. Leave that operation out, or scale it by hand."
    )


def muon_axes(parameter: Parameter, options: dict[str, Any]) -> tuple[Any, Any] | None:
    """Return the axes that Muon reduces and those that come out; None for a parameter of Adam."""
    tree = options.get("muon_weight_dimension_numbers")
    if tree is None:
        return ((0,), (1,)) if len(parameter.shape) == 2 else None
    numbers = _dimension_numbers(tree, parameter.name)
    if numbers is None:
        return None
    pair = numbers.reduction_axis, numbers.output_axis
    inside, out = ((n,) if isinstance(n, int) else tuple(n) for n in pair)
    return inside, out


def _dimension_numbers(tree: Any, name: str) -> Any:
    """Look up a parameter's numbers in Optax's tree, a prefix of the tree of parameters."""
    from optax.contrib import MuonDimensionNumbers

    def known(x):
        return x is None or isinstance(x, MuonDimensionNumbers)

    for path, numbers in jax.tree_util.tree_leaves_with_path(tree, is_leaf=known):
        prefix = paths.name(path)
        whole = (f"{prefix}/", f"params/{prefix}/")
        if not prefix or f"{name}/".startswith(whole):
            return numbers
    raise ValueError(
        f"muon_weight_dimension_numbers says nothing of {name}. It is a tree like the parameters, "
        "with None where Adam is to be used."
    )


def _muon_factor(shape: Sequence[int], inside, out, options: dict[str, Any]) -> float:
    """Return the factor by which Optax multiplies an orthogonal update of this shape."""
    fan_in, fan_out = (math.prod(shape[n] for n in axes) for axes in (inside, out))
    if options.get("consistent_rms") is not None:
        return math.sqrt(max(fan_in, fan_out))
    return math.sqrt(max(1, fan_out / fan_in))


def kind(optimizer: str | Callable) -> str:
    """Return the rule that one of Optax's optimizers follows.

    Args:
        optimizer: the function that makes it, or its name.

    Raises:
        TypeError: for neither, such as what the function returns.
        ValueError: for one that is not known.

    >>> kind("adamw")
    'adam'
    """
    name = optimizer if isinstance(optimizer, str) else _name(checked_factory(optimizer))
    for rule, names in FAMILIES.items():
        if name in names:
            return rule
    known = [each for names in FAMILIES.values() for each in names]
    raise ValueError(
        f"optimizer takes one of Optax's {', '.join(known)}; received {name!r}."
        f"{did_you_mean(name, known)} For another, or for a chain, name the family that it is "
        "like, and put scale() behind it: optax.chain(..., parametrization.scale())."
    )


def checked_factory(optimizer: Any) -> Callable:
    """Return `optimizer` if it is a function that makes an optimizer.

    Raises:
        TypeError: for what it makes, or for its name.
    """
    if callable(optimizer):
        return optimizer
    if isinstance(optimizer, str):
        received, example = repr(optimizer), f"optax.{optimizer}"
    else:
        received, example = f"a {type(optimizer).__name__}", "optax.adamw"
    raise TypeError(
        f"Pass the function that makes the optimizer, {example}, and the options apart from it "
        f"(learning_rate=3e-3), for it is made with other rates; received {received}."
    )


def check_family(factory: Callable, optimizer: str) -> None:
    """Refuse an optimizer that follows another rule than the one the rates are for."""
    if (rule := kind(checked_factory(factory))) != optimizer:
        raise ValueError(
            f"These factors are for {optimizer!r} and its family, and {_name(factory)} follows "
            f"another rule: mup(..., optimizer={rule!r})."
        )


def _name(factory: Callable) -> str:
    """Return Optax's name of an optimizer; some are partial functions of another."""
    import optax

    while True:
        for home in (optax, optax.contrib):
            for name, value in vars(home).items():
                if value is factory:
                    return name
        if not isinstance(factory, functools.partial):
            return getattr(factory, "__name__", type(factory).__name__)
        factory = factory.func
