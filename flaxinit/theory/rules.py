"""The registry of rules: one JAX primitive (or named call) to one SymPy expression.

A rule receives the operands as SymPy expressions and the equation's parameters as keywords.
Sums, products and the like are exact on the real line: rounding, overflow and NaN guards,
which exist only in floating point, disappear here.
"""

from collections.abc import Callable

import numpy as np
from sympy import (
    Abs,
    And,
    Eq,
    Expr,
    Ge,
    Gt,
    Le,
    Lt,
    Max,
    Min,
    Ne,
    Not,
    Or,
    Piecewise,
    Rational,
    Xor,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    erf,
    erfc,
    erfinv,
    exp,
    log,
    sign,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
    true,
)
from sympy.logic.boolalg import Boolean

from flaxinit.theory.formula import logistic

RULES: dict[str, Callable] = {}
CALLS: dict[str, Callable] = {}


def register_rule(primitive: str, rule: Callable | None = None):
    """Teaches the tracer a JAX primitive; usable as a decorator.

    Args:
        primitive: the primitive's name, as a jaxpr prints it.
        rule: takes the operands as SymPy expressions (and the equation's parameters as
            keywords, if it names them) and returns a SymPy expression.

    >>> from sympy import loggamma
    >>> _ = register_rule("lgamma", loggamma)
    """
    if rule is None:
        return lambda function: register_rule(primitive, function)
    RULES[primitive] = rule
    return rule


def _is_condition(operand) -> bool:
    # SymPy counts a Symbol as a Boolean too.
    return isinstance(operand, bool | Boolean) and not isinstance(operand, Expr)


def _same(u, **_):
    return u


RULES |= {
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "square": lambda a: a**2,
    "sqrt": lambda a: sqrt(a),
    "rsqrt": lambda a: 1 / sqrt(a),
    "cbrt": lambda a: sign(a) * Abs(a) ** Rational(1, 3),
    "integer_pow": lambda a, y: a**y,
    "pow": lambda a, b: a**b,
    "exp": exp,
    "exp2": lambda a: 2**a,
    "expm1": lambda a: exp(a) - 1,
    "log": log,
    "log1p": lambda a: log(1 + a),
    "logistic": logistic,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "asinh": asinh,
    "acosh": acosh,
    "atanh": atanh,
    "erf": erf,
    "erfc": erfc,
    "erf_inv": erfinv,
    "abs": Abs,
    "sign": sign,
    "max": Max,
    "min": Min,
    "clamp": lambda low, a, high: Min(Max(a, low), high),
    "gt": Gt,
    "ge": Ge,
    "lt": Lt,
    "le": Le,
    "eq": Eq,
    "ne": Ne,
    "and": And,
    "or": Or,
    "not": Not,
    "xor": Xor,
    "is_finite": lambda a: true,
    # Changes of format, and of shape: a vector with one axis longer than 1 keeps its order.
    "reduce_precision": _same,
    "copy": _same,
    "reshape": _same,
    "squeeze": _same,
    "transpose": _same,
    "copy_p": _same,
    "stop_gradient": _same,
    "optimization_barrier": _same,
}


@register_rule("convert_element_type")
def _convert(operand, new_dtype=None):
    if _is_condition(operand) and new_dtype is not np.dtype(bool):
        return Piecewise((1, operand), (0, True))
    return operand


@register_rule("select_n")
def _select_n(which, *cases):
    if _is_condition(which):
        if_false, if_true = cases
        return Piecewise((if_true, which), (if_false, True))
    choices = [(case, Eq(which, index)) for index, case in enumerate(cases[:-1])]
    return Piecewise(*choices, (cases[-1], True))


# Calls whose body exists for floating point's sake, by the name JAX gives them. A function of
# another meaning under such a name would be caught by the trace's check against samples.
CALLS["logaddexp"] = lambda a, b: log(exp(a) + exp(b))
