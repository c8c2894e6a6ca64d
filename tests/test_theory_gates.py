"""Gates of two inputs: some factorize, some after a rotation, the rest is enclosed in the plane."""

import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from jax import nn
from rich.console import Console
from sympy import Max, Rational, exp, sqrt

from flaxinit import catalogue
from flaxinit.theory import NotCertifiable, derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.separable import separated
from flaxinit.theory.functions.symbols import gate, q
from flaxinit.theory.moments.plane import enclose_plane


def highway(u, v):
    return nn.sigmoid(u) * jnp.tanh(v) + (1 - nn.sigmoid(u)) * v


# E[f²] as an expression in q.
EXACT = {
    "maximum": (jnp.maximum, q),
    "minimum": (lambda u, v: jnp.minimum(u, v), q),
    "squared maximum": (lambda u, v: jnp.maximum(u, v) ** 2, 3 * q**2),
    "largest size": (lambda u, v: jnp.maximum(jnp.abs(u), jnp.abs(v)), q + 2 * q / sympy.pi),
    "distance": (lambda u, v: jnp.abs(u - v), 2 * q),
    "reglu": (lambda u, v: nn.relu(u) * v, q**2 / 2),
    "relu of a sum": (lambda u, v: nn.relu(u - 2 * v), 5 * q / 2),
    "choice": (lambda u, v: jnp.where(u > v, u, 0.0), q / 2),
    "both": (lambda u, v: jnp.where((u > 0) & (v > 0), u * v, 0.0), q**2 / 4),
    "either": (lambda u, v: jnp.where(u > 0, v, u * v), q * (1 + q) / 2),
    "radial": (lambda u, v: jnp.exp(-((u - v) ** 2)), 1 / sqrt(1 + 8 * q)),
    "cosine": (lambda u, v: jnp.cos(u + v), (1 + exp(-4 * q)) / 2),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_gate_in_closed_form(name):
    function, exact = EXACT[name]
    moment = derive(function).second_moment
    with balls.precision():
        for variance in (Rational(1, 3), Rational(1), Rational(5)):
            gap = balls.evaluate(moment.exact - exact, {q: variance})
            assert gap.contains(0) and gap.rad() < 1e-40
            assert moment.ball(variance).overlaps(balls.evaluate(exact, {q: variance}))


def test_the_maximum_keeps_the_variance_exactly():
    """max(u, v) has E[f²] = q, and one of its slopes is 1; its mean is √(q/π)."""
    gained = derive(jnp.maximum)
    assert gained.gain == gained.backward_gain == 1
    assert sympy.simplify(gained.mean.exact - sqrt(q / sympy.pi)) == 0


GATES = {
    "highway": highway,
    "carry": lambda u, v: nn.sigmoid(u) * v + (1 - nn.sigmoid(u)) * u,
    "swiglu": lambda u, v: nn.silu(u) * v,
    "logaddexp": jnp.logaddexp,
    "softmax": lambda u, v: u * jnp.exp(u) / (jnp.exp(u) + jnp.exp(v)),
    "tanh of a sum": lambda u, v: jnp.tanh(u + v),
    "residual": lambda u, v: u + v * nn.gelu(u),
    "mixed": lambda u, v: nn.sigmoid(u + v) * v,
    "maximum": jnp.maximum,
}


def gauss_hermite(function, order=200):
    """E[f], E[f²] in floating point."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    weights = weights / weights.sum()
    u, v = np.meshgrid(nodes, nodes)
    values = np.asarray(function(u, v), float)
    return [float(weights @ power @ weights) for power in (values, values**2)]


@pytest.mark.parametrize("name", GATES)
def test_a_gate_agrees_with_another_quadrature(name):
    gained = derive(GATES[name])
    with np.errstate(all="ignore"), jax.enable_x64(True):
        mean, second = gauss_hermite(GATES[name])
    # The Gauss–Hermite rule errs only at the kink of the maximum and by the poles of the logistic.
    tolerance = 1e-2 if name == "maximum" else 1e-6
    assert gained.mean.value == pytest.approx(mean, abs=tolerance)
    assert gained.second_moment.value == pytest.approx(second, abs=tolerance)


def test_the_gradient_reaches_the_input_through_both():
    """E[f_u² + f_v²] of σ(u)v + (1 − σ(u))u, by hand: f_v = σ and f_u = 1 − σ + σ'(v − u)."""
    s = 1 / (1 + exp(-z))
    with mpmath.workdps(30):

        def mean(expr):
            f = sympy.lambdify(z, expr, modules="mpmath")
            return mpmath.quad(lambda x: f(x) * mpmath.npdf(x), mpmath.linspace(-14, 14, 15))

        slope = sympy.diff(s, z)
        first = (1 - s - z * slope) ** 2 + slope**2  # E over v ~ N(0, 1)
        known = mean(s**2) + mean(first)
    found = derive(GATES["carry"]).derivative_second_moment
    assert abs(found.bounds[0] - known) < 1e-20


SEPARABLE = [
    *(Max(z, gate), sympy.Min(z, 2 * gate + 1), sympy.Abs(z + gate) * z, sympy.tanh(z - 3 * gate)),
    *(sympy.log(exp(z) + exp(gate)), exp(z) / (exp(z) + exp(gate)), z * gate + sympy.sin(z)),
    sympy.Piecewise((z, (z > 0) | (gate > 1)), (gate, True)),
]


@pytest.mark.parametrize("expr", SEPARABLE, ids=str)
def test_a_sum_of_products_is_the_function_in_turned_variables(expr):
    """Both have the same law: compared where the rotation is that by 0 or 45 degrees, or any."""
    found = separated(expr)
    assert found is not None
    turns = [(1, 0), (1, 1), (1, -1), (-1, 1), (1, -2), (-2, 1), (1, -3), (-1, 3)]
    points = [(Rational(1, 3), Rational(-2, 7)), (Rational(-5, 4), Rational(1, 2)), (2, 3)]

    def agrees(a, b) -> bool:
        length = sympy.sqrt(a**2 + b**2)
        for u, v in points:
            s, t = (a * u + b * v) / length, (b * u - a * v) / length
            s, t = (u, v) if b == 0 else (s, t)
            total = sum(left.subs(z, s) * right.subs(gate, t) for left, right in found.pairs)
            if abs(sympy.N(total - expr.subs({z: u, gate: v}), 30)) > 1e-20:
                return False
        return True

    assert any(agrees(a, b) for a, b in turns)


@pytest.mark.slow
def test_what_does_not_separate_is_enclosed_in_the_plane():
    """E tanh²(uv): about a million evaluations. For w = uv the density is K₀(|w|)/π."""
    low, high = balls.bounds(enclose_plane(sympy.tanh(z * gate) ** 2))
    with mpmath.workdps(25):
        known = mpmath.quad(
            lambda w: 2 / mpmath.pi * mpmath.tanh(w) ** 2 * mpmath.besselk(0, w),
            [0, 1e-3, 0.1, 1, 4, 10, 30, 100],
        )
        assert abs(low - known) < 1e-18 and high - low < 1e-30 * high


def test_a_product_in_the_plane_is_that_of_its_factors():
    ball = enclose_plane(sympy.cos(z) * sympy.cos(gate) ** 2, Rational(1, 2))
    with balls.precision():
        known = balls.evaluate(exp(-Rational(1, 4)) * (1 + exp(-1)) / 2)
        assert ball.overlaps(known)


@pytest.mark.parametrize(
    "gated",
    [
        lambda u, v: nn.softplus(u) - nn.softplus(v),
        lambda u, v: nn.softplus(u) * nn.sigmoid(v) - nn.softplus(v) * nn.sigmoid(u),
    ],
)
def test_an_odd_gate_has_mean_0(gated):
    found = derive(gated)
    assert found.mean.exact == 0 and found.mean.bounds == (0, 0) and found.gain > 0


def test_what_the_plane_does_not_cover_is_refused():
    with pytest.raises(NotCertifiable, match="kinks"):
        derive(lambda u, v: nn.relu(jnp.maximum(u, v)))
    with pytest.raises(NotCertifiable, match="growth"):
        derive(lambda u, v: jnp.exp(u * v / 100) * jnp.tanh(u * v))


def test_a_gate_that_is_not_a_function_of_two_arrays_says_what_to_pass():
    halves = (jax.nn.glu, lambda x: x[::2] * x[1::2], lambda x: x[: x.size // 2])
    for function in halves:
        with pytest.raises(ValueError, match=r"half as many.*lambda u, v: u \* jax\.nn\.sigmoid"):
            derive(function)
    for name, written in catalogue.GATES.items():
        with pytest.raises(ValueError, match=f"lambda u, v: {re.escape(written)}"):
            derive(name)
        with pytest.raises(ValueError, match=f"lambda u, v: {re.escape(written)}"):
            derive(f"x + {name}(x)")
        assert derive(eval(f"lambda u, v: {written}", {"jax": jax})).gain > 0


def test_a_gate_has_one_naming_of_its_variables():
    found = derive(lambda u, v: nn.relu(u) * v)
    report, display = found.markdown(), found.latex()
    shown = console_text(found)
    for text in (report, display):
        assert r"f(u, v)" in text and r"v \max\left(0, u\right)" in text
        assert r"\varphi" not in text and r"\mathbb{E}[f_u^2 + f_v^2]" in text
    assert all(f"\n{row} " in shown for row in ("f(u, v)", "E[f]", "E[f²]", "E[f_u² + f_v²]"))
    assert "φ(z)" in console_text(derive("gelu"))


def console_text(derivation) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(derivation)
    return captured.get()
