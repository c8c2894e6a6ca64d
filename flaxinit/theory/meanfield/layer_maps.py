"""How a signal and its gradients pass one layer of a wide network: the Q-map, the C-map, χ.

Two numbers are called χ. The χ of the gradient is σ_w² E[g²], where g is the gradient that JAX
propagates. The χ of the correlation is σ_w² E[φ'²], the slope of the C-map at c = 1, where φ' is
the derivative of the function itself, with a delta at a jump. They are equal, unless φ jumps or has
a custom gradient (a straight-through estimator).

A map uses the closed form if the engine has one, otherwise `quadrature`, which is accurate to
rounding, and the certified enclosure if the quadrature gives up (see `values`).

References: Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), Exponential expressivity in deep
neural networks; Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), Deep Information Propagation;
Daniely, Frostig, Singer (2016), Toward Deeper Understanding of Neural Networks.
"""

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import sympy
from sympy import Expr

from flaxinit.theory.functions import balls, symbols
from flaxinit.theory.functions.balls import NotCertifiable
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.functions.piecewise import Piece, derivative, jumps, map_pieces
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.functions.watch import watched
from flaxinit.theory.meanfield.dual import dual
from flaxinit.theory.meanfield.values import Known, evaluate, quickly
from flaxinit.theory.moments.enclosure import Diverges, enclose
from flaxinit.theory.moments.moment import CLOSED_FORM, Moment, infinite, moment
from flaxinit.theory.moments.quadrature import Unresolved, expect, expect_pair
from flaxinit.theory.moments.terms import NoClosedForm, attempt

_CANCELED = 1e-3  # of an integrand's size; an integral below it needs ball arithmetic


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The maps of one layer, from an activation's two second moments and its pieces.

    Attributes:
        name: the name of the activation.
        pieces: φ.
        second_moment: E[φ²].
        derivative_second_moment: E[g²] of the gradient g that JAX propagates.
        custom_derivative: whether g is another function than φ'.
    """

    name: str
    pieces: tuple[Piece, ...]
    second_moment: Moment
    derivative_second_moment: Moment
    custom_derivative: bool = False

    def __getstate__(self):
        # Leave out the cache: it holds compiled functions, which are made again on use.
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def dual_expr(self) -> Expr | None:
        """E[φ(u)φ(v)] as an expression in c and q; None if no closed form is known."""
        try:
            with watched(), attempt(CLOSED_FORM):
                return dual(self.pieces)
        except NoClosedForm:
            return None

    @cached_property
    def slopes(self) -> tuple[Piece, ...]:
        """The pieces of φ', where it exists."""
        return derivative(self.pieces)

    @cached_property
    def jumps(self) -> tuple[Expr, ...]:
        """The places where φ is not continuous, and φ' has a delta."""
        return tuple(jumps(self.pieces))

    @cached_property
    def _slope_moment(self) -> Moment:
        """E[φ'²] of the function itself, without the deltas."""
        if not self.custom_derivative:
            return self.derivative_second_moment
        symbol, squares = r"\mathbb{E}[\varphi'^2]", map_pieces(self.slopes, lambda expr: expr**2)
        try:
            return moment(symbol, squares)
        except Diverges as error:
            return infinite(symbol, squares, str(error))

    def energy(self, q: float) -> float:
        """Return ``E[φ(√q z)²]``."""
        return evaluate(self.second_moment, q)

    def gradient_energy(self, q: float) -> float:
        """Return ``E[g(√q z)²]`` of the gradient g that JAX propagates."""
        return evaluate(self.derivative_second_moment, q)

    def slope_energy(self, q: float) -> float:
        """Return ``E[φ'(√q z)²]`` of the function itself: inf if it jumps where √q z can be."""
        if any(q > 0 or place == 0 for place in self.jumps):
            return math.inf
        return evaluate(self._slope_moment, q)

    def energy_slope(self, q: float) -> float:
        """Return ``d/dq E[φ(√q z)²] = E[φ² (z²−1)]/(2q)``, by Stein's identity."""
        if self.second_moment.exact is not None:
            with contextlib.suppress(NotCertifiable):
                return float(balls.sharp(self._exact_slope, {symbols.q: q}).mid())
        weighted = self._weighted(q)
        if not math.isnan(weighted):
            return weighted / (2 * q)
        stein = z**2 / sympy.Rational(q) - 1
        pieces = [Piece(p.low, p.high, p.expr * stein) for p in self.second_moment.pieces]
        return float(enclose(pieces, q).mid()) / (2 * q)

    def _weighted(self, q: float) -> float:
        """Return ``E[φ² (z²−1)]``; nan if the quadrature loses its digits."""
        try:
            found = expect(numeric(self.second_moment.pieces), q, lambda t: t**2 - 1)
        except Unresolved:
            return math.nan
        return found.value if abs(found.value) > _CANCELED * found.size else math.nan

    @cached_property
    def _exact_slope(self) -> Expr:
        return sympy.diff(self.second_moment.exact, symbols.q)

    def qmap(self, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
        """Return ``σ_w² E[φ(√q z)²] + σ_b²``, the variance after the layer (Poole et al. 2016).

        >>> from flaxinit.theory import derive
        >>> derive("relu").maps.qmap(3.0, sigma_w2=2.0)
        3.0
        """
        check(q=q, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        return sigma_w2 * self.energy(q) + sigma_b2

    def chi(self, q: float, sigma_w2: float) -> float:
        """Return ``χ = σ_w² E[g(√q z)²]``, the growth of squared gradients in a layer.

        g is the gradient that JAX propagates. The χ of the correlation is `cmap_slope` at c = 1.

        References: Schoenholz et al. (2017).

        >>> from flaxinit.theory import derive
        >>> derive("relu").maps.chi(1.0, sigma_w2=2.0)
        1.0
        """
        check(q=q, sigma_w2=sigma_w2)
        return sigma_w2 * self.gradient_energy(q)

    def dual(self, c: float, q: float = 1.0) -> float:
        """Return ``E[φ(u)φ(v)]`` for u, v ~ N(0, q) of correlation c (Daniely et al. 2016).

        >>> from flaxinit.theory import derive
        >>> round(derive("relu").maps.dual(0.0), 12) == round(1 / (2 * math.pi), 12)
        True
        """
        check(q=q)
        if math.isinf(self.energy(q)):
            raise ValueError(_no_correlation(self.name, "E[φ²] = inf", q))
        return self._dual(c, q)

    def _dual(self, c: float, q: float) -> float:
        """Return the dual if E[φ²] is known to be finite."""
        _check_correlation(c)
        if self.dual_expr is not None and abs(c) != 1:  # at ±1 the form may be 0·∞
            with contextlib.suppress(NotCertifiable):
                return float(balls.sharp(self.dual_expr, {symbols.c: c, symbols.q: q}).mid())
        return self._pair(self.pieces, c, q)

    def _pair(self, pieces, c: float, q: float, *kernel) -> float:
        try:
            return expect_pair(numeric(pieces), c, q, *kernel)
        except Unresolved as error:
            raise Unresolved(
                f"The dual of {self.name} cannot be computed at q = {q} and c = {c}. {error}"
            ) from None

    def derivative_dual(self, c: float, q: float) -> float:
        """Return ``E[φ'(u)φ'(v)]``, 1/q of the derivative of the dual in c (Price's theorem).

        For |c| < 1 the formula below does not contain φ', so it holds for a φ that jumps. Write
        u = √q x and v = √q (c x + s y) with s² = 1 − c². E[φ(u)²] and E[φ(v)²] do not depend on
        c, so Stein's identity in y gives::

            q E[φ'(u)φ'(v)] = −½ E[(φ(u) − φ(v))² (x y/s + c (1 − y²)/s²)].

        At c = 1 the result is E[φ'²], which is infinite if φ jumps.
        """
        check(q=q)
        _check_correlation(c)
        if c == 1:
            return self.slope_energy(q)
        if c == -1:
            if math.isinf(self.slope_energy(q)):
                raise ValueError(
                    f"{self.name} has unbounded slopes, so the slope of its C-map is not known at "
                    "c = -1. Ask for it at c > -1."
                )
            return self._pair(self.slopes, c, q)
        if self.dual_expr is not None:
            with contextlib.suppress(NotCertifiable):
                at = {symbols.c: c, symbols.q: q}
                return float(balls.sharp(self._dual_slope, at).mid()) / q
        s2 = (1 - c) * (1 + c)

        def stein(one, other, x, y):
            weight = x * y / math.sqrt(s2) + c * (1 - y**2) / s2
            return -((one - other) ** 2) * weight / (2 * q)

        return self._pair(self.pieces, c, q, stein)

    @cached_property
    def _dual_slope(self) -> Expr:
        return sympy.diff(self.dual_expr, symbols.c)

    def cmap(self, c: float, q: float = 1.0, sigma_w2: float = 1.0, sigma_b2: float = 0.0) -> float:
        """Return ``(σ_w² E[φ(u)φ(v)] + σ_b²) / (σ_w² E[φ²] + σ_b²)``, the next correlation.

        The variance q is the same for both inputs, and cmap(1) = 1.

        >>> from flaxinit.theory import derive
        >>> derive("tanh").maps.cmap(1.0)
        1.0
        """
        check(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        total = self.qmap(q, sigma_w2, sigma_b2)
        if total == 0 or math.isinf(total):
            what = "E[φ²] = inf" if total else "qmap = 0"
            raise ValueError(_no_correlation(self.name, what, q))
        if c == 1:
            return 1.0
        return (sigma_w2 * self._dual(c, q) + sigma_b2) / total

    def cmap_slope(
        self, c: float, q: float = 1.0, sigma_w2: float = 1.0, sigma_b2: float = 0.0
    ) -> float:
        """Return the derivative of the C-map; at c = 1 and a fixed point it is χ.

        >>> from flaxinit.theory import derive
        >>> round(derive("relu").maps.cmap_slope(1.0), 12)
        1.0
        """
        total = self.qmap(q, sigma_w2, sigma_b2)
        return sigma_w2 * q * self.derivative_dual(c, q) / total

    def hermite(self, count: int, q: float = 1.0) -> np.ndarray:
        """Return the first coefficients ``a_k = E[φ(√q z) He_k(z)]/√k!``, with Σ a_k² = E[φ²].

        >>> from flaxinit.theory import derive
        >>> derive("square").maps.hermite(3)[[0, 2]].round(12).tolist()
        [1.0, 1.414213562373]
        """
        check(q=q)
        weights = [partial(_hermite, degree=k) for k in range(count)]
        return np.array([expect(numeric(self.pieces), q, w).value for w in weights])

    # For searches: nan stands for "not known" (see `values`).

    @cached_property
    def known_energy(self) -> Known:
        """``E[φ²]``, or nan."""
        return Known(partial(evaluate, self.second_moment, known=True))

    @cached_property
    def known_slope_energy(self) -> Known:
        """``E[φ'²]`` of the function itself, or nan."""
        if self.jumps:
            return Known(lambda q: math.inf)
        return Known(partial(evaluate, self._slope_moment, known=True))

    @cached_property
    def known_slope(self) -> Known:
        """``d/dq E[φ(√q z)²]``, or nan."""
        if self.second_moment.exact is not None:
            return Known(self.energy_slope)

        def slope(q: float) -> float:
            with quickly():
                return self._weighted(q) / (2 * q)

        return Known(slope)


def check(**variances: float) -> None:
    """Raise an error if a number is not a variance. The error has the number's name."""
    for name, value in variances.items():
        if not (_number(name, value) and value >= 0):
            raise ValueError(f"{name}, a variance, must be finite and at least 0, got {value}.")


def _check_correlation(c: float) -> None:
    if not (_number("c", c) and -1 <= c <= 1):
        raise ValueError(f"c, a correlation, must lie in [-1, 1], got {c}.")


def _no_correlation(name: str, what: str, q: float) -> str:
    return f"{name} has {what} at q = {q}, so no correlation exists. Use other variances."


def _number(name: str, value: float) -> bool:
    """Tell whether a number is finite; raise TypeError if it is not one number."""
    try:
        return math.isfinite(value)
    except TypeError:
        raise TypeError(
            f"{name} must be one number, got {value!r}. Call the map once for each number."
        ) from None


def _hermite(t: np.ndarray, degree: int) -> np.ndarray:
    """Return ``He_k(t)/√k!`` by its three-term recursion, which is stable, unlike monomials."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(degree):
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now
