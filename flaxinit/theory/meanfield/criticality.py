"""The universality class of an activation, and the initialization that makes it critical.

A network is critical if its layers keep a variance K*, and if small disturbances, both parallel and
perpendicular to the signal, neither grow nor fade: χ_∥(K*) = χ_⊥(K*) = 1.

References: Roberts, Yaida, Hanin (2022), The Principles of Deep Learning Theory, chapter 5.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import sympy
from sympy import Expr

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import simplified
from flaxinit.theory.functions.piecewise import Piece, derivative, jumps
from flaxinit.theory.functions.symbols import q, z
from flaxinit.theory.functions.tidy import tidy
from flaxinit.theory.functions.watch import watched
from flaxinit.theory.meanfield.layer_maps import LayerMaps
from flaxinit.theory.meanfield.root_search import find_roots
from flaxinit.theory.moments.moment import CLOSED_FORM
from flaxinit.theory.moments.terms import NoClosedForm, attempt

UniversalityClass = Literal["scale-invariant", "K* = 0", "half-stable", "every K*"]

# The interval in which to look for a half-stable K*.
SEARCHED = (1e-8, 1e8)
# The quadrature is accurate to about 1e-15. A relative difference below this has no certain sign.
_ROUNDING = 1e-11


@dataclass(frozen=True)
class Criticality:
    """A critical initialization of an activation, and its universality class.

    Attributes:
        kind: the universality class.
        q: K*, the variance that is kept; None if every variance is.
        sigma_w2: C_W, with Var W = C_W / fan_in.
        sigma_b2: C_b = Var b.
        exact: K* in closed form, if the engine finds one.
    """

    kind: UniversalityClass
    q: float | None
    sigma_w2: float
    sigma_b2: float
    exact: Expr | None = None


def classify(maps: LayerMaps) -> tuple[Criticality, ...]:
    """Return every critical initialization, by K*. Half-stable ones are found in `SEARCHED`.

    χ_⊥ is the χ of the correlation. It comes from the function itself, even if the activation has
    a custom gradient.

    >>> from flaxinit.theory import derive
    >>> classify(derive("relu").maps)
    (Criticality(kind='scale-invariant', q=None, sigma_w2=2.0, sigma_b2=0.0, exact=None),)
    """
    if _is_scale_invariant(maps.pieces):
        return (Criticality("scale-invariant", None, 1 / maps.slope_energy(1.0), 0.0),)
    if all(sympy.diff(p.expr, z) == 0 for p in maps.pieces):
        return ()  # φ' = 0: no gradient passes
    points = []
    slope2 = _slope_at_zero(maps.pieces)
    if slope2 is not None and _settles(maps, slope2):
        points.append(Criticality("K* = 0", 0.0, float(1 / slope2), 0.0, sympy.Integer(0)))
    # If φ jumps, χ_⊥ is infinite at every K > 0.
    return tuple(points) if maps.jumps else (*points, *_half_stable(maps))


def _is_scale_invariant(pieces: tuple[Piece, ...]) -> bool:
    """Tell whether φ(λx) = λφ(x) for λ > 0: a line through 0 on either side."""
    lines = all(sympy.expand(p.expr - z * sympy.diff(p.expr, z)) == 0 for p in pieces)
    return lines and all(p.high == 0 for p in pieces[:-1])


def _slope_at_zero(pieces: tuple[Piece, ...]) -> Expr | None:
    """Return the mean square of φ' on the two sides of 0, if φ(0) = 0 and φ' is not 0 there."""
    left = next(p for p in pieces if p.low < 0 <= p.high)
    right = next(p for p in pieces if p.low <= 0 < p.high)
    if any(simplified(p.expr.subs(z, 0)) != 0 for p in (left, right)):
        return None
    slopes = [simplified(sympy.diff(p.expr, z).subs(z, 0)) for p in (left, right)]
    mean_square = (slopes[0] ** 2 + slopes[1] ** 2) / 2
    return mean_square if mean_square.is_finite and mean_square != 0 else None


def _settles(maps: LayerMaps, slope2: Expr) -> bool:
    """Tell whether q falls towards 0 at C_W = 1/φ'(0)²: E[φ²] < φ'(0)² q for small q.

    The smallest q at which the comparison can be certified decides. A function that is linear for
    many standard deviations needs a larger q: at a small one, both sides agree to all digits.
    """
    for exponent in (-20, -12, -8, -4, -2, 0):
        small = sympy.Integer(10) ** exponent
        energy = maps.second_moment.ball(small)
        with balls.precision():
            kept = balls.evaluate(slope2 * small)
        if not energy.overlaps(kept):
            return bool(energy < kept)
    return False


def _is_one_disturbance(pieces: tuple[Piece, ...]) -> bool:
    """Tell whether φφ'' = 0 on every piece, and at every corner, where φ'' is a delta."""
    if any(sympy.expand(p.expr * sympy.diff(p.expr, z, 2)) != 0 for p in pieces):
        return False
    corners = jumps(derivative(pieces))
    values = [p.expr.subs(z, p.high) for p in pieces[:-1] if p.high in corners]
    return all(simplified(value) == 0 for value in values)


def _half_stable(maps: LayerMaps) -> Iterator[Criticality]:
    """Yield the K > 0 with χ_∥ = χ_⊥, that is d/dK E[φ²] = E[φ'²], and C_b ≥ 0."""

    def gap(v: float) -> float:
        """Return ``(χ_∥ − χ_⊥)/χ_⊥``; nan if not known."""
        slopes = maps.known_slope_energy(v)
        return maps.known_slope(v) / slopes - 1 if 0 < slopes < math.inf else math.nan

    if _is_one_disturbance(maps.pieces):
        sigma_w2 = 1 / maps.slope_energy(1.0)
        yield Criticality("every K*", 1.0, sigma_w2, 1 - sigma_w2 * maps.energy(1.0))
        return
    for root in find_roots(gap, *SEARCHED, _ROUNDING):
        exact = None
        with contextlib.suppress(NoClosedForm), watched(), attempt(CLOSED_FORM):
            exact = _exact_root(maps, root)
        root = root if exact is None else float(exact)
        sigma_w2 = 1 / maps.slope_energy(root)
        sigma_b2 = root - sigma_w2 * maps.energy(root)
        if sigma_b2 >= 0:
            yield Criticality("half-stable", root, sigma_w2, sigma_b2, exact)


def _exact_root(maps: LayerMaps, near: float) -> Expr | None:
    """Return the root in closed form, if both moments have one and the condition is algebraic."""
    energy, slopes = maps.second_moment.exact, maps.derivative_second_moment.exact
    if energy is None or slopes is None:
        return None
    condition = sympy.numer(sympy.factor(sympy.together(tidy(sympy.diff(energy, q) - slopes))))
    for factor in sympy.Mul.make_args(condition):
        poly = factor.as_poly(q)
        if poly is None or poly.degree() > 4:
            continue
        for root in sympy.roots(poly):
            if root.is_real and math.isclose(float(root), near, rel_tol=1e-9):
                return root
    return None
