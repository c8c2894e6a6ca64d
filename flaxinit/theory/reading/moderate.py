"""Constants of a size with which SymPy's algebra ends."""

import contextlib

from flint import arb
from sympy import Expr

from flaxinit.theory.functions import balls

MAX_CONSTANT = arb(10) ** 1000
RANGE = "a constant must lie between 1e-1000 and 1e1000"


def is_moderate(constant: Expr) -> bool:
    """Tell whether a constant is 0, or between 1e-1000 and 1e1000 in size.

    SymPy takes a number such as e^(10^16) apart bit by bit.

    >>> from sympy import Integer, exp
    >>> is_moderate(Integer(7)), is_moderate(exp(10**16))
    (True, False)
    """
    with contextlib.suppress(balls.NotCertifiable), balls.precision():
        size = abs(balls.evaluate(constant))
        return not (size > MAX_CONSTANT or (size > 0 and size < 1 / MAX_CONSTANT))
    return True
