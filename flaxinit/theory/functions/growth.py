"""Bound |f(x)| for large |x|, to prove that an integral over a tail is small, or infinite.

A `Growth` is the function C·tⁿ·exp(βt + αt²) of t = |x|. `upper` and `lower` derive, by rules
over the expression, a growth that lies above or below |f| on the whole tail t ≥ start. They are
crude on purpose: a Gaussian tail beyond a dozen standard deviations forgives any constant.
"""

import contextlib
import functools
import math
import operator
from dataclasses import dataclass

import sympy
from flint import arb
from sympy import Expr

from flaxinit.theory.functions.algebra import polynomial
from flaxinit.theory.functions.balls import NotCertifiable, evaluate
from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.ranges import Range, value_range
from flaxinit.theory.functions.symbols import z

_ONE, _ZERO, _HALF = arb(1), arb(0), arb("0.5")
_SIGN = 50  # units of work for each part of an expression, to find its sign


@dataclass(frozen=True)
class Growth:
    """C·tⁿ·exp(βt + αt²) for t ≥ start ≥ 1."""

    c: arb = _ONE
    n: arb = _ZERO
    beta: arb = _ZERO
    alpha: arb = _ZERO

    def __mul__(self, other: "Growth") -> "Growth":
        return Growth(
            self.c * other.c, self.n + other.n, self.beta + other.beta, self.alpha + other.alpha
        )

    def __add__(self, other: "Growth") -> "Growth":
        # For t ≥ 1 each factor is at most the larger of the two.
        return Growth(
            self.c + other.c,
            self.n.max(other.n),
            self.beta.max(other.beta),
            self.alpha.max(other.alpha),
        )

    def power(self, exponent: arb) -> "Growth":
        return Growth(
            self.c**exponent, self.n * exponent, self.beta * exponent, self.alpha * exponent
        )

    def rank(self) -> tuple[float, ...]:
        """Return a key that sorts growths by their size for large t."""
        return tuple(float(x.mid()) for x in (self.alpha, self.beta, self.n, self.c))


@dataclass(frozen=True)
class Tail:
    """The half-line side·x ≥ start, on which growths are derived."""

    side: int
    start: Expr

    def range(self, expr: Expr) -> Range:
        """Return a range that contains the values of the expression on the tail."""
        start = evaluate(self.start)
        ends = (start.lower(), arb("inf")) if self.side > 0 else (arb("-inf"), -start.lower())
        return value_range(expr, {z: Range(*ends)})

    def sign(self, expr: Expr) -> int:
        """Return +1 or −1 if the expression is proven ≥ 0 or ≤ 0 on the tail, else 0."""
        spend(_SIGN * size(expr))
        if sign := self.range(expr).sign:
            return sign
        if expr.is_Mul:
            return math.prod(map(self.sign, expr.args))
        if (poly := polynomial(expr)) is not None:
            return self._leading_sign(poly)
        if expr.is_Add:
            with contextlib.suppress(NotCertifiable):
                leading, _ = self._dominant(expr)
                return self.sign(leading)
        return 0

    def upper(self, expr: Expr) -> Growth:
        """Return a growth above |expr|."""
        if not expr.has(z):
            return Growth(c=abs(evaluate(expr)))
        if expr == z:
            return Growth(n=_ONE)
        if expr.is_Add:
            return functools.reduce(self._sum, map(self.upper, expr.args))
        if expr.is_Mul:
            return functools.reduce(operator.mul, map(self.upper, expr.args))
        if expr.is_Pow:
            base, exponent = expr.as_base_exp()
            if exponent.has(z):
                return self._exponential(exponent * sympy.log(base), 1)
            if not exponent.is_integer and self.sign(base) < 1:
                raise NotCertifiable(f"{short(expr)} is not known to be real for large |z|.")
            bound = self.upper(base) if exponent.is_positive else self.lower(base)
            return bound.power(evaluate(exponent))
        argument = expr.args[0]
        match expr:
            case sympy.exp():
                return self._exponential(argument, 1)
            case sympy.log():
                if self.sign(argument) < 1:
                    raise NotCertifiable(f"{short(expr)} is not known to be real for large |z|.")
                values = self.range(argument)
                if values.low > _HALF and values.high < 2:  # |log u| ≤ |u − 1|/min(u, 1)
                    return self.upper(argument - 1) * Growth(c=1 / values.low.min(_ONE))
                if values.low >= 1 and (bound := self._of_exponentials(argument)):
                    return bound
                return self._logarithm(argument)
            case sympy.tanh() | sympy.sin() | sympy.erf() | sympy.atan() if (
                self.range(argument).size < 1
            ):
                return self.upper(argument) * Growth(c=2 / arb.pi().sqrt())  # erf'(0)
            case sympy.tanh() | sympy.sin() | sympy.cos() | sympy.erf() | sympy.sech():
                return Growth()
            case sympy.erfc() if self.sign(argument) > 0:
                return self.upper(sympy.exp(-(argument**2)))
            case sympy.atan() | sympy.erfc():
                return Growth(c=arb(2))  # π/2 and 2
            case sympy.asin() | sympy.acos() if self.range(argument).size <= 1:
                return Growth(c=arb.pi())
            case sympy.atanh() if (size := self.range(argument).size) < 1:
                return Growth(c=size.atanh())
            case sympy.acosh() if self.sign(argument - 1) > 0:
                return self.upper(argument)  # acosh u ≤ u
            case sympy.asinh():
                return self.upper(argument)  # |asinh u| ≤ |u|
            case sympy.sinh() | sympy.cosh():
                return self.upper(sympy.exp(argument)) + self.upper(sympy.exp(-argument))
            case sympy.loggamma():
                # 0 ≤ log Γ(u) ≤ u² for u ≥ 2; other arguments are not covered.
                if self.sign(argument - 2) > 0:
                    return self.upper(argument).power(arb(2))
        if (size := self.range(expr).size).is_finite():
            return Growth(c=size)
        raise NotCertifiable(
            f"No bound on the growth of {short(expr)} is known here. Write it with other functions."
        )

    def lower(self, expr: Expr) -> Growth:
        """Return a growth below |expr|."""
        with contextlib.suppress(NotCertifiable):
            return self._lower(expr)
        if (floor := self.range(expr).floor) > 0:
            return Growth(c=floor)
        raise NotCertifiable(f"No lower bound on the growth of {short(expr)} is known here.")

    def _lower(self, expr: Expr) -> Growth:
        if not expr.has(z):
            return Growth(c=abs(evaluate(expr)))
        if expr == z:
            return Growth(n=_ONE)
        if expr.is_Add:
            return self._lower_sum(expr)
        if expr.is_Mul:
            return functools.reduce(operator.mul, map(self.lower, expr.args))
        if expr.is_Pow:
            base, exponent = expr.as_base_exp()
            if exponent.has(z):
                return self._exponential(exponent * sympy.log(base), -1)
            bound = self.lower(base) if exponent.is_positive else self.upper(base)
            return bound.power(evaluate(exponent))
        argument = expr.args[0]
        match expr:
            case sympy.exp():
                return self._exponential(argument, -1)
            case sympy.sinh():
                return self.lower(expr.rewrite(sympy.exp, deep=False))
            case sympy.cosh():  # cosh u ≥ e^{±u}/2, whichever grows
                sign = self.sign(argument) or 1
                return Growth(c=_HALF) * self._exponential(sign * argument, -1)
            case sympy.log() if self.range(argument).low > 0:
                values = self.range(argument)
                if values.high < 2:  # |log u| ≥ |u − 1|/max(u, 1)
                    return self.lower(argument - 1) * Growth(c=1 / values.high.max(_ONE))
            case sympy.tanh() | sympy.sin() | sympy.erf() | sympy.atan() | sympy.asinh() if (
                self.range(argument).size <= 1
            ):
                return self.lower(argument) * Growth(c=_HALF)  # concave, and f(1) > 1/2
            case sympy.erfc() if self.sign(argument) > 0:
                # √π erfc u > 2 e^{−u²}/(u + √(u² + 2)) (Abramowitz & Stegun 1964, 7.1.13).
                width = self.upper(argument) + Growth(c=_HALF.sqrt())
                below = self.lower(sympy.exp(-(argument**2)))
                return below * width.power(arb(-1)) * Growth(c=1 / arb.pi().sqrt())
        raise NotCertifiable(f"No lower bound on the growth of {short(expr)} is known here.")

    def _floor(self, growth: Growth) -> arb:
        """Return the least value of an increasing growth on the tail; 0 if it does not increase."""
        if growth.n >= 0 and growth.beta >= 0 and growth.alpha >= 0:
            t = evaluate(self.start)
            exponent = growth.beta * t + growth.alpha * t**2
            return growth.c * t**growth.n * exponent.exp()
        return _ZERO

    def _lower_sum(self, expr: Expr) -> Growth:
        """Bound |a + b| below: by |a| if a and b have one sign, else |a| − |b| for a dominant a."""
        signs = {self.sign(term) for term in expr.args}
        if signs in ({1}, {-1}):
            bounds = []
            for term in expr.args:
                with contextlib.suppress(NotCertifiable):
                    bounds.append(self.lower(term))
            if bounds:
                return max(bounds, key=Growth.rank)
        _, below = self._dominant(expr)
        return below

    def _dominant(self, expr: Expr) -> tuple[Expr, Growth]:
        """Return the term of a sum that outweighs all others, with a growth below the sum."""
        for i, leading in enumerate(expr.args):
            rest = sympy.Add(*expr.args[:i], *expr.args[i + 1 :])
            try:
                above, below = self.upper(rest), self.lower(leading)
            except NotCertifiable:
                continue
            share = self._share(above, below)
            if share < 1:
                return leading, Growth(c=1 - share) * below
        raise NotCertifiable(f"No lower bound on the growth of {short(expr)} is known here.")

    def _sum(self, a: Growth, b: Growth) -> Growth:
        """Return a growth above the sum of two, in the shape of the one that outweighs."""
        for large, small in ((a, b), (b, a)):
            if large.c > 0 and (share := self._share(small, large)).is_finite():
                return Growth(c=1 + share) * large
        return a + b

    def _share(self, small: Growth, large: Growth) -> arb:
        """Return the largest ratio of two growths on the tail; inf if it may grow."""
        ratio, t = small * large.power(arb(-1)), evaluate(self.start)
        # If its logarithm falls from the start on, the ratio is largest there.
        if ratio.alpha <= 0 and ratio.n.max(_ZERO) / t + ratio.beta + 2 * ratio.alpha * t <= 0:
            return ratio.c * t**ratio.n * (ratio.beta * t + ratio.alpha * t**2).exp()
        return arb("inf")

    def _exponential(self, exponent: Expr, direction: int) -> Growth:
        """Return a growth above (direction 1) or below (−1) exp(u)."""
        terms = sympy.Add.make_args(exponent)
        quadratic = [t for t in terms if (p := polynomial(t)) is not None and p.degree() <= 2]
        rest = sympy.Add(*[t for t in terms if t not in quadratic])
        poly = sympy.Poly(sympy.expand(sympy.Add(*quadratic)), z)
        a, b, c = (evaluate(poly.coeff_monomial(z**k)) for k in (2, 1, 0))
        values = self.range(rest)
        bound = values.high if direction > 0 else values.low
        whole = Growth((c + bound).exp(), _ZERO, b * self.side, a)
        if bound.is_finite() and not poly.is_zero:
            steep = self._steep(rest, direction)
            return Growth(c.exp(), _ZERO, b * self.side, a) * steep if steep else whole
        if steep := self._steep(exponent, direction):
            return steep
        if bound.is_finite():
            return whole
        if self.sign(exponent) == -direction:
            return Growth()
        size = self.upper(exponent)
        if size.alpha <= 0 and size.beta <= 0 and size.n <= 2:
            # |u| ≤ C·tⁿ ≤ C·t (n ≤ 1) or C·t² on t ≥ 1
            slot = "beta" if size.n <= 1 else "alpha"
            return Growth(**{slot: direction * size.c})
        raise NotCertifiable(
            f"No bound on the growth of exp({short(exponent)}) is known here. Write it with other "
            "functions."
        )

    def _steep(self, exponent: Expr, direction: int) -> Growth | None:
        """Bound exp(u), above if u ≤ 0, below if u ≥ 0, where |u| grows like t or t² at least."""
        if self.sign(exponent) != -direction:
            return None
        try:
            below, t = self.lower(exponent), evaluate(self.start)
        except NotCertifiable:
            return None
        # c tⁿ e^{βt+αt²} / t² increases on the tail if n ≥ 2, or if βt ≥ 2, and so on.
        degree = below.n + below.beta * t
        if not (below.alpha >= 0 and below.beta >= 0 and degree >= 1):
            return None
        slot, power = ("alpha", 2) if degree >= 2 else ("beta", 1)
        return Growth(**{slot: -direction * self._floor(below) / t**power})

    def _leading_sign(self, poly: sympy.Poly) -> int:
        """Return the sign of a polynomial on the tail, if its leading term outweighs the others."""
        degree, t = poly.degree(), evaluate(self.start)
        lead = evaluate(poly.coeff_monomial(z**degree))
        rest = sum(
            (abs(evaluate(c)) * t ** (k - degree) for (k,), c in poly.terms() if k != degree), _ZERO
        )
        if not abs(lead) > rest:
            return 0
        return (1 if lead > 0 else -1) * self.side**degree

    def _of_exponentials(self, total: Expr) -> Growth | None:
        """Bound log Σ cᵢ e^{wᵢ} ≥ 0 by |log Σ cᵢ| + Σ |wᵢ|, if each cᵢ is positive."""
        terms = [term.as_independent(sympy.exp, z) for term in sympy.Add.make_args(total)]
        if not all(c.is_positive and (e == 1 or isinstance(e, sympy.exp)) for c, e in terms):
            return None
        growths = [self.upper(e.args[0]) for _, e in terms if e != 1]
        size = abs(evaluate(sympy.Add(*[c for c, _ in terms])).log())
        return functools.reduce(self._sum, growths, Growth(c=size)) if growths else None

    def _logarithm(self, argument: Expr) -> Growth:
        """Bound |log u| by |log C| + |n| log t + |β| t + |α| t², from bounds of u on both sides."""

        def size(g: Growth) -> Growth:
            degree = 0 if g.n == 0 and g.beta == 0 and g.alpha == 0 else 1 if g.alpha == 0 else 2
            return Growth(abs(g.c.log()) + abs(g.n) + abs(g.beta) + abs(g.alpha), arb(degree))

        return size(self.upper(argument)) + size(self.lower(argument))
