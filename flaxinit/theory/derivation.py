"""`Derivation`: the moments of an activation, what follows from them, and its reports."""

import math
import sys
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Unpack

from sympy import Expr, Symbol

from flaxinit.initializers.options import KernelOptions, takes_options
from flaxinit.theory.functions.constants import read_constant
from flaxinit.theory.functions.piecewise import derivative, jumps, substitute
from flaxinit.theory.meanfield.maps import Maps
from flaxinit.theory.moments.moment import Moment, moment
from flaxinit.theory.report.text import latex_report, markdown_report, terminal_report

if TYPE_CHECKING:
    from flaxinit.initializers.scaling import Mode, VarianceScaling
    from flaxinit.sampling import Distribution


@dataclass(frozen=True)
class Derivation:
    """What the theory says about an activation φ under z ~ N(0, q).

    ``gain = 1/√E[φ²]`` and ``backward_gain = 1/√E[φ'²]``, both at q = 1.

    Attributes:
        name: the name of the activation.
        expr: φ in SymPy, in the symbol `flaxinit.theory.z`.
        mean: E[φ].
        second_moment: E[φ²].
        derivative_second_moment: E[φ'²]; of a gate f(u, v) it is E[f_u² + f_v²], since a gradient
            reaches the inputs through both kernels.
        custom_derivative: whether φ has a gradient of its own, such as a straight-through
            estimator; then φ' is that gradient.

    >>> from flaxinit import derive
    >>> relu = derive("relu")
    >>> relu.second_moment.exact, relu.gain == 2**0.5
    (q/2, True)

    References: He, Zhang, Ren, Sun (2015); Poole et al. (2016).
    """

    name: str
    expr: Expr
    mean: Moment
    second_moment: Moment
    derivative_second_moment: Moment
    custom_derivative: bool = field(default=False, repr=False)

    def __post_init__(self):
        if self.second_moment.bounds and not self.second_moment.parameters:
            if self.second_moment.value < sys.float_info.min:  # 1/E[φ²] loses digits, or is inf
                raise ValueError(_too_small(self.name, self.second_moment))
            if not self.mean.exists:
                return
            spread = self.second_moment.value - self.mean.value**2
            if spread < -1e-15 * self.second_moment.value:  # a few units in the last place
                raise AssertionError(f"{self.name} has E[φ²] < E[φ]², which cannot be.")

    def __repr__(self) -> str:
        if parameters := self.second_moment.parameters:
            known = self.second_moment.exact
            closed = "" if known is None else f", E[phi^2]={known}"
            return f"Derivation({self.name!r}{closed}, open: {', '.join(map(str, parameters))})"
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
        """1/√E[φ'²], the factor that keeps the gradients; inf if φ' is 0 almost everywhere.

        Raises:
            ValueError: if JAX has no gradient of φ, as of `lax.while_loop`, or a float cannot
                hold the gain.
        """
        moment = self.derivative_second_moment
        value, vanishes = moment.value, moment.bounds is not None and not any(moment.bounds)
        if value < sys.float_info.min and not vanishes:
            raise ValueError(_too_small(self.name, moment))
        return math.sqrt(1 / value) if value > 0 else math.inf

    def variance(self, fan_in: int) -> float:
        """Return ``Var W = 1 / (fan_in · E[φ²])``.

        >>> from flaxinit.theory import derive
        >>> derive("relu").variance(fan_in=100)
        0.02
        """
        if not fan_in > 0:
            raise ValueError(f"fan_in, a number of terms, must be above 0, got {fan_in}.")
        return 1 / (fan_in * self.second_moment.value)

    def subs(self, **values) -> "Derivation":
        """Return the derivation with numbers in place of open parameters.

        >>> from flaxinit.theory import derive
        >>> derive("where(x > 0, x, a * x)").subs(a=0.2).second_moment.value
        0.52
        """
        known = {symbol.name: symbol for symbol in self.second_moment.parameters}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"{self.name} has no open parameter {', '.join(unknown)}. "
                f"It has {', '.join(known) or 'none'}."
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
        """(E[φ²], E[φ'²]) at q = 1; the second is nan if JAX cannot differentiate φ.

        Raises:
            ValueError: if parameters are open.

        >>> from flaxinit.theory import derive
        >>> derive("relu").moments
        (0.5, 0.5)
        """
        if parameters := self.second_moment.parameters:
            numbers = ", ".join(f"{parameter}=0.1" for parameter in parameters)
            raise ValueError(
                f"{self.name} has open parameters, so its gain is not a single number. Give them "
                f"values: flaxinit.derive(...).subs({numbers})."
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
        """Return the initializer of the kernel after this activation, as `flaxinit.he` does.

        Args:
            mode: which signal to keep; see `flaxinit.he`.
            distribution: as in `flaxinit.he`; it never changes the variance.
            **kernel: as in `flaxinit.he`.

        Raises:
            TypeError: if a keyword is none of these.
            ValueError: if parameters are open, or no finite variance does what the mode asks.

        >>> from flaxinit.theory import derive
        >>> derive("relu").initializer().variance((100, 50))
        0.02
        """
        # The theory knows an initializer only here. It is imported on use: a proof needs no JAX.
        from flaxinit.initializers.scaling import VarianceScaling

        return VarianceScaling.from_moments(
            self.moments, mode, distribution, activation=repr(self.name), **kernel
        )

    @cached_property
    def curvature(self) -> Moment:
        """E[φ''], if φ and φ' are continuous.

        Raises:
            ValueError: if φ has a jump or a corner, where φ'' is not a function.

        >>> from flaxinit.theory import derive
        >>> derive("gelu").curvature.exact
        sqrt(2)*(q + 2)/(2*sqrt(pi)*(q + 1)**(3/2))
        """
        pieces = self.mean.pieces
        slopes = derivative(pieces)
        rough = jumps(pieces) + jumps(slopes)
        if rough:
            raise ValueError(
                f"{self.name} has a jump or a corner at {rough[0]}, where its second derivative is "
                "not a function. Only a smoother activation has E[φ'']."
            )
        return moment(r"\mathbb{E}[\varphi'']", derivative(slopes))

    @cached_property
    def maps(self) -> Maps:
        """The mean-field theory: Q-map, C-map, χ, fixed points, edge of chaos, criticality.

        >>> from flaxinit.theory import derive
        >>> derive("relu").maps.qmap(q=3.0, sigma_w2=2.0)
        3.0
        """
        if not self.mean.pieces:
            raise ValueError(
                f"{self.name} is a gate of two inputs, and the maps exist only for one. Derive "
                "its activation alone."
            )
        if self.second_moment.parameters:
            numbers = ", ".join(f"{symbol}=0.1" for symbol in self.second_moment.parameters)
            raise ValueError(
                f"{self.name} has open parameters, and the maps need numbers. Give them values: "
                f"flaxinit.derive(...).subs({numbers})."
            )
        moments = self.second_moment, self.derivative_second_moment
        return Maps(self.name, self.mean.pieces, *moments, self.custom_derivative)

    def markdown(self) -> str:
        """Return the derivation as Markdown with LaTeX."""
        return markdown_report(self)

    def latex(self) -> str:
        """Return the derivation as a LaTeX fragment."""
        return latex_report(self)

    _repr_markdown_ = markdown

    def _repr_latex_(self) -> str:
        return self.latex()

    def __rich__(self):
        return terminal_report(self)


def _too_small(name: str, moment: Moment) -> str:
    return (
        f"{name} has {moment.integrand} = {moment.digits}, outside the range of a float, so it has "
        "no gain. Rescale the activation."
    )


def _parameter_value(symbol: Symbol, value) -> Expr:
    """Return a parameter's value as an exact number that its assumptions allow."""
    if isinstance(value, Expr):
        number = value
    elif isinstance(value, Real) and math.isfinite(value):
        number = read_constant(value)
    else:
        raise ValueError(f"The parameter {symbol} must be a finite real number, got {value!r}.")
    for assumption in ("finite", "real", "positive", "negative", "integer"):
        if getattr(symbol, f"is_{assumption}") and not getattr(number, f"is_{assumption}"):
            raise ValueError(f"The parameter {symbol} must be {assumption}, got {value!r}.")
    return number
