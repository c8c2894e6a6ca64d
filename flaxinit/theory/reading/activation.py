"""Read any form of activation: a name, a formula, a SymPy expression or a JAX function."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
from flint import acb
from sympy import Expr, Float, Symbol

from flaxinit.catalogue import catalogue_name
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import steady
from flaxinit.theory.functions.brief import short, short_list
from flaxinit.theory.functions.constants import read_constant
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.functions.piecewise import (
    Piece,
    derivative as derivative_of,
    parameters,
    samples,
    split,
    substitute,
)
from flaxinit.theory.functions.symbols import gate, z
from flaxinit.theory.reading.catalogue import ACTIVATIONS, catalogue_expr
from flaxinit.theory.reading.formula import A_GATE, read_formula
from flaxinit.theory.reading.moderate import RANGE, is_moderate
from flaxinit.theory.reading.vocabulary import FUNCTIONS

# Kinks lie at simple numbers. The grid avoids them: its steps of 1/6 are shifted by 1/π².
_GRID = np.arange(-48, 49) / 6 + 1 / np.pi**2
_SHARP_BITS = 1000


@dataclass(frozen=True)
class Reading:
    """An activation as it was understood.

    Attributes:
        name: the name of the activation.
        expr: its expression in z.
        pieces: the same, cut into pieces.
        derivative: the pieces of its derivative; none if JAX has no derivative.
        custom_derivative: whether JAX propagates another derivative than the function's own.
        no_derivative: why JAX has no derivative.
    """

    name: str
    expr: Expr
    pieces: tuple[Piece, ...]
    derivative: tuple[Piece, ...]
    custom_derivative: bool = False
    no_derivative: str = ""


def read_activation(activation) -> Reading:
    """Read any form of activation, and check the reading against the function's values.

    Args:
        activation: a catalogue name, a formula, a SymPy expression in one variable, or a
            JAX function.

    Returns:
        The reading.

    Raises:
        ValueError: if it cannot be read; the message says what to do.
        TypeError: if it is none of these.
    """
    if isinstance(activation, str):
        return _from_expr(activation.strip(), _named(activation.strip()))
    if isinstance(activation, Expr):
        return _from_expr(str(activation), _in_z(activation))
    # A dtype is callable too, and would be read as the identity.
    if callable(activation) and not isinstance(activation, type):
        return _from_function(activation)
    raise TypeError(
        "An activation must be a name ('gelu'), a formula ('x * tanh(x)'), a SymPy expression or "
        f"a JAX function, got {activation!r} of type {type(activation).__name__}."
        f"{_meant(activation)}"
    )


def _meant(value) -> str:
    """Return what to write for an argument that is not an activation."""
    if isinstance(value, float):
        return f' For the slope of a leaky ReLU write "max(x, {value:g}*x)".'
    if isinstance(value, type | np.dtype):
        return " Pass an initializer's dtype by name: dtype=."
    axes = value if isinstance(value, list | tuple) else [value]
    whole = axes and all(type(axis) is int for axis in axes)
    return " Pass an initializer's axes by name: in_axis=, out_axis=." if whole else ""


def _named(text: str) -> Expr:
    name = catalogue_name(text)
    return catalogue_expr(name) if name else read_formula(text, FUNCTIONS | ACTIVATIONS)


def _in_z(expr: Expr) -> Expr:
    # SymPy's arithmetic rounds Floats to 15 digits, so read each as the number it stands for.
    expr = expr.xreplace({f: read_constant(float(f)) for f in expr.atoms(Float)})
    symbols = expr.free_symbols
    if z in symbols or not symbols:
        return expr
    variable = next((s for s in symbols if s.name in ("x", "z")), None)
    if variable is None and len(symbols) == 1:
        (variable,) = symbols
    if variable is None:
        raise ValueError(
            f"{expr} has several symbols ({', '.join(sorted(map(str, symbols)))}), and none is the "
            f"variable. Call it x, or use flaxinit.theory.z. The others are parameters.{A_GATE}"
        )
    return expr.subs(variable, z)


def _from_expr(name: str, expr: Expr) -> Reading:
    for symbol in expr.free_symbols - {z}:
        if not symbol.is_real:
            raise ValueError(
                f"The parameter {symbol} must be real. Write Symbol({symbol.name!r}, real=True), "
                "or positive=True if its sign decides a branch."
            )
    if expr.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        raise ValueError(
            f"{name} is not a finite number in one of its branches: {short(expr)}. An activation "
            "must be defined on the whole real line."
        )
    _require_moderate(name, expr)
    pieces = split(expr)
    _require_real(name, pieces)
    _require_whole(name, expr, pieces)
    return Reading(name, expr, pieces, derivative_of(pieces))


def _from_function(function: Callable) -> Reading:
    from flaxinit.theory.reading.jax_function import NotTraceable, trace

    traced = trace(function)
    name, expr = traced.name, traced.expr()
    # Cancellation may cost the function half of its digits. A wrong reading differs by more.
    tolerance = traced.spacing**0.5
    values = traced.evaluate(_GRID)
    _require_finite(name, values)
    pieces = split(expr)
    _require_agreement(name, pieces, {}, values, tolerance)
    try:
        slopes = traced.derivative.evaluate(_GRID)
    except NotTraceable as error:  # lax.while_loop has values, but no gradient
        return Reading(name, expr, pieces, (), no_derivative=str(error))
    derivative = derivative_of(pieces)
    custom = _disagreement(derivative, {}, slopes, tolerance) is not None
    if custom:
        # JAX propagates the custom derivative (of a straight-through estimator, for example), so
        # the backward gain must be that of the custom derivative.
        derivative = split(traced.derivative.expr())
        _require_agreement(f"the derivative of {name}", derivative, {}, slopes, tolerance)
    return Reading(name, expr, pieces, derivative, custom)


def read_gate(function: Callable) -> tuple[str, Expr]:
    """Read a function of two arrays as (name, expression in z and `gate`), checked on values."""
    from flaxinit.theory.reading.jax_function import trace

    traced = trace(function, arguments=2)
    name, spacing, expr = traced.name, traced.spacing, traced.expr(gate)
    other = _GRID[::-1] / 2
    own = traced.evaluate(_GRID, other)
    _require_finite(name, own)
    with np.errstate(all="ignore"):
        read = sympy.lambdify((z, gate), expr, ["scipy", "numpy"])(_GRID, other)
    read = np.broadcast_to(np.asarray(read, float), own.shape)
    worst = int(np.argmax(np.abs(own - read) / (1 + np.abs(read))))
    if not abs(own[worst] - read[worst]) <= spacing**0.5 * (1 + abs(read[worst])):
        raise ValueError(
            f"{name} was read as {expr}, but at ({_GRID[worst]:.6g}, {other[worst]:.6g}) it "
            f"returns {own[worst]:.9g} and the reading gives {read[worst]:.9g}. Write the gate "
            "with other functions of JAX."
        )
    return name, expr


def _require_moderate(name: str, expr: Expr) -> None:
    """Refuse constants that are not moderate, wherever they stand."""
    if not expr.is_number:
        for part in expr.args:
            _require_moderate(name, part)
        return
    if not is_moderate(expr):
        raise ValueError(
            f"{name} contains the constant {expr}, but {RANGE} in size. Rescale the activation."
        )


def _require_finite(name: str, values: np.ndarray) -> None:
    if not np.all(np.isfinite(values)):
        worst = _GRID[~np.isfinite(values)]
        at = worst[np.argmin(np.abs(worst))]
        raise ValueError(
            f"{name} is not a finite real number at x = {at:.3g} (it returns "
            f"{values[at == _GRID][0]}). An activation must be defined on the whole real line."
        )


def _require_real(name: str, pieces: tuple[Piece, ...]) -> None:
    values = np.zeros(_GRID.shape)
    for at, ball in _balls(pieces, samples(parameters(pieces))):
        if not (ball.imag.contains(0) and ball.is_finite()):
            values[at] = np.nan
    _require_finite(name, values)


def _require_whole(name: str, expr: Expr, pieces: tuple[Piece, ...]) -> None:
    """Compare the pieces with the expression they were cut from, also beside every cut."""
    # A parameter may occur only in a branch taken at single points, and so in no piece.
    assigned = samples(sorted(expr.free_symbols - {z}, key=str))
    whole = numeric((Piece(-sympy.oo, sympy.oo, expr.subs(assigned)),))
    cut = numeric(substitute(pieces, assigned))
    beside = [end + step for end in cut.ends for step in (-1e-3, 1e-3)]
    points = np.concatenate([_GRID, beside, 100 * _GRID, _GRID / 100])
    own, read = whole(points), cut(points)
    usable = np.isfinite(own) & np.isfinite(read)
    points, own, read = points[usable], own[usable], read[usable]
    wrong = np.abs(own - read) > 2.0**-26 * (1 + np.abs(read))
    if np.any(wrong):
        raise ValueError(
            f"{name} was cut into ({short_list(p.expr for p in pieces)}), which differs from it "
            f"at x = {points[wrong][0]:.6g}. Write its conditions as polynomials in x."
        )


def _balls(pieces: tuple[Piece, ...], assigned: dict[Symbol, float]):
    """Yield (index, ball) for the pieces' value at each grid point."""
    symbols = tuple(assigned)
    with balls.precision(80):
        given = [acb(balls.to_ball(float(v))) for v in assigned.values()]
        ends = [balls.evaluate(p.high.subs(assigned)) for p in pieces[:-1]]
        programs = [balls.Program(p.expr, (z, *symbols)) for p in pieces]
        for at, x in enumerate(_GRID):
            point = balls.to_ball(float(x))
            which = sum(bool(end < point) for end in ends)
            ball = programs[which](acb(point), *given)
            if not ball.is_finite():  # 1 − erf(8), for example, is 0 to 80 bits
                form = steady(pieces[which].expr, 1 if x > 0 else -1)
                with balls.precision(_SHARP_BITS):
                    ball = balls.Program(form, (z, *symbols))(acb(point), *given)
            yield at, ball


def _disagreement(
    pieces, assigned, values: np.ndarray, tolerance: float
) -> tuple[float, float, complex] | None:
    """Return the first grid point at which reading and function differ, with both values."""
    for at, ball in _balls(pieces, assigned):
        own, imaginary = float(values[at]), 0.0 if ball.imag.contains(0) else ball.imag.mid()
        read = complex(ball.real.mid(), imaginary)
        if not (np.isfinite(own) and ball.is_finite()):
            continue
        if read.imag or abs(own - read) > tolerance * (1 + abs(read)):
            return float(_GRID[at]), own, read
    return None


def _require_agreement(name, pieces, assigned, values, tolerance) -> None:
    parted = _disagreement(pieces, assigned, values, tolerance)
    if not parted:
        return
    x, own, read = parted
    understood = f"{name} was read as ({short_list(p.expr for p in pieces)})"
    if read.imag:
        raise ValueError(
            f"{understood}, which is not a real number at x = {x:.6g}, where the function returns "
            f"{own:.9g}: a guard against NaN (nan_to_num, isnan, isfinite) is not read. Write the "
            "guard as a condition on x, such as jnp.where(x > 0, jnp.sqrt(x), 0)."
        )
    raise ValueError(
        f"{understood}, but at x = {x:.6g} it returns {own:.9g} and the reading gives "
        f"{read.real:.9g}: a rule is wrong, or the function rounds on purpose. Pass a formula "
        "instead."
    )
