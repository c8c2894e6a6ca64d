"""Dual activations in closed form: E[φ(u)φ(v)] for u, v ~ N(0, q) of correlation c.

Closed forms are known for two families. For terms on the whole line (polynomials, exponentials,
trigonometric functions, Gaussians and error functions, and so GELU), Stein's identity in two
dimensions gives the dual. For polynomials on either side of 0 (ReLU and its powers), derivatives of
the step functions add boundary terms to the identity.

References: Cho, Saul (2009), Kernel Methods for Deep Learning; Williams (1998), Computation with
infinite neural networks; Daniely, Frostig, Singer (2016), Toward Deeper Understanding of Neural
Networks; Tsuchida, Pearce, van der Heide, Roosta, Gallagher (2021), Avoiding Kernel Fixed Points.
"""

from collections.abc import Sequence
from functools import cache

import sympy
from sympy import Expr, Integer, Matrix, Rational, asin, exp, oo, pi, sqrt

from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.symbols import c, q, z
from flaxinit.theory.functions.tidy import tidy
from flaxinit.theory.moments.terms import NoClosedForm, Term, expand


@cache
def dual(pieces: tuple[Piece, ...]) -> Expr:
    """Return ``E[φ(u)φ(v)]`` as an expression in c and q.

    Raises:
        NoClosedForm: if φ belongs to neither family.

    >>> from flaxinit.theory.functions.piecewise import split
    >>> dual(split(z))
    c*q
    """
    if len(pieces) == 1:
        terms = expand(pieces[0].expr)
        covariance = Matrix([[q, c * q], [c * q, q]])
        total = sum(
            a * b * _whole(left, right, covariance)
            for left, a in terms.items()
            for right, b in terms.items()
        )
    else:
        total = _halves(pieces)
    return tidy(total)


def _whole(left: Term, right: Term, covariance: Matrix) -> Expr:
    for term in (left, right):
        if term.algebraic is not None or not (term.n.is_integer and term.n.is_nonnegative):
            raise NoClosedForm(f"No closed form is known of a dual activation with {term.expr}.")
        if len(term.erfs) > 1 or any(delta != 0 for _, delta in term.erfs):
            raise NoClosedForm(
                "No closed form is known of a dual activation with a shifted error function, or a "
                "product of two."
            )
        if term.erfs and (left.b != 0 or right.b != 0):
            raise NoClosedForm(
                "No closed form is known of a dual activation with an error function and an "
                "exponential."
            )
    quadratic = sympy.diag(-2 * left.a, -2 * right.a)
    erfs = tuple((i, t.erfs[0][0]) for i, t in enumerate((left, right)) if t.erfs)
    return _expect(int(left.n), int(right.n), (left.b, right.b), erfs, quadratic, covariance)


def _expect(n: int, m: int, linear, erfs, quadratic: Matrix, covariance: Matrix) -> Expr:
    """Return ``E[uⁿ vᵐ e^{b·x − xᵀAx/2} Π erf(γᵢ xᵢ)]``, x = (u, v), by completing the square."""
    determinant = sympy.factor((sympy.eye(2) + covariance * quadratic).det())
    sigma = ((sympy.eye(2) + covariance * quadratic).inv() * covariance).applyfunc(sympy.cancel)
    b = Matrix(linear)
    mean = (sigma * b).applyfunc(sympy.expand)
    mass = exp(sympy.expand((b.T * sigma * b)[0] / 2)) / sqrt(determinant)
    return mass * _stein(n, m, mean, sigma, erfs)


def _stein(n: int, m: int, mean: Matrix, sigma: Matrix, erfs) -> Expr:
    """Return ``E[uⁿ vᵐ Π erf(γᵢ xᵢ)]`` for x ~ N(mean, sigma), by Stein's identity."""
    if n == 0 and m == 0:
        return _base(sigma, erfs)
    axis = 0 if n > 0 else 1
    powers = [n, m]
    powers[axis] -= 1
    value = mean[axis] * _stein(*powers, mean, sigma, erfs)
    for other in (0, 1):
        if powers[other] > 0:
            lower = list(powers)
            lower[other] -= 1
            value += sigma[axis, other] * powers[other] * _stein(*lower, mean, sigma, erfs)
    for k, (i, gamma) in enumerate(erfs):
        rest = erfs[:k] + erfs[k + 1 :]
        bump = sympy.zeros(2)
        bump[i, i] = 2 * gamma**2
        derived = _expect(*powers, (Integer(0), Integer(0)), rest, bump, sigma)
        value += sigma[axis, i] * 2 * gamma / sqrt(pi) * derived
    return value


def _base(sigma: Matrix, erfs) -> Expr:
    if not erfs:
        return Integer(1)
    if len(erfs) == 1:
        return Integer(0)  # odd
    (_, g1), (_, g2) = erfs
    spread = sympy.factor((1 + 2 * g1**2 * sigma[0, 0]) * (1 + 2 * g2**2 * sigma[1, 1]))
    return 2 / pi * asin(sympy.cancel(2 * g1 * g2 * sigma[0, 1]) / sqrt(spread))


def _halves(pieces: Sequence[Piece]) -> Expr:
    """Return the dual of polynomials on z < 0 and z > 0: sums of E[|u|ⁿ|v|ᵐ 1(±u>0) 1(±v>0)]."""
    if [p.high for p in pieces] != [0, oo]:
        raise NoClosedForm("A closed form of the dual is known only for a single kink, at 0.")
    sides = {}
    for side, piece in zip((-1, 1), pieces, strict=True):
        poly = piece.expr.as_poly(z)
        if poly is None:
            raise NoClosedForm(f"{piece.expr} on one side of 0 is not a polynomial.")
        # In powers of |z|.
        sides[side] = {n: coefficient * Integer(side) ** n for (n,), coefficient in poly.terms()}
    total = Integer(0)
    for left, a in sides.items():
        for right, b in sides.items():
            for n, x in a.items():
                for m, y in b.items():
                    if x != 0 and y != 0:
                        total += x * y * _quadrant(n, m).subs(c, left * right * c)
    return total


@cache
def _quadrant(n: int, m: int) -> Expr:
    """Return ``E[uⁿ vᵐ 1(u>0) 1(v>0)]``, an arc-cosine kernel of mixed degree.

    By Stein's identity E[u g] = q E[g_u] + cq E[g_v], in which the step's derivative is a delta.
    """
    if n == 0 and m == 0:
        return Rational(1, 4) + asin(c) / (2 * pi)
    if n == 0:
        return _quadrant(m, 0)
    value = Integer(0)
    if n >= 2:
        value += q * (n - 1) * _quadrant(n - 2, m)
    else:
        value += q * _edge(m)
    value += c * q * (m * _quadrant(n - 1, m - 1) if m >= 1 else _edge(n - 1))
    return sympy.expand(value)


def _edge(m: int) -> Expr:
    """Return ``E[δ(u) vᵐ 1(v>0)]``: given u = 0, v ~ N(0, q(1−c²))."""
    s = q * (1 - c**2)
    half = (2 * s) ** Rational(m, 2) * sympy.gamma(Rational(m + 1, 2)) / (2 * sqrt(pi))
    return half / sqrt(2 * pi * q)
