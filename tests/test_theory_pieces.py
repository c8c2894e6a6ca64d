"""Kinks are found exactly, and between two of them a function is one smooth expression."""

from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import given, settings, strategies as st
from sympy import Abs, Max, Min, Piecewise, Rational, Symbol, exp, log, oo, sign, sqrt, tanh

from flaxinit.theory import CATALOGUE, z
from flaxinit.theory.formula import logistic
from flaxinit.theory.pieces import split

a = Symbol("a", positive=True)
KINKS = {
    "none": (tanh(z), []),
    "relu": (Max(z, 0), [0]),
    "leaky": (Piecewise((z, z > 0), (z / 100, True)), [0]),
    "abs": (Abs(z), [0]),
    "sign": (sign(z - 1), [1]),
    "relu6": (Min(Max(z, 0), 6), [0, 6]),
    "triangle": (Max(1 - Abs(z), 0), [-1, 0, 1]),
    "parabola": (Max(z**2 - 2, 0), [-sqrt(2), sqrt(2)]),
    "cubic": (Abs(z**3 - z), [-1, 0, 1]),
    "nested": (Max(Abs(z) - 1, 1 - z**2, 0), [-1, 1]),
    "exponential": (Max(exp(z) - 2, 0), [log(2)]),
    "two rates": (Max(exp(2 * z) - 3 * exp(z) + 2, 0), [0, log(2)]),
    "tanh": (Max(tanh(z), Rational(1, 2)), [log(3) / 2]),
    "sigmoid": (Piecewise((z, logistic(z) > Rational(1, 4)), (0, True)), [-log(3)]),
    "parameter": (Max(z - a, 0), [a]),
    "order of parameters": (Max(z + a, 0) + Max(z - a, 0), [-a, a]),
    "both ways": (Piecewise((z, (z < -1) | (z > 2)), (0, True)), [-1, 2]),
    "no kink after all": (Max(z, z - 1), []),
    "one branch": (Piecewise((z, z**2 >= 0), (0, True)), []),
    "far below rounding": (Max(z - Rational(1, 10**30), 0), [Rational(1, 10**30)]),
}


def test_number_of_cases():
    assert len(KINKS) == 20


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name):
    expr, kinks = KINKS[name]
    pieces = split(expr)
    found = [piece.high for piece in pieces[:-1]]
    assert len(found) == len(kinks)
    assert all(sympy.simplify((f - k).rewrite(log)) == 0 for f, k in zip(found, kinks, strict=True))
    assert pieces[0].low == -oo and pieces[-1].high == oo
    assert all(left.high == right.low for left, right in pairwise(pieces))


def values(expr, points):
    return sympy.lambdify(z, expr, modules=["scipy", "numpy"])(points) * np.ones_like(points)


@pytest.mark.parametrize("name", CATALOGUE)
def test_pieces_are_the_function(name):
    expr = CATALOGUE[name].expr
    points = np.random.default_rng(7).normal(scale=3, size=500)
    rebuilt = np.full_like(points, np.nan)
    for piece in split(expr):
        inside = (points > float(piece.low)) & (points < float(piece.high))
        rebuilt[inside] = values(piece.expr, points)[inside]
        assert not piece.expr.has(Max, Min, Abs, Piecewise, sign)
    # Both are floating-point evaluations of one function, a few roundings apart.
    np.testing.assert_allclose(rebuilt, values(expr, points), rtol=1e-13, atol=1e-14)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_maximum_of_lines_is_its_largest_line(lines):
    exprs = [slope * z + offset for slope, offset in lines]
    for piece in split(Max(*exprs)):
        inner = (piece.low, piece.high)
        point = {(-oo, oo): sympy.Integer(0), (-oo, inner[1]): inner[1] - 1}.get(
            inner, inner[0] + 1 if inner[1] == oo else (inner[0] + inner[1]) / 2
        )
        assert piece.expr.subs(z, point) == max(expr.subs(z, point) for expr in exprs)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (Max(z - tanh(2 * z), 0), "cannot be solved exactly"),
        (Abs(sympy.sin(z)), "cannot be solved exactly|infinitely many"),
        (Max(z - a, z - Symbol("b", positive=True), 0), "order|decides"),
        (Abs(z - a) + Abs(z - 1), "assumptions that settle"),
        (Piecewise((z, z > 0)), "not defined everywhere"),
    ],
)
def test_what_cannot_be_cut_is_refused(expr, message):
    with pytest.raises(ValueError, match=message):
        split(expr)
