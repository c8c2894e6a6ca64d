"""The rules that turn one JAX primitive, or named call, into one SymPy expression.

A rule takes the operands as SymPy expressions and the equation's parameters as keywords. It is
exact on the real line: rounding, overflow and NaN guards exist only in floating point, and
disappear here.
"""

from collections.abc import Callable

import numpy as np
from sympy import (
    ITE,
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
    Poly,
    Xor,
    atan,
    false,
    log,
    sqrt,
    true,
)
from sympy.logic.boolalg import Boolean

from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.reading.cells import count
from flaxinit.theory.reading.vocabulary import FUNCTIONS, normal_cdf

RULES: dict[str, Callable] = dict(FUNCTIONS)  # and more below, which formulas do not call
CALLS: dict[str, tuple[Callable, ...]] = {}


def register_rule(primitive: str, rule: Callable | None = None):
    """Teach the tracer a JAX primitive. Without a rule, return a decorator.

    Every reading is compared with the function's own values. A rule for a special case, like the
    one below for a = 1/2, is therefore refused in other cases.

    Args:
        primitive: the primitive's name, as a jaxpr prints it.
        rule: takes the operands as SymPy expressions, and the equation's parameters as keywords
            if it names them. It returns a SymPy expression. Moments can be certified if it
            consists of exp, log, erf, tanh and similar functions.

    >>> import jax
    >>> from sympy import erf, sqrt
    >>> from flaxinit.theory import derive
    >>> _ = register_rule("igamma", lambda a, u: erf(sqrt(u)))
    >>> derive(lambda x: jax.scipy.special.gammainc(0.5, x**2)).expr
    erf(Abs(z))
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
    "one_minus_square": lambda a: 1 - a**2,
    "polynomial": lambda a, *coefficients: Poly(coefficients[::-1], a).as_expr(),
    "integer_pow": lambda a, y: a**y,
    "pow": lambda a, b: a**b,
    "clamp": lambda low, a, high: Min(Max(a, low), high),
    "gt": Gt,
    "ge": Ge,
    "lt": Lt,
    "le": Le,
    "eq": Eq,
    "ne": Ne,
    "lt_to": Lt,
    "le_to": Le,
    "eq_to": Eq,
    "and": And,
    "or": Or,
    "not": Not,
    "xor": Xor,
    "is_finite": lambda a: true,
    # These change only the format.
    "reduce_precision": _same,
    "copy": _same,
    "stop_gradient": _same,
}


def _hypot(a, b):
    return sqrt(a**2 + b**2)


@register_rule("atan2")
def _atan2(y, x):
    if not x.is_positive:
        raise ValueError(
            f"arctan2(y, x) is read as arctan(y/x), which needs x > 0, got x = {x}. Write the "
            "other cases with jnp.where."
        )
    return atan(y / x)


@register_rule("convert_element_type")
def _convert(operand, new_dtype=None):
    condition = _is_condition(operand)
    match np.dtype(new_dtype).kind:
        case "b":
            return operand if condition else Ne(operand, 0)
        case "i" | "u" if condition:
            return count(operand)
        case "i" | "u":
            raise ValueError(
                "This function rounds its input to whole numbers, so it has infinitely many jumps. "
                "Write the steps that matter as nested jnp.where."
            )
    return Piecewise((1, operand), (0, True)) if condition else operand


@register_rule("select_n")
def _select_n(which, *cases):
    if isinstance(which, Piecewise):  # a number that depends on the other input
        return Piecewise(*[(cases[int(number)], condition) for number, condition in which.args])
    if not _is_condition(which):
        return cases[int(which)]
    if_false, if_true = cases
    if which in (true, false):
        return if_true if which == true else if_false
    if _is_condition(if_true):
        return ITE(which, if_true, if_false)
    if isinstance(which, Eq) and which.lhs.is_Symbol and if_false.subs(*which.args) == if_true:
        return if_false  # JAX writes this to turn −0 into 0
    return Piecewise((if_true, which), (if_false, True))


# Calls whose body serves only floating point, by JAX's name for them, with a rule for each result.
# If another function had such a name, the check of the reading against values would find it.
CALLS |= {
    "logaddexp": (FUNCTIONS["logaddexp"],),
    "sinc": (FUNCTIONS["sinc"],),
    # JAX sums an asymptotic series in the tail, where rounding would leave no digits.
    "log_ndtr": (lambda a: log(normal_cdf(a)),),
    # The length of (a, b), and its derivatives.
    "_hypot": (_hypot, lambda a, b: a / _hypot(a, b), lambda a, b: b / _hypot(a, b)),
}
