"""Gates f(u, v) of two independent pre-activations: GLU, ReGLU, SwiGLU, highway, maxout.

Two kernels on one input make u and v, so they are independent N(0, q). If f is a sum of products of
a function of u and a function of v, its moments factorize::

    E[(Σ aᵢ(u) bᵢ(v))²] = Σ E[aᵢ aⱼ] E[bᵢ bⱼ]

The gradient reaches the input through both kernels. Its moment E[f_u² + f_v²] factorizes in the
same way.

References: Goodfellow, Warde-Farley, Mirza, Courville, Bengio (2013), Maxout Networks; Srivastava,
Greff, Schmidhuber (2015), Highway Networks; Dauphin, Fan, Auli, Grangier (2017), Language Modeling
with Gated Convolutional Networks; Shazeer (2020), GLU Variants Improve Transformer.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mpmath
import sympy
from flint import arb
from sympy import Expr, Integer

from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import vanishes
from flaxinit.theory.functions.parity import is_odd
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.functions.separable import Separated, separated
from flaxinit.theory.functions.symbols import gate, z
from flaxinit.theory.moments.enclosure import Diverges, NotCertifiable
from flaxinit.theory.moments.moment import Moment, check_variance, infinite, missing, moment
from flaxinit.theory.moments.plane import enclose_plane
from flaxinit.theory.moments.record import Step

_MEAN = r"\mathbb{E}[f]"


@dataclass(frozen=True)
class CombinedMoment(Moment):
    """A sum of products of moments of independent variables."""

    products: tuple[tuple[Moment, ...], ...] = field(default=(), repr=False)

    def ball(self, variance) -> arb:
        check_variance(variance)
        with balls.precision():
            return _total([[m.ball(variance) for m in product] for product in self.products])


@dataclass(frozen=True)
class PlaneMoment(Moment):
    """A moment of a smooth function of two variables that does not separate."""

    function: Expr = Integer(0)

    def ball(self, variance) -> arb:
        check_variance(variance)
        return enclose_plane(self.function, variance)


def gate_moments(expr: Expr, budget: float) -> tuple[Moment, Moment, Moment]:
    """Return E[f], E[f²] and E[f_u² + f_v²] of a gate in z and `gate`.

    Raises:
        Diverges: if E[f²] is proven infinite.
        NotCertifiable: if a moment has no certified enclosure of 30 digits.
    """
    symbols = _MEAN, r"\mathbb{E}[f^2]", r"\mathbb{E}[f_u^2 + f_v^2]"
    terms = separated(expr)
    if terms is None:
        slopes = sympy.diff(expr, z) ** 2 + sympy.diff(expr, gate) ** 2
        if not slopes.has(sympy.exp):  # exponentials would grow on a common denominator
            slopes = sympy.factor_terms(sympy.together(slopes))
        second, backward = (
            _in_the_plane(symbol, integrand, budget)
            for symbol, integrand in zip(symbols[1:], (expr**2, slopes), strict=True)
        )
        return _mean(lambda: _in_the_plane(symbols[0], expr, budget)), second, backward
    by_first, by_second = terms.differentiated()
    slopes = Separated((*by_first.squared().pairs, *by_second.squared().pairs))
    second = _combined(symbols[1], terms.squared(), budget)
    mean = _mean(lambda: _combined(symbols[0], terms, budget))
    try:
        backward = _combined(symbols[2], slopes, budget)
    except Diverges as error:
        backward = infinite(symbols[2], (), str(error))
    return mean, second, backward


def _mean(found: Callable[[], Moment]) -> Moment:
    """Return E[f], or a missing moment if it is not certified, because no gain needs it."""
    try:
        return found()
    except NotCertifiable as error:
        return missing(_MEAN, str(error))


def _in_the_plane(symbol: str, integrand: Expr, budget: float) -> Moment:
    """Return a moment whose integrand may separate even if the gate does not, as (√(u² + v²))²."""
    if (terms := separated(integrand)) is not None:
        return _combined(symbol, terms, budget)
    mirrors = ({z: -z}, {gate: -gate}, {z: -z, gate: -gate})
    if any(vanishes(integrand + integrand.xreplace(mirror)) for mirror in mirrors):
        step = Step("The function is odd, so it cancels", "E", Integer(0))
        return CombinedMoment(symbol, (), step.right, (mpmath.mpf(0), mpmath.mpf(0)), (step,))
    bounds = balls.bounds(enclose_plane(integrand))
    return PlaneMoment(symbol, (), None, bounds, (), "The integrand does not separate.", integrand)


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
    """Return the moment that is a sum of products of others."""
    parts = [m for product in products for m in product]
    forms = {m: sympy.Dummy() if m.exact is None else m.exact for m in parts}
    total = sympy.sympify(_total([[forms[m] for m in p] for p in products]))
    cancels = sympy.expand(total) == 0
    known = cancels or all(m.exact is not None for m in parts)
    exact = Integer(0) if cancels else total if known else None
    steps = tuple(step for m in dict.fromkeys(parts) for step in m.steps)
    steps += (Step("u and v are independent: expectations of products factorize", "E", exact),)
    with balls.precision():
        ball = arb(0) if cancels else _total([[m.ball(1) for m in p] for p in products])
        found = balls.fixed(ball)
    if found is None:
        raise NotCertifiable(
            f"The terms of {symbol} cancel: only {ball} is certain. Write a gate that cancels less."
        )
    remark = next((m.remark for m in parts if m.exact is None), "")
    steps = steps if known else ()
    return CombinedMoment(symbol, (), exact, balls.bounds(found), steps, remark, products)


def takes_two(function: Callable) -> bool:
    """Tell whether a function has exactly two arguments that need a value.

    Raises:
        ValueError: if it has more.
    """
    count = _needed(function)
    if count > 2:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"{name} needs {count} arguments, but an activation takes one array, and a gate "
            "φ(u)·ψ(v) takes two. Give the other arguments values with functools.partial."
        )
    return count == 2


def _needed(function: Callable) -> int:
    """Count the arguments that need a value; 1 if the signature is not known."""
    if isinstance(count := getattr(function, "nin", None), int):  # a ufunc
        return count
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(a.kind in positional and a.default is a.empty for a in arguments)
