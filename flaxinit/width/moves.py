"""Rules of operations that move, repeat, cut out or look up entries of values."""

from dataclasses import replace

from flaxinit.width.elementwise import added
from flaxinit.width.interpreter import Equation, Rule
from flaxinit.width.meeting import refuse, require_fixed
from flaxinit.width.values import ONE, Growth, growth, reshaped


def _transpose(walk, equation: Equation, values):
    order = equation.params["permutation"]
    return [values[0].moved(lambda axes: tuple(axes[n] for n in order))]


def _broadcast(walk, equation: Equation, values):
    places = {place: n for n, place in enumerate(equation.params["broadcast_dimensions"])}
    rank = len(equation.out_shapes()[1])

    def moved(axes: Growth) -> Growth:
        return tuple(axes[places[n]] if n in places else ONE for n in range(rank))

    return [values[0].moved(moved)]


def _reshape(walk, equation: Equation, values):
    old, new = equation.shapes(0), equation.out_shapes()

    def moved(axes: Growth) -> Growth:
        if (result := reshaped(axes, old, new)) is None:
            refuse(walk, values[0], f"its axes are mixed by a reshape from {old[1]} to {new[1]}")
        return result

    return [values[0].moved(moved)]


def _squeeze(walk, equation: Equation, values):
    dropped = {d % len(equation.shapes(0)[1]) for d in equation.params["dimensions"]}
    return [values[0].moved(lambda axes: tuple(a for n, a in enumerate(axes) if n not in dropped))]


def _cut(walk, equation: Equation, values):
    """Keep the axes at other sizes: a part that had a whole axis grows as the new axis does."""
    moving = values[0]
    chosen = any(value.signal for value in values[1:])
    results = []
    for n in range(len(equation.target.outvars)):
        old, new = equation.growth(0), equation.out_growth(n)

        def moved(axes: Growth, old=old, new=new) -> Growth:
            return tuple(
                now if had == was else had for had, was, now in zip(axes, old, new, strict=True)
            )

        result = moving.moved(moved)
        if chosen:
            result = replace(_chosen(equation, result), signal=not moving.parametric)
        results.append(result)
    return results


def _pad(walk, equation: Equation, values):
    return _cut(walk, equation, values[:1])


def _stack(walk, equation: Equation, values):
    axis = equation.params.get("axis", 0)
    values = [v.moved(lambda axes: (*axes[:axis], ONE, *axes[axis:])) for v in values]
    return [added(walk, equation, values)]


def _unstack(walk, equation: Equation, values):
    axis = equation.params.get("axis", 0)
    one = values[0].moved(lambda axes: (*axes[:axis], *axes[axis + 1 :]))
    return [one for _ in equation.target.outvars]


def _concatenate(walk, equation: Equation, values):
    return [added(walk, equation, values)]


def _gather(walk, equation: Equation, values):
    operand, indices = values[:2]
    if not operand.parametric:
        signal, behind = operand.signal or indices.signal, operand.behind | indices.behind
        return [replace(operand, signal=signal, behind=behind)]
    numbers = equation.params["dimension_numbers"]
    dropped = {*numbers.collapsed_slice_dims, *getattr(numbers, "operand_batching_dims", ())}
    rank = len(equation.out_shapes()[1])
    sizes = growth(equation.base.params["slice_sizes"], equation.params["slice_sizes"])
    old = equation.growth(0)
    looked_up = "entries that are looked up (a vocabulary, positions or experts)"
    require_fixed(walk, operand, dropped, looked_up)

    def moved(axes: Growth) -> Growth:
        kept = [
            sizes[n] if axes[n] == old[n] else axes[n] for n in range(len(axes)) if n not in dropped
        ]
        placed = dict(zip(numbers.offset_dims, kept, strict=True))
        return tuple(placed.get(n, ONE) for n in range(rank))

    rows = operand.moved(moved)
    return [_chosen(equation, rows) if indices.signal else rows]


def _chosen(equation: Equation, value):
    """Note that the inputs chose which entries of the parameters a value has."""
    lookup = equation.place
    parts = {n: replace(part, lookup=part.lookup or lookup) for n, part in value.parts.items()}
    return replace(value, parts=parts, looked_up=value.parametric)


def _update(walk, equation: Equation, values):
    """Put entries of one value in the place of another's."""
    scattered = equation.name.startswith("scatter")
    return [added(walk, equation, [values[0], values[2 if scattered else 1]])]


MOVES: dict[str, Rule] = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "slice": _cut,
    "dynamic_slice": _cut,
    "split": _cut,
    "rev": _cut,
    "pad": _pad,
    "tile": _pad,
    "stack": _stack,
    "unstack": _unstack,
    "concatenate": _concatenate,
    "gather": _gather,
    "dynamic_update_slice": _update,
    "scatter": _update,
    "scatter-add": _update,
}
