"""A function of two variables as a sum Σ a(u)·b(v), after a rotation if needed.

If u, v ~ N(0, q) are independent, the expectation of each product factorizes. A function of u − v,
such as the one in max(u, v) = v + max(u − v, 0), depends only on s = (u − v)/√2; and s and
t = (u + v)/√2 are independent N(0, q) again.
"""

from dataclasses import dataclass

import sympy
from sympy import Abs, And, Expr, Integer, Max, Min, Not, Or, Piecewise, exp, log
from sympy.core.relational import Relational

from flaxinit.theory.functions.algebra import MAX_TERMS, expand_numerators
from flaxinit.theory.functions.symbols import gate, z

_MAX_DIRECTIONS = 8
_CALLS = (sympy.Function, Max, Min, Relational)


@dataclass(frozen=True)
class Separated:
    """Σ a(z)·b(v): the pairs (a, b), each a function of its own variable."""

    pairs: tuple[tuple[Expr, Expr], ...]

    def squared(self) -> "Separated":
        """Return the square, as such a sum."""
        products = [(a * c, b * d) for a, b in self.pairs for c, d in self.pairs]
        return _gathered(products)

    def differentiated(self) -> "tuple[Separated, Separated]":
        """Return both partial derivatives, where they exist."""
        by_first = [(_slope(a, z), b) for a, b in self.pairs]
        by_second = [(a, _slope(b, gate)) for a, b in self.pairs]
        return _gathered(by_first), _gathered(by_second)


def separated(expr: Expr) -> Separated | None:
    """Return the function as a sum of products, in u and v or rotated variables, or None.

    >>> separated(sympy.exp(z + gate) + z).pairs
    ((z, 1), (exp(z), exp(v)))
    """
    exposed = _exposed(expr)
    for a, b in [(Integer(1), Integer(0)), *_directions(exposed)]:
        turned = exposed if b == 0 else _turned(exposed, a, b)
        pairs = _split(turned)
        if pairs is not None:
            return _gathered(pairs)
    return None


def _gathered(pairs) -> Separated:
    """Merge pairs that share a factor, by the first factor and then by the second."""
    for side in (0, 1):
        sums: dict[Expr, Expr] = {}
        for pair in pairs:
            coefficient, key = pair[side].as_independent(z, gate, as_Add=False)
            sums[key] = sums.get(key, Integer(0)) + coefficient * pair[1 - side]
        pairs = [(key, other) if side == 0 else (other, key) for key, other in sums.items()]
        pairs = [pair for pair in pairs if 0 not in pair]
    return Separated(tuple(pairs))


def _slope(expr: Expr, variable) -> Expr:
    """Return the derivative without the deltas of its jumps."""
    slope = sympy.diff(expr, variable)
    return slope.replace(sympy.DiracDelta, lambda *_: Integer(0))


def _split(expr: Expr) -> list[tuple[Expr, Expr]] | None:
    """Return a factor in z and a factor in v for each term; None if a term has no such factors."""
    pairs = []
    terms = sympy.Add.make_args(expand_numerators(sympy.expand_power_exp(expr)))
    if len(terms) > MAX_TERMS:
        return None
    for term in terms:
        left, right = term.as_independent(gate, as_Add=False)
        if right.has(z):
            return None
        pairs.append((left, right))
    return pairs


def _both(expr) -> bool:
    return expr.has(z) and expr.has(gate)


def _exposed(expr: Expr) -> Expr:
    """Write choices that involve both variables with differences and indicators."""

    def extreme(call: Expr) -> Expr:
        kind, (first, *others) = call.func, call.args
        if kind is Max and all(isinstance(arg, Abs) for arg in call.args) and len(others) == 1:
            a, b = first.args[0], others[0].args[0]
            return Abs(a + b) / 2 + Abs(a - b) / 2
        for other in others:
            first = other + kind(sympy.expand(first - other), 0)
        return first

    def choice(cases: Expr) -> Expr:
        result = cases.args[-1][0]
        for value, condition in reversed(cases.args[:-1]):
            holds = _indicator(condition)
            result = holds * value + (1 - holds) * result
        return result

    def over_sum(power: Expr) -> Expr:
        return power.func(_largest_out(power.base), power.exp)

    def logarithm(call: Expr) -> Expr:
        return sympy.expand_log(log(_largest_out(call.args[0])), force=True)

    return (
        expr.replace(lambda e: isinstance(e, Max | Min) and _both(e), extreme)
        .replace(lambda e: isinstance(e, Piecewise) and _both(e), choice)
        .replace(lambda e: e.is_Pow and _is_sum_of_exponentials(e.base), over_sum)
        .replace(lambda e: isinstance(e, log) and _is_sum_of_exponentials(e.args[0]), logarithm)
    )


def _is_sum_of_exponentials(expr: Expr) -> bool:
    return expr.is_Add and _both(expr) and all(isinstance(term, exp) for term in expr.args)


def _largest_out(total: Expr) -> Expr:
    """Write eᵃ + eᵇ as eᵇ (1 + e^{a−b})."""
    one = total.args[0]
    rest = sympy.Add(*[exp(sympy.expand(term.exp - one.exp)) for term in total.args[1:]])
    return one * (1 + rest)


def _indicator(condition) -> Expr:
    """Return 1 where a condition holds, else 0; parts of a condition become factors."""
    if isinstance(condition, And):
        return sympy.Mul(*map(_indicator, condition.args))
    if isinstance(condition, Or):
        return 1 - sympy.Mul(*[1 - _indicator(part) for part in condition.args])
    if isinstance(condition, Not):
        return 1 - _indicator(condition.args[0])
    if isinstance(condition, Relational):
        difference = sympy.expand(condition.lhs - condition.rhs)
        condition = condition.func(difference, 0)
    return Piecewise((Integer(1), condition), (Integer(0), True))


def _directions(expr: Expr) -> list[tuple[Expr, Expr]]:
    """Return (a, b) of the linear forms a·u + b·v that are arguments in the expression."""
    found: dict[Expr, tuple[Expr, Expr]] = {}
    arguments = [
        argument
        for part in expr.atoms(*_CALLS, sympy.Pow)
        for argument in part.args
        if isinstance(argument, Expr) and _both(argument)
    ]
    for argument in arguments:
        if not argument.is_polynomial(z, gate):
            continue
        poly = argument.as_poly(z, gate)
        if poly.total_degree() == 1:
            a, b = poly.coeff_monomial(z), poly.coeff_monomial(gate)
            found.setdefault(sympy.nsimplify(b / a), (a, b))
    return list(found.values())[:_MAX_DIRECTIONS]


def _turned(expr: Expr, a: Expr, b: Expr) -> Expr:
    """Rotate u, v to s, t of the same law, where a·u + b·v = √(a² + b²)·s."""
    length = sympy.sqrt(a**2 + b**2)
    u, v = (a * z + b * gate) / length, (b * z - a * gate) / length
    turned = expr.subs({z: u, gate: v}, simultaneous=True)

    def simplified(part):
        return part.func(
            *[sympy.expand(arg) if isinstance(arg, Expr) else arg for arg in part.args]
        )

    return turned.replace(
        lambda e: isinstance(e, sympy.Function | Relational) and not isinstance(e, Piecewise),
        simplified,
    )
