"""Cut a function with kinks into pieces on which it is smooth.

A kink can only lie where the argument of an ``Abs``, ``sign``, ``Max``, ``Min`` or of a
``Piecewise`` condition changes its sign. Those places are found exactly. Between two of them, the
sign at one inner point decides each branch.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise

import sympy
from sympy import Abs, Expr, Heaviside, Max, Min, Piecewise, Symbol, exp, log, oo, sign
from sympy.core.relational import Eq, Ne, Relational

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import collected, differentiated, simplified, vanishes
from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.defects import sympy_may_fail
from flaxinit.theory.functions.effort import limited, remembered
from flaxinit.theory.functions.order import aligned, between, compare, ordered
from flaxinit.theory.functions.roots import roots
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.functions.watch import watched

_SECONDS = 5.0  # of work to tell where a function jumps
KINKED = (Abs, sign, Max, Min, Piecewise, Heaviside)


@dataclass(frozen=True)
class Piece:
    """A smooth expression in z on the open interval (low, high)."""

    low: Expr
    high: Expr
    expr: Expr


def split(expr: Expr) -> tuple[Piece, ...]:
    """Return the smooth pieces of an expression, from left to right.

    Args:
        expr: an expression in z.

    Returns:
        Pieces that cover the real line; neighbors with the same expression are joined.

    Raises:
        ValueError: if a kink cannot be located exactly.

    >>> split(Max(0, z))
    (Piece(low=-oo, high=0, expr=0), Piece(low=0, high=oo, expr=z))
    """
    return join(map_pieces(_cut(expr, -oo, oo), collected), _same)


def parameters(pieces: Sequence[Piece]) -> tuple[Symbol, ...]:
    """Return the open parameters of the pieces and of their ends, by name."""
    found: set = set()
    for piece in pieces:
        found |= piece.expr.free_symbols | piece.low.free_symbols | piece.high.free_symbols
    return tuple(sorted(found - {z}, key=str))


def map_pieces(pieces: Sequence[Piece], function: Callable[[Expr], Expr]) -> tuple[Piece, ...]:
    """Apply a function to the expression of each piece."""
    return tuple(Piece(p.low, p.high, function(p.expr)) for p in pieces)


def derivative(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return the derivative where it exists, which is everywhere but at the kinks."""
    return map_pieces(pieces, differentiated)


def jumps(pieces: Sequence[Piece]) -> list[Expr]:
    """Return the places where the function is not continuous.

    Raises:
        ValueError: if SymPy cannot tell, or not with little work.
    """
    with watched(), limited(_SECONDS), sympy_may_fail():
        return [a.high for a, b in pairwise(pieces) if not _is_negligible(_gap(a, b))]


def _is_negligible(gap: Expr) -> bool:
    """Tell whether it is 0; at a place without a formula, whether a float would round it to 0."""
    if gap == 0 or gap.free_symbols:
        return gap == 0
    try:
        return balls.sharp(gap).mid() == 0
    except balls.NotCertifiable:
        return False


def _gap(left: Piece, right: Piece) -> Expr:
    """Return the difference of the limits from both sides of the place between two pieces."""
    place = left.high
    gap = simplified((left.expr - right.expr).subs(z, place))
    if gap.is_finite:
        return gap
    # Such as z log z at 0, which has a limit there.
    below, above = (sympy.limit(p.expr, z, place, d) for p, d in ((left, "-"), (right, "+")))
    return simplified(below - above)


def join(
    pieces: Iterable[Piece], same: Callable[[Expr, Expr], bool] = operator.eq
) -> tuple[Piece, ...]:
    """Join neighbors that are the same function; by default, those with equal expressions."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].high == piece.low and same(joined[-1].expr, piece.expr):
            last = joined.pop()
            piece = Piece(last.low, piece.high, last.expr)
        joined.append(piece)
    return tuple(joined)


def _same(a: Expr, b: Expr) -> bool:
    return a == b or vanishes((a - b).rewrite(sympy.erfc, sympy.erf))


@remembered
def _cut(expr: Expr, low: Expr, high: Expr) -> tuple[Piece, ...]:
    """Return the smooth pieces of an expression on an interval, from those of its parts."""
    if not (expr.has(z) and expr.has(*KINKED)):
        return (Piece(low, high, expr),)
    if isinstance(expr, Piecewise):
        return join(_chosen(expr, low, high))
    rows = [_cut(part, low, high) for part in expr.args]
    return join(
        piece
        for left, right, parts in aligned(rows)
        for piece in _resolved(expr, [part.expr for part in parts], left, right)
    )


def _resolved(expr: Expr, args: list[Expr], low: Expr, high: Expr) -> Iterator[Piece]:
    """Yield the pieces of a function whose arguments are smooth on the interval."""
    if isinstance(expr, Max | Min):
        yield from _extreme(expr.func, args, low, high)
    elif isinstance(expr, Abs | sign | Heaviside):
        (u,) = args[:1]
        for left, right, s in _signs(u, low, high):
            value = {Abs: u * s, sign: s}.get(expr.func, (1 + s) / 2)
            yield Piece(left, right, value)
    else:
        yield Piece(low, high, expr.func(*args))


def _extreme(extreme: type, args: list[Expr], low: Expr, high: Expr) -> tuple[Piece, ...]:
    """Return the pieces of a maximum or minimum, from those of its two halves."""
    if len(args) == 1:
        return (Piece(low, high, args[0]),)
    middle = len(args) // 2
    halves = [_extreme(extreme, half, low, high) for half in (args[:middle], args[middle:])]
    direction = 1 if extreme is Max else -1
    return join(
        Piece(start, end, b.expr if direction * s > 0 else a.expr)
        for left, right, (a, b) in aligned(halves)
        for start, end, s in _signs(b.expr - a.expr, left, right)
    )


def _chosen(expr: Piecewise, low: Expr, high: Expr) -> list[Piece]:
    """Return the branch of the first condition that holds, on each part of an interval."""
    chosen: list[Piece] = []
    waiting = [(low, high)]
    for value, condition in expr.args:
        truths = [truth for ends in waiting for truth in where(condition, *ends)]
        chosen += [p for t in truths if t.holds for p in _cut(value, t.low, t.high)]
        waiting = [(t.low, t.high) for t in truths if not t.holds]
    if waiting:
        at = _inner_point(*waiting[0])
        raise ValueError(
            f"No branch of {short(expr)} applies at {at}, so it is not defined everywhere. Add a "
            "branch."
        )
    return sorted(chosen, key=cmp_to_key(lambda a, b: compare(a.low, b.low)))


@dataclass(frozen=True)
class Truth:
    """Whether a condition holds on the open interval (low, high)."""

    low: Expr
    high: Expr
    holds: bool


def where(condition, low: Expr, high: Expr) -> list[Truth]:
    """Return where a condition holds within an interval, from left to right.

    >>> [truth.holds for truth in where(z**2 < 4, -oo, oo)]
    [False, True, False]
    """
    truths: list[Truth] = []
    for truth in _truths(condition, low, high):
        if truths and truths[-1].holds == truth.holds:
            truth = Truth(truths.pop().low, truth.high, truth.holds)
        truths.append(truth)
    return truths


def _truths(condition, low: Expr, high: Expr) -> Iterator[Truth]:
    if condition in (True, False):
        yield Truth(low, high, bool(condition))
    elif isinstance(condition, Relational):
        yield from _compared(condition, low, high)
    elif type(condition) in _CONNECTIVES:
        connect = _CONNECTIVES[type(condition)]
        for left, right, parts in aligned([where(part, low, high) for part in condition.args]):
            yield Truth(left, right, bool(connect([part.holds for part in parts])))
    else:
        raise ValueError(f"The condition {short(condition)} cannot be decided. Use comparisons.")


# The truth of a condition, from that of its parts.
_CONNECTIVES: dict[type, Callable] = {
    sympy.And: all,
    sympy.Or: any,
    sympy.Not: lambda parts: not parts[0],
    sympy.Xor: lambda parts: sum(parts) % 2 == 1,
    sympy.ITE: lambda parts: parts[1] if parts[0] else parts[2],
}


def _compared(relation: Relational, low: Expr, high: Expr) -> Iterator[Truth]:
    for piece in _cut(relation.lhs - relation.rhs, low, high):
        if isinstance(relation, Eq | Ne) and piece.expr.has(z):
            # Two smooth functions are equal everywhere, or only at single points.
            yield Truth(piece.low, piece.high, isinstance(relation, Ne) != vanishes(piece.expr))
            continue
        for left, right, s in _signs(piece.expr, piece.low, piece.high):
            yield Truth(left, right, bool(relation.func(s, 0)))


def _signs(expr: Expr, low: Expr, high: Expr) -> Iterator[tuple[Expr, Expr, Expr]]:
    """Yield the intervals on which a smooth expression keeps its sign, with the sign."""
    ends = (low, *between(low, _changes(expr), high), high)
    for left, right in pairwise(ends):
        yield left, right, _sign(expr, _inner_point(left, right))


@remembered
def _changes(expr: Expr) -> tuple[Expr, ...]:
    """Return the places where a smooth expression may change its sign: its zeros and its poles.

    The poles of its parts count too: atan(1/z) jumps at 0, and has no zero there.
    """
    if not expr.has(z):
        return ()
    if expr.is_polynomial(z):
        return ordered(roots(expr))
    below = dict.fromkeys(part for part in _denominators(expr) if part.has(z))
    return ordered(roots(expr) + [root for part in below for root in roots(part)])


def _denominators(expr: Expr) -> Iterator[Expr]:
    """Yield expressions whose zeros include all poles of an expression and of its parts."""
    yield sympy.denom(sympy.together(expr))
    for part in sympy.preorder_traversal(expr):
        if isinstance(part, sympy.Function):
            yield from (sympy.denom(sympy.together(arg)) for arg in part.args)
        elif part.is_Pow and not part.exp.is_Integer:
            yield sympy.denom(sympy.together(part.base))
        if isinstance(part, sympy.tan | sympy.sec):
            yield sympy.cos(part.args[0])
        elif isinstance(part, sympy.cot | sympy.csc):
            yield sympy.sin(part.args[0])
        elif isinstance(part, sympy.coth | sympy.csch):
            yield sympy.sinh(part.args[0])


def _inner_point(low: Expr, high: Expr) -> Expr:
    if low == -oo:
        return sympy.Integer(0) if high == oo else high - 1
    return low + 1 if high == oo else (low + high) / 2


def _sign(expr: Expr, point: Expr) -> Expr:
    """Return the sign of a smooth expression at a point where its sign does not change."""
    value = expr.subs(z, point)
    known = _known_sign(value)
    if known is None and value.free_symbols:
        known = _known_sign(sympy.factor(simplified(value)))
    if known is not None:
        return sympy.Integer(known)
    if value.free_symbols:
        raise ValueError(
            f"The sign of {value} decides a branch. Give its parameters an assumption that "
            "decides it, such as Symbol('a', positive=True)."
        )
    with balls.precision():
        ball = balls.evaluate(value)
        if ball.contains(0):
            # It is 0 to 48 digits. SymPy may prove that it is exactly 0.
            if simplified(value) != 0:
                raise ValueError(f"The sign of {value} cannot be decided. Simplify the condition.")
            return sympy.Integer(0)
        return sympy.Integer(1 if ball > 0 else -1)


def _known_sign(value: Expr) -> int | None:
    """Return the sign that the assumptions give: factor by factor, and e^u + c by its logarithm."""
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


def samples(symbols: Sequence[Symbol]) -> dict[Symbol, sympy.Rational]:
    """Return a value for each parameter that fits its sign; above 1, as an exponent may need."""
    values = {s: 1 + sympy.Rational(1, n + 2) for n, s in enumerate(symbols)}
    return {s: -v if s.is_negative else v for s, v in values.items()}


def substitute(pieces: Sequence[Piece], values: dict) -> tuple[Piece, ...]:
    """Return the pieces with numbers in place of parameters."""
    return tuple(
        Piece(p.low.subs(values), p.high.subs(values), p.expr.subs(values)) for p in pieces
    )
