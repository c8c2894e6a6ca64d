"""A comparison of two models that differ in width: how each of their parameters should scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flaxinit.signal.laws import Law, laws
from flaxinit.signal.model import Programs, programs
from flaxinit.width.interpreter import Different, Interpreter
from flaxinit.width.meeting import settled
from flaxinit.width.rules import apply
from flaxinit.width.scaling import Scaling, scaling
from flaxinit.width.values import Growth, Part, Value, growth


@dataclass(frozen=True)
class Parameter:
    """A parameter at two widths.

    Attributes:
        name: its path.
        base: its shape at the base width.
        shape: at the target width.
        growth: of each axis.
        laws: what it is drawn from, at the base and at the target width.
        scaling: how it should scale.
    """

    name: str
    base: tuple[int, ...]
    shape: tuple[int, ...]
    growth: Growth
    laws: tuple[Law, Law]
    scaling: Scaling


def compared(
    base: Any, model: Any, inputs: Sequence[Any], options: dict[str, Any]
) -> tuple[list[Parameter], Any, list[str]]:
    """Compare every parameter of a model with that of its base, without running either.

    Returns:
        The parameters, the tree that they are in, and remarks about the model.

    Raises:
        ValueError: if the models differ in more than width.
    """
    small, large = (programs(each, inputs, options) for each in (base, model))
    _check(small, large)
    count = len(large.names)
    both = list(zip(laws(small.init, count), laws(large.init, count), strict=True))
    axes = [growth(*shapes) for shapes in zip(small.shapes, large.shapes, strict=True)]
    walk = walked(small, large, [law.drawn for _, law in both])
    parameters = []
    for n, name in enumerate(large.names):
        uses = [use for use in walk.uses if use.parameter == n]
        law = both[n][1]
        constant = not law.drawn and law.square != 0
        parameters.append(
            Parameter(
                name,
                small.shapes[n],
                large.shapes[n],
                axes[n],
                both[n],
                scaling(name, uses, constant),
            )
        )
    remarks = [
        f"{what} meets values that grow {factor:.4g}-fold, and no parameter before it can be "
        f"drawn smaller: multiply them by {1 / factor:.4g} in the model."
        for what, factor in dict.fromkeys(walk.unowned.values())
    ]
    remarks += [
        f"An output of the model grows from {one} to {other}: it is taken for hidden values. A "
        "vocabulary or a number of classes should not grow."
        for one, other in dict.fromkeys(
            (narrow.shape, wide.shape)
            for narrow, wide in zip(small.outputs, large.outputs, strict=True)
        )
        if one != other
    ]
    if all(each.base == each.shape for each in parameters):
        remarks.append(
            "Nothing grows: the base has the same shapes, so every factor is 1. Hand in the narrow "
            "model, whose rates are known, as base."
        )
    return parameters, large.tree, remarks


def walked(small: Programs, large: Programs, drawn: Sequence[bool]) -> Interpreter:
    """Walk through the programs of a model at two widths, and return what the walk found.

    Raises:
        ValueError: if they are not the same at both.
    """
    axes = [growth(*shapes) for shapes in zip(small.shapes, large.shapes, strict=True)]
    walk = Interpreter(large.names, drawn, apply, settled)
    operands = [Value(parts={n: Part(each)}) for n, each in enumerate(axes)]
    others = len(large.apply.jaxpr.invars) - len(axes)
    try:
        outputs = walk.run(small.apply, large.apply, [*operands, *[Value(signal=True)] * others])
    except Different as error:
        raise ValueError(
            f"The base and the model are not one model at two widths: {error}. Build both with "
            "the same function, and let the width alone differ."
        ) from None
    for n, output in enumerate(outputs):
        walk.consumed(output, (n,), "the output")
    return walk


def _check(small: Programs, large: Programs) -> None:
    """Raise ValueError unless both have the same parameters, none is empty and no axis shrinks."""
    missing = set(large.names) - set(small.names)
    extra = set(small.names) - set(large.names)
    if missing or extra:
        parts = [("the base lacks", missing), ("the model lacks", extra)]
        text = "; ".join(f"{who} {', '.join(sorted(names))}" for who, names in parts if names)
        raise ValueError(
            f"The base and the model have different parameters: {text}. Build both with the same "
            "function, and let the width alone differ."
        )
    shapes = dict(zip(small.names, small.shapes, strict=True))
    if not large.names:
        raise ValueError("The model has no parameters.")
    for name, shape in zip(large.names, large.shapes, strict=True):
        base = shapes[name]
        if len(base) != len(shape):
            raise ValueError(
                f"{name} has {len(base)} axes in the base and {len(shape)} in the model: only "
                "sizes may differ."
            )
        if any(t < b for b, t in zip(base, shape, strict=True)):
            raise ValueError(
                f"{name} has the shape {base} in the base and {shape} in the model: an axis that "
                "shrinks. The base is the narrow model, the one whose rates are known."
            )
        if 0 in (*base, *shape):
            raise ValueError(f"{name} has the shape {shape}: an axis of size 0.")
