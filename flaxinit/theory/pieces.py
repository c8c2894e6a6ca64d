"""Cuts a function with kinks into pieces on which it is smooth.

A kink can only lie where the argument of an ``Abs``, ``sign``, ``Max``, ``Min`` or of a
``Piecewise`` condition changes its sign. Those places are found exactly; between two of them
each branch is decided by its sign at one inner point.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import sympy
from sympy import Abs, Expr, Heaviside, Max, Min, Piecewise, Symbol, exp, log, oo, sign
from sympy.core.relational import Eq, Ne, Relational

from flaxinit.theory import balls
from flaxinit.theory.algebra import differentiated, vanishes
from flaxinit.theory.brief import short
from flaxinit.theory.roots import roots
from flaxinit.theory.symbols import z

KINKED = (Abs, sign, Max, Min, Piecewise, Heaviside)


@dataclass(frozen=True)
class Piece:
    """A smooth expression in z on the open interval (low, high)."""

    low: Expr
    high: Expr
    expr: Expr


def split(expr: Expr) -> tuple[Piece, ...]:
    """The smooth pieces of an expression, from left to right.

    Args:
        expr: an expression in z.

    Returns:
        Pieces that cover the real line; neighbours with one and the same expression are one.

    Raises:
        ValueError: if a kink cannot be located exactly.

    >>> split(Max(0, z))
    (Piece(low=-oo, high=0, expr=0), Piece(low=0, high=oo, expr=z))
    """
    cuts = (-oo, *_kinks(expr), oo)
    pieces = [
        Piece(low, high, _branch(expr, _inner_point(low, high))) for low, high in pairwise(cuts)
    ]
    return tuple(join(pieces))


def parameters(pieces: Sequence[Piece]) -> tuple[Symbol, ...]:
    """The open parameters of the pieces and of their ends, by name."""
    found: set = set()
    for piece in pieces:
        found |= piece.expr.free_symbols | piece.low.free_symbols | piece.high.free_symbols
    return tuple(sorted(found - {z}, key=str))


def map_pieces(pieces: Sequence[Piece], function: Callable[[Expr], Expr]) -> tuple[Piece, ...]:
    """The pieces of another function that has the same kinks."""
    return tuple(Piece(p.low, p.high, function(p.expr)) for p in pieces)


def derivative(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The derivative where it exists: the jumps at the kinks are of measure zero."""
    return map_pieces(pieces, differentiated)


def jumps(pieces: Sequence[Piece]) -> list[Expr]:
    """The places where the function is not continuous."""
    found = []
    for left, right in pairwise(pieces):
        gap = sympy.simplify((left.expr - right.expr).subs(z, left.high))
        if not gap.is_finite:  # as z log z at 0, which has a limit there
            sides = (sympy.limit(p.expr, z, left.high, d) for p, d in ((left, "-"), (right, "+")))
            gap = sympy.simplify(-sum(s * side for s, side in zip((-1, 1), sides, strict=True)))
        if gap != 0:
            found.append(left.high)
    return found


def join(pieces: list[Piece]) -> list[Piece]:
    """Joins neighbours that are the same analytic function."""
    joined = pieces[:1]
    for piece in pieces[1:]:
        last = joined[-1]
        if last.high == piece.low and _same(last.expr, piece.expr):
            joined[-1] = Piece(last.low, piece.high, last.expr)
        else:
            joined.append(piece)
    return joined


def _same(a: Expr, b: Expr) -> bool:
    return a == b or vanishes((a - b).rewrite(sympy.erfc, sympy.erf))


@cache
def _kinks(expr: Expr) -> tuple[Expr, ...]:
    """Every place where a branch of the expression may change, sorted."""
    places: set[Expr] = set()
    for switch in _switches(expr):
        for piece in split(switch):
            if piece.expr.has(z):
                # A switch changes its sign where it is 0, and where it has a pole.
                below = sympy.denom(sympy.together(piece.expr))
                found = roots(piece.expr) + (roots(below) if below.has(z) else [])
                places |= {root for root in found if _inside(root, piece)}
            # A switch that is itself cut in pieces may jump over zero at a cut.
            places |= {end for end in (piece.low, piece.high) if end.is_finite}
    return _sorted(places)


def _switches(expr: Expr):
    """The expressions whose sign decides a branch."""
    for part in expr.atoms(*KINKED):
        if not part.has(z):
            continue
        if isinstance(part, Piecewise):
            for _, condition in part.args:
                yield from (r.lhs - r.rhs for r in condition.atoms(Relational) if r.has(z))
        elif isinstance(part, Max | Min):
            args = part.args
            for i, left in enumerate(args):
                yield from (left - right for right in args[i + 1 :] if (left - right).has(z))
        else:
            yield part.args[0]


def _value(expr: Expr):
    """A number for ordering: parameters are taken at the reciprocals of small primes."""
    values = {
        s: sympy.Rational(1, sympy.prime(i + 2))
        for i, s in enumerate(sorted(expr.free_symbols, key=str))
    }
    return expr.subs(values).evalf(30)


def _inside(root: Expr, piece: Piece) -> bool:
    return all(
        side is sympy.S.true or (side is not sympy.S.false and bool(_decide(side)))
        for side in (piece.low < root, root < piece.high)
    )


def _decide(relation) -> bool:
    difference = relation.lhs - relation.rhs
    if difference.free_symbols:
        raise ValueError(
            f"whether {relation} holds decides the order of the kinks; give the parameters "
            "assumptions that settle it, such as Symbol('a', positive=True)"
        )
    return bool(relation)


def _sorted(places: set[Expr]) -> tuple[Expr, ...]:
    """Sorts numerically, and proves the order where parameters are involved."""
    unique: list[Expr] = []
    for place in places:
        if not any(sympy.simplify(place - other) == 0 for other in unique):
            unique.append(place)
    numbers = [place for place in unique if not place.free_symbols]
    with balls.precision():
        located = sorted(((balls.evaluate(place), place) for place in numbers), key=_middle)
        for (left, a), (right, b) in pairwise(located):
            if left.overlaps(right):
                raise ValueError(f"the kinks {a} and {b} are too close to be told apart")
    if len(numbers) == len(unique):
        return tuple(place for _, place in located)
    unique.sort(key=_value)
    for left, right in pairwise(unique):
        gap = right - left
        if gap.free_symbols and not gap.is_positive:
            raise ValueError(
                f"the order of the kinks {left} and {right} is not settled; give the parameters "
                "assumptions that settle it, such as Symbol('a', positive=True)"
            )
    return tuple(unique)


def _middle(located) -> float:
    return located[0].mid()


def _inner_point(low: Expr, high: Expr) -> Expr:
    if low == -oo:
        return sympy.Integer(0) if high == oo else high - 1
    return low + 1 if high == oo else (low + high) / 2


def _branch(expr: Expr, point: Expr) -> Expr:
    """The expression with every switch set as it stands at the point."""
    if not expr.has(*KINKED) or not expr.has(z):
        return expr
    if isinstance(expr, Piecewise):
        for value, condition in expr.args:
            if _holds(condition, point):
                return _branch(value, point)
        raise ValueError(
            f"no branch of {short(expr)} applies at {point}; it is not defined everywhere"
        )
    args = [_branch(arg, point) for arg in expr.args]
    if isinstance(expr, Abs):
        return args[0] * _sign(args[0], point)
    if isinstance(expr, sign):
        return _sign(args[0], point)
    if isinstance(expr, Heaviside):
        return (1 + _sign(args[0], point)) / 2
    if isinstance(expr, Max | Min):
        direction = 1 if isinstance(expr, Max) else -1
        best = args[0]
        for other in args[1:]:
            if direction * _sign(other - best, point) > 0:
                best = other
        return best
    return expr.func(*args)


def _sign(expr: Expr, point: Expr) -> Expr:
    """The sign of a smooth expression at a point where it is known not to change."""
    value = expr.subs(z, point)
    known = _known_sign(value)
    if known is None and value.free_symbols:
        known = _known_sign(sympy.factor(sympy.simplify(value)))
    if known is not None:
        return sympy.Integer(known)
    if value.free_symbols:
        raise ValueError(
            f"the sign of {value} decides a branch; give its parameters an assumption that "
            "settles it, such as Symbol('a', positive=True)"
        )
    with balls.precision():
        ball = balls.evaluate(value)
        if ball.contains(0):
            # Equal to 48 digits: SymPy decides whether it is zero, or says that it cannot.
            if sympy.simplify(value) != 0:
                raise ValueError(f"the sign of {value} cannot be decided")
            return sympy.Integer(0)
        return sympy.Integer(1 if ball > 0 else -1)


def _known_sign(value: Expr) -> int | None:
    """The sign as the assumptions give it: factor by factor, and e^u + c by its logarithm."""
    if value.is_zero:
        return 0
    if value.is_positive or value.is_negative:
        return 1 if value.is_positive else -1
    if value.is_Mul:
        signs = [_known_sign(factor) for factor in value.args]
        return None if None in signs else math.prod(signs)
    if value.is_Add and len(value.args) == 2:
        constant, rest = value.as_coeff_Add()
        factor, power = rest.as_coeff_Mul()
        if isinstance(power, exp) and constant * factor < 0:
            exceeds = _known_sign(power.exp - log(-constant / factor))
            return None if exceeds is None else exceeds * int(sympy.sign(factor))
    return None


def _holds(condition, point: Expr) -> bool:
    """Whether a condition holds on the open interval around the point."""
    if condition in (True, False):
        return bool(condition)
    if isinstance(condition, Eq | Ne) and condition.has(z):
        same = sympy.expand(_branch(condition.lhs - condition.rhs, point)) == 0
        return same == isinstance(condition, Eq)
    if isinstance(condition, Relational):
        side = _sign(_branch(condition.lhs - condition.rhs, point), point)
        if side == 0:
            return isinstance(condition, sympy.Ge | sympy.Le)
        return bool(condition.func(side, 0))
    if isinstance(condition, sympy.ITE):
        chosen, if_true, if_false = condition.args
        return _holds(if_true if _holds(chosen, point) else if_false, point)
    parts = [_holds(part, point) for part in condition.args]
    if isinstance(condition, sympy.And):
        return all(parts)
    if isinstance(condition, sympy.Or):
        return any(parts)
    if isinstance(condition, sympy.Not):
        return not parts[0]
    if isinstance(condition, sympy.Xor):
        return sum(parts) % 2 == 1
    raise ValueError(f"the condition {condition} cannot be decided; use comparisons")
