"""A constant is read as the number its author meant, and never moved by more than its rounding."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import sympy
from hypothesis import given, strategies as st
from sympy import E, Integer, Rational, log, oo, pi, sqrt

from flaxinit.theory import derive, z
from flaxinit.theory.functions.constants import (
    SeluAlpha,
    SeluScale,
    Whole,
    kept_whole,
    read_constant,
)
from tests.pace import at_most

pytestmark = pytest.mark.any_jax

MEANT = {
    "sqrt(2/pi)": (math.sqrt(2 / math.pi), sqrt(2 / pi)),
    "1/sqrt(2)": (math.sqrt(0.5), 1 / sqrt(2)),
    "sqrt(2)": (math.sqrt(2), sqrt(2)),
    "1/sqrt(pi)": (1 / math.sqrt(math.pi), 1 / sqrt(pi)),
    "2/sqrt(pi)": (2 / math.sqrt(math.pi), 2 / sqrt(pi)),
    "1/sqrt(2 pi)": (1 / math.sqrt(2 * math.pi), 1 / sqrt(2 * pi)),
    "log 2": (math.log(2), log(2)),
    "pi/2": (math.pi / 2, pi / 2),
    "e": (math.e, E),
    "1/3": (1 / 3, Rational(1, 3)),
    "1/6": (1 / 6, Rational(1, 6)),
    "2/3": (2 / 3, Rational(2, 3)),
    "5/12": (5 / 12, Rational(5, 12)),
    "selu scale": (1.0507009873554804934193349852946, SeluScale()),
    "selu alpha": (1.6732632423543772848170429916717, SeluAlpha()),
}


@pytest.mark.parametrize("name", MEANT)
@pytest.mark.parametrize("format_", [np.float64, np.float32])
@pytest.mark.parametrize("sign", [1, -1])
def test_constants_are_recognized(name, format_, sign):
    number, meant = MEANT[name]
    assert read_constant(format_(sign * number)) == sign * meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.044715, Rational(44715, 10**6)),
        (1.702, Rational(1702, 1000)),
        (0.01, Rational(1, 100)),
        (1e-30, Rational(1, 10**30)),
        (0.7978845608, sqrt(2 / pi)),
        (0.79788456, sqrt(2 / pi)),
        (1.4142135, Rational(14142135, 10**7)),  # not √2 = 1.41421356… rounded to seven decimals
        (3.14159, Rational(314159, 10**5)),
        (6.0, Integer(6)),
        (0.0, Integer(0)),
        (True, Integer(1)),
        (7, Integer(7)),
        (math.inf, oo),
        (-math.inf, -oo),
    ],
)
def test_other_constants_are_read_as_written(written, meant):
    assert read_constant(written) == meant


def test_other_constants_in_float32_are_read_as_written():
    for text in ("0.044715", "0.1", "0.01", "0.3", "1.702", "0.125", "0.00001"):
        assert read_constant(np.float32(text)) == Rational(text)


def test_half_precision_holds_what_it_holds():
    # In eight bits √(2/π) is 0.796875, a number without a name: JAX computes with it.
    assert read_constant(ml_dtypes.bfloat16(math.sqrt(2 / math.pi))) == Rational(796875, 10**6)


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_never_moved_by_more_than_rounding_in_float64(value):
    assert float(read_constant(value).evalf(40)) == value


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_never_moved_by_more_than_rounding_in_float32(value):
    assert np.float32(float(read_constant(np.float32(value)).evalf(40))) == np.float32(value)


@pytest.mark.parametrize("format_", [np.float64, np.float32])
def test_a_ratio_of_small_numbers_is_read_exactly(format_):
    for numerator, denominator in itertools.product(range(1, 13), repeat=2):
        ratio = Rational(numerator, denominator)
        assert read_constant(format_(numerator / denominator)) == ratio


@pytest.mark.parametrize("format_", [np.float64, np.float32])
def test_a_neighbor_is_another_number(format_):
    # Negative control: a number that is off by one unit in the last place is not √(2/π).
    value = np.nextafter(format_(math.sqrt(2 / math.pi)), format_(1))
    assert read_constant(value) == Rational(*float(value).as_integer_ratio())


def test_nan_is_refused():
    with pytest.raises(ValueError, match="nan"):
        read_constant(math.nan)


def test_a_constant_power_of_a_long_exponent_is_one_name_to_sympy():
    """As the 7071st power of a root it takes SymPy half a minute to cancel a fraction."""
    with at_most(10):
        found = derive("x*0.3**0.044715 + exp(-2**0.7071*x**2)").second_moment
    assert found.exact is not None and not found.exact.atoms(Whole)
    a, b = 0.3**0.044715, 2**0.7071
    assert found.value == pytest.approx(a**2 + (1 + 4 * b) ** -0.5, rel=1e-14)
    assert found.steps


def test_a_short_power_has_no_name():
    assert not kept_whole(sympy.sqrt(2) + sympy.exp(3) + 2 ** sympy.Rational(3, 7) * z**45)
    (power,) = kept_whole(z + sympy.Rational(2) ** sympy.Rational(1702, 1000))
    assert power == 2 ** sympy.Rational(351, 500)
