"""Where a signal settles: variances that a layer keeps, the edge of chaos, depth scales.

References: Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), Exponential expressivity in deep
neural networks; Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), Deep Information Propagation.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flaxinit.theory.meanfield.layer_maps import LayerMaps, check
from flaxinit.theory.meanfield.root_search import find_root, find_roots

# The interval in which to look for fixed points.
SEARCHED = (1e-12, 1e8)
_PROBES = [float(v) for v in np.geomspace(*SEARCHED, 21)]  # if all agree, it holds everywhere
_ROUNDING = 1e-12  # relative; the quadrature is accurate to about 1e-15
_MARGINAL = 1e-9  # a point where the map touches q, and its slope, are known to about 1e-10
_NEAR = 1 - 1e-9  # the correlation closest to 1 at which a C-map differs from its tangent


@dataclass(frozen=True)
class FixedPoint:
    """A variance that a layer keeps: qmap(q) = q.

    Attributes:
        q: the variance.
        slope: d qmap/dq there, the factor by which a layer multiplies a small disturbance of q.
        chi: χ of the gradient there, the factor by which a layer multiplies squared gradients.
        chi_correlation: χ of the correlation, the slope of the C-map at c = 1. Above 1, inputs
            that are close move apart. It equals `chi`, unless φ jumps (then it is inf) or has a
            custom gradient.
    """

    q: float
    slope: float
    chi: float
    chi_correlation: float

    @property
    def stable(self) -> bool:
        """Whether the variance returns after any small disturbance."""
        return self.stability == "stable"

    @property
    def stability(self) -> Literal["stable", "marginal", "unstable"]:
        """Whether |slope| is below, at or above 1; at 1 the curvature decides on each side."""
        if abs(abs(self.slope) - 1) <= _MARGINAL:
            return "marginal"
        return "stable" if abs(self.slope) < 1 else "unstable"


@dataclass(frozen=True)
class Edge(FixedPoint):
    """A point on the edge of chaos, which unpacks to (q, sigma_w2).

    Prefer a stable point: the variance comes to it from nearby and stays. At a marginal point the
    variance comes or goes as a power of the depth. At an unstable point each layer multiplies a
    disturbance, such as that of a finite width, by the slope. Above the point the signal runs away;
    below it the signal falls to another fixed point, which is ordered or chaotic. An unstable
    point therefore serves only networks of about 1/log(slope) layers whose inputs have variance q.

    Attributes:
        sigma_w2: the weight variance (times fan_in) of the point.
        sigma_b2: the bias variance of the point.
    """

    sigma_w2: float
    sigma_b2: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.q, self.sigma_w2))


def fixed_points(maps: LayerMaps, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[FixedPoint, ...]:
    """Return every isolated q with qmap(q) = q: 0, and those in `SEARCHED` where it is known.

    Raises:
        ValueError: if every q is a fixed point (a scale-invariant activation at its gain).

    >>> from flaxinit.theory import derive
    >>> [round(p.q, 6) for p in fixed_points(derive("tanh").maps, 1.5)]
    [0.0, 0.286894]
    """
    check(sigma_w2=sigma_w2, sigma_b2=sigma_b2)

    def excess(v: float) -> float:
        """Return ``(qmap(q) − q)/(qmap(q) + q)``, which is finite even if the map is not."""
        return 1 - 2 / (1 + (sigma_w2 * maps.known_energy(v) + sigma_b2) / v)

    if all(abs(excess(v)) < _ROUNDING for v in _PROBES):
        raise ValueError(
            f"{maps.name} with sigma_w2 = {sigma_w2} keeps every variance: every q is a fixed "
            "point, and none attracts. Use any q."
        )
    found = find_roots(excess, *SEARCHED, _ROUNDING)
    if sigma_b2 == 0 and maps.energy(0.0) == 0:
        found.insert(0, 0.0)
    return tuple(FixedPoint(v, *_rates(maps, v, sigma_w2)) for v in found)


def _rates(maps: LayerMaps, variance: float, sigma_w2: float) -> tuple[float, float, float]:
    """Return the slope of the Q-map, and χ of the gradient and of the correlation."""
    spread = maps.slope_energy(variance)
    # At q = 0, if φ(0) = 0, the slope is the mean square of φ' on the two sides.
    slope = spread if variance == 0 else maps.energy_slope(variance)
    return sigma_w2 * slope, sigma_w2 * maps.gradient_energy(variance), sigma_w2 * spread


def edge_of_chaos(maps: LayerMaps, sigma_b2: float = 0.0) -> Edge:
    """Return q* and σ_w² with qmap(q*) = q* and χ = 1 of the correlation, for the given σ_b².

    If there are several points, this is the one of least variance. Its stability says what it is
    good for: see `Edge`.

    Raises:
        ValueError: if there is none, or every q is one (a scale-invariant activation).

    >>> from flaxinit.theory import derive
    >>> edge = edge_of_chaos(derive("gelu").maps, 0.1)
    >>> round(edge.q, 3), round(edge.slope, 3), edge.stability
    (1.632, 1.037, 'unstable')
    """
    check(sigma_b2=sigma_b2)
    vanishing = sigma_b2 == 0 and maps.energy(0.0) == 0 and 0 < maps.slope_energy(0.0) < math.inf
    if maps.jumps and not vanishing:
        raise ValueError(
            f"{maps.name} jumps at {', '.join(map(str, maps.jumps))}, so its C-map has slope inf "
            "at c = 1 for every sigma_w2: inputs that are close always move apart, and there is no "
            "edge of chaos. Join the two sides by a steep line, or ask depth_scales how fast "
            "correlations settle."
        )

    def gap(v: float) -> float:
        """Return ``(q − E[φ²]/E[φ'²] − σ_b²)/q``; nan if E[φ'²] is 0, infinite or not known."""
        energy, slopes = maps.known_energy(v), maps.known_slope_energy(v)
        usable = 0 < slopes < math.inf
        return 1 - (energy / slopes + sigma_b2) / v if usable else math.nan

    for bound in (0, math.inf):
        if not vanishing and all(maps.known_slope_energy(v) == bound for v in _PROBES):
            raise ValueError(
                f"{maps.name} has E[φ'²] = {bound}, and so χ = {bound}, at every q: there is no "
                "edge of chaos. Use another activation."
            )
    if sigma_b2 == 0 and all(abs(gap(v)) < _ROUNDING for v in _PROBES):
        raise ValueError(
            f"{maps.name} is scale-invariant: with sigma_w2 = {1 / maps.slope_energy(1.0):g} "
            "and no bias, every q is on the edge of chaos. Use any q."
        )
    if vanishing:
        return _edge(maps, 0.0, sigma_b2)
    for root in find_roots(gap, *SEARCHED, _ROUNDING):
        return _edge(maps, root, sigma_b2)
    raise ValueError(_no_edge(maps, sigma_b2))


def _edge(maps: LayerMaps, variance: float, sigma_b2: float) -> Edge:
    sigma_w2 = 1 / maps.slope_energy(variance)
    return Edge(variance, *_rates(maps, variance, sigma_w2), sigma_w2, sigma_b2)


def _no_edge(maps: LayerMaps, sigma_b2: float) -> str:
    """Return why there is no edge of chaos: which bias variances one would need."""
    asked = []
    for v in _PROBES:
        energy, slopes = maps.known_energy(v), maps.known_slope_energy(v)
        if 0 < slopes < math.inf and math.isfinite(energy):
            asked.append(v - energy / slopes)
    low, high = SEARCHED
    found = f"{maps.name} has no edge of chaos with sigma_b2 = {sigma_b2} and q in "
    found += f"[{low:g}, {high:g}]: qmap(q) = q and χ = 1 need sigma_b2 = q − E[φ²]/E[φ'²], "
    if not asked:
        return f"{found}which is not known at any q. Use another activation."
    ends = f"[{min(asked):.6g}, {max(asked):.6g}]"
    return f"{found}which lies in {ends} for the q tried. Use another sigma_b2."


def critical_line(maps: LayerMaps, variances: np.ndarray) -> np.ndarray:
    """Return the edge of chaos as rows (q*, σ_w², σ_b²) with σ_b² ≥ 0; no rows if φ jumps."""
    rows = []
    for v in map(float, variances):
        slopes = maps.slope_energy(v)
        if 0 < slopes < math.inf:
            rows.append((v, 1 / slopes, v - maps.energy(v) / slopes))
    table = np.array(rows).reshape(-1, 3)
    return table[table[:, 2] >= -_ROUNDING * table[:, 0]]


def depth_scales(maps: LayerMaps, sigma_w2: float, sigma_b2: float = 0.0) -> tuple[float, float]:
    """Return (ξ_q, ξ_c): the layers over which a variance, and a correlation, settle.

    ξ_q = −1/log|d qmap/dq| at the stable q*. ξ_c = −1/log of the C-map's slope at its stable
    fixed point c*, which is 1 in the ordered phase and less if χ of the correlation is above 1, as
    it always is if φ jumps. Both are infinite at criticality.

    Raises:
        ValueError: if no variance is stable, or c* cannot be distinguished from 1.

    >>> from flaxinit.theory import derive
    >>> depth_scales(derive("sign").maps, 1.0)[1] == -1 / math.log(2 / math.pi)
    True
    """
    settled = [p for p in fixed_points(maps, sigma_w2, sigma_b2) if p.stability != "unstable"]
    if not settled:
        raise ValueError(
            f"{maps.name} has no stable variance at sigma_w2 = {sigma_w2}, "
            f"sigma_b2 = {sigma_b2}, so it has no depth scale. Use other variances."
        )
    point = settled[-1]
    if point.q == 0.0 or point.chi_correlation <= 1:
        return _scale(point.slope), _scale(point.chi_correlation)

    @functools.cache  # the ends are also asked for by the search
    def excess(r: float) -> float:
        return maps.cmap(r, point.q, sigma_w2, sigma_b2) - r

    # On [0, 1] the C-map is convex, because its power series has no negative term. It starts at
    # E[φ]² ≥ 0. If it is steeper than c at 1, it meets c once more.
    if excess(_NEAR) >= 0:
        if math.isinf(point.chi_correlation):
            raise ValueError(
                f"{maps.name} at q = {point.q} jumps so little that correlations settle within "
                f"{1 - _NEAR:.0e} of 1, where the C-map cannot be resolved. Remove the jump."
            )
        resting = 1.0
    elif excess(0.0) < _ROUNDING:
        resting = 0.0
    else:
        resting = find_root(excess, 0.0, _NEAR)
    return _scale(point.slope), _scale(maps.cmap_slope(resting, point.q, sigma_w2, sigma_b2))


def _scale(slope: float) -> float:
    return math.inf if abs(slope) >= 1 else (0.0 if slope == 0 else -1 / math.log(abs(slope)))
