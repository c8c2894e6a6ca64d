"""Kinks are found exactly; between two neighbors a function is one smooth expression."""

import pickle
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings, strategies as st
from scipy import stats
from sympy import Abs, Max, Min, Piecewise, Rational, Symbol, exp, log, oo, sign, sqrt, tanh

from flaxinit.theory import CATALOGUE, derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import polynomial
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.reading.catalogue import catalogue_expr
from flaxinit.theory.reading.vocabulary import logistic

pytestmark = pytest.mark.any_jax

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


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name):
    expr, kinks = KINKS[name]
    pieces = split(expr)
    found = [piece.high for piece in pieces[:-1]]
    assert len(found) == len(kinks)
    assert all(sympy.simplify((f - k).rewrite(log)) == 0 for f, k in zip(found, kinks, strict=True))
    assert pieces[0].low == -oo and pieces[-1].high == oo
    assert all(left.high == right.low for left, right in pairwise(pieces))


# Kinks without a formula: each lies where a function that mpmath has, too, changes its sign.
ISOLATED = {
    "dottie": (Max(z, sympy.cos(z)), [0.739]),
    "omega": (Max(z * exp(z), 1), [0.567]),
    "sine": (Max(sympy.sin(z) - z / 4, 0), [-2.47, 0, 2.47]),
    "a threefold root": (Max(z, sympy.sin(z)), [0]),
    "a twofold root": (Max(exp(z) - 1 - z, Rational(1, 4)), [-0.8, 0.63]),
    "tanh": (Max(z - tanh(2 * z), 0), [-0.96, 0, 0.96]),
    "silu": (Max(z * logistic(z), Rational(1, 2)), [0.77]),
    "gelu": (Max(z * (1 + sympy.erf(z / sqrt(2))) / 2, Rational(1, 10)), [0.177]),
    "mish": (Max(z * tanh(log(1 + exp(z))), Rational(1, 10)), [0.15]),
    "erf": (Max(sympy.erf(z), Rational(1, 2)), [0.477]),
    "softplus": (Abs(log(1 + exp(z)) - z / 2 - 1), [-1.65, 1.65]),
    "gaussian": (Abs(z - exp(-(z**2))), [0.65]),
}


@pytest.mark.parametrize("name", ISOLATED)
def test_a_kink_without_a_formula_is_isolated(name):
    expr, guesses = ISOLATED[name]
    pieces = split(expr)
    assert len(pieces) == len(guesses) + 1
    for (left, right), guess in zip(pairwise(pieces), guesses, strict=True):
        with mpmath.workdps(60):
            gap = sympy.lambdify(z, left.expr - right.expr, modules="mpmath")
            known = mpmath.findroot(gap, guess) if guess else mpmath.mpf(0)
            with balls.precision():
                low, high = balls.bounds(balls.evaluate(left.high))
            assert low - mpmath.mpf(10) ** -50 <= known <= high + mpmath.mpf(10) ** -50
            assert high - low < mpmath.mpf(10) ** -45


def test_an_isolated_kink_is_a_number():
    (root,) = (piece.high for piece in split(ISOLATED["dottie"][0])[:-1])
    assert root.is_real and root.is_positive and not root.free_symbols and 0 < root < 1
    assert float(root) == pytest.approx(0.7390851332151607, rel=1e-15)
    assert root == pickle.loads(pickle.dumps(root))
    for digits in (20, 200):
        assert (
            abs(root.evalf(digits) - sympy.cos(root.evalf(digits))) < sympy.Float(10) ** -digits * 9
        )
    # A switch has the same roots from either side.
    both = Max(z, sympy.cos(z)) + Min(z, sympy.cos(z)) * Abs(sympy.cos(z) - z)
    assert [piece.high for piece in split(both)] == [root, oo]


def test_an_isolated_kink_in_a_derivation():
    slopes = derive("where(x * exp(x) > 1, x, 0)").derivative_second_moment
    assert slopes.method == "closed form"
    # P(z > Ω)
    assert slopes.value == pytest.approx(stats.norm.sf(float(mpmath.lambertw(1).real)), rel=1e-14)


def values(expr, points):
    return sympy.lambdify(z, expr, modules=["scipy", "numpy"])(points) * np.ones_like(points)


@pytest.mark.parametrize("name", CATALOGUE)
def test_pieces_are_the_function(name):
    expr = catalogue_expr(name)
    points = np.random.default_rng(7).normal(scale=3, size=500)
    rebuilt = np.full_like(points, np.nan)
    for piece in split(expr):
        inside = (points > float(piece.low)) & (points < float(piece.high))
        rebuilt[inside] = values(piece.expr, points)[inside]
        assert not piece.expr.has(Max, Min, Abs, Piecewise, sign)
    # Both compute the same function in floating point; they differ by a few roundings.
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
        (Abs(sympy.sin(z)), "infinitely many roots"),
        (Max(z, sympy.atan(1 / z) + 1), "could not be separated"),
        (Max(sympy.sin(z) - z / 2, tanh(a * z)), "open parameters"),
        (Max(z - a, z - Symbol("b", positive=True), 0), "order|decides"),
        (Abs(z - a) + Abs(z - 1), "assumption that decides|assumptions that decide"),
        (Piecewise((z, z > 0)), "not defined everywhere"),
    ],
)
def test_what_cannot_be_cut_is_refused(expr, message):
    with pytest.raises(ValueError, match=message):
        split(expr)


# Functions that change their sign at a pole, and functions with a zero inside another function.
LEAPS = {
    "hard_tanh(atan(0.1/x))": lambda x: max(-1, min(1, mpmath.atan(0.1 / x))),
    "max(atan(1/x), 0.5)": lambda x: max(mpmath.atan(1 / x), 0.5),
    "abs(atan(1/(x - 1)) + 0.2)": lambda x: abs(mpmath.atan(1 / (x - 1)) + 0.2),
    "relu(sin(tanh(x)) - 1/2)": lambda x: max(0, mpmath.sin(mpmath.tanh(x)) - 0.5),
    "relu(cos(tanh(x)) - 0.7)": lambda x: max(0, mpmath.cos(mpmath.tanh(x)) - 0.7),
}


@pytest.mark.parametrize("text", LEAPS)
def test_a_pole_or_a_zero_inside_another_function_cuts_too(text):
    derivation = derive(text)
    cuts = [float(piece.high) for piece in split(derivation.expr)[:-1]]
    points = sorted({-12.0, 0.0, 1.0, 12.0, *cuts})
    square = mpmath.quad(lambda x: LEAPS[text](x) ** 2 * mpmath.npdf(x), points)
    assert cuts and derivation.second_moment.value == pytest.approx(float(square), abs=1e-10)


def test_a_zero_that_cannot_be_found_is_not_left_out():
    with pytest.raises(ValueError, match="cannot be solved"):
        derive("relu(tan(tanh(x)) - 1)")


@pytest.mark.parametrize(
    "expr",
    [
        *(sympy.Integer(0), z, (z + 1) ** 2 - z**2 - 2 * z - 1, z * (z - 1) / 3 + 2),
        *((z + sympy.Rational(1, 3)) ** 5 * (2 * z - 1), sympy.sqrt(2) * z + (z - 1) ** 2),
        (1 + z) ** 64 * (1 - z) ** 64,
    ],
    ids=str,
)
def test_a_polynomial_is_multiplied_out_as_sympy_does(expr):
    found, wanted = polynomial(expr), sympy.Poly(sympy.expand(expr), z)
    assert found == wanted and found.degree() == wanted.degree()
