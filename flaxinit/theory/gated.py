"""Gates f(u, v) of two independent pre-activations: GLU, ReGLU, SwiGLU, highway, maxout.

The two come from two kernels on one input, so they are independent N(0, q). Of a sum of products
of a function of each, moments factorise, and the gradient reaches the input through both:

    E[(Σ aᵢ(u) bᵢ(v))²] = Σ E[aᵢ aⱼ] E[bᵢ bⱼ],   E[f_u² + f_v²] likewise.

References:
    Goodfellow, Warde-Farley, Mirza, Courville & Bengio (2013), Maxout Networks.
    Srivastava, Greff & Schmidhuber (2015), Highway Networks.
    Dauphin, Fan, Auli & Grangier (2017), Language Modeling with Gated Convolutional Networks.
    Shazeer (2020), GLU Variants Improve Transformer.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sympy
from flint import arb
from sympy import Expr

from flaxinit.theory import balls
from flaxinit.theory.enclosure import Diverges, NotCertifiable
from flaxinit.theory.moment import Moment, check_variance, infinite, moment
from flaxinit.theory.parity import is_odd
from flaxinit.theory.pieces import split
from flaxinit.theory.separable import Separated
from flaxinit.theory.steps import Step
from flaxinit.theory.symbols import gate, z

_DIGITS = arb(10) ** -30


@dataclass(frozen=True)
class CombinedMoment(Moment):
    """A sum of products of moments of independent variables."""

    products: tuple[tuple[Moment, ...], ...] = field(default=(), repr=False)

    def ball(self, variance) -> arb:
        check_variance(variance)
        with balls.precision():
            return _total([[m.ball(variance) for m in product] for product in self.products])


def gate_moments(terms: Separated, budget: float) -> tuple[Moment, Moment, Moment]:
    """E[f], E[f²] and E[f_u² + f_v²] of a gate Σ a(u)·b(v).

    Raises:
        Diverges: if E[f²] is proven infinite.
        NotCertifiable: if a moment has no certified enclosure of 30 digits.
    """
    by_first, by_second = terms.differentiated()
    slopes = Separated((*by_first.squared().pairs, *by_second.squared().pairs))
    symbol = r"\mathbb{E}[f_u^2 + f_v^2]"
    mean, second = (
        _combined(name, sums, budget)
        for name, sums in ((r"\mathbb{E}[f]", terms), (r"\mathbb{E}[f^2]", terms.squared()))
    )
    try:
        backward = _combined(symbol, slopes, budget)
    except Diverges as error:
        backward = infinite(symbol, (), str(error))
    return mean, second, backward


def _combined(symbol: str, terms: Separated, budget: float) -> Moment:
    known: dict[Expr, Moment] = {}

    def expectation(function: Expr) -> Moment:
        if function not in known:
            name = rf"\mathbb{{E}}[{sympy.latex(function)}]"
            known[function] = moment(name, split(function), budget)
        return known[function]

    products = []
    for left, right in terms.pairs:
        pair = left, right.subs(gate, z)
        if not any(is_odd(split(function)) for function in pair):
            products.append(tuple(map(expectation, pair)))
    return combine(symbol, tuple(products))


def _total(products: Sequence[Sequence]):
    return sum((math.prod(product) for product in products), start=0)


def combine(symbol: str, products: tuple[tuple[Moment, ...], ...]) -> CombinedMoment:
    """The moment that is a sum of products of others."""
    parts = [m for product in products for m in product]
    known = all(m.exact is not None for m in parts)
    exact = sympy.sympify(_total([[m.exact for m in p] for p in products])) if known else None
    steps = tuple(step for m in dict.fromkeys(parts) for step in m.steps)
    steps += (Step("u and v are independent: expectations of products factorise", "E", exact),)
    with balls.precision():
        total = arb(0) + _total([[m.ball(1) for m in p] for p in products])
    if total.rad() > abs(total.mid()) * _DIGITS and total != 0:
        raise NotCertifiable(f"the terms of {symbol} cancel: only {total} is certain")
    remark = next((m.remark for m in parts if m.exact is None), "")
    steps = steps if known else ()
    return CombinedMoment(symbol, (), exact, balls.bounds(total), steps, remark, products)


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
