"""A choice between expressions by conditions, kept as it is written.

SymPy's own `Piecewise` solves its conditions whenever it is made or changed, which takes minutes if
they contain choices themselves. Here they stay unsolved until the function is cut into pieces.
"""

import sympy
from sympy import Basic, sympify
from sympy.functions.elementary.piecewise import ExprCondPair


class Piecewise(sympy.Piecewise):
    """The value that belongs to the first condition that holds.

    >>> from flaxinit.theory.functions.symbols import z
    >>> Piecewise((z, z > 0), (0, z > 1), (-z, True)), Piecewise((z, True))
    (Piecewise((z, z > 0), (0, z > 1), (-z, True)), z)
    """

    def __new__(cls, *branches, **options):
        pairs = []
        for value, condition in branches:
            value, condition = sympify(value), sympify(condition)
            if condition == sympy.false:
                continue
            if not pairs and condition == sympy.true:
                return value
            pairs.append(Basic.__new__(ExprCondPair, value, condition))
            if condition == sympy.true:
                break
        return Basic.__new__(cls, *pairs)
