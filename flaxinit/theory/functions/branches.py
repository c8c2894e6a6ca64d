"""A choice between expressions by conditions, kept as it is written.

SymPy's own `Piecewise` solves its conditions whenever it is made or changed, which takes minutes if
they contain choices themselves. Here they stay unsolved until the function is cut into pieces.
"""

import itertools

import sympy
from sympy import Basic, sympify
from sympy.functions.elementary.piecewise import ExprCondPair


class Branch(ExprCondPair):
    """A value and its condition. SymPy's own solves the condition whenever it is rebuilt."""

    def __new__(cls, value, condition):
        return Basic.__new__(cls, sympify(value), sympify(condition))


class Piecewise(sympy.Piecewise):
    """The value that belongs to the first condition that holds.

    >>> from flaxinit.theory.functions.symbols import z
    >>> Piecewise((z, z > 0), (0, z > 1), (-z, True)), Piecewise((z, True))
    (Piecewise((z, z > 0), (0, z > 1), (-z, True)), z)
    """

    def __new__(cls, *branches, **options):
        pairs = []
        for branch in itertools.starmap(Branch, branches):
            value, condition = branch.args
            if condition == sympy.false:
                continue
            if not pairs and condition == sympy.true:
                return value
            pairs.append(branch)
            if condition == sympy.true:
                break
        return Basic.__new__(cls, *pairs)
