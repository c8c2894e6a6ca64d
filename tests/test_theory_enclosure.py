"""Certified balls contain the integral, at any variance; infinite moments are proven infinite."""

import math

import mpmath
import numpy as np
import pytest
import sympy
from flint import acb, arb
from scipy import integrate, stats
from sympy import Integer, Rational, Symbol, atan, cosh, erf, exp, log, sqrt, tanh

from flaxinit.theory import CATALOGUE, Diverges, NotCertifiable, derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import steady
from flaxinit.theory.functions.balls import DIGITS, LEAST_BITS
from flaxinit.theory.functions.growth import Tail
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.functions.singularities import continued
from flaxinit.theory.moments.enclosure import enclose

pytestmark = pytest.mark.any_jax

# Smooth functions, whose integrals mpmath's quadrature gives to 40 digits.
INTEGRALS = {
    "tanh squared": (tanh(z) ** 2, lambda x: mpmath.tanh(x) ** 2),
    "log cosh": (log(cosh(z)), lambda x: mpmath.log(mpmath.cosh(x))),
    "arctan squared": (atan(z) ** 2, lambda x: mpmath.atan(x) ** 2),
    "gudermannian": (sympy.asin(tanh(z)) ** 2, lambda x: mpmath.asin(mpmath.tanh(x)) ** 2),
    "arc cosine": (sympy.acos(tanh(z)), lambda x: mpmath.acos(mpmath.tanh(x))),
    "area cosine": (sympy.acosh(2 + z**2), lambda x: mpmath.acosh(2 + x * x)),
    "area tangent": (
        sympy.atanh(tanh(z) / 2) ** 2,
        lambda x: mpmath.atanh(mpmath.tanh(x) / 2) ** 2,
    ),
    "rational": (1 / (1 + z**4), lambda x: 1 / (1 + x**4)),
    "exponential of sine": (exp(sympy.sin(z)), lambda x: mpmath.exp(mpmath.sin(x))),
}


def test_thirty_digits_of_the_normal_integral():
    for power, moment in ((0, 1), (2, 1), (4, 3), (6, 15), (20, sympy.factorial2(19))):
        ball = enclose(split(z**power))
        assert ball.contains(int(moment)) and ball.rad() < arb(10) ** -DIGITS * int(moment)


@pytest.mark.parametrize("name", INTEGRALS)
def test_another_quadrature_agrees_to_thirty_digits(name):
    expr, function = INTEGRALS[name]
    with mpmath.workdps(45):
        points = [mpmath.mpf(k) for k in range(-16, 17)]
        known = mpmath.quad(lambda x: function(x) * mpmath.npdf(x), points)
        low, high = balls.bounds(enclose(split(expr)))
        # mpmath's own error is far smaller, and less than 1e-56 · 16⁴ lies beyond 16 deviations.
        assert low - mpmath.mpf(10) ** -40 <= known <= high + mpmath.mpf(10) ** -40


@pytest.mark.parametrize("name", CATALOGUE)
def test_quadpack_agrees(name):
    moment = derive(name).second_moment
    total, error = 0.0, 0.0
    for piece in moment.pieces:
        f = sympy.lambdify(z, piece.expr, modules=["scipy", "numpy"])
        low, high = max(float(piece.low), -38.0), min(float(piece.high), 38.0)
        for left, right in ((low, min(0.0, high)), (max(0.0, low), high)):
            if left < right:
                part = integrate.quad(
                    lambda x, f=f: f(x) * stats.norm.pdf(x), left, right, epsabs=0, limit=500
                )
                total, error = total + part[0], error + part[1]
    assert abs(moment.value - total) <= error + 1e-15 * total


WIDE = ("tanh", "silu", "softplus", "mish", "log_cosh", "gelu_tanh", "asinh(x)", "x * atan(x)")


@pytest.mark.parametrize("variance", [Rational(1, 10**12), Rational(1, 100), 1, 50, 10**4])
@pytest.mark.parametrize("name", WIDE)
def test_thirty_digits_at_any_variance(name, variance):
    ball = derive(name).second_moment.ball(variance)
    assert ball.rad() < ball.mid() * arb(10) ** -DIGITS


@pytest.mark.parametrize("variance", [1, 4, 100])
@pytest.mark.parametrize("sharpness", [20, 50, 1000])
def test_a_sharp_softplus_is_a_softplus_of_a_wider_normal(sharpness, variance):
    k = sharpness
    sharp, softplus = derive(f"softplus({k} * x) / {k}"), derive("softplus")
    for moment, factor in (("second_moment", k**2), ("derivative_second_moment", 1)):
        ball = getattr(sharp, moment).ball(variance)
        wider = getattr(softplus, moment).ball(k**2 * variance)
        assert (factor * ball).overlaps(wider) and ball.rad() < ball.mid() * arb(10) ** -DIGITS


STEADY = [
    log(1 + exp(50 * z)),
    log(cosh(3 * z) + 1),
    exp(100 * z) / (exp(50 * z) + 1) ** 2,
    sympy.sinh(7 * z) ** 2 / cosh(7 * z) ** 2,
    sqrt(exp(z) + exp(-2 * z)) * tanh(log(1 + exp(z))),
    (z * exp(2 * z + 1) - 3) / (z**2 + exp(z / 3)),
    cosh(z**2) / (2 + sympy.sin(z)),
    exp(-2 * z**3 - 2 * z) / (1 + exp(-(z**3) - z)) ** 4,
    log(1 + exp(sympy.sinh(z)) + exp(z * log(1 + exp(z)) + 1)),
    1 - tanh(exp(-z)) ** 2,
]


@pytest.mark.parametrize("expr", STEADY, ids=str)
def test_a_steady_form_is_the_same_function(expr):
    with balls.precision(400):
        for side in (-1, 1):
            form = steady(expr, side)
            for at in (Rational(1, 3), Rational(-2, 7), Integer(2)):  # on either side
                left, right = balls.evaluate(expr.subs(z, at)), balls.evaluate(form.subs(z, at))
                assert left.overlaps(right) and right.rad() < 1e-80


# φ² = c² zᵏ + …, so that E[φ(√q z)²] → c² (k − 1)!! q^{k/2} as q → 0: catalogue name, c and k.
NEAR_ZERO = {
    "linear": (1, 2),
    "tanh": (1, 2),
    "sin": (1, 2),
    "arctan": (1, 2),
    "erf": (2 / np.sqrt(np.pi), 2),
    "softsign": (1, 2),
    "isru": (1, 2),
    "x_gaussian": (1, 2),
    "x_cos": (1, 2),
    "silu": (1 / 2, 2),
    "gelu": (1 / 2, 2),
    "square": (1, 4),
    "lisht": (1, 4),
    "log_cosh": (1 / 2, 4),
    "tanhshrink": (1 / 3, 6),
}


@pytest.mark.parametrize("name", NEAR_ZERO)
def test_a_small_signal_follows_the_leading_power(name):
    constant, k = NEAR_ZERO[name]
    q = 1e-30
    leading = constant**2 * int(sympy.factorial2(k - 1)) * q ** (k / 2)
    # The next term is smaller by a factor of order √q = 1e-15.
    assert derive(name).second_moment.at(q) == pytest.approx(leading, rel=1e-13)


NO_VARIANCE = (0, -1, float("nan"), float("inf"), -float("inf"), 1j, "1", None)


@pytest.mark.parametrize("bad", NO_VARIANCE)
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_a_variance_is_positive_and_finite(name, bad):
    with pytest.raises((ValueError, TypeError), match="variance"):
        derive(name).second_moment.at(bad)


INFINITE = {
    "exp(x**2)": "grows faster than the normal density",
    "exp(x**2 / 4)": "grows faster than the normal density",
    "x * exp(x**2 / 2)": "grows faster than the normal density",
    "exp(x**3)": "grows faster than the normal density",
    "exp(x**4)": "grows faster than the normal density",
    "tanh(x) * exp(x**2)": "grows faster than the normal density",
    "where(x < 3, 0, exp(x**2))": "grows faster than the normal density",
    "1 / x": "pole",
    "1 / (x**2 - 2)": "pole",
    "x / (x - 1)**2": "pole",
}


@pytest.mark.parametrize("text", INFINITE)
def test_what_is_infinite_is_proven_so(text):
    with pytest.raises(Diverges, match=INFINITE[text]):
        derive(text)


ln2, third = log(2), Rational(1, 3)
# Functions that are not defined, or not analytic, at one point. Their integrals exist.
SINGULAR = {
    "sinc": (sympy.sin(z) / z, 0),
    "slope of sinc": (sympy.diff(sympy.sin(z) / z, z) ** 2, 0),
    "sinc elsewhere": (sympy.sin(z - third) / (z - third), third),
    "two points": (sympy.sin(sympy.pi * z) / (z * (1 - z)), [0, 1]),
    "of either kind": (sympy.sin(z) / z * log(sympy.Abs(z - third)), [0, third]),
    "at no binary fraction": ((exp(z) - 2) / (z - ln2), ln2),
    "bernoulli": (z / (exp(z) - 1), 0),
    "over tanh": (sympy.diff(z / tanh(z), z) ** 2, 0),
    "langevin": (sympy.diff(1 / tanh(z) - 1 / z, z) ** 2, 0),
    "entropy": (z**2 * log(sympy.Abs(z)) ** 2, 0),
    "logarithm elsewhere": (log(sympy.Abs(z - third)), third),
    "flat": (sympy.diff(exp(-1 / z**2), z) ** 2, 0),
    "power": (sympy.Abs(z) ** Rational(13, 10) / (1 + sympy.Abs(z) ** Rational(13, 10)), 0),
    "inverse power": (sympy.Abs(z) ** Rational(-3, 10) * tanh(z) ** 2, 0),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_point_whose_integral_exists(name):
    expr, point = SINGULAR[name]
    with mpmath.workdps(60):  # the quotients cancel beside the point
        f = sympy.lambdify(z, expr, modules="mpmath")
        singular = [mpmath.mpf(sympy.N(p, 60)) for p in np.ravel(point)]
        points = sorted({-16, -8, -4, -2, -1, *singular, 1, 2, 4, 8, 16})
        known = mpmath.quad(lambda x: f(x) * mpmath.npdf(x), points, maxdegree=9)
        low, high = balls.bounds(enclose(split(expr)))
        # mpmath's tanh-sinh rule halves its digits at a singular end; 25 of 60 are left.
        assert abs(known - low) < mpmath.mpf(10) ** -25 and high - low < mpmath.mpf(10) ** -30


def test_singular_integrals_that_are_known():
    """E log²|z| = π²/8 + (γ + log 2)²/4; E e^{−2/z²} = e^{−2}; E |z|^p by the Gamma function."""
    with mpmath.workdps(50):
        gamma = (mpmath.euler + mpmath.log(2)) / 2
        power = mpmath.mpf(2) ** (mpmath.mpf(3) / 20) * mpmath.gamma(mpmath.mpf(13) / 20)
        known = {
            log(sympy.Abs(z)) ** 2: mpmath.pi**2 / 8 + gamma**2,
            exp(-2 / z**2): mpmath.exp(-2),
            sympy.Abs(z) ** Rational(3, 10): power / mpmath.sqrt(mpmath.pi),
        }
        for expr, value in known.items():
            low, high = balls.bounds(enclose(split(expr)))
            assert low <= value <= high


@pytest.mark.parametrize("variance", [Rational(1, 10**12), 50, 10**4])
def test_singular_integrals_at_any_variance(variance):
    """Of log|z| and |z|^p the dependence on q is known, and sinc's is that of its frequency."""
    deviation = sqrt(sympy.sympify(variance))
    scaled = {
        log(sympy.Abs(z)): log(sympy.Abs(z)) + log(deviation),
        sympy.Abs(z) ** Rational(3, 10): sympy.Abs(z) ** Rational(3, 10)
        * deviation ** Rational(3, 10),
        sympy.sin(z) / z: sympy.sin(deviation * z) / (deviation * z),
    }
    for expr, same in scaled.items():
        ball = enclose(split(expr), variance)
        assert ball.overlaps(enclose(split(same))) and ball.rad() < abs(ball) * arb(10) ** -DIGITS


@pytest.mark.parametrize("radius", ["0", "1e-60", "1e-5", "0.1"])
@pytest.mark.parametrize("name", ["sinc elsewhere", "at no binary fraction", "over tanh"])
def test_a_continued_quotient_encloses_its_values(name, radius):
    expr, point = SINGULAR[name]
    found = continued(expr, point)
    assert found is not None
    with balls.precision():
        ball = balls.evaluate(sympy.sympify(point)) + arb(0, radius)
        whole = balls.Program(found, (z,))(acb(ball))
        assert whole.is_finite() or radius == "0.1"
        for step in (-1, -0.5, 0.25, 1):
            if radius != "0":
                at = Rational(step) * sympy.sympify(radius, rational=True)
                assert whole.real.overlaps(balls.evaluate(expr.subs(z, point + at)))


def test_an_infinite_gradient_is_proven_so():
    slopes = derive("sqrt(abs(x))").derivative_second_moment
    assert slopes.value == math.inf and "pole" in slopes.remark


@pytest.mark.parametrize("text", ["exp(x**2 / 8)", "exp(x**2 / 8) * (1 - erf(x))"])
def test_a_moment_that_diverges_at_a_larger_variance(text):
    moment = derive(text).second_moment
    assert moment.at(1.9) > moment.at(1.0)
    for variance in (2, 2.5, 3, 100):
        with pytest.raises(Diverges):
            moment.at(variance)


def test_a_gaussian_exactly_at_the_boundary_leaves_the_other_factor_to_decide():
    # E[(e^{z²/4} sech z)²] = ∫ sech² / √(2π) = 2/√(2π)
    low, high = derive("exp(x**2 / 4) / cosh(x)").second_moment.bounds
    with mpmath.workdps(45):
        assert low <= mpmath.sqrt(2 / mpmath.pi) <= high


@pytest.mark.parametrize("text", ["tan(x)", "1 / sin(x)", "sin(exp(x))"])
def test_a_moment_without_a_proof_is_an_error(text):
    with pytest.raises(ValueError, match=r"certif|bound|singular|infinite"):
        derive(text)


def test_a_wide_ball_around_zero_is_not_zero():
    # Few evaluations only prove that E[sin eˣ] lies in a wide ball around 0.
    with pytest.raises(NotCertifiable, match=r"settle|only"):
        enclose(split(sympy.sin(exp(z)) ** 2))
    zero = enclose(split(sympy.sin(z)))
    assert zero.contains(0) and zero.mid() == 0 and zero.rad() < arb(2) ** -LEAST_BITS


@pytest.mark.parametrize("power", [-30, -97, -150, -200])
def test_a_tiny_square_is_not_zero(power):
    """u²(1 − 2u²/3) ≤ tanh²u ≤ u², so E[tanh²(az)] is a² to one part in 2a²."""
    a = 2 * Rational(10) ** power
    ball = enclose(split(tanh(a * z) ** 2))
    with balls.precision():
        known = balls.to_ball(a) ** 2
        assert ball.overlaps(known * (1 - arb(0, 2) * known))
        assert ball.rad() < ball.mid() * arb(10) ** -DIGITS


@pytest.mark.parametrize("variance", [1e-300, 1e-100])
def test_a_tiny_variance_leaves_all_digits(variance):
    assert derive("tanh").second_moment.at(variance) == variance
    assert derive("silu").second_moment.at(variance) == pytest.approx(variance / 4, rel=1e-15)
    assert derive("square").second_moment.at(1e-300) == 0.0  # 3e-600, to a float


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("tanh(2e-97*x)", 4e-194),
        ("1e-90*1e-60*sin(x)", 1e-300 * (1 - math.exp(-2)) / 2),
        ("log1p(1e-90*relu(x))", 5e-181),
    ],
)
def test_a_tiny_moment_has_its_digits(text, value):
    moment = derive(text).second_moment
    low, high = moment.bounds
    assert low <= moment.value <= high or moment.value == float(low) == float(high)
    assert moment.value == pytest.approx(value, rel=1e-15)


TOO_SMALL = ["tanh(2e-97*x)*1e-60", "x*1e-80*1e-79", "sin(2e-97*x)**2", "tanh(1e-90*1e-90*x)"]


@pytest.mark.parametrize("text", TOO_SMALL)
def test_a_moment_below_the_floats_is_said_to_be(text):
    """1/E[φ²] would be infinite, or short of digits, from the subnormal floats on."""
    with pytest.raises(ValueError, match=r"range of a float.*Rescale"):
        derive(text)


def test_a_kink_does_not_cost_digits():
    third = Rational(1, 3)
    ball = enclose(split(sympy.Abs(z - third)))
    exact = third * erf(third / sqrt(2)) + sqrt(2 / sympy.pi) * exp(-(third**2) / 2)
    with balls.precision():
        assert ball.overlaps(balls.evaluate(exact)) and ball.rad() < arb(10) ** -DIGITS


# Points of the tail at which a growth is tried.
GROWTHS = [
    z**3 - 5 * z + 1,
    exp(2 * z - 1),
    exp(-(z**2) / 7 + z),
    exp(z**2 / 9 + z) * z,
    tanh(z) * z**2,
    log(1 + exp(z)),
    log(1 + z**2),
    z / (1 + z**2),
    z * erf(log(1 + exp(z))),
    sqrt(1 + z**4),
    1 / (1 + exp(-z)),
    cosh(z) * sympy.asinh(z),
    exp(tanh(z)),
    exp(-(z**4)),
    sympy.Pow(1 + z**2, Rational(-3, 10)),
    sympy.asin(tanh(z)),
    sympy.acos(tanh(z)) * z,
    sympy.atanh(tanh(z) / 2),
    sympy.acosh(2 + z**2),
    exp(-exp(z)),
    z / sympy.sinh(z),
    2**z / (3**z + z**2),
]


def size(growth, t: int) -> arb:
    point = arb(t)
    return growth.c * point**growth.n * (growth.beta * point + growth.alpha * point * point).exp()


@pytest.mark.parametrize("expr", GROWTHS, ids=str)
@pytest.mark.parametrize("side", [-1, 1])
def test_growths_are_bounds(expr, side):
    tail = Tail(side, Integer(15))
    proven = 0
    with balls.precision(400):
        for bound, above in ((tail.upper, True), (tail.lower, False)):
            try:
                growth = bound(expr)
            except NotCertifiable:
                continue
            proven += 1
            for t in (15, 16, 23, 40, 75):
                value = abs(balls.evaluate(expr.subs(z, side * t)))
                gap = size(growth, t) - value if above else value - size(growth, t)
                # It is on the right side, or equal up to the rounding of the arithmetic.
                assert gap > 0 or gap.contains(0), (t, above)
    assert proven >= 1


def test_an_open_parameter_cannot_be_enclosed():
    with pytest.raises(ValueError, match=r"symbol a|parameter a"):
        enclose(split(Symbol("a", positive=True) * tanh(z)))
