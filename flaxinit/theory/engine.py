"""The engine: reads any form of activation and takes its moments, within a budget of work."""

from functools import lru_cache
from types import FunctionType
from typing import Any

from sympy import Expr

from flaxinit.theory.derivation import Derivation
from flaxinit.theory.functions.brief import short, shortened
from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.piecewise import map_pieces
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.moments.enclosure import Diverges
from flaxinit.theory.moments.gates import gate_moments, takes_two
from flaxinit.theory.moments.moment import infinite, missing, moment
from flaxinit.theory.reading.activation import Reading, read_activation, read_gate

BUDGET = 20.0  # seconds; the catalogue takes three hundredths of one for an activation
_LEAST = 1.0  # seconds: what it takes to read and to certify almost any activation
_SHARE = 1 / 4  # of the budget, for the closed form of each of the three moments


def derive(activation: Any, *, budget: float = BUDGET) -> Derivation:
    """Derives everything the theory says about an activation.

    Args:
        activation: a catalogue name (``"gelu"``), a formula in x
            (``"x * tanh(softplus(x))"``), a SymPy expression in one symbol, a JAX
            function of one array (`jax.nn.gelu`, a lambda, a `functools.partial`), or one
            of two arrays that is a gate: sums of products φ(u)·ψ(v), such as
            ``lambda u, v: nn.silu(u) * v``, and functions of u ± v, such as ``jnp.maximum``.
        budget: how much work the whole may take, in seconds of one core. Work is counted, not
            timed, so that the answer is the same on any machine. A quarter may go into the
            closed form of each moment, then the certified enclosure stands alone; to read an
            activation and to certify it, one second is always allowed.

    Returns:
        The derivation.

    Raises:
        ValueError: if the activation cannot be read, is not elementwise, is constant, has a
            moment that diverges or cannot be certified, or takes more than the budget.
        TypeError: if it is no form of an activation.

    >>> derive("relu").gain == 2**0.5
    True
    >>> derive("gelu").second_moment.exact
    q**2/(pi*(q + 1)*sqrt(2*q + 1)) + q*asin(q/(q + 1))/(2*pi) + q/4
    """
    if isinstance(activation, Derivation):
        return activation
    if not (isinstance(budget, int | float) and budget >= 0):
        raise ValueError(f"the budget is a number of seconds, at least 0; got {budget!r}")
    allowed = max(budget, _LEAST)
    try:
        with limited(allowed):
            return _derive_any(activation, budget)
    except OverBudget:
        raise OverBudget(
            f"{_called(activation)} takes more work to derive than {allowed:g} s of one core; "
            "derive a simpler function, or give it a larger budget"
        ) from None
    except (RecursionError, NotImplementedError) as error:  # SymPy's, also of its own defects
        raise ValueError(
            f"{_called(activation)} leads SymPy to what it does not finish "
            f"({type(error).__name__}): nest less, or write the function another way"
        ) from error


def _called(activation) -> str:
    """What an activation is called in a message."""
    if isinstance(activation, Expr):
        return short(activation)
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", None)
    return shortened(name or type(activation).__name__)


def _derive_any(activation, budget: float) -> Derivation:
    if isinstance(activation, str):
        return _derive_text(activation, budget)
    if callable(activation) and takes_two(activation):
        return _derive_gate(activation, budget)
    if _is_library_function(activation):
        return _derive_library(activation, budget)
    return _derive(read_activation(activation), budget)


def _is_library_function(activation) -> bool:
    """Whether it is a function of JAX or Flax, which does not change while a program runs."""
    plain = isinstance(activation, FunctionType) or hasattr(activation, "__wrapped__")
    return plain and (activation.__module__ or "").partition(".")[0] in ("jax", "flax")


@lru_cache(maxsize=256)
def _derive_library(function, budget: float) -> Derivation:
    return _derive(read_activation(function), budget)


def _derive_gate(function, budget: float) -> Derivation:
    """A gate f(u, v) of independent u and v."""
    name, expr = read_gate(function)
    return Derivation(name, expr, *gate_moments(expr, _SHARE * budget))


@lru_cache(maxsize=256)
def _derive_text(text: str, budget: float) -> Derivation:
    return _derive(read_activation(text), budget)


@lru_cache(maxsize=256)
def _derive(reading: Reading, budget: float) -> Derivation:
    """Derived once: functions that are read alike, and a function read again, share it."""
    if not any(piece.expr.has(z) for piece in reading.pieces) and len(reading.pieces) == 1:
        kind = "zero" if reading.pieces[0].expr == 0 else "constant"
        raise ValueError(
            f"{reading.name} is {kind}: it carries no signal, so no gain can keep one; "
            "remove it from the network"
        )
    share = _SHARE * budget
    mean = moment(r"\mathbb{E}[\varphi]", reading.pieces, share)
    second = moment(r"\mathbb{E}[\varphi^2]", map_pieces(reading.pieces, _square), share)
    symbol, slopes = r"\mathbb{E}[\varphi'^2]", map_pieces(reading.derivative, _square)
    try:
        backward = (
            moment(symbol, slopes, share) if slopes else missing(symbol, reading.no_derivative)
        )
    except Diverges as error:  # the forward gain of √|x|, say, exists all the same
        backward = infinite(symbol, slopes, str(error))
    return Derivation(reading.name, reading.expr, mean, second, backward, reading.custom_derivative)


def _square(expr: Expr) -> Expr:
    return expr**2
