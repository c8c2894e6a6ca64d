"""A Gaussian moment: exact if a closed form is known, and always certified."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal

import mpmath
import sympy
from flint import arb
from sympy import Expr, Symbol

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import polynomial
from flaxinit.theory.functions.piecewise import Piece, parameters, samples, substitute
from flaxinit.theory.functions.printing import text
from flaxinit.theory.functions.symbols import q, z
from flaxinit.theory.moments.closed_form import expectation
from flaxinit.theory.moments.enclosure import Diverges, NotCertifiable, enclose
from flaxinit.theory.moments.record import Step
from flaxinit.theory.moments.terms import NoClosedForm

CLOSED_FORM = 5.0  # seconds' worth of work for a closed form; without one there is the enclosure
_CHECKED_BITS = 100  # bits, 30 digits, to which the integral must be 0 if the closed form is 0


@dataclass(frozen=True)
class Moment:
    r"""E[f(√q z)] for a standard normal z.

    Attributes:
        symbol: the name of the moment in LaTeX, such as ``E[\varphi^2]``.
        pieces: f, as smooth pieces.
        exact: the expectation as an expression in q; None if no closed form is known. Its terms
            may cancel at a small q, and then a float in place of q loses its digits. `at` uses as
            many digits as it needs.
        bounds: certified lower and upper bound at q = 1, of at least 30 digits; None while
            parameters are open.
        steps: how the engine found the closed form.
        remark: why there is no closed form, or why it is not checked.

    >>> from flaxinit import derive
    >>> moment = derive("relu").second_moment
    >>> moment.exact, moment.value, moment.at(4.0)
    (q/2, 0.5, 2.0)
    """

    symbol: str
    pieces: tuple[Piece, ...] = field(repr=False)
    exact: Expr | None
    bounds: tuple[mpmath.mpf, mpmath.mpf] | None
    steps: tuple[Step, ...] = field(default=(), repr=False, compare=False)
    remark: str = field(default="", repr=False, compare=False)

    def __post_init__(self):
        if self.bounds is None:
            return
        low, high = self.bounds
        if mpmath.isinf(low):
            return
        with mpmath.workprec(2 * balls.PRECISION):
            width, size = high - low, max(abs(low), abs(high))
            # Thirty digits. A number that counts as 0 has none, and bounds around 0.
            certain = width <= size * mpmath.mpf(10) ** -balls.DIGITS
            if not (width >= 0 and (certain or (low == -high and size < 1e-100))):
                raise AssertionError(f"{self.integrand}: {self.bounds} do not certify 30 digits.")

    def __repr__(self) -> str:
        exact = None if self.exact is None else text(self.exact)
        return f"Moment({self.integrand}, exact={exact}, at q = 1: {self.digits})"

    @property
    def method(self) -> Literal["closed form", "enclosure"]:
        return "enclosure" if self.exact is None else "closed form"

    @property
    def parameters(self) -> tuple[Symbol, ...]:
        """The parameters left open, by name."""
        return parameters(self.pieces)

    @property
    def integrand(self) -> str:
        """The name of the expectation in plain text, such as E[φ'²]."""
        return self.symbol.replace(r"\mathbb{E}", "E").replace(r"\varphi", "φ").replace("^2", "²")

    @property
    def value(self) -> float:
        """The moment at q = 1, rounded to the nearest float; E[cos 40z] = e^{-800} rounds to 0."""
        if self.bounds is None:
            names = ", ".join(map(str, self.parameters))
            raise ValueError(
                f"{self.integrand} depends on the open parameter {names}. Call "
                f"derivation.subs({names.split(', ')[0]}=0.1) first, or read `.exact`."
            )
        return self._rounded(*self.bounds)

    def _rounded(self, low: mpmath.mpf, high: mpmath.mpf) -> float:
        if mpmath.isinf(low):
            return math.inf
        with mpmath.workprec(balls.PRECISION):
            value = float((low + high) / 2) or 0.0  # 0.0 in place of -0.0, after an underflow
        if math.isinf(value):
            raise ValueError(
                f"{self.integrand} = {mpmath.nstr(low, 5)} is outside the range of a float. "
                "Rescale the activation."
            )
        return value

    @property
    def digits(self) -> str:
        """The value at q = 1 with all its certified digits; the last is right to one unit."""
        if self.bounds is None:
            return text(self.exact) if self.exact is not None else "unknown"
        low, high = self.bounds
        if mpmath.isinf(low):
            return "infinite"
        with mpmath.workprec(2 * balls.PRECISION):
            middle, radius = (low + high) / 2, (high - low) / 2
            if radius == 0:
                return mpmath.nstr(middle, 40).removesuffix(".0")
            if abs(middle) <= radius:
                return f"0 ± {mpmath.nstr(radius, 1)}"
            certified = int(mpmath.floor(mpmath.log10(abs(middle) / radius)))
            return mpmath.nstr(middle, min(certified, 40), strip_zeros=False)

    @property
    def exists(self) -> bool:
        """Whether there is a value; there is none if JAX has no gradient to square."""
        return True

    def ball(self, variance) -> arb:
        """Return a ball that contains the moment at q = variance."""
        check_variance(variance)
        if self.exact is not None and not (variance != 1 and may_diverge(self.pieces)):
            with contextlib.suppress(NotCertifiable):  # the form may cancel, as for q → 0
                return balls.sharp(self.exact, {q: variance})
        return enclose(self.pieces, variance)

    def at(self, variance: float) -> float:
        """Return the moment at q = variance, rounded to the nearest float."""
        return self._rounded(*balls.bounds(self.ball(variance)))


class MissingMoment(Moment):
    """A moment that does not exist or is not certified; the remark says why."""

    @property
    def exists(self) -> bool:
        return False

    @property
    def value(self) -> float:
        raise self._absent()

    @property
    def digits(self) -> str:
        return "none"

    def ball(self, variance) -> arb:
        raise self._absent()

    def _absent(self) -> ValueError:
        return ValueError(f"There is no certified {self.integrand}. {self.remark}")


def moment(symbol: str, pieces: Sequence[Piece], budget: float = CLOSED_FORM) -> Moment:
    """Return E[f], exact if the engine finds a closed form, and certified at q = 1.

    Args:
        symbol: the moment's name in LaTeX.
        pieces: f, as smooth pieces that cover the real line.
        budget: work for the closed form, in seconds of one core.

    Returns:
        The moment. A closed form has been checked against the enclosure.

    Raises:
        Diverges: if the expectation is proven infinite.
        NotCertifiable: if there is neither a closed form nor a certified enclosure.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> from flaxinit.theory.functions.symbols import z
    >>> moment("E[z^4]", split(z**4)).exact
    3*q**2
    """
    pieces = tuple(pieces)
    try:
        exact, steps = expectation(pieces, budget)
        remark = ""
    except NoClosedForm as error:
        exact, steps, remark = None, (), str(error)
    if exact == 0:
        return Moment(symbol, pieces, exact, (mpmath.mpf(0), mpmath.mpf(0)), steps)
    found = Moment(symbol, pieces, exact, None, steps, remark)
    if found.parameters:
        return _open(found)
    ball = None
    if exact is not None:
        try:
            ball = balls.sharp(exact, {q: 1})
        except NotCertifiable as error:  # the form is unusable; the integral remains
            exact, steps, remark = None, (), str(error)
    try:
        # If the closed form is certified to be 0, the integral needs fewer digits.
        zero = ball is not None and ball.mid() == 0
        integral = enclose(pieces, zero_bits=_CHECKED_BITS if zero else balls.LEAST_BITS)
    except Diverges as error:
        raise Diverges(
            f"{found.integrand} is infinite, so no gain exists. {error} Bound the activation, for "
            "example by clipping its argument."
        ) from None
    except NotCertifiable as error:
        if ball is None:
            raise
        remark = f"The closed form is not checked against the enclosure. {error}"
    else:
        if ball is not None:
            _agree(found, ball, integral)
        if ball is None or integral.rad() < ball.rad():  # the route that cancels less is sharper
            ball = integral
    return Moment(symbol, pieces, exact, balls.bounds(ball), steps, remark)


def infinite(symbol: str, pieces: Sequence[Piece], reason: str) -> Moment:
    """Return a moment that is proven infinite."""
    bounds = (mpmath.inf, mpmath.inf)
    return Moment(symbol, tuple(pieces), sympy.oo, bounds, (), reason)


def missing(symbol: str, reason: str) -> MissingMoment:
    """Return a moment that does not exist, or is not certified."""
    return MissingMoment(symbol, (), None, None, (), reason)


def _open(found: Moment) -> Moment:
    """Check a parametric closed form at sample values of its parameters."""
    names = ", ".join(map(str, found.parameters))
    if found.exact is None:
        return found  # with numbers for its parameters, it will have an enclosure
    values = samples(found.parameters)
    try:
        ball = balls.sharp(found.exact.subs(values), {q: 1})
        integral = enclose(substitute(found.pieces, values))
    except (NotCertifiable, Diverges) as error:
        raise NotCertifiable(
            f"{found.integrand} = {found.exact} could not be checked at {values}, where it may be "
            f"infinite. {error} Give a number to the parameter {names}."
        ) from None
    _agree(found, ball, integral)
    return found


def _agree(found: Moment, ball: arb, integral: arb) -> None:
    if not ball.overlaps(integral):
        raise AssertionError(
            f"{found.symbol}: the closed form {found.exact} gives {ball}, but rigorous integration "
            f"gives {integral}. This is a defect of flaxinit. Please report the activation."
        )


def may_diverge(pieces: Sequence[Piece]) -> bool:
    """Tell whether f contains an e^{az²} with a > 0: its closed form holds only up to some q."""
    for power in {p for piece in pieces for p in piece.expr.atoms(sympy.exp, sympy.Pow)}:
        base, exponent = (sympy.E, power.exp) if isinstance(power, sympy.exp) else power.args
        exponent = polynomial(exponent * sympy.log(base)) if exponent.has(z) else None
        if exponent is not None and exponent.degree() == 2 and not exponent.LC().is_negative:
            return True
    return False


def check_variance(variance: object) -> None:
    """Refuse a variance that is not a positive number."""
    number = float(variance) if isinstance(variance, Real | sympy.Rational) else math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"The variance q must be a positive finite number, got {variance!r}.")
