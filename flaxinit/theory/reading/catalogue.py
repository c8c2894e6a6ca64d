"""The catalogue's formulas in SymPy."""

from collections.abc import Callable
from functools import cache, partial

from sympy import Expr

from flaxinit.catalogue import ALIASES, CATALOGUE
from flaxinit.theory.functions.constants import SeluAlpha, SeluScale
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.formula import read_formula

# Both constants solve equations. A formula of numbers could only approximate them.
_CONSTANTS = {"selu_scale": SeluScale(), "selu_alpha": SeluAlpha()}


@cache
def catalogue_expr(name: str) -> Expr:
    """Return the expression in z of an activation of the catalogue.

    >>> catalogue_expr("lisht")
    z*tanh(z)
    """
    expr = read_formula(CATALOGUE[name])
    return expr.subs({s: _CONSTANTS[s.name] for s in expr.free_symbols if s.name in _CONSTANTS})


def _applied(name: str, argument: Expr) -> Expr:
    return catalogue_expr(name).subs(z, argument)


# Each activation is a function that formulas may call.
ACTIVATIONS: dict[str, Callable[[Expr], Expr]] = {
    name: partial(_applied, ALIASES.get(name, name)) for name in (*CATALOGUE, *ALIASES)
}
