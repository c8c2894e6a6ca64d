"""Read a floating-point constant as the exact number it was meant to be.

A trace shows ``0.7978845608028654`` for √(2/π), and ``0.044715`` for 44715/1000000. A candidate is
accepted only if the constant is its correctly rounded value. A constant that is not recognized
stays the exact rational number that the float holds. So no constant changes by more than its own
rounding.
"""

from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
from sympy import E, Expr, Integer, NumberSymbol, Pow, Rational, erfc, exp, log, oo, pi, sqrt
from sympy.core.singleton import Singleton

# A decimal with fewer digits than this is exact as written, because someone typed it.
_TYPED_DIGITS = 7
# Largest numerator and denominator of a candidate p/q · base. With about 20 bases, the odds of
# a chance match are below 20 · bound² · (relative spacing): 1e-8 for the 53 bits of float64,
# 2e-4 for float32 and for decimals typed to seven digits.
_BOUND_FULL, _BOUND_SHORT = 1000, 12
_LONG = 20  # a power n/m of a larger numerator or denominator has a name in SymPy's algebra


class NamedConstant(NumberSymbol):
    """A number with a name and an exact definition, such as π."""

    is_real = is_finite = True
    is_number = True
    symbol: str  # LaTeX

    def definition(self) -> Expr:
        """Return the closed form that the name stands for."""
        raise NotImplementedError("A subclass of NamedConstant must define its closed form.")

    def _as_mpf_val(self, prec):
        return self.definition()._eval_evalf(prec + 10)._mpf_

    def approximation_interval(self, number_cls):
        value = int(self.definition().evalf(20))
        return number_cls(value - 1), number_cls(value + 1)

    def _latex(self, printer):
        return self.symbol

    def _sympystr(self, printer):
        return type(self).__name__


class SeluScale(NamedConstant, metaclass=Singleton):
    """SELU's λ. With it and α, (mean, variance) = (0, 1) is a fixed point.

    References: Klambauer, Unterthiner, Mayr, Hochreiter (2017), Self-Normalizing Neural Networks.
    """

    is_positive = True
    symbol = r"\lambda"

    def definition(self) -> Expr:
        a, b = erfc(1 / sqrt(2)), erfc(sqrt(2))
        return (
            (1 - a * sqrt(E))
            * sqrt(2 * pi)
            / sqrt(2 * b * E**2 + pi * a**2 * E - 2 * (2 + pi) * a * sqrt(E) + pi + 2)
        )


class SeluAlpha(NamedConstant, metaclass=Singleton):
    """SELU's α; see `SeluScale`."""

    is_positive = True
    symbol = r"\alpha"

    def definition(self) -> Expr:
        return -sqrt(2 / pi) / (erfc(1 / sqrt(2)) * exp(Rational(1, 2)) - 1)


class Whole(NamedConstant):
    """A constant cⁿᐟᵐ, such as e^{1.702}, that SymPy would treat as the n-th power of c^{1/m}.

    With large n and m, that takes its polynomials minutes. As a name, it is one generator of them.
    """

    is_positive = True

    def __new__(cls, power: Expr):
        whole = super().__new__(cls)
        whole.power = power
        return whole

    def _hashable_content(self):
        return (self.power,)

    def __getnewargs__(self):
        return (self.power,)

    def definition(self) -> Expr:
        return self.power

    def _latex(self, printer):
        return rf"\left({printer.doprint(self.power)}\right)"

    def _sympystr(self, printer):
        return f"({printer.doprint(self.power)})"


def kept_whole(*exprs: Expr) -> dict[Expr, Whole]:
    """Return a name for each constant power n/m of large n or m.

    >>> [*kept_whole(exp(Rational(1702, 1000)) + sqrt(E))]
    [exp(851/500)]
    """
    powers = {power for expr in exprs for power in expr.atoms(exp, Pow) if _is_long(power)}
    return {power: _whole(power) for power in powers}


@cache
def _whole(power: Expr) -> Whole:
    return Whole(power)


def _is_long(power: Expr) -> bool:
    base, exponent = power.as_base_exp()
    if not (exponent.is_Rational and base.is_number and base.is_positive):
        return False
    is_root = base == E or exponent.q > 1
    return is_root and max(abs(exponent.p), exponent.q) > _LONG


@cache
def _bases() -> tuple[tuple[Fraction, Expr], ...]:
    """Return each base with its value to 40 digits, simple ones first."""
    scale, alpha = SeluScale(), SeluAlpha()
    roots = [Integer(1), sqrt(2), sqrt(3), sqrt(5), sqrt(6)]
    circle = [sqrt(pi), 1 / sqrt(pi), sqrt(2 * pi), sqrt(2 / pi), pi, 1 / pi]
    logs = [log(2), 1 / log(2), log(10), 1 / log(10), E, 1 / E, sqrt(E)]
    return tuple(
        (Fraction(str(base.evalf(40))), base)
        for base in (*roots, *circle, *logs, scale, alpha, scale * alpha)
    )


def read_constant(value) -> Expr:
    """Return the exact number that a float stands for: Python's, or a NumPy scalar of any format.

    Args:
        value: a real scalar.

    Returns:
        A SymPy number.

    Raises:
        ValueError: if the value is nan.

    >>> read_constant(0.7978845608028654), read_constant(0.044715), read_constant(2.0)
    (sqrt(2)/sqrt(pi), 8943/200000, 2)
    """
    number = np.asarray(value)
    if number.dtype.kind in "biu":
        return Integer(int(number))
    exact = float(number)
    if np.isnan(exact):
        raise ValueError(
            "The function contains the constant nan, but an activation must be real. Remove it."
        )
    if np.isinf(exact):
        return oo if exact > 0 else -oo
    if exact < 0:
        return -read_constant(-number)
    if exact.is_integer() and exact < 2**53:
        return Integer(int(exact))

    wide = number.dtype == np.float64
    # The shortest decimal that rounds to this very number in its own format.
    printed = repr(exact) if wide else np.format_float_scientific(np.float32(number))
    digits = len(printed.split("e")[0].replace(".", "").strip("0"))
    if digits < _TYPED_DIGITS:
        return Rational(printed)
    if exact.is_integer():
        return Integer(int(exact))
    typed = wide and digits < 16
    bound = _BOUND_FULL if wide and not typed else _BOUND_SHORT
    for number_of_base, base in _bases():
        ratio = (Fraction(exact) / number_of_base).limit_denominator(bound)
        if not 0 < ratio.numerator <= bound:
            continue
        candidate = ratio * number_of_base
        if typed:  # round the candidate to as many decimals as were typed
            decimals = -Decimal(printed).as_tuple().exponent
            recognized = round(candidate, decimals) == Fraction(printed)
        else:
            recognized = number.dtype.type(float(candidate)) == number
        if recognized:
            return Rational(ratio.numerator, ratio.denominator) * base
    return Rational(printed) if typed else Rational(*exact.as_integer_ratio())
