"""Points at which a formula is not defined, or not analytic, but may have an integral."""

import contextlib

import sympy
from flint import acb, arb
from sympy import Expr, exp, log

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.balls import Continued, Program
from flaxinit.theory.functions.effort import remembered, size, spend
from flaxinit.theory.functions.order import ordered, within
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.functions.roots import lowered, order_of_zero, roots
from flaxinit.theory.functions.symbols import z

_REWRITING = 200  # units of work for each part of an expression, to find a common denominator
_NEIGHBORHOOD = arb(0, arb(2) ** -60)


@remembered
def singularities(piece: Piece) -> tuple[Expr, ...]:
    """Return the points of a piece around which its formula is not finite, or not analytic.

    At an end of the piece, the formula only needs to be finite.

    >>> singularities(Piece(-sympy.oo, sympy.oo, sympy.sin(z) / z))
    (0,)
    """
    suspects = {end for end in (piece.low, piece.high) if end.is_finite}
    for part in piece.expr.atoms(sympy.Pow, log):
        base = part.args[0]
        entire = part.is_Pow and part.exp.is_integer and part.exp.is_nonnegative
        if base.has(z) and not entire and not (base.is_positive or base.is_negative):
            with contextlib.suppress(ValueError, NotImplementedError):  # no exact root is known
                suspects |= {r for r in roots(base) if within(r, piece.low, piece.high)}
    ends = (piece.low, piece.high)
    with balls.precision():
        program = Program(piece.expr, (z,))
        return ordered(p for p in suspects if not _regular(program, p, analytic=p not in ends))


def _regular(program: Program, point: Expr, *, analytic: bool) -> bool:
    """Tell whether the values are proven finite around the point, and analytic if asked."""
    near = acb(balls.evaluate(point) + _NEIGHBORHOOD)
    return program(near, analytic=analytic).is_finite()


@remembered
def continued(expr: Expr, point: Expr) -> Expr | None:
    """Remove a removable singularity at the point; return None if it is not removable.

    If D vanishes to order k at p, and N at least to that order, the quotient N/D is continued as
    (N/(z − p)^k) / (D/(z − p)^k).
    """
    if expr.is_Pow and expr.exp.is_Integer and expr.exp.is_positive:
        root = continued(expr.base, point)  # its order is lower, so it is found much sooner
        return None if root is None else root**expr.exp
    numerator, denominator = _fraction(expr)
    order = order_of_zero(denominator, point)
    if order == 0:  # 1/z − 1/z, for example, has become 0
        quotient = numerator / denominator
        with balls.precision():
            whole = _regular(Program(quotient, (z,)), point, analytic=True)
        return quotient if whole else None
    if not order or (order_of_zero(numerator, point) or 0) < order:
        return None
    return sympy.Mul(lowered(numerator, point, order), 1 / lowered(denominator, point, order))


def _fraction(expr: Expr) -> tuple[Expr, Expr]:
    spend(_REWRITING * size(expr))
    return sympy.fraction(sympy.together(expr))


def factored(expr: Expr, point: Expr) -> Expr:
    """Write each part that vanishes at the point as (z − p)^k times the rest.

    >>> factored(sympy.exp(-1 / (1 - z**2)), sympy.Integer(1))
    exp(-1/((-z - 1)*(z - 1)))
    """
    if expr == z or not expr.has(z) or isinstance(expr, Continued):
        return expr
    if expr.is_Add or (isinstance(expr, sympy.Function) and not isinstance(expr, exp)):
        order = order_of_zero(expr, point)
        if order is None and expr.is_Add:  # such as 1 − sin(z)/z at 0
            above, below = _fraction(expr)
            zeros, poles = order_of_zero(above, point), order_of_zero(below, point)
            if zeros is not None and poles:
                rest = lowered(above, point, zeros) / lowered(below, point, poles)
                return (z - point) ** (zeros - poles) * rest
        elif order and expr != z - point:
            return (z - point) ** order * lowered(expr, point, order)
    return expr.func(*[factored(part, point) for part in expr.args])
