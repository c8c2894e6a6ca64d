"""Evaluate SymPy expressions in ball arithmetic (Arb): every result is a proven enclosure.

An expression is compiled once into a straight-line program, in which equal subexpressions share a
step, and then runs on complex balls. With ``analytic=True``, a step that is not analytic on its
whole ball (a branch cut, a pole) returns a ball that is not finite, as rigorous integration
requires.
"""

from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from functools import lru_cache, partial

import mpmath
import sympy
from flint import acb, arb, ctx, fmpq
from sympy import Expr, Symbol

from flaxinit.theory.functions.brief import short
from flaxinit.theory.functions.constants import NamedConstant
from flaxinit.theory.functions.effort import spend

PRECISION = 160  # bits: 48 digits, and rigorous integration keeps well over 30 of them
_COMPILING = 5  # units of work per step of a program
_SPECIAL_COST = 15  # units of work for a value of a `_SPECIAL` function; others take one or two
DIGITS = 30  # certified digits, relative to the value
LEAST_BITS = 1075  # half the least float is 2⁻¹⁰⁷⁵; a smaller number rounds to 0
_NAN = acb("nan")


class NotCertifiable(ValueError):
    """A number cannot be certified: an evaluation, a bound or enough digits are missing."""


class Continued(sympy.Function):
    """f(z)/(z − p)^k, continued over the point p at which f vanishes to order k.

    Its arguments are f, z, p, k and the function f^(k)/k! (a `Lambda`). By Taylor's formula,
    f/(z − p)^k is a mean of f^(k)/k! between p and z, and so lies in the hull of its values there.
    """


class IsolatedRoot(sympy.AtomicExpr):
    """The only root of an expression in z between two rational numbers; its sign changes there."""

    is_number = is_real = is_finite = True

    def __new__(cls, expr: Expr, low: Fraction, high: Fraction):
        root = super().__new__(cls)
        root.expr, root.low, root.high = expr, low, high
        return root

    def _hashable_content(self):
        return self.expr, self.low, self.high

    def __getnewargs__(self):
        return self._hashable_content()

    def ball(self) -> arb:
        """Return the root to the current precision."""
        return _bisected(self, ctx.prec)

    def _eval_evalf(self, prec):
        with precision(prec + 10):
            mantissa, exponent = self.ball().mid().man_exp()
        exact = sympy.Integer(int(mantissa)) * sympy.Integer(2) ** int(exponent)
        return exact._eval_evalf(prec)

    def _latex(self, printer):
        return rf"z_{{{float(self):.6g}}}"

    def _sympystr(self, printer):
        return f"root({printer.doprint(self.expr)}, {float(self):.6g})"


@lru_cache(maxsize=1024)
def _bisected(root: IsolatedRoot, bits: int) -> arb:
    low, high = root.low, root.high
    with precision(2 * bits):
        program = Program(root.expr, tuple(root.expr.free_symbols))

        def value(point: Fraction) -> arb:
            return program(acb(to_ball(point))).real

        above, middle = value(high), value((low + high) / 2)
        while high - low > Fraction(1, 2 ** (2 * bits)) and not (above * middle).contains(0):
            center = (low + high) / 2
            low, high = (low, center) if above * middle > 0 else (center, high)
            middle = value((low + high) / 2)
        return to_ball(low).union(to_ball(high))


def _off_imaginary_cut(function: Callable) -> Callable:
    """Guard a function whose branch cuts lie on the imaginary axis beyond ±i."""

    def guarded(x: acb, analytic: bool) -> acb:
        if analytic and x.real.contains(0) and not abs(x.imag) < 1:
            return _NAN
        return function(x)

    return guarded


def _off_real_cut(function: Callable) -> Callable:
    """Guard a function whose branch cuts lie on the real axis beyond ±1."""

    def guarded(x: acb, analytic: bool) -> acb:
        if analytic and x.imag.contains(0) and not abs(x.real) < 1:
            return _NAN
        return function(x)

    return guarded


def _entire(function: Callable) -> Callable:
    return lambda x, analytic: function(x)


def _on_reals(function: Callable) -> Callable:
    """Restrict a function to real balls, such as the absolute value or the sign of a constant."""
    return lambda x, analytic: _NAN if analytic else function(x)


def _asinh(x: acb) -> acb:
    """Return log(x + √(x² + 1)), by oddness without cancellation. Arb's own fails on wide balls."""
    return -_asinh(-x) if x.real < 0 else (x + (x * x + 1).sqrt()).log()


_STEPS: dict[type, Callable] = {
    sympy.exp: _entire(acb.exp),
    sympy.sin: _entire(acb.sin),
    sympy.cos: _entire(acb.cos),
    sympy.tan: _entire(acb.tan),
    sympy.sinh: _entire(acb.sinh),
    sympy.cosh: _entire(acb.cosh),
    sympy.tanh: _entire(acb.tanh),
    sympy.sech: _entire(acb.sech),
    sympy.erf: _entire(acb.erf),
    sympy.erfc: _entire(acb.erfc),
    sympy.erfi: _entire(acb.erfi),
    sympy.loggamma: lambda x, analytic: acb.lgamma(x) if x.real > 0 else _NAN,
    sympy.gamma: _entire(acb.gamma),
    sympy.zeta: _entire(acb.zeta),
    sympy.log: lambda x, analytic: x.log(analytic=analytic),
    sympy.atan: _off_imaginary_cut(acb.atan),
    sympy.asinh: _off_imaginary_cut(_asinh),
    sympy.asin: _off_real_cut(acb.asin),
    sympy.acos: _off_real_cut(acb.acos),
    sympy.atanh: _off_real_cut(acb.atanh),
    sympy.acosh: lambda x, analytic: acb.acosh(x) if x.real > 1 or not analytic else _NAN,
    sympy.Ei: lambda x, analytic: x.ei() if x.real > 0 else _NAN,
    sympy.Abs: _on_reals(lambda x: acb(abs(x.real))),
    sympy.sign: _on_reals(lambda x: acb(x.real.sgn())),
}


def _log1p(x: acb, analytic: bool) -> acb:
    """Return log(1 + x) with the digits of a small x."""
    return x.log1p() if abs(x) < 0.5 else (1 + x).log(analytic=analytic)


_SPECIAL = (
    *(sympy.erf, sympy.erfc, sympy.erfi, sympy.loggamma, sympy.gamma, sympy.zeta, sympy.Ei),
    *(sympy.besselk, sympy.besseli, sympy.polygamma, sympy.expint),
)


def _power(exponent: Expr) -> Callable:
    if exponent.is_Integer:
        whole = int(exponent)
        return lambda x, analytic: x**whole
    if exponent == sympy.Rational(1, 2):
        return lambda x, analytic: x.sqrt(analytic=analytic)
    if exponent == sympy.Rational(-1, 2):
        return lambda x, analytic: x.rsqrt(analytic=analytic)
    return lambda x, y, analytic: x.pow(y, analytic=analytic)


def _continuation(order: Expr, coefficient: sympy.Lambda) -> Callable:
    power, mean = int(order), Program(coefficient.expr, tuple(coefficient.variables))

    def step(f: acb, x: acb, p: acb, analytic: bool) -> acb:
        distance = x - p
        quotient = _NAN if distance.contains(0) else f / distance**power
        if quotient.rel_accuracy_bits() > ctx.prec // 2:
            return quotient
        # Near the point f cancels, and what is left of the quotient may be wider than the mean.
        hull = mean(x.union(p), analytic=analytic)
        sharper = quotient.rel_accuracy_bits() > hull.rel_accuracy_bits()
        return quotient if sharper or not hull.is_finite() else hull

    return step


class Program:
    """A SymPy expression compiled to ball arithmetic: call it with a ball for each symbol."""

    def __init__(self, expr: Expr, symbols: Sequence[Symbol] = ()):
        self._steps: list[Callable] = []
        self._inputs: list[tuple[int, ...]] = []
        # The keys are expressions; for partial results of sums and products, (step, left, right).
        self._index: dict[Hashable, int] = {symbol: i for i, symbol in enumerate(symbols)}
        self._arity = len(symbols)
        self._constants: list[acb] = []
        self._result = self._compile(sympy.sympify(expr))
        special = sum(isinstance(part, _SPECIAL) for part in self._index)
        self._cost = 1 + 2 * len(self._steps) + _SPECIAL_COST * special

    def __call__(self, *balls: acb, analytic: bool = False) -> acb:
        spend(self._cost * max(1, ctx.prec // PRECISION))
        registers = list(balls)
        for step, inputs in zip(self._steps, self._inputs, strict=True):
            registers.append(step(*[registers[i] for i in inputs], analytic))
        return registers[self._result]

    def _add(self, expr: Hashable, step: Callable, inputs: tuple[int, ...] = ()) -> int:
        spend(_COMPILING)
        self._steps.append(step)
        self._inputs.append(inputs)
        self._index[expr] = self._arity + len(self._steps) - 1
        return self._index[expr]

    def _compile(self, expr: Expr) -> int:
        if expr in self._index:
            return self._index[expr]
        if expr.is_Symbol:
            raise NotCertifiable(f"The symbol {expr} has no value. Substitute a number for it.")
        if isinstance(expr, NamedConstant):
            return self._compile(expr.definition())
        if isinstance(expr, IsolatedRoot):
            return self._add(expr, partial(_constant, acb(expr.ball())))
        if isinstance(expr, sympy.ComplexRootOf):
            return self._add(expr, partial(_constant, _real_root(expr)))
        if not expr.args:
            value = _atom(expr)
            return self._add(expr, lambda analytic: value)
        if expr.is_Add or expr.is_Mul:
            return self._fold(expr)
        if expr.is_Pow:
            base, exponent = expr.as_base_exp()
            step = _power(exponent)
            simple = exponent.is_Integer or abs(exponent) == sympy.Rational(1, 2)
            parts = (base,) if simple else (base, exponent)
            return self._add(expr, step, tuple(self._compile(part) for part in parts))
        if isinstance(expr, sympy.besselk | sympy.besseli):
            order, argument = (self._compile(part) for part in expr.args)
            method = acb.bessel_k if isinstance(expr, sympy.besselk) else acb.bessel_i
            return self._add(expr, lambda n, x, analytic: method(x, n), (order, argument))
        if isinstance(expr, sympy.polygamma):
            order, argument = (self._compile(part) for part in expr.args)
            return self._add(expr, lambda n, x, analytic: x.polygamma(n), (order, argument))
        if isinstance(expr, sympy.expint):
            order, argument = (self._compile(part) for part in expr.args)
            return self._add(expr, lambda n, x, analytic: x.expint(n), (order, argument))
        if isinstance(expr, Continued):
            return self._add(
                expr, _continuation(*expr.args[3:]), tuple(map(self._compile, expr.args[:3]))
            )
        if isinstance(expr, sympy.log) and 1 in expr.args[0].args and expr.args[0].is_Add:
            return self._add(expr, _log1p, (self._compile(expr.args[0] - 1),))
        if expr.func in _STEPS:
            return self._add(expr, _STEPS[expr.func], (self._compile(expr.args[0]),))
        raise NotCertifiable(
            f"No rigorous evaluation of {expr.func.__name__} is known here. Write it with other "
            "functions."
        )

    def _fold(self, expr: Expr) -> int:
        total, *rest = map(self._compile, expr.args)
        step = _plus if expr.is_Add else _times
        for part in rest:
            joined = (step, total, part)
            known = self._index.get(joined)
            total = self._add(joined, step, (total, part)) if known is None else known
        self._index[expr] = total
        return total


def _plus(a: acb, b: acb, analytic: bool) -> acb:
    return a + b


def _times(a: acb, b: acb, analytic: bool) -> acb:
    return a * b


def _constant(value: acb, analytic: bool) -> acb:
    return value


def _real_root(root: sympy.ComplexRootOf) -> acb:
    """Return a real algebraic number as a ball, from its proven isolating interval."""
    error = sympy.Rational(1, 2 ** (ctx.prec + 10))
    return acb(_atom(root.eval_rational(dx=error)).real + arb(0, _atom(error).real))


def _atom(expr: Expr) -> acb:
    if expr.is_Rational:
        return acb(fmpq(int(expr.p), int(expr.q)))
    if expr is sympy.pi:
        return acb(arb.pi())
    if expr is sympy.EulerGamma:
        return acb(arb.const_euler())
    if expr is sympy.E:
        return acb(arb(1).exp())
    if expr is sympy.I:
        return acb(0, 1)
    if expr.is_Float:
        return acb(fmpq(*map(int, sympy.Rational(expr).as_numer_denom())))
    raise NotCertifiable(f"The constant {expr} has no finite value. Write another number.")


def precision(bits: int = PRECISION):
    """Return a context in which balls are computed to this many bits."""
    return ctx.workprec(bits)


def evaluate(expr: Expr, values: dict[Symbol, object] | None = None) -> arb:
    """Return the real value of an expression as a ball.

    >>> with precision():
    ...     str(evaluate(sympy.sqrt(2)))[:12]
    '[1.414213562'
    """
    values = values or {}
    result = Program(expr, tuple(values))(*[acb(to_ball(value)) for value in values.values()])
    if not result.imag.contains(0):
        raise NotCertifiable(f"{short(expr)} is not real at {values}.")
    return result.real


def fixed(ball: arb, zero_bits: int = LEAST_BITS) -> arb | None:
    """Return the ball if it fixes 30 digits, one around 0 if it is below 2^-zero_bits, else None.

    By default, a number counts as 0 if a float rounds it to 0.

    >>> fixed(arb(1, 1e-20)), fixed(arb(1, 1e-20) * arb(2) ** -1200).mid()
    (None, 0)
    """
    if 2 * ball.rad() <= abs(ball.mid()) * arb(10) ** -DIGITS:
        return ball
    size = abs(ball).upper()
    return arb(0, size) if size < arb(2) ** -zero_bits else None


def sharp(expr: Expr, values: dict[Symbol, object] | None = None) -> arb:
    """Evaluate an expression at the precision that fixes 30 digits of its value.

    Raises:
        NotCertifiable: if even sixteen-fold precision fixes fewer.
    """
    ball = arb("nan")
    for doublings in range(5):
        with precision(PRECISION << doublings):
            ball = evaluate(expr, values)
            if (found := fixed(ball)) is not None:
                return found
    raise NotCertifiable(
        f"{short(expr)} at {values} cancels too much: only {ball} is certain. Write it in a form "
        "that cancels less."
    )


def integral(
    function: Callable[[acb, bool], acb], low, high, tolerance: arb, evaluations: int
) -> acb:
    """Return ∫ f from low to high as a ball, which is wide if it takes too many evaluations.

    If its second argument is true, f must return a ball that is not finite where f is not analytic.

    References: Johansson (2018), Numerical integration in arbitrary-precision ball arithmetic.
    """
    failure = None

    def guarded(x: acb, analytic: bool) -> acb:
        nonlocal failure
        if failure is not None:
            return _NAN
        try:
            return function(x, analytic)
        except BaseException as error:  # it must not pass through Arb
            failure = error
            return _NAN

    tolerances = {"rel_tol": tolerance, "abs_tol": tolerance}
    value = acb.integral(guarded, low, high, eval_limit=evaluations, **tolerances)
    if failure is not None:
        raise failure
    return value


def to_ball(value) -> arb:
    """Return a number (int, float, Fraction, SymPy, mpmath) as a ball that contains it."""
    if isinstance(value, arb):
        return value
    if isinstance(value, Expr):
        return evaluate(value)
    if isinstance(value, mpmath.mpf):
        numerator, denominator = mpmath.libmp.to_rational(value._mpf_)
    else:
        numerator, denominator = value.as_integer_ratio()
    return arb(fmpq(int(numerator), int(denominator)))


def bounds(ball: arb) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Return a ball's ends as exact mpmath numbers: an Arb endpoint is a binary fraction."""

    def exact(end: arb) -> mpmath.mpf:
        mantissa, exponent = end.man_exp()
        with mpmath.workprec(max(int(mantissa).bit_length(), 1) + 1):
            return mpmath.ldexp(mpmath.mpf(int(mantissa)), int(exponent))

    with precision():  # an end is rounded outwards to the current precision
        return exact(ball.lower()), exact(ball.upper())
