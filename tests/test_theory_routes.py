"""Three routes to one number: closed form, rigorous integration, samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from sympy import Rational
from test_theory_catalogue import CLOSED

from benchmarks.activations import definition
from benchmarks.bounds import z_score
from flaxinit.theory import CATALOGUE, derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.piecewise import Piece, split
from flaxinit.theory.moments.enclosure import enclose
from flaxinit.theory.moments.moment import Moment, moment
from flaxinit.versions.compat import enable_x64

MOMENTS = ("mean", "second_moment", "derivative_second_moment")
VARIANCES = (Rational(1, 7), Rational(1), Rational(9, 4), Rational(11))
SAMPLES = 2**20
Z = z_score(len(MOMENTS) * len(CATALOGUE))


def closed(derivation):
    return [m for m in (getattr(derivation, name) for name in MOMENTS) if m.exact is not None]


def test_every_closed_form_is_found():
    every = {name: len(closed(derive(name))) for name in CATALOGUE}
    assert {name for name, count in every.items() if count == len(MOMENTS)} == set(CLOSED)
    # The others are zero by symmetry, or rational as arctan's derivative is.
    some = {"tanh": 1, "sigmoid": 1, "tanhshrink": 1, "arctan": 2}
    assert {name: every[name] for name in some} == some


@pytest.mark.parametrize("name", CATALOGUE)
def test_closed_form_lies_in_the_enclosure(name):
    for found in closed(derive(name)):
        for variance in VARIANCES:
            exact, integral = found.ball(variance), enclose(found.pieces, variance)
            assert exact.overlaps(integral), (found.symbol, variance)
            for ball in (exact, integral):  # so that meeting means something
                assert ball.rad() < abs(integral.mid()) * 1e-25 + 1e-30, (found.symbol, variance)


@pytest.mark.parametrize("variance", VARIANCES)
def test_a_wrong_closed_form_is_caught(variance):
    right = derive("gelu").second_moment
    wrong = Moment(right.symbol, right.pieces, right.exact * (1 + Rational(1, 10**20)), None)
    assert not wrong.ball(variance).overlaps(enclose(right.pieces, variance))


def test_a_moment_whose_routes_part_is_never_returned(monkeypatch):
    half_too_much = lambda pieces, budget: (sympy.Rational(3, 2), ())
    monkeypatch.setattr("flaxinit.theory.moments.moment.expectation", half_too_much)
    with pytest.raises(AssertionError, match="closed form 3/2"):
        moment("E", split(z**2))


def fourth_power(found: Moment) -> float:
    """E f² of the averaged f, certified; f itself is the square of φ or φ'."""
    squares = tuple(Piece(p.low, p.high, p.expr**2) for p in found.pieces)
    return float(enclose(squares).mid())


def values_and_slopes(function):
    with enable_x64(True):
        points = jax.random.normal(jax.random.key(20), (SAMPLES,), jnp.float64)

        def both(x):
            value, pullback = jax.vjp(function, x)
            return value, pullback(jnp.ones_like(value))[0]

        return map(np.asarray, jax.jit(both)(points))


def errors(derivation, function) -> dict[str, float]:
    """Distance of each sampled moment from the derived one, in standard errors."""
    value, slope = values_and_slopes(function)
    sampled = dict(zip(MOMENTS, (value, value**2, slope**2), strict=True))
    found = {}
    for name in MOMENTS:
        derived = getattr(derivation, name)
        spread = fourth_power(derived) - derived.value**2
        # A constant square (sign, abs) has no spread, so one rounding of the mean is allowed.
        error = max(np.sqrt(max(spread, 0) / SAMPLES), np.finfo(np.float64).eps)
        found[name] = abs(sampled[name].mean() - derived.value) / error
    return found


@pytest.mark.parametrize("name", CATALOGUE)
def test_samples_have_the_derived_moments(name):
    worst = errors(derive(name), definition(name))
    assert max(worst.values()) < Z, worst


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_samples_of_a_function_two_percent_off_are_caught(name):
    function = definition(name)
    worst = errors(derive(name), lambda x: 1.01 * function(x))
    assert worst["second_moment"] > Z and worst["derivative_second_moment"] > Z


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_second_moment_is_at_least_the_square_of_the_mean(name):
    derivation = derive(name)
    with balls.precision():
        gap = derivation.second_moment.ball(1) - derivation.mean.ball(1) ** 2
        assert not gap < 0
