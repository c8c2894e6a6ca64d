"""Finite moments that are hard to prove: signs far out, flat ends, clipped arguments."""

import functools

import mpmath
import pytest
import sympy
from sympy import Integer, Rational

from flaxinit.theory import NotCertifiable, derive, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.algebra import steady
from flaxinit.theory.functions.growth import Tail
from flaxinit.theory.functions.ranges import Range, value_range
from flaxinit.theory.functions.singularities import factored
from flaxinit.theory.reading.vocabulary import normal_cdf

pytestmark = pytest.mark.any_jax

# Gains computed by other programs, to the digits given.
GAINS = {
    "cos(40 * x)": 2**0.5,
    "min(max(x * (27 + x**2) / (27 + 9 * x**2), -1), 1)": 1.562372119883221,
    "x * log(2 - exp(-exp(x)))": 2.002132850052704,
    "sqrt(softplus(x))": 1.113823905942876,
    "log(normal_cdf(x))": 2**-0.5,
    "where(abs(x) < 1, exp(-1 / (1 - x**2)), 0)": 4.461891241737696,
    "log((0.98 * sigmoid(x) + 0.01) / (0.99 - 0.98 * sigmoid(x)))": 1.032925304877578,
    "min(x, 1e20)": 1.0,
}


@pytest.mark.parametrize("text", GAINS)
def test_a_gain_computed_elsewhere(text):
    assert derive(text).gain == pytest.approx(GAINS[text], rel=4e-16)


# Similar functions. Each is compared with another quadrature.
RELATIVES = {
    "logarithms of distributions": [
        "log(1 - normal_cdf(x))",
        "log(1 + tanh(x))",
        "log(1 - sigmoid(x))",
        "log(1 - tanh(x)**2)",
        "log(erfc(x))",
        "log(normal_cdf(x + 1) - normal_cdf(x - 1))",
        "log(tanh(x + 1) - tanh(x - 1))",
        "log(pi / 2 + atan(x))",
        "log(1 + x / sqrt(1 + x**2))",
        "log(1 + erf(x)) - log(1 - erf(x))",
    ],
    "logarithms of sums": [
        "log(1 + exp(x) + exp(2 * x))",
        "log(2 - exp(-x**2))",
        "log(softplus(x))",
        "log(softplus(x) + exp(-x))",
        "log(exp(x) - x)",
        "log(2 + silu(x))",
        "log(x + sqrt(1 + x**2))",
        "log(1 + exp(x) * (1 + x**2))",
        "x * log(1 + exp(-x**2))",
        "log(log(2 + x**2))",
    ],
    "clipped logits": [
        "log((1 + sigmoid(x)) / (2 - sigmoid(x)))",
        "log((0.9 * normal_cdf(x) + 0.05) / (0.95 - 0.9 * normal_cdf(x)))",
        "log((1.1 + tanh(x)) / (1.1 - tanh(x)))",
        "log((2 + softsign(x)) / (2 - softsign(x)))",
    ],
    "roots": [
        "sqrt(mish(x) + 1)",
        "sqrt(gelu(x) + 1)",
        "sqrt(atan(x) + 2)",
        "sqrt(1 + softsign(x))",
        "sqrt(normal_cdf(x))",
        "sqrt(sqrt(1 + x**2) - x)",
        "sqrt(x + sqrt(x**2 + 4))",
        "sqrt(log(1 + x**2))",
        "sqrt(x**2 + softplus(x))",
        "sqrt(1 + sin(x) / 2)",
    ],
}


# Functions whose slope is harder to integrate than their values.
STEEP = {
    "gates of polynomials": [
        "x / (1 + exp(-x * (x**2 + 1)))",
        "sigmoid(x**3 - 2 * x)",
        "x * sigmoid(x**5 + 3 * x**3)",
        "softplus(x**3 + x)",
        "log(1 + exp(x**3) + exp(-x**3))",
    ],
    "logarithms that fall like an exponential": [
        "sqrt(softplus(x**3 + x))",
        "softplus(x**3)**0.3",
        "x * softplus(-2 * x**3)**1.5",
        "sqrt(log1p(exp(x**3) / 3))",
    ],
    "signs that follow from where a function starts": [
        "softplus(exp(x) - x)",
        "softplus(x - exp(-x))",
        "sqrt(softplus(exp(x) - x))",
        "sigmoid(exp(x) - x) * x",
    ],
    "gates of other functions": [
        "x * sigmoid(sinh(x))",
        "softplus(sinh(x))",
        "x * sigmoid(x * softplus(x))",
        "x * (1 + tanh(sinh(x)))",
        "sigmoid(exp(x))",
        "x * erf(exp(x) + x)",
    ],
    "roots of what vanishes twice": [
        "sqrt(cosh(x) - 1)",
        "sqrt(exp(x) - 1 - x)",
        "sqrt(1 - exp(-x**2))",
        "sqrt(log(cosh(x)))",
        "sqrt(1 - sin(x) / x)",
        "sqrt(1 - tanh(x) / x)",
    ],
    "functions with an essential singularity inside": [
        "tanh(1 / x)",
        "sigmoid(1 / x)",
        "erf(1 / x)",
        "x * sigmoid(1 / x)",
    ],
}


@functools.cache  # half of the work, at the same places for every function
def density(x: mpmath.mpf) -> mpmath.mpf:
    with mpmath.workdps(95):
        return mpmath.npdf(x)


def another_quadrature(expr: sympy.Expr) -> mpmath.mpf:
    """E[f²] by mpmath's tanh-sinh rule."""
    # log(1 + w) would be 0 for a small w.
    near_one = expr.replace(
        lambda e: isinstance(e, sympy.log) and 1 in e.args[0].args,
        lambda e: sympy.Function("log1p")(e.args[0] - 1),
    )
    f = sympy.lambdify(z, near_one, modules=["mpmath", {"log1p": mpmath.log1p}])
    nodes = [*range(-12, 0, 3), -1, 0, 1, *range(3, 13, 3)]

    def integrand(x):
        with mpmath.workdps(95):  # 1 − erf(12) is 1e-64, and cosh(x) − 1 at a node beside 0 1e-80
            return mpmath.re(f(x)) ** 2 * density(x)

    with mpmath.workdps(35):
        return mpmath.quad(integrand, nodes, maxdegree=5)


def check(moment, expr: sympy.Expr) -> None:
    (low, high), known = moment.bounds, another_quadrature(expr)
    assert abs(low - known) < 1e-20 * abs(known) and high - low < 1e-30 * high


@pytest.mark.parametrize("text", [text for texts in RELATIVES.values() for text in texts])
def test_a_relative_agrees_with_another_quadrature(text):
    found = derive(text)
    check(found.second_moment, found.expr)


@pytest.mark.parametrize("text", [text for texts in STEEP.values() for text in texts])
def test_a_slope_agrees_with_another_quadrature(text):
    found = derive(text)
    check(found.second_moment, found.expr)
    check(found.derivative_second_moment, sympy.diff(found.expr, z))


# Functions that are flat or singular at the ends of their support: (formula, ends).
BUMPS = {
    "where(abs(x) < 1, exp(-1 / (1 - x**2)), 0)": (-1, 1),
    "where(abs(x) < 2, exp(-1 / (4 - x**2)), 0)": (-2, 2),
    "where(abs(x) < 1/3, exp(-1 / (1 - 9 * x**2)), 0)": (-Rational(1, 3), Rational(1, 3)),
    "where(abs(x) < sqrt(2), exp(-1 / (2 - x**2)), 0)": (-sympy.sqrt(2), sympy.sqrt(2)),
    "where(abs(x) < 1, x * exp(1 - 1 / (1 - x**2)), 0)": (-1, 1),
    "where(abs(x) < 1, exp(-1 / (1 - x**4)), 0)": (-1, 1),
    "where(abs(x) < pi / 2, exp(-1 / cos(x)), 0)": (-sympy.pi / 2, sympy.pi / 2),
    "where(x > 0, exp(-1 / x), 0)": (0, 16),
    "where(x > -1, (1 + x) * log(1 + x), 0)": (-1, 16),
    "where(abs(x) < 1, sqrt(1 - x**2) * log(1 - x**2), 0)": (-1, 1),
    "where(abs(x) < 1, (1 - x**2)**(5 / 2), 0)": (-1, 1),
}
STEP = "exp(-1 / x) / (exp(-1 / x) + exp(-1 / (1 - x)))"


@pytest.mark.parametrize("text", BUMPS)
def test_a_function_that_ends_at_a_singular_point(text):
    moment = derive(text).second_moment
    (piece,) = (p for p in moment.pieces if p.expr != 0)
    f = sympy.lambdify(z, piece.expr, modules="mpmath")
    with mpmath.workdps(60):
        # Points so near to an end carry no weight, but beyond the end the function is e^{+∞}.
        near = 1 - mpmath.mpf(10) ** -50
        low, high = (mpmath.mpf(str(sympy.N(end, 60))) * near for end in BUMPS[text])
        nodes = mpmath.linspace(low, high, 9)
        known = mpmath.quad(lambda x: mpmath.re(f(x)) * mpmath.npdf(x), nodes, maxdegree=8)
        low, high = moment.bounds
        assert abs(low - known) < 1e-25 * known and high - low < 1e-30 * high


def test_a_smooth_step():
    """``f + f(1 − x) = 1`` on (0, 1), so the mean over a symmetric density would be 1/2."""
    step = derive(f"where(x <= 0, 0, where(x >= 1, 1, {STEP}))")
    assert step.backward_gain == pytest.approx(1.321426605593811, rel=1e-12)


def test_the_logarithm_of_a_uniform_variable():
    """Φ(z) is uniform, so −log Φ(z) is exponential: E = 1 and E of the square = 2."""
    log_cdf = derive("log(normal_cdf(x))")
    for moment, exact in ((log_cdf.mean, -1), (log_cdf.second_moment, 2)):
        low, high = moment.bounds
        assert low <= exact <= high and moment.value == exact


LARGE = {
    "formula": "max(x, -1e20)",
    "power of two": "min(abs(x), 2**64)",
    "as a divisor": "1e25 * (x / 1e25)",
}


@pytest.mark.parametrize("name", LARGE)
def test_whole_numbers_beyond_64_bits(name):
    assert derive(LARGE[name]).gain == 1
    assert derive("x * 36893488147419103232").gain == 2.0**-65


TRANSCENDENTAL = {
    "min(x**2, pi)": lambda x: min(x * x, mpmath.pi),
    "min(x**2, sqrt(2))": lambda x: min(x * x, mpmath.sqrt(2)),
    "relu(x**3 - tanh(1))": lambda x: max(x**3 - mpmath.tanh(1), 0),
    "max(x**2 - pi * x + 1, 0)": lambda x: max(x * x - mpmath.pi * x + 1, 0),
    "max(x**5 - x - log(2), 0)": lambda x: max(x**5 - x - mpmath.log(2), 0),
    "min(exp(x), pi)": lambda x: min(mpmath.exp(x), mpmath.pi),
    "min(x**2 * tanh(2), cos(1))": lambda x: min(x * x * mpmath.tanh(2), mpmath.cos(1)),
    "relu((x - pi)**2 * (x + 1))": lambda x: max((x - mpmath.pi) ** 2 * (x + 1), 0),
    "max(tanh(x), 1 / pi)": lambda x: max(mpmath.tanh(x), 1 / mpmath.pi),
    "relu(x**3 - x * erf(1) + 1 / 9)": lambda x: max(
        x**3 - x * mpmath.erf(1) + mpmath.mpf(1) / 9, 0
    ),
}


@pytest.mark.parametrize("text", TRANSCENDENTAL)
def test_kinks_at_numbers_without_radicals(text):
    moment = derive(text).second_moment
    with mpmath.workdps(40):
        ends = [mpmath.mpf(str(sympy.N(p.high, 40))) for p in moment.pieces[:-1]]
        nodes = sorted({*map(mpmath.mpf, range(-16, 17, 2)), *ends})
        f = TRANSCENDENTAL[text]
        known = mpmath.quad(lambda x: f(x) ** 2 * mpmath.npdf(x), nodes)
        assert abs(moment.bounds[0] - known) < 1e-30 * known


@pytest.mark.parametrize("k", [40, 60, 1000])
def test_a_mean_that_no_float_holds(k):
    """E cos kz = e^{−k²/2}, and E cos² kz = (1 + e^{−2k²})/2."""
    wave = derive(f"cos({k} * x)")
    assert wave.mean.value == 0 and wave.mean.bounds[0] > 0
    assert wave.gain == 2**0.5 and wave.backward_gain == pytest.approx(2**0.5 / k)


def test_a_second_moment_that_no_float_holds_has_no_gain():
    for text, mode in (("1e-90 * 1e-90 * x", "gain"), ("1 + 1e-90 * 1e-90 * x", "backward_gain")):
        with pytest.raises(ValueError, match="range of a float"):
            getattr(derive(text), mode)


# Points of the half-line at which a range is tried.
RANGED = [
    *(sympy.exp(-sympy.exp(z)), sympy.log(2 - sympy.exp(-sympy.exp(z)))),
    *(z**3 - 5 * z + 1, 1 / (1 + z**2), z / (1 + sympy.exp(-z)), (z - 3) ** 2),
    *(sympy.sqrt(1 + z**2) - z, sympy.sin(1 / z), sympy.cos(z), sympy.erfc(z), sympy.tanh(z) ** 2),
    *(sympy.cosh(1 / z), sympy.sech(z), sympy.asin(sympy.tanh(z)), sympy.acos(sympy.tanh(z))),
    *(sympy.atanh(1 / z), sympy.acosh(z**2), sympy.asinh(z) ** 3, sympy.atan(-z), 2**z),
    *(sympy.loggamma(2 + z**2), sympy.Abs(z) + 1, 1 / z, z ** Rational(-2), sympy.sinh(-z)),
]


@pytest.mark.parametrize("expr", RANGED, ids=str)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_range_holds_every_value(expr, side):
    with balls.precision():
        found = Tail(side, Integer(4)).range(expr)
        for t in (4, Rational(22, 5), 7, 30, 100):
            value = (
                balls.evaluate(expr.subs(z, side * t)) if expr.subs(z, side * t).is_real else None
            )
            if value is not None:
                assert value.upper() >= found.low and value.lower() <= found.high


def test_a_range_is_as_narrow_as_its_ends():
    with balls.precision():
        found = value_range(
            sympy.log(2 - sympy.exp(-sympy.exp(z))), {z: Tail(1, Integer(4)).range(z)}
        )
        # From log(2 − e^{−e⁴}) = log 2 − 1.0e-24 up to log 2.
        assert found.high - found.low < 1e-23 and found.sign == 1
        assert value_range(2 + sympy.tanh(z), {z: Range()}).floor == 1


def test_the_range_of_a_polynomial_needs_no_multiplying_out():
    """Neither its degree nor its constants count: Horner's scheme skips the powers it lacks."""
    tail = {z: Tail(1, Integer(4)).range(z)}
    with balls.precision():
        # Term by term, z² − 3z has no lower bound here.
        assert value_range(z**2 - 3 * z, tail).low == 4 * (4 - 3)
        assert value_range(z ** (10**9) - z, tail).low > 10**9
        awkward = (1 + z) ** 26 * (1 / (1 + sympy.exp(-Rational(231, 100))) - z) ** 43
        assert value_range(awkward, tail).sign == -1


FAR = [
    *(1 + sympy.erf(z), 1 - sympy.tanh(z), 1 - sympy.tanh(z) ** 2, normal_cdf(z), z / (1 - z) + 1),
    *(sympy.erf(z + 1) - sympy.erf(z - 1), 1 - 1 / (1 + sympy.exp(-z)), 2 - 1 / (1 + sympy.exp(z))),
    *(sympy.sqrt(1 + z**2) - z, z + sympy.sqrt(z**2 + 4), 1 + z / sympy.sqrt(1 + z**2)),
    *(sympy.pi / 2 + sympy.atan(z), 3 * sympy.pi - 6 * sympy.atan(2 * z), 3 - 2 * sympy.tanh(z)),
]


@pytest.mark.parametrize("expr", FAR, ids=str)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_sum_by_its_limits_is_the_same_function(expr, side):
    with balls.precision(400):
        for at in (Rational(1, 3), Rational(-2, 7), Integer(3), Integer(-3)):
            form = steady(expr, side, far=at * side > 0)
            left, right = balls.evaluate(expr.subs(z, at)), balls.evaluate(form.subs(z, at))
            assert left.overlaps(right) and right.rad() < 1e-80


def test_a_factor_that_vanishes_is_drawn_out():
    for expr, point in (
        (sympy.exp(-1 / (1 - z**2)), Integer(1)),
        (sympy.exp(-1 / sympy.cos(z)), sympy.pi / 2),
        (sympy.sqrt(sympy.cosh(z) - 1), Integer(0)),
        (sympy.log(sympy.tanh(z) * (z - 2)), Integer(2)),
    ):
        form, at = factored(expr, point), Rational(7, 3)
        with balls.precision():
            left, right = (
                balls.Program(f, (z,))(balls.acb(balls.to_ball(at))) for f in (expr, form)
            )
            assert left.overlaps(right) and left.is_finite()


def test_infinitely_many_roots_are_refused():
    for text in ("log(1 - cos(x))", "x**2 * log(1 - cos(x))", "sqrt(1 - cos(x))"):
        with pytest.raises((NotCertifiable, ValueError), match=r"certif|known"):
            derive(text)
