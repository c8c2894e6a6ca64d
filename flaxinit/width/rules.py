"""The rule of each operation, on values at two widths."""

from dataclasses import replace

from flaxinit.signal.rules.functions import ELEMENTWISE
from flaxinit.versions.jaxpr import IDENTITIES
from flaxinit.width.elementwise import elementwise, nonlinear
from flaxinit.width.interpreter import Equation, Interpreter
from flaxinit.width.meeting import refuse, settled
from flaxinit.width.moves import MOVES
from flaxinit.width.products import convolution, grouped_product, matrix_product
from flaxinit.width.values import Value, product


def apply(walk: Interpreter, equation: Equation, values: list[Value]) -> list[Value]:
    """Return the results of an equation that is not a call or a loop."""
    name, outputs = equation.name, equation.target.outvars
    if name in IDENTITIES and len(values) == len(outputs):
        return list(values)
    if name == "dot_general":
        return [matrix_product(walk, equation, values)]
    if name == "ragged_dot_general":
        return [grouped_product(walk, equation, values)]
    if name == "conv_general_dilated":
        return [convolution(walk, equation, values)]
    if name in MOVES:
        return MOVES[name](walk, equation, values)
    if name.startswith("reduce_") or name in ("argmax", "argmin"):
        return reduction(walk, equation, values)
    if name in ELEMENTWISE:
        return [elementwise(walk, equation, values)]
    if name == "iota":
        axis = equation.params["dimension"]
        return [Value(size=float(equation.out_growth()[axis]))]
    return other(walk, equation, values)


def other(walk: Interpreter, equation: Equation, values: list[Value]) -> list[Value]:
    """Handle an operation without a rule, which no parameter may enter."""
    for value in values:
        if value.parametric and not value.looked_up:
            refuse(walk, value, f"it meets {equation.name}, for which there is no rule")
    values = [settled(walk, equation, n, value) for n, value in enumerate(values)]
    for value in values:
        walk.consumed(value, equation.place, equation.name)
    return [nonlinear(values) for _ in equation.target.outvars]


def reduction(walk: Interpreter, equation: Equation, values: list[Value]) -> list[Value]:
    value = values[0]
    axes = equation.params.get("axes", ())
    grown = product(equation.growth(0)[n] for n in axes)
    total = equation.name == "reduce_sum"
    if value.parametric and value.looked_up:
        value = settled(walk, equation, 0, value)
    if value.parametric:
        parts = {
            n: replace(
                part,
                axes=tuple(a for k, a in enumerate(part.axes) if k not in axes),
                bent=part.bent or equation.name,
            )
            for n, part in value.parts.items()
        }
        return [
            replace(value, parts=parts, size=value.size * float(grown) if total else value.size)
        ]
    if total:
        return [value.times(float(grown))]
    if equation.name in ("reduce_max", "reduce_min"):
        return [replace(value, scales={})]
    return [nonlinear(values) for _ in equation.target.outvars]
