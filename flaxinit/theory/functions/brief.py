"""Shorten expressions for messages before printing them, because SymPy prints slowly."""

from collections.abc import Iterable

import sympy
from sympy import Basic, Expr, Symbol

from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.functions.effort import size

_LENGTH = 200  # characters
_PARTS = 60
_PIECES = 4
_REST = Symbol("...")
_CUT = (sympy.Add, sympy.Mul, sympy.Pow, sympy.Function, sympy.Max, sympy.Min)


def short(expr: Basic) -> str:
    """Print an expression in at most 200 characters.

    >>> from flaxinit.theory.functions.symbols import z
    >>> short(sympy.Mul(*[z + n for n in range(50)]))[:30]
    '...*...*z*(z + 1)*(z + 2)*(z +'
    """
    return shortened(str(_pruned(expr, _PARTS)))


def shortened(text: str) -> str:
    """Cut a text to at most 200 characters."""
    return text if len(text) <= _LENGTH else text[: _LENGTH - 3] + "..."


def short_list(exprs: Iterable[Expr]) -> str:
    """Print the first few of some expressions."""
    first, rest = (listed := list(exprs))[:_PIECES], listed[_PIECES:]
    return ", ".join([*map(short, first), *(["..."] if rest else [])])


def _pruned(expr: Basic, parts: int) -> Basic:
    """Keep about so many parts of the expression, and put dots for the others."""
    if size(expr) <= parts or not expr.args:
        return expr
    if not isinstance(expr, _CUT) or isinstance(expr, sympy.Piecewise):
        return _REST  # relations, for example, have no meaning without one of their parts
    kept, left = [], parts - 1
    if isinstance(expr, sympy.Piecewise):
        for value, condition in expr.args:
            if left < 1:
                return Piecewise(*kept, (_REST, True))
            kept.append((_pruned(value, left), _pruned(condition, left)))
            left -= sum(map(size, kept[-1]))
        return Piecewise(*kept)
    for argument in expr.args:
        if left < 1 and isinstance(expr, sympy.Add | sympy.Mul):
            kept.append(_REST)
            break
        kept.append(_pruned(argument, left) if left > 0 else _REST)
        left -= size(kept[-1])
    return expr.func(*kept, evaluate=False)
