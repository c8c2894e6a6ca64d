"""The mean-field maps of a wide network: how a signal and its gradients pass a layer.

Two numbers are called χ. That of the gradient, σ_w² E[g²], holds g, what JAX propagates backwards;
that of the correlation, σ_w² E[φ'²], is the slope of the C-map at c = 1 and holds φ', the
derivative of the function itself, with a delta at a jump. They are one, unless φ jumps or has a
gradient of its own (a straight-through estimator).

The maps are closed forms where the engine has one; elsewhere they are the quadrature of
`quadrature`, to rounding, and where that gives up the certified enclosure.

References:
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli (2016), Exponential expressivity.
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein (2017), Deep Information Propagation.
    Daniely, Frostig & Singer (2016), Toward Deeper Understanding of Neural Networks.
"""

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import sympy
from sympy import Expr

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.balls import NotCertifiable
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.functions.piecewise import Piece, derivative, jumps, map_pieces
from flaxinit.theory.functions.symbols import c, q, z
from flaxinit.theory.meanfield.dual import dual
from flaxinit.theory.moments.enclosure import Diverges, enclose
from flaxinit.theory.moments.moment import Moment, infinite, may_diverge, moment
from flaxinit.theory.moments.quadrature import Unresolved, expect, expect_pair
from flaxinit.theory.moments.terms import NoClosedForm

_CANCELLED = 1e-3  # of an integrand's size: less is left to balls


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of one activation, from its two second moments and its pieces.

    Attributes:
        name: how the activation was called.
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
        # What is cached (compiled functions) is made again when needed.
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def dual_expr(self) -> Expr | None:
        """E[φ(u)φ(v)] as an expression in c and q, or None where none is known."""
        try:
            return dual(self.pieces)
        except NoClosedForm:
            return None

    @cached_property
    def slopes(self) -> tuple[Piece, ...]:
        """φ', where it exists."""
        return derivative(self.pieces)

    @cached_property
    def jumps(self) -> tuple[Expr, ...]:
        """Where φ is not continuous, so that φ' has a delta."""
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

    def energy(self, variance: float) -> float:
        """E[φ(√q z)²]."""
        return _evaluate(self.second_moment, variance)

    def gradient_energy(self, variance: float) -> float:
        """E[g(√q z)²] of the gradient that JAX propagates."""
        return _evaluate(self.derivative_second_moment, variance)

    def slope_energy(self, variance: float) -> float:
        """E[φ'(√q z)²] of the function itself, infinite where it jumps within reach of √q z."""
        if any(variance > 0 or place == 0 for place in self.jumps):
            return math.inf
        return _evaluate(self._slope_moment, variance)

    def energy_slope(self, variance: float) -> float:
        """d/dq E[φ(√q z)²] = E[φ² (z²−1)]/(2q), by Stein's identity."""
        if self.second_moment.exact is not None:
            with contextlib.suppress(NotCertifiable):
                return float(balls.sharp(self._exact_slope, {q: variance}).mid())
        weighted = self._weighted(variance)
        if not math.isnan(weighted):
            return weighted / (2 * variance)
        stein = z**2 / sympy.Rational(variance) - 1
        pieces = [Piece(p.low, p.high, p.expr * stein) for p in self.second_moment.pieces]
        return float(enclose(pieces, variance).mid()) / (2 * variance)

    def _weighted(self, variance: float) -> float:
        """E[φ² (z²−1)], nan where the quadrature loses it."""
        try:
            found = expect(numeric(self.second_moment.pieces), variance, lambda t: t**2 - 1)
        except Unresolved:
            return math.nan
        return found.value if abs(found.value) > _CANCELLED * found.size else math.nan

    @cached_property
    def _exact_slope(self) -> Expr:
        return sympy.diff(self.second_moment.exact, q)

    def qmap(self, variance: float, sigma_w2: float, sigma_b2: float = 0.0) -> float:
        """q ↦ σ_w² E[φ(√q z)²] + σ_b²."""
        check(q=variance, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        return sigma_w2 * self.energy(variance) + sigma_b2

    def chi(self, variance: float, sigma_w2: float) -> float:
        """χ of the gradient, σ_w² E[g(√q z)²]."""
        check(q=variance, sigma_w2=sigma_w2)
        return sigma_w2 * self.gradient_energy(variance)

    def dual(self, correlation: float, variance: float) -> float:
        """E[φ(u)φ(v)] for u, v ~ N(0, q) with the given correlation."""
        check(q=variance)
        if math.isinf(self.energy(variance)):
            raise ValueError(
                f"{self.name} has E[φ²] = inf at q = {variance}: no correlation exists"
            )
        return self._dual(correlation, variance)

    def _dual(self, correlation: float, variance: float) -> float:
        """The dual where E[φ²] is known to be finite."""
        if not -1 <= correlation <= 1:
            raise ValueError(f"a correlation lies in [-1, 1]; got {correlation}")
        if self.dual_expr is not None and abs(correlation) != 1:  # at ±1 a form may read 0·∞
            with contextlib.suppress(NotCertifiable):
                return float(balls.sharp(self.dual_expr, {c: correlation, q: variance}).mid())
        return self._pair(self.pieces, correlation, variance)

    def _pair(self, pieces, correlation: float, variance: float, *kernel) -> float:
        try:
            return expect_pair(numeric(pieces), correlation, variance, *kernel)
        except Unresolved as error:
            raise Unresolved(
                f"{self.name} at q = {variance} and c = {correlation}: the expectation of the pair "
                f"cannot be computed, for {error}"
            ) from None

    def derivative_dual(self, correlation: float, variance: float) -> float:
        """E[φ'(u)φ'(v)]; times q it is the derivative of the dual in c (Price's theorem).

        For |c| < 1 it needs no φ', and so holds at jumps too. With u = √q x, v = √q (c x + s y),
        s² = 1 − c², Stein's identity in y gives, as E[φ(u)²] and E[φ(v)²] do not depend on c,

            q E[φ'(u)φ'(v)] = −½ E[(φ(u) − φ(v))² (x y/s + c (1 − y²)/s²)].

        At c = 1 it is E[φ'²], infinite where φ jumps.
        """
        check(q=variance)
        if correlation == 1:
            return self.slope_energy(variance)
        if correlation == -1:
            if math.isinf(self.slope_energy(variance)):
                raise ValueError(
                    f"{self.name} has slopes without bound, so that the slope of its C-map at "
                    "c = -1 has no known value; ask for one at c > -1"
                )
            return self._pair(self.slopes, correlation, variance)
        if self.dual_expr is not None:
            with contextlib.suppress(NotCertifiable):
                at = {c: correlation, q: variance}
                return float(balls.sharp(self._dual_slope, at).mid()) / variance
        s2 = (1 - correlation) * (1 + correlation)

        def stein(one, other, x, y):
            weight = x * y / math.sqrt(s2) + correlation * (1 - y**2) / s2
            return -((one - other) ** 2) * weight / (2 * variance)

        return self._pair(self.pieces, correlation, variance, stein)

    @cached_property
    def _dual_slope(self) -> Expr:
        return sympy.diff(self.dual_expr, c)

    def cmap(
        self, correlation: float, variance: float, sigma_w2: float = 1.0, sigma_b2: float = 0.0
    ) -> float:
        """c ↦ (σ_w² E[φ(u)φ(v)] + σ_b²) / (σ_w² E[φ²] + σ_b²), at fixed q."""
        check(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        total = self.qmap(variance, sigma_w2, sigma_b2)
        if total == 0 or math.isinf(total):
            raise ValueError(
                f"{self.name} has E[φ²] = {total:g} at q = {variance}: no correlation exists"
            )
        if correlation == 1:
            return 1.0
        return (sigma_w2 * self._dual(correlation, variance) + sigma_b2) / total

    def cmap_slope(
        self, correlation: float, variance: float, sigma_w2: float = 1.0, sigma_b2: float = 0.0
    ) -> float:
        """The derivative of the C-map; at c = 1 and a fixed point it is χ of the correlation."""
        total = self.qmap(variance, sigma_w2, sigma_b2)
        return sigma_w2 * variance * self.derivative_dual(correlation, variance) / total

    def hermite(self, count: int, variance: float = 1.0) -> np.ndarray:
        """The first coefficients a_k = E[φ(√q z) He_k(z)]/√k!, with Σ a_k² = E[φ²]."""
        check(q=variance)
        weights = [partial(_hermite, degree=k) for k in range(count)]
        return np.array([expect(numeric(self.pieces), variance, w).value for w in weights])

    # A search asks for hundreds of variances: nan stands there for what would take an enclosure.

    def known_energy(self, variance: float) -> float:
        """E[φ²], or nan."""
        return _search(self.second_moment, variance, self._known[0])

    def known_slope_energy(self, variance: float) -> float:
        """E[φ'²] of the function itself, or nan."""
        return math.inf if self.jumps else _search(self._slope_moment, variance, self._known[1])

    def known_slope(self, variance: float) -> float:
        """d/dq E[φ(√q z)²], or nan."""
        if self.second_moment.exact is not None:
            return self.energy_slope(variance)
        return self._weighted(variance) / (2 * variance)

    @cached_property
    def _known(self) -> tuple[dict[float, float], dict[float, float]]:
        return {}, {}


def check(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}, a variance, is finite and at least 0; got {value}")


def _evaluate(moment: Moment, variance: float, *, search: bool = False) -> float:
    """A moment at q: its closed form, the quadrature, or the enclosure (nan in a search)."""
    if not moment.exists:
        return moment.value  # which says why
    if moment.exact == sympy.oo:
        return math.inf
    if variance == 0:
        function = numeric(moment.pieces)
        # The limit from both sides: a jump at 0 counts by halves.
        far, beside = (float(np.mean(function(np.array([-x, x])))) for x in (1e-150, 1e-300))
        if abs(beside - far) > 1e-6 * far:  # it still moves, as a power or a logarithm does
            return math.inf if beside > far else 0.0
        return beside
    diverging = may_diverge(moment.pieces)
    try:
        if moment.exact is not None and not diverging:
            with contextlib.suppress(NotCertifiable):  # a form that cancels, as at q → 0
                return float(balls.sharp(moment.exact, {q: variance}).mid())
        if not diverging:
            with contextlib.suppress(Unresolved):
                return expect(numeric(moment.pieces), variance).value
        return moment.at(variance) if diverging or not search else math.nan
    except Diverges:
        return math.inf
    except NotCertifiable:
        if search:
            return math.nan
        raise


def _search(moment: Moment, variance: float, found: dict[float, float]) -> float:
    """A moment among those that a search has found.

    What diverges at q₀ diverges beyond: there, the density is at least √(q₀/q) times as large.
    """
    if variance not in found:
        diverges = any(math.isinf(value) for v, value in found.items() if v <= variance)
        found[variance] = math.inf if diverges else _evaluate(moment, variance, search=True)
    return found[variance]


def _hermite(t: np.ndarray, degree: int) -> np.ndarray:
    """He_k(t)/√k! by its three-term recursion, which is stable; the monomials are not."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(degree):
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now
