"""Rules of elementwise operations on values at two widths."""

from dataclasses import replace

from flaxinit.width.interpreter import Equation, Interpreter
from flaxinit.width.meeting import settled
from flaxinit.width.values import ONE, ZERO, Part, Value

_LINEAR = {"convert_element_type", "copy", "copy_p", "neg", "real", "stop_gradient"}
_SUMS = {"add", "add_any", "sub"}
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1 / 3, "square": 2.0, "abs": 1.0}


def elementwise(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    name = equation.name
    if name in _LINEAR:
        return values[0]
    values = [_spread(equation, n, value) for n, value in enumerate(values)]
    if name == "select_n":
        which, *values = values
        if which.parametric and not any(value.signal or value.looked_up for value in values):
            return _bent([which, *values], name)
        which = settled(walk, equation, len(values), which)
        result = added(walk, equation, values)
        return replace(
            result,
            signal=result.signal or (which.signal and not result.parametric),
            looked_up=result.looked_up or (which.signal and result.parametric),
            behind=result.behind | which.behind,
        )
    if name in _SUMS:
        total = added(walk, equation, values)
        if walk.depth is not None:
            walk.depth.added(equation.place, values[0], values[1], total, walk.uses)
        return total
    if name == "mul":
        return multiplied(walk, equation, values)
    if name == "div":
        return divided(walk, equation, values)
    if name in _POWERS or name == "integer_pow":
        power = _POWERS.get(name) or equation.params["y"]
        return powered(walk, equation, values[0], power)
    if any(value.parametric for value in values) and not any(
        value.signal or value.looked_up for value in values
    ):
        return _bent(values, name)
    values = [settled(walk, equation, n, value) for n, value in enumerate(values)]
    if name in ("max", "min", "clamp") and not any(value.scales for value in values):
        return replace(nonlinear(values), size=max(value.size for value in values))
    if equation.target.outvars[0].aval.dtype != bool:  # which does not depend on the scale
        for value in values:
            walk.consumed(value, equation.place, name)
    return nonlinear(values)


def _spread(equation: Equation, n: int, value: Value) -> Value:
    """Give a value all axes of the result, which a number among arrays lacks."""
    rank = len(equation.out_shapes()[1])
    if len(equation.shapes(n)[1]) == rank:
        return value
    return value.moved(lambda axes: (ONE,) * rank)


def _merged(values: list[Value], bent: str = "", twice: str = "") -> dict[int, Part]:
    """Return the parts of a value that is made of several values of parameters.

    Args:
        values: what it is made of.
        bent: the operation, if it is linear in none of them.
        twice: the operation, if it is not linear in a parameter that several of them have.
    """
    parts: dict[int, Part] = {}
    for value in values:
        for n, part in value.parts.items():
            why = part.bent or bent
            if n in parts:
                axes = tuple(map(max, part.axes, parts[n].axes))
                part = replace(part, axes=axes)
                why = why or parts[n].bent or twice
            parts[n] = replace(part, bent=why)
    return parts


def _bent(values: list[Value], name: str) -> Value:
    return Value(parts=_merged(values, name), looked_up=any(v.looked_up for v in values))


def added(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    """Add values, or choose one: each term keeps what it is multiplied by."""
    if not any(value.parametric for value in values) or any(
        value.signal or value.looked_up for value in values
    ):
        values = [settled(walk, equation, n, value) for n, value in enumerate(values)]
    growing = {value.size for value in values if value.signal or value.parametric} - {0.0}
    constants = {value.size for value in values if not value.signal and not value.parametric}
    # A constant that does not grow, such as the ε of a norm or the −∞ of a mask, sets no scale.
    sizes = growing | (constants - {0.0, 1.0}) or constants
    parts = _merged(values)
    scales: dict[int, float] = {}
    behind = 0
    for value in values:
        scales.update(value.scales)
        behind |= value.behind
    size = max(sizes, default=1.0)
    if len(sizes) > 1:
        # Values that no use can scale set the size, or 1 if there are none; uses scale the others.
        owned = [v.size for v in values if not v.scales and (v.signal or v.parametric)]
        size = max(owned, default=1.0)
    signal = any(value.signal for value in values)
    return Value(signal=signal, parts=parts, size=size, scales=scales, behind=behind)


def multiplied(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    one, other = values
    chosen = one.looked_up or other.looked_up
    if chosen and ((one.parametric and other.parametric) or one.signal or other.signal):
        one, other = (settled(walk, equation, n, value) for n, value in enumerate(values))
    if one.size == 0 or other.size == 0:
        return ZERO
    if one.parametric and other.parametric:
        return Value(parts=_merged(values, twice="mul"), size=one.size * other.size)
    if (one.signal or other.signal) and (one.parametric or other.parametric):
        number = 0 if one.parametric else 1
        gain, value = (one, other) if one.parametric else (other, one)
        random = any(walk.drawn[n] for n in gain.parts)
        gain = settled(walk, equation, number, gain)
        # One factor of a product is scaled for all: a factor that is drawn, if there is one.
        scales = gain.scales if random or not value.scales else value.scales
        factor = value.size if scales is gain.scales else gain.size
        return Value(
            signal=True,
            size=gain.size * value.size,
            scales={n: s * factor for n, s in scales.items()},
            behind=gain.behind | value.behind,
        )
    if one.parametric or other.parametric:
        kernel, factor = (one, other) if one.parametric else (other, one)
        return replace(kernel, size=kernel.size * factor.size)
    first = one.times(other.size, other.behind)
    second = other.times(one.size, one.behind)
    scales = first.scales or second.scales
    return replace(first, signal=one.signal or other.signal, scales=scales)


def divided(walk: Interpreter, equation: Equation, values: list[Value]) -> Value:
    over, under = values
    if under.parametric:
        if over.parametric and not (over.looked_up or under.looked_up):
            parts = _merged([over, _bent([under], "div")])
            return Value(parts=parts, size=over.size * _power(under.size, -1.0))
        if not over.signal and not under.looked_up:
            return _bent(values, "div")
        under = settled(walk, equation, 1, under)
    if over.parametric:
        if not under.signal:
            return replace(over, size=over.size * _power(under.size, -1.0))
        over = settled(walk, equation, 0, over)
    result = over.times(_power(under.size, -1.0), under.behind)
    return replace(result, signal=over.signal or under.signal)


def powered(walk: Interpreter, equation: Equation, value: Value, power: float) -> Value:
    if value.parametric and value.looked_up:
        value = settled(walk, equation, 0, value)
    if value.parametric:
        return replace(_bent([value], equation.name), size=_power(value.size, power))
    return replace(value, size=_power(value.size, power), scales={})


def _power(size: float, power: float) -> float:
    return size**power if size else 1.0


def nonlinear(values: list[Value]) -> Value:
    behind = 0
    for value in values:
        behind |= value.behind
    return Value(signal=any(value.signal for value in values), behind=behind)
