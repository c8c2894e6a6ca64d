"""The mean-field maps of a wide network: how a signal and its gradients pass a layer.

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

from flaxinit.theory import balls
from flaxinit.theory.balls import NotCertifiable
from flaxinit.theory.dual import dual
from flaxinit.theory.enclosure import Diverges, enclose
from flaxinit.theory.moment import Moment, may_diverge
from flaxinit.theory.pieces import Piece, derivative, jumps
from flaxinit.theory.quadrature import Unresolved, expect, expect_pair, numeric
from flaxinit.theory.search import find_root, find_roots
from flaxinit.theory.symbols import c, q, z
from flaxinit.theory.terms import NoClosedForm

# Where fixed points are looked for. Beyond, a map is followed as a power law.
_LOWEST, _HIGHEST = 1e-12, 1e8
_ROUNDING = 1e-12  # relative; the quadrature is accurate to some 1e-15
_CANCELLED = 1e-3  # of an integrand's size: less is left to balls
_GRID = [float(v) for v in np.logspace(math.log10(_LOWEST), math.log10(_HIGHEST), 241)]


@dataclass(frozen=True)
class FixedPoint:
    """A variance that a layer keeps: qmap(q) = q.

    Attributes:
        q: the variance.
        slope: d qmap/dq there.
        chi: χ there, the growth of gradients per layer.
    """

    q: float
    slope: float
    chi: float

    @property
    def stable(self) -> bool:
        """Whether the variance returns after a disturbance."""
        return abs(self.slope) < 1


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of one activation, from its two second moments and its pieces."""

    name: str
    pieces: tuple[Piece, ...]
    second_moment: Moment
    derivative_second_moment: Moment

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

    def energy(self, variance: float) -> float:
        """E[φ(√q z)²]."""
        return _evaluate(self.second_moment, variance)

    def slope_energy(self, variance: float) -> float:
        """E[φ'(√q z)²]."""
        return _evaluate(self.derivative_second_moment, variance)

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
        _check(variance=variance, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        return sigma_w2 * self.energy(variance) + sigma_b2

    def chi(self, variance: float, sigma_w2: float) -> float:
        """χ = σ_w² E[φ'(√q z)²]."""
        _check(variance=variance, sigma_w2=sigma_w2)
        return sigma_w2 * self.slope_energy(variance)

    def dual(self, correlation: float, variance: float) -> float:
        """E[φ(u)φ(v)] for u, v ~ N(0, q) with the given correlation."""
        _check(variance=variance)
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

    def _pair(self, pieces: tuple[Piece, ...], correlation: float, variance: float) -> float:
        try:
            return expect_pair(numeric(pieces), correlation, variance)
        except Unresolved as error:
            raise Unresolved(
                f"{self.name} at q = {variance} and c = {correlation}: the expectation of the pair "
                f"cannot be computed, for {error}"
            ) from None

    def derivative_dual(self, correlation: float, variance: float) -> float:
        """E[φ'(u)φ'(v)]; times q it is the derivative of the dual in c (Price's theorem).

        A jump of φ puts a delta into φ', which the closed form of the dual knows of; without
        one, or at c = ±1, where the derivative is infinite, there is no number to give.
        """
        if jumps(self.pieces):
            if self.dual_expr is None or abs(correlation) == 1:
                raise ValueError(
                    f"{self.name} jumps, so that the slope of its C-map at c = {correlation} is "
                    "infinite or has no known form"
                )
            slope = sympy.diff(self.dual_expr, c) / q
            return float(slope.subs({c: correlation, q: variance}).evalf())
        return self._pair(self.slopes, correlation, variance)

    def cmap(
        self, correlation: float, variance: float, sigma_w2: float = 1.0, sigma_b2: float = 0.0
    ) -> float:
        """c ↦ (σ_w² E[φ(u)φ(v)] + σ_b²) / (σ_w² E[φ²] + σ_b²), at fixed q."""
        _check(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
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
        """The derivative of the C-map; at c = 1 and a fixed point it is χ."""
        total = self.qmap(variance, sigma_w2, sigma_b2)
        return sigma_w2 * variance * self.derivative_dual(correlation, variance) / total

    def hermite(self, count: int, variance: float = 1.0) -> np.ndarray:
        """The first coefficients a_k = E[φ(√q z) He_k(z)]/√k!, with Σ a_k² = E[φ²]."""
        _check(variance=variance)
        weights = [partial(_hermite, degree=k) for k in range(count)]
        return np.array([expect(numeric(self.pieces), variance, w).value for w in weights])

    def fixed_points(self, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[FixedPoint, ...]:
        """Every isolated q with qmap(q) = q: 0, and those on [1e-12, 1e8] as far as it is known.

        What lies closer together than the grid, 12 points a decade and finer where the map bends
        towards q, or where the map can be neither resolved nor certified, is not seen.

        Raises:
            ValueError: if every q is a fixed point (a scale-invariant activation at its gain).
        """
        _check(sigma_w2=sigma_w2, sigma_b2=sigma_b2)

        def excess(v: float) -> float:
            """(qmap(q) − q)/(qmap(q) + q), which is finite where the map is not."""
            return _certain(1 - 2 / (1 + (sigma_w2 * self.known(v)[0] + sigma_b2) / v))

        if all(excess(v) == 0 for v in _GRID):
            raise ValueError(
                f"{self.name} with sigma_w2 = {sigma_w2} keeps every variance: all q are fixed "
                "points, none attracts. Any q may be used"
            )
        found = find_roots(excess, _GRID)
        if sigma_b2 == 0 and self.energy(0.0) == 0:
            found.insert(0, 0.0)
        return tuple(self._fixed_point(v, sigma_w2) for v in found)

    def known(self, variance: float) -> tuple[float, float]:
        """E[φ²] and E[φ'²], nan where that would take an enclosure: for hundreds of variances.

        What diverges at q₀ diverges beyond: there, the density is at least √(q₀/q) times as large.
        """
        if variance not in self._energies:
            smaller = [found for v, found in self._energies.items() if v <= variance]
            moments = self.second_moment, self.derivative_second_moment
            energy, slopes = (
                math.inf
                if any(math.isinf(found[i]) for found in smaller)
                else _evaluate(moment, variance, search=True)
                for i, moment in enumerate(moments)
            )
            self._energies[variance] = energy, slopes
        return self._energies[variance]

    def known_slope(self, variance: float) -> float:
        """d/dq E[φ(√q z)²], nan where that would take an enclosure."""
        if self.second_moment.exact is not None:
            return self.energy_slope(variance)
        return self._weighted(variance) / (2 * variance)

    @cached_property
    def _energies(self) -> dict[float, tuple[float, float]]:
        return {}

    def _fixed_point(self, variance: float, sigma_w2: float) -> FixedPoint:
        # At q = 0, where φ(0) = 0, both slopes are the mean square of φ' on the two sides.
        gradient = self.slope_energy(variance)
        slope = gradient if variance == 0 else self.energy_slope(variance)
        return FixedPoint(variance, sigma_w2 * slope, sigma_w2 * gradient)

    def edge_of_chaos(self, sigma_b2: float = 0.0) -> tuple[float, float]:
        """(q*, σ_w²) with qmap(q*) = q* and χ = 1, for the given σ_b².

        Raises:
            ValueError: if there is none, or every q is one (a scale-invariant activation).
        """
        _check(sigma_b2=sigma_b2)

        def gap(v: float) -> float:
            """(q − E[φ²]/E[φ'²] − σ_b²)/q; not known where no gradient passes."""
            energy, slopes = self.known(v)
            usable = 0 < slopes < math.inf
            return _certain(1 - (energy / slopes + sigma_b2) / v) if usable else math.nan

        if all(self.known(v)[1] == 0 for v in _GRID):
            raise ValueError(f"{self.name} has slope 0 almost everywhere: χ = 0 for every sigma_w2")
        if sigma_b2 == 0 and all(gap(v) == 0 for v in _GRID):
            raise ValueError(
                f"{self.name} is scale-invariant: with sigma_w2 = {1 / self.slope_energy(1.0):g} "
                "and no bias every q is on the edge of chaos"
            )
        if sigma_b2 == 0 and self.energy(0.0) == 0 and self.slope_energy(0.0) > 0:
            return 0.0, 1 / self.slope_energy(0.0)
        for root in find_roots(gap, _GRID):
            return root, 1 / self.slope_energy(root)
        raise ValueError(
            f"{self.name} has no edge of chaos with sigma_b2 = {sigma_b2} and q on "
            f"[{_LOWEST:g}, {_HIGHEST:g}]"
        )

    def critical_line(self, variances: np.ndarray) -> np.ndarray:
        """The edge of chaos as a curve: rows (q*, σ_w², σ_b²), where σ_b² ≥ 0."""
        rows = []
        for v in map(float, variances):
            slopes = self.slope_energy(v)
            if slopes > 0:
                rows.append((v, 1 / slopes, v - self.energy(v) / slopes))
        table = np.array(rows).reshape(-1, 3)
        return table[table[:, 2] >= -1e-12 * table[:, 0]]

    def depth_scales(self, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[float, float]:
        """(ξ_q, ξ_c): layers over which a variance, and a correlation, settle.

        ξ_q = −1/log|d qmap/dq| at the stable q*; ξ_c = −1/log of the C-map's slope at its
        stable fixed point (c* = 1 in the ordered phase). Infinite at criticality.
        """
        stable = [p for p in self.fixed_points(sigma_w2, sigma_b2) if abs(p.slope) <= 1]
        if not stable:
            raise ValueError(
                f"{self.name} has no stable variance at sigma_w2 = {sigma_w2}, "
                f"sigma_b2 = {sigma_b2}: no depth scale exists"
            )
        point = stable[-1]
        if point.q == 0.0:
            return _scale(point.slope), _scale(point.chi)
        if point.chi <= 1:
            return _scale(point.slope), _scale(point.chi)

        def excess(r: float) -> float:
            return self.cmap(r, point.q, sigma_w2, sigma_b2) - r

        # On [0, 1] the C-map is convex, for its power series has no negative term: it starts at
        # E[φ]² ≥ 0, and where it leaves 1 more steeply than c, it meets c once more.
        near = 1 - 1e-9
        if excess(near) >= 0:
            resting = 1.0
        elif _certain(excess(0.0)) == 0:
            resting = 0.0
        else:
            resting = find_root(excess, 0.0, near)
        return _scale(point.slope), _scale(self.cmap_slope(resting, point.q, sigma_w2, sigma_b2))


def _scale(slope: float) -> float:
    return math.inf if abs(slope) >= 1 else (0.0 if slope == 0 else -1 / math.log(abs(slope)))


def _check(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is a variance: finite and at least 0; got {value}")


def _evaluate(moment: Moment, variance: float, *, search: bool = False) -> float:
    """A moment at q: its closed form, the quadrature, or the enclosure (nan in a search)."""
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


def _certain(relative: float) -> float:
    """What is 0 to rounding has no sign."""
    return 0.0 if abs(relative) < _ROUNDING else relative


def _hermite(t: np.ndarray, degree: int) -> np.ndarray:
    """He_k(t)/√k! by its three-term recursion, which is stable; the monomials are not."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(degree):
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now
