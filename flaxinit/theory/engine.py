"""`derive`: read an activation and derive its moments, within a budget of work."""

from contextlib import nullcontext
from functools import lru_cache
from types import FunctionType
from typing import Any

from sympy import Expr

from flaxinit.catalogue import catalogue_name
from flaxinit.theory.derivation import Derivation
from flaxinit.theory.functions.brief import short, shortened
from flaxinit.theory.functions.defects import SymPyFails, sympy_may_fail
from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.piecewise import map_pieces
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.functions.watch import watched
from flaxinit.theory.moments.enclosure import Diverges
from flaxinit.theory.moments.gates import gate_moments, takes_two
from flaxinit.theory.moments.moment import infinite, missing, moment
from flaxinit.theory.reading.activation import Reading, read_activation, read_gate

BUDGET = 20.0  # seconds; an activation of the catalogue takes about 0.03
_LEAST = 1.0  # seconds, enough to read and to certify almost any activation
_SHARE = 1 / 4  # of the budget, for the closed form of each of the three moments


def derive(activation: Any, *, budget: float = BUDGET) -> Derivation:
    """Derive everything the theory says about an activation.

    For a standard normal z, ``gain = 1/√E[φ(z)²]`` and ``backward_gain = 1/√E[φ'(z)²]``.

    Args:
        activation: a catalogue name (``"gelu"``), a formula in x
            (``"x * tanh(softplus(x))"``), a SymPy expression in one symbol, or a JAX function of
            one array (`jax.nn.gelu`, a lambda, a `functools.partial`). A function of two arrays
            is a gate: it may sum products φ(u)·ψ(v), such as ``lambda u, v: nn.silu(u) * v``, and
            functions of u ± v, such as ``jnp.maximum``.
        budget: how much work to allow, in seconds of one core. Work is counted, not timed, so
            every machine gives the same answer, but for the steps of SymPy, whose number varies by
            a few percent. The closed form of each moment may take a quarter of the budget; a
            moment whose form takes more has only its certified enclosure. One second is always
            allowed to read an activation and to certify it.

    Returns:
        The derivation.

    Raises:
        ValueError: if the activation cannot be read, is not elementwise, is constant, has a
            moment that diverges or cannot be certified, or takes more than the budget.
        TypeError: if it is not a form of an activation.

    >>> derive("relu").gain == 2**0.5
    True
    >>> derive("gelu").second_moment.exact
    q**2/(pi*(q + 1)*sqrt(2*q + 1)) + q*asin(q/(q + 1))/(2*pi) + q/4
    """
    if isinstance(activation, Derivation):
        return activation
    if not (isinstance(budget, int | float) and budget >= 0):
        raise ValueError(f"The budget must be a number of seconds, at least 0, got {budget!r}.")
    allowed = max(budget, _LEAST)
    known = isinstance(activation, str) and catalogue_name(activation)
    try:
        # A test derives the whole catalogue; to watch SymPy takes a quarter longer.
        with nullcontext() if known else watched(), limited(allowed), sympy_may_fail():
            return _derive_any(activation, budget)
    except OverBudget:
        raise OverBudget(
            f"{_called(activation)} takes more work to derive than {allowed:g} s of one core. "
            "Derive a simpler function, or pass a larger budget."
        ) from None
    except SymPyFails as error:
        raise SymPyFails(
            f"SymPy cannot finish {_called(activation)} ({type(error.__cause__).__name__}). Nest "
            "less, or write the function another way."
        ) from error.__cause__


def _called(activation) -> str:
    """Return what a message calls an activation."""
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
    """Tell whether it is a function of JAX or Flax, which does not change while a program runs."""
    plain = isinstance(activation, FunctionType) or hasattr(activation, "__wrapped__")
    return plain and (activation.__module__ or "").partition(".")[0] in ("jax", "flax")


@lru_cache(maxsize=256)
def _derive_library(function, budget: float) -> Derivation:
    return _derive(read_activation(function), budget)


def _derive_gate(function, budget: float) -> Derivation:
    """Derive a gate f(u, v) of independent u and v."""
    name, expr = read_gate(function)
    return Derivation(name, expr, *gate_moments(expr, _SHARE * budget))


@lru_cache(maxsize=256)
def _derive_text(text: str, budget: float) -> Derivation:
    return _derive(read_activation(text), budget)


@lru_cache(maxsize=256)
def _derive(reading: Reading, budget: float) -> Derivation:
    """Derive a reading once, for all functions that read alike."""
    if not any(piece.expr.has(z) for piece in reading.pieces) and len(reading.pieces) == 1:
        kind = "zero" if reading.pieces[0].expr == 0 else "constant"
        raise ValueError(
            f"{reading.name} is {kind}: it carries no signal, so no gain can keep one. "
            "Remove it from the network."
        )
    share = _SHARE * budget
    mean = moment(r"\mathbb{E}[\varphi]", reading.pieces, share)
    second = moment(r"\mathbb{E}[\varphi^2]", map_pieces(reading.pieces, _square), share)
    symbol, slopes = r"\mathbb{E}[\varphi'^2]", map_pieces(reading.derivative, _square)
    try:
        backward = (
            moment(symbol, slopes, share) if slopes else missing(symbol, reading.no_derivative)
        )
    except Diverges as error:  # a forward gain may still exist, as that of √|x| does
        backward = infinite(symbol, slopes, str(error))
    return Derivation(reading.name, reading.expr, mean, second, backward, reading.custom_derivative)


def _square(expr: Expr) -> Expr:
    return expr**2
