"""Read a formula such as ``"x * tanh(softplus(x))"`` without evaluating any code.

Python parses the text to a syntax tree. Only numbers, names, arithmetic, comparisons and calls of
the functions in `vocabulary` are turned into SymPy. Everything else is refused.
"""

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from sympy import And, E as EULER, Eq, Expr, Integer, Or, Pow, Rational, Symbol, log, pi

from flaxinit.catalogue import ALIASES, CATALOGUE, GATES, VARIABLES
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.moderate import RANGE, is_moderate
from flaxinit.theory.reading.vocabulary import FUNCTIONS, where

MAX_LENGTH = 1000  # characters
MAX_EXPONENT = 64
MAX_DIGITS = 40
MAX_MAGNITUDE = 100  # decimal exponent
MAX_CALLS = 20  # calls within calls
MAX_NESTING = 150  # operations within operations
# Names that have another meaning, here or elsewhere, and cannot name a parameter.
RESERVED = {
    "q": "the variance of x",
    "x": "the variable; use x or z, not both",
    "z": "the variable; use x or z, not both",
    "nan": "not a number",
    "inf": "not a finite number",
    "oo": "not a finite number",
    "zoo": "not a finite number",
    "I": "not a real number",
    "E": "write e",
    "π": "write pi",
}
# How to write what no formula can be.
A_GATE = " A gate is a function of two arrays: lambda u, v: jax.nn.silu(u) * v."

CONSTANTS = {"pi": pi, "e": EULER}

# How other notations, which Python cannot parse, are written here.
_NOTATIONS = {
    r"\|": "Write |x| as abs(x)",
    r"[²³]": "Write x² as x**2",
    r"\b\d+[a-zA-Z]": "Write 2x as 2*x",
}

_COMPARISONS = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: Eq,
}


class _Reader(ast.NodeVisitor):
    def __init__(self, text: str, variable: str, functions: Mapping[str, Callable]):
        self.text = text
        self.variable = variable
        self.functions = functions

    def refuse(self, node: ast.AST, rule: str):
        part = ast.get_source_segment(self.text, node) or type(node).__name__
        raise ValueError(f"Formula {_short(self.text)}, at {_short(part)}: {rule}.")

    def generic_visit(self, node):
        self.refuse(node, "only numbers, names, arithmetic, comparisons and calls are allowed")

    def visit_Constant(self, node):
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(node, "a constant must be a real number")
        written = (ast.get_source_segment(self.text, node) or "").replace("_", "")
        if len(written) > MAX_DIGITS:
            self.refuse(node, f"a number may have at most {MAX_DIGITS} characters")
        if isinstance(value, int):
            written = str(value)  # 0x10 and the like
        if Decimal(written) and abs(Decimal(written).adjusted()) > MAX_MAGNITUDE:
            self.refuse(node, f"a number must lie between 1e-{MAX_MAGNITUDE} and 1e{MAX_MAGNITUDE}")
        # The number as written, not the nearest float: 0.044715 is rational.
        return Integer(value) if isinstance(value, int) else Rational(written)

    def visit_Name(self, node):
        if node.id == self.variable:
            return z
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if node.id in self.functions:
            self.refuse(node, f"{node.id} is a function: call it, as in {node.id}(x)")
        if node.id in RESERVED:
            self.refuse(node, f"the name {node.id} is reserved ({RESERVED[node.id]})")
        return Symbol(node.id, positive=True)

    def visit_UnaryOp(self, node):
        operand = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return -operand
        if isinstance(node.op, ast.UAdd):
            return operand
        self.refuse(node, "the only unary operators are + and -")

    def visit_BinOp(self, node):
        # A long sum is a deep tree, whose left operands are sums again: these take no recursion.
        sums = [node]
        while isinstance(sums[-1].left, ast.BinOp):
            sums.append(sums[-1].left)
        value = self.number(sums[-1].left)
        for part in reversed(sums):
            value = self.checked(part, self.operation(part, value, self.number(part.right)))
        return value

    def operation(self, node: ast.BinOp, left: Expr, right: Expr) -> Expr:
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
                return self.power(node, left, right)
        self.refuse(node, "the only operators are + - * / and **, and x^2 is written x**2")

    def number(self, node: ast.AST) -> Expr:
        return self.checked(node, self.visit(node))

    def checked(self, node: ast.AST, value) -> Expr:
        if not isinstance(value, Expr):
            self.refuse(node, "a condition is not a number. Write where(condition, a, b)")
        if value.is_number and not value.is_Rational and not is_moderate(value):
            self.refuse(node, f"{RANGE} in size")  # before SymPy applies a function to it
        return value

    def condition(self, node: ast.AST):
        value = self.visit(node)
        if isinstance(value, Expr):
            self.refuse(node, "a number is not a condition. Write a condition such as x > 0")
        return value

    def power(self, node: ast.AST, base: Expr, exponent: Expr) -> Expr:
        if exponent.is_number and abs(exponent) > MAX_EXPONENT:
            self.refuse(node, f"an exponent may be at most {MAX_EXPONENT} in size")
        numeric = base.is_number and exponent.is_number and base != 0
        if numeric and abs(exponent * log(abs(base), 10).evalf()) > MAX_MAGNITUDE:
            self.refuse(node, f"a power may be at most 1e{MAX_MAGNITUDE} in size")
        result = base**exponent
        # SymPy folds ((x + 1)**64)**64 into one power.
        if isinstance(result, Pow) and result.exp.is_number and abs(result.exp) > MAX_EXPONENT:
            self.refuse(node, f"an exponent may be at most {MAX_EXPONENT} in size")
        return result

    def visit_Compare(self, node):
        terms = [self.number(term) for term in (node.left, *node.comparators)]
        relations = []
        for operator, left, right in zip(node.ops, terms, terms[1:], strict=False):
            if type(operator) not in _COMPARISONS:
                self.refuse(node, "the comparisons are < <= > >= and ==")
            try:
                relations.append(_COMPARISONS[type(operator)](left, right))
            except TypeError:  # from SymPy, for a constant such as acosh(-1)
                self.refuse(node, "a comparison must be between real numbers")
        return And(*relations)

    def visit_IfExp(self, node):
        return where(self.condition(node.test), self.number(node.body), self.number(node.orelse))

    def visit_BoolOp(self, node):
        terms = [self.condition(term) for term in node.values]
        return And(*terms) if isinstance(node.op, ast.And) else Or(*terms)

    def visit_Call(self, node):
        if not isinstance(node.func, ast.Name):
            self.refuse(node, "a call is a function's name with its arguments in order")
        name = node.func.id
        if name in GATES:
            self.refuse(node, f"{name} is a gate of two arrays: lambda u, v: {GATES[name]}")
        if name not in self.functions:
            near = difflib.get_close_matches(name, self.functions, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"known: {', '.join(self.functions)}"
            )
            self.refuse(node, f"unknown function {name!r} ({hint})")
        if node.keywords:
            rule = "the arguments of a function have no names"
            self.refuse(node, rule + _with_your_numbers(name))
        if not node.args:
            self.refuse(node, f"{name} needs an argument, as in {name}(x)")
        counts = _argument_counts(self.functions[name])
        if counts and len(node.args) not in counts:
            some = " or ".join(map(str, counts))
            rule = f"{name} takes {some} argument{'s' * (counts != [1])}, got {len(node.args)}"
            self.refuse(node, rule + _with_your_numbers(name))
        first = self.condition if name == "where" else self.number
        arguments = [first(node.args[0]), *map(self.number, node.args[1:])]
        try:
            return self.functions[name](*arguments)
        except (TypeError, ValueError) as error:
            self.refuse(node, f"{name} cannot be applied ({error})")


def _argument_counts(function: Callable) -> list[int]:
    """Return how many arguments a function may be called with; none if there is no limit."""
    if isinstance(function, type):  # of SymPy
        return sorted(map(int, function.nargs))
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return []
    return [sum(each.default is each.empty for each in parameters)]


def _with_your_numbers(name: str) -> str:
    """Return what to write for an activation of the catalogue with other numbers."""
    formula = CATALOGUE.get(ALIASES.get(name, name))
    written = formula and name not in formula  # in terms of other functions
    return f". It is {formula}: write that with your numbers" if written else ""


def _depth(tree: ast.AST, deeper: Callable[[ast.AST, ast.AST], bool]) -> int:
    """Return how often a part is deeper than its whole, without recursion: a tree may be deep."""
    deepest, waiting = 0, [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(part, depth + deeper(node, part)) for part in ast.iter_child_nodes(node)]
    return deepest


def _is_call(whole: ast.AST, part: ast.AST) -> bool:
    return isinstance(part, ast.Call)


def _is_nested(whole: ast.AST, part: ast.AST) -> bool:
    """Tell whether a part is read by recursion: all are, but for sums of sums."""
    return not (isinstance(whole, ast.BinOp) and part is whole.left)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_formula(text: str, functions: Mapping[str, Callable] = FUNCTIONS) -> Expr:
    """Return the SymPy expression, in the symbol z, that a formula stands for.

    The variable is called x (or z). Every other name is a parameter, taken to be positive, unless
    it is a known function or constant.

    Args:
        text: a formula in Python's notation, at most 1000 characters.
        functions: what may be called, by name.

    Returns:
        A SymPy expression in `flaxinit.theory.z`.

    Raises:
        ValueError: if the text is not a formula over these functions, or contains a number or an
            exponent that is too large.

    >>> read_formula("x * sigmoid(1.702 * x)")
    z/(1 + exp(-851*z/500))
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"A formula may have at most {MAX_LENGTH} characters, but this one has {len(text)}. "
            "Write the activation as a JAX function instead."
        )
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        hints = "".join(f" {hint}." for sign, hint in _NOTATIONS.items() if re.search(sign, text))
        raise ValueError(f"Formula {_short(text)} is not an expression: {reason}.{hints}") from None
    for deeper, parts, most in ((_is_call, "calls", MAX_CALLS), (_is_nested, "parts", MAX_NESTING)):
        if _depth(tree, deeper) > most:
            raise ValueError(
                f"Formula {_short(text)} nests {parts} more than {most} deep. Derive a simpler one."
            )
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    variable = next((name for name in VARIABLES if name in names), VARIABLES[0])
    try:
        expr = _Reader(text.strip(), variable, functions).visit(tree.body)
    except RecursionError:
        raise ValueError(
            f"Formula {_short(text)} is nested too deeply. Derive a simpler one."
        ) from None
    except OverflowError:
        raise ValueError(
            f"Formula {_short(text)} contains a number that is too large. Rescale the activation."
        ) from None
    if z not in expr.free_symbols and (others := sorted(map(str, expr.free_symbols))):
        are = "are parameters" if len(others) > 1 else "is a parameter"
        raise ValueError(
            f"Formula {_short(text)} has no variable: {', '.join(others)} {are}. Call the variable "
            f"x.{A_GATE * (len(others) > 1)}"
        )
    if called := [name for name in names & functions.keys() if variable not in names]:
        raise ValueError(
            f"Formula {_short(text)} has no variable: it is a number. Call the variable x, as in "
            f"{called[0]}(x){_with_your_numbers(called[0])}."
        )
    if not isinstance(expr, Expr):
        raise ValueError(
            f"Formula {_short(text)} is a condition, not a number. Write where(condition, a, b)."
        )
    return expr
