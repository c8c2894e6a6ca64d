"""Reads a formula such as ``"x * tanh(softplus(x))"`` without evaluating any code.

The text is parsed to Python's syntax tree; only numbers, names, arithmetic, comparisons and
calls of the functions listed here are turned into SymPy, everything else is refused.
"""

import ast
import difflib
from collections.abc import Callable

from sympy import (
    Abs,
    And,
    E as EULER,
    Eq,
    Expr,
    Integer,
    Max,
    Min,
    Or,
    Piecewise,
    Pow,
    Rational,
    Symbol,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    cos,
    cosh,
    erf,
    erfc,
    erfinv,
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

from flaxinit.theory.symbols import z

MAX_LENGTH = 1000  # characters
MAX_EXPONENT = 64
MAX_DIGITS = 40
VARIABLES = ("x", "z")


def logistic(u):
    return 1 / (1 + exp(-u))


def softplus(u):
    return log(1 + exp(u))


def normal_cdf(u):
    return (1 + erf(u / sqrt(2))) / 2


def where(condition, if_true, if_false):
    return Piecewise((if_true, condition), (if_false, True))


FUNCTIONS: dict[str, Callable] = {
    "abs": Abs,
    "acos": acos,
    "acosh": acosh,
    "asin": asin,
    "asinh": asinh,
    "atan": atan,
    "arctan": atan,
    "cos": cos,
    "cosh": cosh,
    "erf": erf,
    "erfc": erfc,
    "erf_inv": erfinv,
    "exp": exp,
    "expm1": lambda u: exp(u) - 1,
    "log": log,
    "log1p": lambda u: log(1 + u),
    "max": Max,
    "min": Min,
    "normal_cdf": normal_cdf,
    "relu": lambda u: Max(u, 0),
    "sigmoid": logistic,
    "sign": sign,
    "sin": sin,
    "sinh": sinh,
    "softplus": softplus,
    "sqrt": sqrt,
    "tan": tan,
    "tanh": tanh,
    "where": where,
}
CONSTANTS = {"pi": pi, "e": EULER}

_COMPARISONS = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: Eq,
}


class _Reader(ast.NodeVisitor):
    def __init__(self, text: str, variable: str):
        self.text = text
        self.variable = variable

    def refuse(self, node: ast.AST, rule: str):
        part = ast.get_source_segment(self.text, node) or type(node).__name__
        raise ValueError(f"formula {_short(self.text)}: {rule}; got {_short(part)}")

    def generic_visit(self, node):
        self.refuse(node, "only numbers, names, arithmetic, comparisons and calls are allowed")

    def visit_Constant(self, node):
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(node, "a constant has to be a real number")
        written = ast.get_source_segment(self.text, node) or ""
        if len(written) > MAX_DIGITS or abs(value) > 1e100:
            self.refuse(node, f"a number may have {MAX_DIGITS} characters and be below 1e100")
        # As written, not as the nearest float: 0.044715 is a rational number.
        return Integer(value) if isinstance(value, int) else Rational(written.replace("_", ""))

    def visit_Name(self, node):
        if node.id == self.variable:
            return z
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if node.id in FUNCTIONS:
            self.refuse(node, f"{node.id} is a function: call it, as in {node.id}(x)")
        return Symbol(node.id, positive=True)

    def visit_UnaryOp(self, node):
        operand = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return -operand
        if isinstance(node.op, ast.UAdd):
            return operand
        self.refuse(node, "the only unary operators are + and -")

    def visit_BinOp(self, node):
        left, right = self.visit(node.left), self.visit(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                if right.is_zero:
                    self.refuse(node, "a formula may not divide by zero")
                return left / right
            case ast.Pow():
                if right.is_number and abs(right) > MAX_EXPONENT:
                    self.refuse(node, f"an exponent may be at most {MAX_EXPONENT} in size")
                if isinstance(left, Pow) and not left.free_symbols:
                    self.refuse(node, "a power of a numeric power is not needed here")
                return left**right
        self.refuse(node, "the only operators are + - * / and **")

    def visit_Compare(self, node):
        terms = [self.visit(term) for term in (node.left, *node.comparators)]
        relations = []
        for operator, left, right in zip(node.ops, terms, terms[1:], strict=False):
            if type(operator) not in _COMPARISONS:
                self.refuse(node, "the comparisons are < <= > >= and ==")
            relations.append(_COMPARISONS[type(operator)](left, right))
        return And(*relations)

    def visit_BoolOp(self, node):
        terms = [self.visit(term) for term in node.values]
        return And(*terms) if isinstance(node.op, ast.And) else Or(*terms)

    def visit_Call(self, node):
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.refuse(node, "a call is a function's name with its arguments in order")
        name = node.func.id
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FUNCTIONS)}"
            )
            self.refuse(node, f"unknown function {name!r} ({hint})")
        arguments = [self.visit(argument) for argument in node.args]
        try:
            return FUNCTIONS[name](*arguments)
        except (TypeError, ValueError) as error:
            self.refuse(node, f"{name} cannot be applied ({error})")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_formula(text: str) -> Expr:
    """The SymPy expression, in the symbol z, that a formula stands for.

    The variable is called x (or z); every other name that is not a known function or
    constant is a parameter, taken to be positive.

    Args:
        text: a formula in Python's notation, at most 1000 characters.

    Returns:
        A SymPy expression in `flaxinit.theory.z`.

    Raises:
        ValueError: if the text is not a formula over the functions of `FUNCTIONS`, or has a
            number or an exponent too large to be meant.

    >>> read_formula("x * sigmoid(1.702 * x)")
    z/(1 + exp(-851*z/500))
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"a formula may have {MAX_LENGTH} characters, this one has {len(text)}; "
            "write the activation as a JAX function instead"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"formula {_short(text)} is not an expression: {error}") from None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    variable = next((name for name in VARIABLES if name in names), VARIABLES[0])
    try:
        expr = _Reader(text.strip(), variable).visit(tree.body)
    except RecursionError:
        raise ValueError(f"formula {_short(text)} is nested too deeply") from None
    if not isinstance(expr, Expr):
        raise ValueError(
            f"formula {_short(text)} is a condition, not a number; write where(condition, a, b)"
        )
    return expr
