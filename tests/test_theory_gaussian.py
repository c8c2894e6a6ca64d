"""Closed forms: identities that hold for every q, and open parameters."""

import re

import pytest
import sympy
from hypothesis import given, settings, strategies as st
from sympy import (
    Abs,
    Heaviside,
    I,
    Integer,
    Max,
    Rational,
    cos,
    erf,
    exp,
    factorial2,
    oo,
    sin,
    sqrt,
)

from flaxinit.theory import NotCertifiable, derive, q, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.piecewise import split, substitute
from flaxinit.theory.moments.closed_form import expectation
from flaxinit.theory.moments.enclosure import enclose
from flaxinit.theory.moments.terms import NoClosedForm
from flaxinit.theory.reading.vocabulary import logistic
from tests.pace import at_most

pytestmark = pytest.mark.any_jax

VARIANCES = (Rational(1, 9), Rational(1), Rational(5))


def expect(expr):
    return expectation(split(expr))[0]


def is_zero(expr) -> bool:
    """Whether an expression in q vanishes: proven by SymPy, or to 40 digits at three points."""
    if sympy.simplify(expr) == 0:
        return True
    with balls.precision():
        return all(
            (ball := balls.evaluate(expr, {q: v})).contains(0) and ball.rad() < 1e-40
            for v in VARIANCES
        )


@pytest.mark.parametrize("n", range(13))
def test_powers(n):
    assert expect(z**n) == (0 if n % 2 else factorial2(n - 1) * q ** (n // 2))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=7))
@settings(max_examples=50, deadline=None)
def test_polynomials(coefficients):
    polynomial = sum((c * z**k for k, c in enumerate(coefficients)), Integer(0))
    moments = [0 if k % 2 else factorial2(k - 1) * q ** (k // 2) for k in range(7)]
    known = sum(c * m for c, m in zip(coefficients, moments, strict=False))
    assert sympy.expand(expect(polynomial) - known) == 0


# One function for each kind of term that the engine knows.
SMOOTH = {
    "polynomial": z**4 - 3 * z + 2,
    "exponential": z * exp(z / 2),
    "gaussian": z**2 * exp(-(z**2) / 3 + z),
    "sine": z * sin(2 * z),
    "cosine": z**2 * cos(z / 2),
    "error function": z * erf(z),
    "gelu squared": (z * (1 + erf(z / sqrt(2))) / 2) ** 2,
    "two error functions": erf(z) * erf(2 * z),
    "root": sqrt(1 + z**2),
    "inverse root": 1 / sqrt(2 + z**2),
    "inverse": 1 / (1 + z**2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_stein(name):
    """E[z f(z)] = q E[f'(z)] (Stein, 1981)."""
    f = SMOOTH[name]
    assert is_zero(expect(z * f) - q * expect(sympy.diff(f, z)))


@pytest.mark.parametrize("name", SMOOTH)
def test_price(name):
    """d/dq E[f(z)] = E[f''(z)] / 2 (Price, 1958)."""
    f = SMOOTH[name]
    assert is_zero(sympy.diff(expect(f), q) - expect(sympy.diff(f, z, 2)) / 2)


def test_a_wrong_identity_is_told_apart():
    f = SMOOTH["two error functions"]
    assert not is_zero(sympy.diff(expect(f), q) - expect(sympy.diff(f, z, 2)) / 3)


@pytest.mark.parametrize("name", SMOOTH)
def test_closed_form_against_rigorous_integration(name):
    f = SMOOTH[name]
    found = expect(f)
    for variance in VARIANCES:
        with balls.precision():
            assert balls.evaluate(found, {q: variance}).overlaps(enclose(split(f), variance))


# Growing Gaussians e^{az²}, a > 0: finite up to q = 1/(2a), with roots of 1 − 2aq in every form.
GROWING = {
    "erfc": exp(z**2 / 8 - Abs(z)),
    "half-line": Heaviside(z) * exp(z**2 / 8 + z),
    "interval": Max(z, 1) * exp(z**2 / 16),
    "bessel": exp(z**2 / 8) / sqrt(1 + z**2),
    "inverse": exp(z**2 / 8) / (1 + z**2),
    "goodwin-staton": exp(z**2 / 8) / (1 + Abs(z)),
    "exponential integral": exp(z**2 / 8) * Max(z, 0) / (2 + z**2) ** 2,
    "arctangent": exp(z**2 / 8) * Abs(z) * erf(Abs(z)),
    "arcsine": exp(z**2 / 8) * erf(z) * erf(2 * z),
    "gamma": exp(z**2 / 8) * sqrt(Abs(z)),
}


@pytest.mark.parametrize("variance", [Rational(1, 9), 1, Rational(7, 2)])
@pytest.mark.parametrize("name", GROWING)
def test_a_growing_gaussian_takes_the_positive_root(name, variance):
    found = expect(GROWING[name])
    assert not found.has(I)
    with balls.precision():
        exact = balls.evaluate(found, {q: variance})
        assert exact.overlaps(enclose(split(GROWING[name]), variance)) and exact.rad() < 1e-25


def test_the_parts_of_the_line_add_up():
    f = z**3 * exp(-z) + z * sin(z)
    at = Rational(3, 10)
    left = expect(sympy.Piecewise((f.subs(sin(z), 0), z < at), (0, True)))
    right = expect(sympy.Piecewise((f.subs(sin(z), 0), z >= at), (0, True)))
    assert is_zero(left + right - expect(f.subs(sin(z), 0)))


PARAMETRIC = {
    "prelu": "where(x > 0, x, a * x)",
    "elu": "where(x > 0, x, a * (exp(x) - 1))",
    "celu": "max(x, 0) + min(a * (exp(x / a) - 1), 0)",
    "sine": "sin(a * x)",
    "snake": "x + sin(a * x)**2 / a",
    "growing cosine": "x * cos(a * x)",
    "exponential": "exp(a * x)",
    "gaussian": "exp(-a * x**2)",
    "error function": "erf(a * x)",
    "probit": "normal_cdf(a * x)",
    "gelu": "x * normal_cdf(a * x)",
    "clip": "max(min(x, a), -a)",
    "two-sided clip": "max(min(x, a), -b)",
    "soft threshold": "sign(x) * max(abs(x) - a, 0)",
    "hard threshold": "where(abs(x) > a, x, 0)",
    "shifted relu": "max(x - a, 0)",
    "isru": "x / sqrt(1 + a * x**2)",
    "isrlu": "where(x > 0, x, x / sqrt(1 + a * x**2))",
    "squareplus": "(x + sqrt(x**2 + a)) / 2",
    "softsign": "x / (a + abs(x))",
}
VALUES = ({"a": Rational(2, 3), "b": Rational(1, 5)}, {"a": Rational(7, 3), "b": Integer(2)})


@pytest.mark.parametrize("name", PARAMETRIC)
def test_parameters_may_stay_open(name):
    derivation = derive(PARAMETRIC[name])
    moments = (
        derivation.mean,
        derivation.second_moment,
        derivation.derivative_second_moment,
    )
    assert [m.method for m in moments] == ["closed form"] * 3
    for moment in moments:
        for values in VALUES:
            swap = {s: values[s.name] for s in moment.parameters}
            for variance in VARIANCES:
                with balls.precision():
                    exact = balls.evaluate(moment.exact.subs(swap), {q: variance})
                if moment.exact != 0:
                    assert exact.overlaps(enclose(substitute(moment.pieces, swap), variance))


def test_a_parameter_that_may_make_it_infinite_asks_for_a_number():
    for text in ("where(x > 0, x * exp(a * x**2), 0)", "exp(a * x**2)"):
        with pytest.raises(NotCertifiable, match="Give a number to the parameter a"):
            derive(text)
    growing = derive("max(x, 0) * exp(a * x**2 / 16)")
    assert growing.subs(a=3).gain == derive("max(x, 0) * exp(3 * x**2 / 16)").gain


@pytest.mark.parametrize("name", PARAMETRIC)
def test_a_number_may_be_put_in_later(name):
    names = [s.name for s in derive(PARAMETRIC[name]).second_moment.parameters]
    later = derive(PARAMETRIC[name]).subs(**dict.fromkeys(names, 0.25))
    at_once = re.sub(r"\b[ab]\b", "0.25", PARAMETRIC[name])
    assert later.gain == pytest.approx(derive(at_once).gain, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("relu", q / 2),
        ("gaussian", 1 / sqrt(1 + 4 * q)),
        ("abs", q),
        ("cos", (1 + exp(-2 * q)) / 2),
    ],
)
def test_a_closed_form_has_the_shape_that_a_paper_prints(name, shape):
    assert sympy.simplify(derive(name).second_moment.exact - shape) == 0
    assert sympy.count_ops(derive(name).second_moment.exact) <= sympy.count_ops(shape) + 3


def test_the_closed_form_of_gelu_is_recognizable_and_short():
    at_one = derive("gelu").second_moment.exact.subs(q, 1)
    assert at_one == Rational(1, 3) + 1 / (2 * sqrt(3) * sympy.pi)
    assert sympy.count_ops(derive("gelu").second_moment.exact) < 25


@pytest.mark.parametrize(
    "expr", [sympy.tanh(z), erf(z) * sin(z), exp(-(z**4)), sympy.log(1 + z**2)]
)
def test_an_unknown_kind_of_function_is_left_to_the_enclosure(expr):
    with pytest.raises(NoClosedForm):
        expectation(split(expr**2))


def test_no_time_means_no_closed_form():
    with pytest.raises(NoClosedForm, match="budget"):
        expectation(split(z**2 * erf(z) ** 2), budget=0)


def test_a_nested_function_is_given_up_quickly():
    nested = z
    for _ in range(4):
        nested = nested * logistic(nested)
    function = sympy.diff(nested, z) ** 2
    # Multiplied out, it takes minutes.
    with at_most(5), pytest.raises(NoClosedForm, match="not a function of a polynomial"):
        expectation(split(function), budget=1)


def test_every_step_has_a_reason():
    gelu = derive("gelu").second_moment
    reasons = " ".join(step.reason for step in gelu.steps)
    assert all(word in reasons for word in ("Stein", "Williams", "Add"))
    assert gelu.steps[-1].result == gelu.exact


def test_an_infinite_end_adds_no_boundary_term():
    assert expect(sympy.Heaviside(z) * z) == sqrt(q) / sqrt(2 * sympy.pi)
    assert expect(sympy.Max(z, 0) ** 2 + sympy.Max(-z, 0) ** 2) == q
    assert oo not in sympy.preorder_traversal(expect(sympy.Max(z, 1)))
