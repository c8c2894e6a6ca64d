"""One table of functions in SymPy, for formulas and for JAX programs.

A function has NumPy's name if NumPy has it. The table is exact on the real line: it ignores
rounding, overflow and NaN guards, which exist only in floating point.
"""

from collections.abc import Callable
from functools import partial

from sympy import (
    Abs,
    Expr,
    Max,
    Min,
    Rational,
    acos,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    log,
    pi,
    sign,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)

from flaxinit.theory.functions.branches import Piecewise

MAX_COMPARED = 6  # terms of one max or min that vary


def logistic(u):
    return 1 / (1 + exp(-u))


def normal_cdf(u):
    return (1 + erf(u / sqrt(2))) / 2


def extreme(kind: type[Max] | type[Min], *terms: Expr) -> Expr:
    """Return the largest or smallest term.

    SymPy compares every pair of terms. Many terms stay unevaluated, and `piecewise.split` finds
    which of them is largest on each piece.
    """
    flat = [part for term in terms for part in (term.args if isinstance(term, kind) else [term])]
    numbers = [part for part in flat if part.is_number]
    varying = dict.fromkeys(part for part in flat if not part.is_number)
    if len(varying) <= MAX_COMPARED:
        return kind(*terms)
    return kind(*varying, *([kind(*numbers)] if numbers else []), evaluate=False)


def where(condition, if_true, if_false):
    return Piecewise((if_true, condition), (if_false, True))


FUNCTIONS: dict[str, Callable] = {
    "abs": Abs,
    "acos": acos,
    "acosh": lambda u: log(u + sqrt(u**2 - 1)),
    "asin": asin,
    "asinh": asinh,
    "atan": atan,
    "arctan": atan,
    "atanh": atanh,
    "cbrt": lambda u: sign(u) * Abs(u) ** Rational(1, 3),
    "cos": cos,
    "cosh": cosh,
    "erf": erf,
    "erfc": erfc,
    "exp": exp,
    "exp2": lambda u: 2**u,
    "expm1": lambda u: exp(u) - 1,
    "log": log,
    "log1p": lambda u: log(1 + u),
    "log2": lambda u: log(u, 2),
    "logaddexp": lambda u, v: log(exp(u) + exp(v)),
    "logistic": logistic,
    "max": partial(extreme, Max),
    "min": partial(extreme, Min),
    "normal_cdf": normal_cdf,
    "relu": lambda u: Max(u, 0),
    "rsqrt": lambda u: 1 / sqrt(u),
    "sigmoid": logistic,
    "sign": sign,
    "sin": sin,
    "sinc": lambda u: sin(pi * u) / (pi * u),
    "sinh": sinh,
    "softplus": lambda u: log(1 + exp(u)),
    "sqrt": sqrt,
    "square": lambda u: u**2,
    "tan": tan,
    "tanh": tanh,
    "where": where,
}
