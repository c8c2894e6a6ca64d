"""Gated products φ(u)·ψ(v) with u, v independent: GLU, ReGLU, GeGLU, SwiGLU.

The two pre-activations come from two kernels on one input, so they are independent N(0, q).
Moments factorise, and the gradient reaches the input through both:

    E[f²] = E[φ²] E[ψ²],   E[f_u² + f_v²] = E[φ'²] E[ψ²] + E[φ²] E[ψ'²].

References:
    Dauphin, Fan, Auli & Grangier (2017), Language Modeling with Gated Convolutional Networks.
    Shazeer (2020), GLU Variants Improve Transformer.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import sympy
from flint import arb
from sympy import Expr, Symbol

from flaxinit.theory import balls
from flaxinit.theory.moment import Moment, check_variance
from flaxinit.theory.steps import Step
from flaxinit.theory.symbols import z

GATE = Symbol("v", real=True)
"""The second pre-activation of a gated product."""


@dataclass(frozen=True)
class CombinedMoment(Moment):
    """A sum of products of moments of independent variables."""

    products: tuple[tuple[Moment, ...], ...] = field(default=(), repr=False)

    @property
    def parameters(self) -> tuple[Symbol, ...]:
        found = {s for product in self.products for m in product for s in m.parameters}
        return tuple(sorted(found, key=str))

    def ball(self, variance) -> arb:
        check_variance(variance)
        with balls.precision():
            return self._product(variance)

    def _product(self, variance) -> arb:
        return _total([[m.ball(variance) for m in product] for product in self.products])


def _total(products):
    total = 0
    for product in products:
        factor = 1
        for value in product:
            factor = factor * value
        total = total + factor
    return total


def combine(symbol: str, products: tuple[tuple[Moment, ...], ...]) -> CombinedMoment:
    """The moment that is a sum of products of others."""
    parts = [m for product in products for m in product]
    known = all(m.exact is not None for m in parts)
    exact = _total([[m.exact for m in p] for p in products]) if known else None
    steps = tuple(step for m in dict.fromkeys(parts) for step in m.steps)
    steps += (Step("u and v are independent: expectations of products factorise", "E", exact),)
    bounds = None
    if all(m.bounds is not None for m in parts):
        with balls.precision():
            bounds = balls.bounds(_total([[m.ball(1) for m in p] for p in products]))
    remark = next((m.remark for m in parts if m.exact is None), "")
    steps = steps if known else ()
    return CombinedMoment(symbol, (), exact, bounds, steps, remark, products)


def takes_two(function: Callable) -> bool:
    """Whether a function has exactly two arguments that need a value.

    Raises:
        ValueError: if it has more.
    """
    count = _needed(function)
    if count > 2:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"{name} needs {count} arguments, but an activation is a function of one array, or, as "
            "a gate φ(u)·ψ(v), of two; give the others values with functools.partial"
        )
    return count == 2


def _needed(function: Callable) -> int:
    """How many arguments need a value, as far as can be told."""
    if isinstance(count := getattr(function, "nin", None), int):  # a ufunc
        return count
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(a.kind in positional and a.default is a.empty for a in arguments)


def separate(name: str, expr: Expr) -> tuple[Expr, Expr]:
    """An expression in u = z and v as a product φ(z), ψ(v), the second written in z.

    Raises:
        ValueError: if it is not such a product.
    """
    left, right = sympy.Integer(1), sympy.Integer(1)
    for factor in sympy.Mul.make_args(sympy.factor_terms(expr)):
        if factor.has(z) and factor.has(GATE):
            raise ValueError(
                f"{name} takes two arguments, but {factor} does not separate into φ(u)·ψ(v): the "
                "theory of gates covers products of a function of each"
            )
        if factor.has(GATE):
            right *= factor
        else:
            left *= factor
    return left, right.subs(GATE, z)
