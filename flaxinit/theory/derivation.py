"""From an activation to its gains: the moments, what follows from them, and how to say so."""

import math
import sys
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from numbers import Real
from types import FunctionType
from typing import TYPE_CHECKING, Unpack

from sympy import Expr, Symbol

from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.theory.functions.brief import short, shortened
from flaxinit.theory.functions.constants import read_constant
from flaxinit.theory.functions.effort import OverBudget, limited
from flaxinit.theory.functions.piecewise import derivative, jumps, map_pieces, substitute
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.meanfield.maps import Maps
from flaxinit.theory.moments.enclosure import Diverges
from flaxinit.theory.moments.gates import gate_moments, takes_two
from flaxinit.theory.moments.moment import Moment, infinite, missing, moment
from flaxinit.theory.reading.activation import Reading, read_activation, read_gate
from flaxinit.theory.report.text import latex_report, markdown_report, terminal_report

if TYPE_CHECKING:
    from flaxinit.initializers.scaling import Mode, VarianceScaling
    from flaxinit.sampling import Distribution


BUDGET = 20.0  # seconds; the catalogue takes three hundredths of one for an activation
_LEAST = 1.0  # seconds: what it takes to read and to certify almost any activation
_SHARE = 1 / 4  # of the budget, for the closed form of each of the three moments


@dataclass(frozen=True)
class Derivation:
    """What the theory says about an activation φ under z ~ N(0, q).

    gain = 1/√E[φ²] and backward_gain = 1/√E[φ'²], both at q = 1.

    Attributes:
        name: how the activation was called.
        expr: φ in SymPy, in the symbol `flaxinit.theory.z`.
        mean: E[φ].
        second_moment: E[φ²].
        derivative_second_moment: E[φ'²].

    References:
        He, Zhang, Ren & Sun (2015), Delving Deep into Rectifiers.
        Poole et al. (2016), Exponential expressivity in deep neural networks.
    """

    name: str
    expr: Expr
    mean: Moment
    second_moment: Moment
    derivative_second_moment: Moment
    custom_derivative: bool = field(default=False, repr=False)

    def __post_init__(self):
        if self.second_moment.bounds and not self.second_moment.parameters:
            if self.second_moment.value < sys.float_info.min:  # 1/E[φ²] has lost digits, or is inf
                raise ValueError(_too_small(self.name, self.second_moment))
            if not self.mean.exists:
                return
            spread = self.second_moment.value - self.mean.value**2
            if spread < -1e-15 * self.second_moment.value:  # a few units in the last place
                raise AssertionError(f"{self.name}: E[φ²] < E[φ]², which cannot be")

    def __repr__(self) -> str:
        if self.second_moment.parameters:
            return f"Derivation({self.name!r}, E[phi^2]={self.second_moment.exact})"
        gains = f"gain={self.gain!r}"
        if self.derivative_second_moment.exists:
            gains += f", backward_gain={self.backward_gain!r}"
        return f"Derivation({self.name!r}, {gains})"

    @property
    def gain(self) -> float:
        """1/√E[φ²], the factor on the standard deviation that keeps the forward signal."""
        return math.sqrt(1 / self.second_moment.value)

    @property
    def backward_gain(self) -> float:
        """1/√E[φ'²], the factor that keeps the gradients; inf where φ' is 0 almost everywhere.

        Raises:
            ValueError: if JAX has no gradient of φ, as of `lax.while_loop`, or a gain of no float.
        """
        moment = self.derivative_second_moment
        value, vanishes = moment.value, moment.bounds is not None and not any(moment.bounds)
        if value < sys.float_info.min and not vanishes:
            raise ValueError(_too_small(self.name, moment))
        return math.sqrt(1 / value) if value > 0 else math.inf

    def variance(self, fan_in: int) -> float:
        """Var W = 1 / (fan_in · E[φ²]).

        >>> derive("relu").variance(fan_in=100)
        0.02
        """
        if not fan_in > 0:
            raise ValueError(f"fan_in is the number of terms summed into an output; got {fan_in}")
        return 1 / (fan_in * self.second_moment.value)

    def subs(self, **values) -> "Derivation":
        """The derivation with numbers put in for open parameters.

        >>> derive("where(x > 0, x, a * x)").subs(a=0.2).second_moment.value
        0.52
        """
        known = {symbol.name: symbol for symbol in self.second_moment.parameters}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"{self.name} has no open parameter {', '.join(unknown)}; "
                f"it has {', '.join(known) or 'none'}"
            )
        swap = {known[name]: _parameter_value(known[name], v) for name, v in values.items()}
        expr = self.expr.subs(swap)
        moments = [
            moment(m.symbol, substitute(m.pieces, swap)) if m.exists else m
            for m in (self.mean, self.second_moment, self.derivative_second_moment)
        ]
        return Derivation(self.name, expr, *moments, self.custom_derivative)

    @property
    def moments(self) -> tuple[float, float]:
        """(E[φ²], E[φ'²]) at q = 1; nan for the gradient of what JAX cannot differentiate.

        Raises:
            ValueError: if parameters are open.

        >>> derive("relu").moments
        (0.5, 0.5)
        """
        if parameters := self.second_moment.parameters:
            numbers = ", ".join(f"{parameter}=0.1" for parameter in parameters)
            raise ValueError(
                f"{self.name} has open parameters, so its gain is not a single number. Give them "
                f"values: flaxinit.derive(...).subs({numbers})"
            )
        backward = self.derivative_second_moment
        return self.second_moment.value, backward.value if backward.exists else math.nan

    @takes_options
    def initializer(
        self,
        mode: "Mode" = "fan_in",
        distribution: "Distribution" = "truncated_normal",
        **kernel: Unpack[KernelOptions],
    ) -> "VarianceScaling":
        """The initializer for the kernel after this activation, as `flaxinit.he` makes it.

        Args:
            mode: which signal to keep; see `flaxinit.he`.
            distribution: the shape of the draw, which never changes its variance.
            **kernel: as in `flaxinit.he`.

        >>> derive("relu").initializer().variance((100, 50))
        0.02
        """
        # The one place where the theory knows an initializer. On use: a proof needs no JAX.
        from flaxinit.initializers.scaling import VarianceScaling

        return VarianceScaling.from_moments(
            self.moments, mode, distribution, activation=repr(self.name), **kernel
        )

    @cached_property
    def curvature(self) -> Moment:
        """E[φ''], where φ'' exists: φ and φ' have to be continuous.

        Raises:
            ValueError: at a jump or a corner of φ, where φ'' is no function.

        >>> derive("gelu").curvature.exact
        sqrt(2)*(q + 2)/(2*sqrt(pi)*(q + 1)**(3/2))
        """
        pieces = self.mean.pieces
        slopes = derivative(pieces)
        rough = jumps(pieces) + jumps(slopes)
        if rough:
            raise ValueError(
                f"{self.name} has a jump or a corner at {rough[0]}, where its second derivative is "
                "not a function"
            )
        return moment(r"\mathbb{E}[\varphi'']", derivative(slopes))

    @cached_property
    def maps(self) -> Maps:
        """The mean-field theory: Q-map, C-map, χ, fixed points, edge of chaos, criticality.

        >>> derive("relu").maps.qmap(q=3.0, sigma_w2=2.0)
        3.0
        """
        if not self.mean.pieces:
            raise ValueError(f"{self.name} is a gate of two variables; the maps are for one")
        if self.second_moment.parameters:
            names = ", ".join(map(str, self.second_moment.parameters))
            raise ValueError(f"the maps need numbers for {names}: call .subs({names}=...) first")
        moments = self.second_moment, self.derivative_second_moment
        return Maps(self.name, self.mean.pieces, *moments, self.custom_derivative)

    def markdown(self) -> str:
        """The derivation as Markdown with LaTeX."""
        return markdown_report(self)

    def latex(self) -> str:
        """The derivation as a LaTeX fragment."""
        return latex_report(self)

    _repr_markdown_ = markdown

    def _repr_latex_(self) -> str:
        return self.latex()

    def __rich__(self):
        return terminal_report(self)


def _too_small(name: str, moment: Moment) -> str:
    return (
        f"{name} has {moment.integrand} = {moment.digits}, outside the range of a float, so that "
        "there is no gain; rescale the activation"
    )


def _parameter_value(symbol: Symbol, value) -> Expr:
    """A parameter's value as an exact number that its assumptions allow."""
    if isinstance(value, Expr):
        number = value
    elif isinstance(value, Real) and math.isfinite(value):
        number = read_constant(value)
    else:
        raise ValueError(f"the parameter {symbol} takes a finite real number; got {value!r}")
    for assumption in ("finite", "real", "positive", "negative", "integer"):
        if getattr(symbol, f"is_{assumption}") and not getattr(number, f"is_{assumption}"):
            raise ValueError(f"the parameter {symbol} was taken to be {assumption}; got {value!r}")
    return number


def _square(expr: Expr) -> Expr:
    return expr**2


def derive(activation, *, budget: float = BUDGET) -> Derivation:
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
