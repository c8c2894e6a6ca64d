"""A comparison of two models that differ in width: how each of their parameters should scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flaxinit.signal.reading.laws import Law, laws
from flaxinit.signal.reading.model import Programs, programs
from flaxinit.width.alignment import paired
from flaxinit.width.interpreter import Different, Interpreter
from flaxinit.width.meeting import settled
from flaxinit.width.rules import apply
from flaxinit.width.scaling import Scaling, scaling
from flaxinit.width.values import Growth, Part, Value, growth, rounded


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
    base: Any, model: Any, inputs: Sequence[Any], options: dict[str, Any], deep: bool = False
) -> tuple[list[Parameter], Any, list[str]]:
    """Compare every parameter of a model with that of its base, without running either.

    Args:
        base: the narrow model.
        model: the wide one.
        inputs: of both.
        options: of both.
        deep: whether blocks may be repeated more often than in the base.

    Returns:
        The parameters, the tree that they are in, and remarks about the model.

    Raises:
        ValueError: if the models differ in more than width.
    """
    small = programs(base, inputs, options, role="base")
    large = programs(model, inputs, options)
    pairs = _pairs(small, large, deep)
    shapes = [small.shapes[n] for n in pairs]
    _check(large, shapes)
    narrow = laws(small.init, len(small.names))
    both = list(zip([narrow[n] for n in pairs], laws(large.init, len(pairs)), strict=True))
    axes = [growth(*each) for each in zip(shapes, large.shapes, strict=True)]
    walk = walked(small, large, axes, [law.drawn for _, law in both], deep)
    depth, remarks = _branches(walk, pairs)
    parameters = []
    for n, name in enumerate(large.names):
        uses = [use for use in walk.uses if use.parameter == n]
        law = both[n][1]
        constant = not law.drawn and law.square != 0
        wanted = scaling(name, uses, constant, depth)
        parameters.append(Parameter(name, shapes[n], large.shapes[n], axes[n], both[n], wanted))
    remarks += [
        f"{what} meets values that grow {factor:.4g}-fold, and no parameter before it can be "
        f"drawn smaller: multiply them by {1 / factor:.4g} in the model."
        for what, factor in dict.fromkeys(walk.unowned.values())
    ]
    remarks += [
        f"{large.names[n]} sums over an axis that grows and that no parameter makes: it is taken "
        "for a width. If it numbers tokens or classes, as a one-hot code does, build the base with "
        "as many as the model has."
        for n in sorted(walk.sourceless)
    ]
    remarks += [
        f"An output of the model grows from {one} to {other}: it is taken for hidden values. A "
        "vocabulary or a number of classes is not a width: build the base with as many as the "
        "model has."
        for one, other in dict.fromkeys(
            (narrow.shape, wide.shape)
            for narrow, wide in zip(small.outputs, large.outputs, strict=True)
        )
        if one != other
    ]
    if depth == 1 and all(each.base == each.shape for each in parameters):
        remarks.append(
            "Nothing grows: the base has the same shapes, so every factor is 1. Hand in the narrow "
            "model, whose rates are known, as base."
        )
    return parameters, large.tree, remarks


def walked(
    small: Programs,
    large: Programs,
    axes: Sequence[Growth],
    drawn: Sequence[bool],
    deep: bool = False,
) -> Interpreter:
    """Walk through the programs of a model at two widths, and return what the walk found.

    Raises:
        ValueError: if they are not the same at both.
    """
    walk = Interpreter(large.names, drawn, apply, settled, deep)
    operands = [Value(parts={n: Part(each)}) for n, each in enumerate(axes)]
    others = len(large.apply.jaxpr.invars) - len(axes)
    try:
        outputs = walk.run(small.apply, large.apply, [*operands, *[Value(signal=True)] * others])
    except Different as error:
        differ = "width and repeated blocks" if deep else "the width alone"
        raise ValueError(
            f"The base and the model are not one model at two widths: {error}. Build both with "
            f"the same function, and let {differ} differ."
        ) from None
    for n, output in enumerate(outputs):
        walk.consumed(output, (n,), "the output")
    return walk


def _branches(walk: Interpreter, pairs: Sequence[int]) -> tuple[float, list[str]]:
    """Mark the uses in branches; return by how much these grow in number, and remarks.

    Args:
        walk: through both programs.
        pairs: for each parameter the number of the base's.

    Raises:
        ValueError: if the rule for branches does not cover the model.
    """
    depth = walk.depth
    if depth is None or not depth.repeated:
        return 1.0, []
    branches, remarks = depth.branches, []
    if not branches:
        raise ValueError(
            "The model repeats blocks more often than the base, and they add nothing to a stream: "
            "without residual branches, x + f(x), no factors carry over to another depth."
        )
    seen: set[int] = set()
    factor = float(depth.growth) ** -0.5
    for branch in branches:
        numbers = [n for n in range(len(walk.uses)) if branch.uses >> n & 1]
        owners = {walk.uses[n].parameter for n in numbers}
        if again := seen & owners:
            names = ", ".join(walk.names[n] for n in sorted(again))
            raise ValueError(
                f"{names} is in several branches, or in a branch of a branch: how it scales with "
                "the depth is not known. Let each branch have its own parameters."
            )
        seen |= owners
        for n in numbers:
            walk.uses[n].branch = "last" if n in branch.last else "inside"
        if not branch.last and rounded(branch.size) != rounded(factor):
            names = ", ".join(walk.names[n] for n in sorted(owners))
            remarks.append(
                f"the branch of {names} does not end with a product: multiply what it makes by "
                f"{factor / branch.size:.4g} in the model."
            )
    repeated = {n for n, pair in enumerate(pairs) if pairs.count(pair) > 1} | depth.stacked
    apart = {
        walk.names[use.parameter]
        for use in walk.uses
        if not use.branch and use.parameter in repeated
    }
    if apart:
        raise ValueError(
            f"{', '.join(sorted(apart))} is in a repeated block and in no branch of it, such as a "
            "norm behind the sum: how it scales with the depth is not known. Put norms into the "
            "branches: x + f(norm(x))."
        )
    return float(depth.growth), remarks


def _pairs(small: Programs, large: Programs, deep: bool) -> list[int]:
    """Return for each parameter the number of the base's that it is compared with.

    Raises:
        ValueError: if one has none.
    """
    numbers = {name: n for n, name in enumerate(small.names)}
    missing = set(large.names) - set(small.names)
    extra = set(small.names) - set(large.names)
    if deep and (missing or extra):
        places = {var: n for n, var in enumerate(small.apply.jaxpr.invars)}
        inputs = large.apply.jaxpr.invars
        pairs = paired(small.apply, large.apply)
        found = {
            name: places[pairs[var]] if var in pairs else numbers[name]
            for var, name in zip(inputs, large.names, strict=False)
            if var in pairs or name in numbers
        }
        if len(found) == len(large.names):
            return list(found.values())
        first, *more = (name for name in large.names if name not in found)
        text = f"{first} and {len(more)} more" if more else first
        raise ValueError(
            f"No parameter of the base is used as {text}: the model is not the base with repeated "
            "blocks. Build both with the same function, and let the width and the number of blocks "
            "differ. Where the first block differs from the others, as it does if it turns a "
            "stream of bfloat16 into float32, give the base two blocks."
        )
    if missing or extra:
        parts = [("the base lacks", missing), ("the model lacks", extra)]
        text = "; ".join(f"{who} {', '.join(sorted(names))}" for who, names in parts if names)
        raise ValueError(
            f"The base and the model have different parameters: {text}. Build both with the same "
            "function, and let the width alone differ, or repeated blocks too with depth=True."
        )
    return [numbers[name] for name in large.names]


def _check(large: Programs, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ValueError if there is no parameter, one is empty or an axis shrinks."""
    if not large.names:
        raise ValueError("The model has no parameters.")
    for name, base, shape in zip(large.names, shapes, large.shapes, strict=True):
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
