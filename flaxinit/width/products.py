"""Matrix products and convolutions: which axes of a kernel are contracted, and which come out."""

from dataclasses import replace

from flaxinit.width.interpreter import Equation, Interpreter
from flaxinit.width.meeting import meeting, refuse, require_fixed, settled
from flaxinit.width.values import ONE, ZERO, Part, Value, product


def matrix_product(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    summed, batch = equation.params["dimension_numbers"]
    if any(value.size == 0 for value in values):
        return ZERO
    parametric = [v.parametric for v in values]
    if all(parametric):
        chosen = [n for n in (0, 1) if values[n].looked_up or _is_table(equation, n)]
        if not chosen:
            return _of_parameters(equation, values)
        values = list(values)
        values[chosen[0]] = settled(walk, equation, chosen[0], values[chosen[0]])
        parametric = [v.parametric for v in values]
    if not any(parametric):
        grown = product(equation.growth(0)[n] for n in summed[0])
        one, other = values
        first = one.times(other.size * float(grown), other.behind)
        second = other.times(one.size * float(grown), one.behind)
        scales = first.scales or second.scales
        made = replace(first, signal=one.signal or other.signal, scales=scales)
        if one.signal and other.signal:
            walk.products[equation.place] = (), made
        return made
    side = parametric.index(True)
    kernel, signal = values[side], values[1 - side]
    if not signal.signal:
        if kernel.looked_up:
            kernel = settled(walk, equation, side, kernel)
            grown = product(equation.growth(0)[n] for n in summed[0])
            return kernel.times(float(grown) * signal.size)
        return _with_constant(walk, equation, values, side)
    axes = equation.growth(side)
    require_fixed(walk, kernel, batch[side], _APART)
    free = [n for n in range(len(axes)) if n not in summed[side] and n not in batch[side]]
    return meeting(walk, equation, kernel, signal, summed[side], free, axes)


def grouped_product(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    """Multiply groups of rows, each by a kernel of its own: experts."""
    signal, kernel = values[:2]
    if signal.parametric:
        signal = settled(walk, equation, 0, signal)
    if not kernel.parametric:
        refuse(walk, signal, "a grouped product has a kernel that is computed from the inputs")
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (_, summed), (_, batch) = numbers.dot_dimension_numbers
    apart = [*batch, *numbers.rhs_group_dimensions]
    require_fixed(walk, kernel, apart, _APART)
    axes = equation.growth(1)
    free = [n for n in range(len(axes)) if n not in summed and n not in apart]
    return meeting(walk, equation, kernel, signal, summed, free, axes)


_APART = "separate kernels (experts, or heads with a kernel each)"


def convolution(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    signal, kernel = values
    if any(value.size == 0 for value in values):
        return ZERO
    if signal.parametric:
        signal = settled(walk, equation, 0, signal)
    if not kernel.parametric:
        grown = product(
            equation.growth(1)[n] for n in equation.params["dimension_numbers"].rhs_spec[1:]
        )
        first = signal.times(kernel.size * float(grown), kernel.behind)
        return replace(first, signal=signal.signal or kernel.signal)
    if not signal.signal:
        refuse(walk, kernel, "it is convolved with constants")
    out, *inside = equation.params["dimension_numbers"].rhs_spec
    groups = equation.params["feature_group_count"]
    # With as many groups as channels, each channel has numbers of its own, as a gain.
    shared = groups == equation.base.params["feature_group_count"]
    return meeting(walk, equation, kernel, signal, inside, [out], equation.growth(1), shared)


def _is_table(equation: Equation, side: int) -> bool:
    """Return whether a factor holds learned vectors, such as queries, that a kernel multiplies.

    It is summed over an axis that grows. None of its other axes grow: the number of vectors stays.
    """
    summed = equation.params["dimension_numbers"][0][side]
    axes = equation.growth(side)
    grown = [n for n, growth in enumerate(axes) if growth != 1]
    return bool(grown) and all(n in summed for n in grown)


def _of_parameters(equation: Equation, values: list[Value]) -> Value:
    """Multiply two kernels, as in a low-rank update."""
    summed, batch = equation.params["dimension_numbers"]
    grown = product(equation.growth(0)[n] for n in summed[0])
    ranks = [len(equation.shapes(n)[1]) for n in (0, 1)]
    free = [
        [n for n in range(rank) if n not in summed[side] and n not in batch[side]]
        for side, rank in enumerate(ranks)
    ]
    parts: dict[int, Part] = {}
    for side, value in enumerate(values):
        others = (ONE,) * len(free[1 - side])
        for number, part in value.parts.items():
            shared = tuple(part.axes[n] for n in batch[side])
            own = tuple(part.axes[n] for n in free[side])
            axes = (*shared, *own, *others) if side == 0 else (*shared, *others, *own)
            inner = (part.inner or ONE) * grown
            twice = part.bent or ("dot_general" if number in parts else "")
            parts[number] = replace(part, axes=axes, inner=inner, bent=twice)
    return Value(parts=parts, size=values[0].size * values[1].size)


def _with_constant(walk, equation: Equation, values: list[Value], side: int) -> Value:
    """Multiply a kernel by a constant matrix, as in a transform of it."""
    summed, batch = equation.params["dimension_numbers"]
    kernel = values[side]
    for n in summed[side]:
        if any(part.axes[n] != 1 for part in kernel.parts.values()):
            refuse(walk, kernel, "a growing axis of it is multiplied with a constant matrix")
    rank, other = (len(equation.shapes(n)[1]) for n in (side, 1 - side))
    free = [n for n in range(rank) if n not in summed[side] and n not in batch[side]]
    ones = (ONE,) * (other - len(summed[side]) - len(batch[side]))

    def moved(axes):
        shared, own = tuple(axes[n] for n in batch[side]), tuple(axes[n] for n in free)
        return (*shared, *own, *ones) if side == 0 else (*shared, *ones, *own)

    return replace(kernel.moved(moved), size=kernel.size * values[1 - side].size)
