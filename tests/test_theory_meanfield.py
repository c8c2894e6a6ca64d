"""The mean-field maps against closed forms and numbers that others published."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sympy

import flaxinit
from flaxinit.theory import CATALOGUE, derive
from flaxinit.theory.functions.effort import spend
from flaxinit.theory.functions.numeric import numeric
from flaxinit.theory.meanfield.criticality import classify
from flaxinit.theory.meanfield.root_search import find_roots
from flaxinit.theory.meanfield.values import Known, quickly
from flaxinit.theory.moments.quadrature import expect_pair
from tests.pace import at_most

CORRELATIONS = (-1.0, -0.99, -0.5, 0.0, 0.3, 0.9, 0.9999, 1.0)
VARIANCES = (0.25, 1.0, 4.0)


def arc_cosine(c, q, power):
    """Cho & Saul (2009): E[u₊ⁿ v₊ⁿ] = qⁿ J_n(θ)/(2π), for n = 0, 1, 2."""
    theta = math.acos(c)
    j = {
        0: math.pi - theta,
        1: math.sin(theta) + (math.pi - theta) * math.cos(theta),
        2: 3 * math.sin(theta) * math.cos(theta)
        + (math.pi - theta) * (1 + 2 * math.cos(theta) ** 2),
    }[power]
    return q**power * j / (2 * math.pi)


def leaky(c, q, slope):
    """Neural Tangents' ABRelu (a = slope, b = 1): from the arc-cosine kernel by symmetry."""
    both, mixed = arc_cosine(c, q, 1), arc_cosine(-c, q, 1)
    return (1 + slope**2) * both - 2 * slope * mixed


def gelu(c, q):
    """Tsuchida et al. (2021), and Neural Tangents' Gelu: x Φ(x) for variance q."""
    a, b = q, c * q
    root = math.sqrt((1 + a) ** 2 - b**2)
    share = a * a * (1 + a) + b * b * (1 - a)
    return (
        b / 4 + b / (2 * math.pi) * math.asin(b / (1 + a)) + share / (2 * math.pi * (1 + a) * root)
    )


def snake(c, q):
    """Compute x + sin²(x) by characteristic functions, term by term (Rahimi & Recht 2007)."""
    cos_cos = (math.exp(-4 * q * (1 - c)) + math.exp(-4 * q * (1 + c))) / 2
    return c * q + 1 / 4 - math.exp(-2 * q) / 2 + cos_cos / 4


PUBLISHED = {
    "linear": lambda c, q: c * q,
    "relu": lambda c, q: arc_cosine(c, q, 1),
    "step": lambda c, q: arc_cosine(c, q, 0),
    "relu_squared": lambda c, q: arc_cosine(c, q, 2),
    "leaky_relu": lambda c, q: leaky(c, q, 0.01),
    "prelu": lambda c, q: leaky(c, q, 0.25),
    "abs": lambda c, q: leaky(c, q, -1.0),
    "sign": lambda c, q: 2 / math.pi * math.asin(c),
    "square": lambda c, q: q**2 * (1 + 2 * c**2),
    "erf": lambda c, q: 2 / math.pi * math.asin(2 * c * q / (1 + 2 * q)),  # Williams (1998)
    "normal_cdf": lambda c, q: 1 / 4 + math.asin(c * q / (1 + q)) / (2 * math.pi),
    "gelu": gelu,
    "sin": lambda c, q: math.exp(-q) * math.sinh(c * q),
    "cos": lambda c, q: math.exp(-q) * math.cosh(c * q),
    "exp": lambda c, q: math.exp(q * (1 + c)),
    "gaussian": lambda c, q: 1 / math.sqrt((1 + 2 * q) ** 2 - (2 * c * q) ** 2),
    "snake": snake,
}


def test_every_published_dual_is_found_and_two_more():
    found = {name for name in CATALOGUE if derive(name).maps.dual_expr is not None}
    assert found >= {*PUBLISHED, "x_gaussian", "x_cos"}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("q", VARIANCES)
def test_dual_is_the_published_one(name, q):
    """To 1e-12 of E[φ²]: both routes, the closed form and the quadrature."""
    derivation = derive(name)
    scale = derivation.second_moment.at(q)
    pieces = numeric(derivation.mean.pieces)
    for c in CORRELATIONS:
        published = PUBLISHED[name](c, q)
        assert abs(derivation.maps.dual(c, q) - published) <= 1e-12 * scale
        assert abs(expect_pair(pieces, c, q) - published) <= 1e-12 * scale


def test_a_wrong_dual_is_caught():
    assert abs(derive("gelu").maps.dual(0.5, 2.0) - gelu(0.5, 2.0 * (1 + 1e-9))) > 1e-12


@pytest.mark.parametrize("name", CATALOGUE)
def test_dual_meets_its_moments(name):
    """At c = 1 the dual is E[φ²], at c = 0 E[φ]²; the C-map of 1 is 1."""
    derivation = derive(name)
    second = derivation.second_moment.value
    assert derivation.maps.dual(1.0) == pytest.approx(second, rel=1e-12)
    assert abs(derivation.maps.dual(0.0) - derivation.mean.value**2) <= 1e-12 * second
    assert derivation.maps.cmap(1.0) == 1.0


@pytest.mark.parametrize("name", ["tanh", "silu", "hard_tanh", "mish", "elu"])
def test_dual_is_what_samples_say(name):
    """E[φ(u)φ(v)] over 400,000 pairs, within the 1e-6 quantile of the normal."""
    derivation, n, c, q = derive(name), 400_000, 0.6, 1.5
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((2, n)) * math.sqrt(q)
    function = numeric(derivation.mean.pieces)
    products = function(x) * function(c * x + math.sqrt(1 - c * c) * y)
    bound = scipy.stats.norm.isf(1e-6) * products.std() / math.sqrt(n)
    assert abs(products.mean() - derivation.maps.dual(c, q)) < bound
    assert abs(products.mean() - derivation.maps.dual(c + 0.05, q)) > bound  # a wrong correlation


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "silu", "hard_swish", "sin"])
def test_price_theorem(name):
    """d/dc E[φ(u)φ(v)] = q E[φ'(u)φ'(v)]."""
    maps, c, q, h = derive(name).maps, 0.4, 2.0, 1e-3
    ends = [maps.dual(c + k * h, q) for k in (-2, -1, 1, 2)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    assert slope == pytest.approx(q * maps.derivative_dual(c, q), rel=1e-9)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin", "square"])
def test_hermite_coefficients(name):
    """E[φ(u)φ(v)] = Σ a_k² c^k (Daniely et al. 2016); the rest is at most c^n of E[φ²]."""
    derivation, c, n = derive(name), 0.5, 48
    series = float(np.sum(derivation.maps.hermite(n) ** 2 * c ** np.arange(n)))
    assert abs(series - derivation.maps.dual(c)) <= c**n * derivation.second_moment.value + 1e-13


def test_critical_points_of_the_literature():
    """Roberts, Yaida & Hanin (2022), chapter 5: GELU and SWISH are half-stable."""
    (swish,), (gelu_,) = derive("silu").maps.criticality, derive("gelu").maps.criticality
    assert swish.kind == gelu_.kind == "half-stable"
    assert swish.q == pytest.approx(14.32017362, rel=1e-8)
    assert swish.sigma_w2 == pytest.approx(1.98800468, rel=1e-8)
    assert swish.sigma_b2 == pytest.approx(0.55514317, rel=1e-7)
    assert gelu_.exact == (3 + sympy.sqrt(17)) / 2
    assert gelu_.sigma_w2 == pytest.approx(1.98305826, rel=1e-8)
    assert gelu_.sigma_b2 == pytest.approx(0.17292239, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("relu", "scale-invariant"),
        ("linear", "scale-invariant"),
        ("leaky_relu", "scale-invariant"),
        ("tanh", "K* = 0"),
        ("sin", "K* = 0"),
        ("sigmoid", None),
        ("softplus", None),
    ],
)
def test_universality_classes_of_the_literature(name, kind):
    assert [point.kind for point in derive(name).maps.criticality] == [kind] * bool(kind)


@pytest.mark.parametrize("name", CATALOGUE)
def test_criticality_keeps_what_it_says(name):
    """At (K*, C_W, C_b): the variance is kept, and χ_∥ = χ_⊥ = 1."""
    maps = derive(name).maps
    for found in classify(maps):
        # The search approaches K* = 0, where a corner in φ' leaves a correction of order √q.
        q = 1.0 if found.q is None else max(found.q, 1e-12)
        assert maps.qmap(q, found.sigma_w2, found.sigma_b2) == pytest.approx(q, rel=1e-5)
        assert maps.chi(q, found.sigma_w2) == pytest.approx(1, rel=1e-5)
        assert found.sigma_w2 * maps.energy_slope(q) == pytest.approx(1, rel=1e-5)


def test_edge_of_chaos_of_tanh():
    """Schoenholz et al. (2017): tanh is critical at σ_w = 1 without bias.

    With σ_b² = 0.05 the point satisfies both conditions.
    """
    tanh = derive("tanh")
    assert tuple(tanh.maps.edge_of_chaos()) == (0.0, 1.0)
    q, sigma_w2 = tanh.maps.edge_of_chaos(0.05)
    assert tanh.maps.qmap(q, sigma_w2, 0.05) == pytest.approx(q, rel=1e-12)
    assert tanh.maps.chi(q, sigma_w2) == pytest.approx(1, rel=1e-12)


def test_fixed_points_and_depth_scales_of_tanh():
    """Below σ_w² = 1 only q = 0, above it a second point that attracts (Poole et al. 2016)."""
    tanh = derive("tanh")
    (only,) = tanh.maps.fixed_points(0.9)
    assert (only.q, only.stable) == (0.0, True)
    zero, other = tanh.maps.fixed_points(2.0)
    assert not zero.stable and other.stable and other.chi > 1
    assert tanh.maps.qmap(other.q, 2.0) == pytest.approx(other.q, rel=1e-12)
    # In the ordered phase ξ_c = −1/log χ_1.
    (point,) = tanh.maps.fixed_points(1.3, 0.05)
    assert tanh.maps.depth_scales(1.3, 0.05)[1] == pytest.approx(
        -1 / math.log(point.chi), rel=1e-12
    )


AT_THEIR_GAIN = ("tanh", "selu", "sigmoid", "softplus", "cos", "silu", "hard_tanh", "erf")


@pytest.mark.parametrize("name", AT_THEIR_GAIN)
def test_an_activation_at_its_gain_keeps_variance_1(name):
    derivation = derive(name)
    points = derivation.maps.fixed_points(derivation.gain**2)
    assert 1.0 in [pytest.approx(p.q, rel=1e-12) for p in points]
    wrong = derivation.maps.fixed_points(1.1 * derivation.gain**2)
    assert 1.0 not in [pytest.approx(p.q, rel=1e-3) for p in wrong]


def test_selu_was_made_for_variance_1():
    """Klambauer et al. (2017): a stable point at mean 0 and variance 1, with derivative 0.783."""
    zero, one = derive("selu").maps.fixed_points(1.0)
    assert not zero.stable and one.stable
    assert one.q == pytest.approx(1, rel=1e-12)
    assert one.slope == pytest.approx(0.783, abs=5e-4)  # as printed


def test_relu_with_a_bias():
    """``q = σ_w² q/2 + σ_b²``."""
    (point,) = derive("relu").maps.fixed_points(1.0, 0.5)
    assert (point.slope, point.stable) == (0.5, True)
    assert point.q == pytest.approx(1, rel=1e-15)
    assert derive("relu").maps.depth_scales(1.0, 0.5)[0] == pytest.approx(1 / math.log(2))


def test_a_half_stable_point_is_a_fixed_point():
    """The Q-map touches the diagonal at K*, where slope and χ are 1."""
    gelu_ = derive("gelu")
    (found,) = gelu_.maps.criticality
    points = gelu_.maps.fixed_points(found.sigma_w2, found.sigma_b2)
    touching = min(points, key=lambda p: abs(p.q - found.q))
    # The error of a double root is the square root of the rounding error.
    assert touching.q == pytest.approx(found.q, rel=1e-6)
    assert touching.slope == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("b", [1e-3, 0.01, 30.0, 1000.0])
def test_half_stable_points_scale(b):
    """φ(bx)/b is critical at K*/b², with the same C_W and C_b/b²."""
    (silu,), (scaled,) = (derive(f).maps.criticality for f in ("silu", f"x*sigmoid({b!r}*x)"))
    assert scaled.kind == "half-stable"
    assert scaled.q * b**2 == pytest.approx(silu.q, rel=1e-7)
    assert scaled.sigma_w2 == pytest.approx(silu.sigma_w2, rel=1e-9)
    assert scaled.sigma_b2 * b**2 == pytest.approx(silu.sigma_b2, rel=1e-7)


# Functions that overflow on the way, have a sharp step or oscillate, each at a hard variance.
HARD = {
    "silu": 1e4,
    "mish": 1e3,
    "sigmoid": 1e3,
    "log_cosh": 1e4,
    "x*sigmoid(30*x)": 4.0,
    "softplus(20*x)/20": 1.0,
    "tanh(100*x)": 1.0,
    "tanh(1000*x)": 100.0,
    "1/(1+10**6*tanh(x)**2)": 0.5,
    "sin(300*tanh(x))": 0.5,
    "sin(3*x)*tanh(x)": 1e3,
    "exp(x)*tanh(x)": 100.0,
}


@pytest.mark.parametrize("name", HARD)
def test_the_maps_are_the_certified_moments(name):
    """To 1e-13, which is rounding over some hundred panels."""
    derivation, q = derive(name), HARD[name]
    assert derivation.maps.qmap(q, 1.0) == pytest.approx(derivation.second_moment.at(q), rel=1e-13)
    if name not in ("log_cosh", "mish"):  # their E[φ'²] has no certified value there
        certified = derivation.derivative_second_moment.at(q)
        assert derivation.maps.chi(q, 1.0) == pytest.approx(certified, rel=1e-13)


SMALL = {
    "tanhshrink": lambda q: q**3 * 15 / 9,  # x³/3
    "x - sin(x)": lambda q: q**3 * 15 / 36,
    "expm1(x) - x": lambda q: q**2 * 3 / 4,
    "where(x > 0, x, x + (1 - cos(x)) / x)": lambda q: q / 2 * (1 + 9 / 4),
}


@pytest.mark.parametrize("text", SMALL)
def test_small_variances_see_the_first_term(text):
    """Where x − tanh x cancels in floating point, and the next term is 1e-12 of it."""
    derivation, q = derive(text), 1e-13
    assert derivation.maps.qmap(q, 1.0) == pytest.approx(SMALL[text](q), rel=1e-6)
    x = numeric(derivation.maps.pieces)(np.array([1e-9]))
    assert derivation.maps.energy(0.0) == 0 and 0 < x < 2e-9


def test_a_jump_across_the_diagonal_is_not_a_fixed_point():
    """E[φ²] of exp(x²/8 − |x|) is finite up to q = 2, and infinite beyond."""
    points = derive("exp(x**2/8 - abs(x))").maps.fixed_points(2.0)
    assert [p.q < 1 for p in points] == [True]


def test_slopes_without_a_bound():
    """``x log x`` has a vertical tangent at 0."""
    derivation = derive(lambda x: jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0))
    zero, other, last = derivation.maps.fixed_points(2.0)
    assert (zero.q, zero.chi) == (0.0, math.inf)
    assert [p.stable for p in (zero, other, last)] == [False, True, False]
    assert derivation.maps.depth_scales(2.0)[0] > 0


def test_a_sharp_step_is_nearly_the_sign():
    """E[tanh(bu)tanh(bv)] → 2 asin(c)/π; the correction is of order 1/b."""
    sharp = derive("tanh(1000*x)")
    for c in (-0.9, 0.1, 0.5, 0.99):
        assert sharp.maps.dual(c, 1.0) == pytest.approx(2 / math.pi * math.asin(c), abs=2e-3)
    assert sharp.maps.dual(0.5, 1.0) != pytest.approx(1 / 3, abs=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin"])
def test_correlations_of_odd_functions_settle_at_0(name):
    """In the chaotic phase without bias, c* = 0.

    There the slope of the C-map is σ_w² q E[φ']² / q (Price's theorem at c = 0).
    """
    derivation, sigma_w2 = derive(name), 3.0
    q = derivation.maps.fixed_points(sigma_w2)[-1].q
    x = np.random.default_rng(3).standard_normal(10**6) * math.sqrt(q)
    slopes = numeric(derivation.maps.slopes)(x)
    slope = sigma_w2 * slopes.mean() ** 2
    error = 2 * sigma_w2 * abs(slopes.mean()) * slopes.std() / 1e3 * scipy.stats.norm.isf(1e-6)
    found = derivation.maps.depth_scales(sigma_w2)[1]
    assert abs(math.exp(-1 / found) - slope) < error
    assert abs(math.exp(-1 / (2 * found)) - slope) > error  # another scale


def test_correlations_of_a_vanishing_signal():
    """``x + sin²x`` is x + x² where x is small: c ↦ c, with nothing lost to cancellation."""
    assert derive("snake").maps.cmap(0.5, 1e-14) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("name", ["dual", "cmap"])
def test_no_correlation_where_the_moment_diverges(name):
    with pytest.raises(ValueError, match=r"E\[φ²\] = inf at q = 3.0"):
        getattr(derive("exp(x**2/8)").maps, name)(0.5, 3.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.maps.dual(1.5), "c, a correlation, must lie in"),
        (lambda d: d.maps.cmap_slope(c=1.5), "c, a correlation, must lie in"),
        (lambda d: d.maps.hermite(3, q=-1.0), "q, a variance"),
        (lambda d: d.maps.qmap(-1.0, 2.0), "q, a variance, must be finite and at least 0"),
        (lambda d: d.maps.chi(1.0, math.nan), "sigma_w2, a variance"),
        (lambda d: d.maps.fixed_points(2.0), "every variance"),
        (lambda d: d.maps.edge_of_chaos(), "scale-invariant"),
        (lambda d: d.maps.edge_of_chaos(0.1), "no edge of chaos"),
        (lambda d: d.curvature, "corner"),
    ],
)
def test_bad_questions_about_relu(call, message):
    with pytest.raises(ValueError, match=message):
        call(derive("relu"))


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("qmap", {"q": "1", "sigma_w2": 2.0}, "q"),
        ("qmap", {"q": np.ones(2), "sigma_w2": 2.0}, "q"),
        ("chi", {"q": 1.0, "sigma_w2": None}, "sigma_w2"),
        ("dual", {"c": "half"}, "c"),
        ("cmap", {"c": 0.5, "sigma_b2": "none"}, "sigma_b2"),
        ("fixed_points", {"sigma_w2": "2"}, "sigma_w2"),
        ("edge_of_chaos", {"sigma_b2": [0.1]}, "sigma_b2"),
        ("depth_scales", {"sigma_w2": 1.0, "sigma_b2": "0"}, "sigma_b2"),
    ],
)
def test_what_is_not_a_number_is_named_as_the_user_named_it(name, arguments, wrong):
    with pytest.raises(TypeError, match=f"^{wrong} must be one number, got"):
        getattr(derive("relu").maps, name)(**arguments)


# ξ_c where φ jumps: there the C-map's slope is infinite at c = 1; correlations settle below 1.
# E[φ(u)φ(v)] is (2/π) asin c for sign and 1/4 + asin(c)/2π for step; c* is a root of C(c) − c.
JUMPS = {
    ("sign", 1.0, 0.0): (0.0, 2.2144),
    ("sign", 1.0, 0.1): (0.218, 1.9139),
    ("step", 2.0, 0.1): (0.8275, 1.5085),
}


@pytest.mark.parametrize("case", JUMPS)
def test_correlations_settle_below_1_where_a_function_jumps(case):
    (name, sigma_w2, sigma_b2), (c, printed) = case, JUMPS[case]
    derivation = derive(name)
    (point,) = derivation.maps.fixed_points(sigma_w2, sigma_b2)
    assert (point.chi, point.chi_correlation) == (0, math.inf)
    assert derivation.maps.cmap(c, point.q, sigma_w2, sigma_b2) == pytest.approx(c, abs=1e-4)
    assert derivation.maps.depth_scales(sigma_w2, sigma_b2)[1] == pytest.approx(printed, abs=1e-4)


def test_the_slope_of_a_jumping_c_map():
    """Stein's identity against the closed form of sign, 2/(π √(1 − c²)), near 1 too."""
    sign = derive("sign").maps
    hidden = derive("where(x > 0, 1, -1)").maps
    object.__setattr__(hidden, "dual_expr", None)
    for c in (-0.999, -0.5, 0.0, 0.3, 0.99, 1 - 1e-6, 1 - 1e-9):
        published = 2 / (math.pi * math.sqrt((1 - c) * (1 + c)))
        assert sign.derivative_dual(c, 2.0) * 2.0 == pytest.approx(published, rel=1e-13)
        assert hidden.derivative_dual(c, 2.0) * 2.0 == pytest.approx(published, rel=1e-10)
    assert sign.derivative_dual(1.0, 2.0) == math.inf


@pytest.mark.parametrize("name", ["tanh", "silu", "hard_tanh", "tanhshrink"])
def test_stein_and_price_agree(name):
    """−½ E[(φ(u) − φ(v))² w] is q E[φ'(u)φ'(v)] where φ does not jump."""
    maps = derive(name).maps
    for c in (-0.9, 0.0, 0.7, 1 - 1e-8):
        price = expect_pair(numeric(maps.slopes), c, 1.5)
        assert maps.derivative_dual(c, 1.5) == pytest.approx(price, rel=1e-12)


@pytest.mark.parametrize("text", ["sign", "tanh(x) + sign(x)/10", "step", "hardshrink"])
def test_no_edge_of_chaos_where_a_function_jumps(text):
    derivation = derive(text)
    with pytest.raises(ValueError, match=r"jumps at .*, so its C-map has slope inf"):
        derivation.maps.edge_of_chaos(0.05)
    assert len(derivation.maps.critical_line([0.5, 1.0])) == 0
    assert not derivation.maps.criticality


def test_a_jump_away_from_0_is_not_seen_by_a_vanishing_signal():
    (point,) = derive("tanh(x) + where(x > 1, 0.1, 0)").maps.criticality
    assert (point.kind, point.q) == ("K* = 0", 0.0)


@jax.custom_vjp
def straight_through(x):
    return jnp.tanh(x)


straight_through.defvjp(lambda x: (jnp.tanh(x), None), lambda _, g: (2 * g,))


@jax.custom_vjp
def binary(x):
    return jnp.sign(x)


binary.defvjp(lambda x: (jnp.sign(x), x), lambda x, g: (jnp.where(jnp.abs(x) <= 1, g, 0.0),))


def test_the_gradient_and_the_correlation_have_each_a_chi():
    """Of tanh with the gradient 2: χ of the gradient is 4 σ_w², the rest is tanh's."""
    rule, tanh = derive(straight_through), derive("tanh")
    assert rule.maps.chi(0.7, 1.5) == 4 * 1.5
    assert rule.maps.cmap_slope(1.0, 0.7, 1.5) == tanh.maps.cmap_slope(1.0, 0.7, 1.5)
    assert rule.maps.cmap_slope(0.3, 0.7, 1.5) == tanh.maps.cmap_slope(0.3, 0.7, 1.5)
    for own, plain in zip(
        rule.maps.fixed_points(1.5, 0.1), tanh.maps.fixed_points(1.5, 0.1), strict=True
    ):
        assert (own.q, own.slope, own.chi_correlation) == (plain.q, plain.slope, plain.chi)
        assert (own.chi, plain.chi_correlation) == (4 * 1.5, plain.chi)
    assert rule.maps.depth_scales(1.5, 0.1) == tanh.maps.depth_scales(1.5, 0.1)
    assert tuple(rule.maps.edge_of_chaos(0.05)) == tuple(tanh.maps.edge_of_chaos(0.05))
    assert rule.maps.critical_line([0.5]).tolist() == tanh.maps.critical_line([0.5]).tolist()
    assert rule.maps.criticality == tanh.maps.criticality


def test_a_binary_network_with_a_straight_through_gradient():
    """Sign forward, 1 on [−1, 1] backward: at q = 1, E[g²] = erf(1/√2)."""
    rule = derive(binary)
    (point,) = rule.maps.fixed_points(1.0)
    assert point.chi == pytest.approx(math.erf(0.5**0.5), rel=1e-14)
    assert point.chi_correlation == math.inf
    assert rule.maps.depth_scales(1.0) == derive("sign").maps.depth_scales(1.0)


def test_the_edge_of_chaos_says_whether_it_keeps_the_variance():
    gelu_ = derive("gelu")
    edge = gelu_.maps.edge_of_chaos(0.1)
    assert edge.q == pytest.approx(1.632, abs=1e-3) and edge.slope == pytest.approx(1.037, abs=1e-3)
    assert edge.stability == "unstable" and not edge.stable
    (other,) = (p for p in gelu_.maps.fixed_points(edge.sigma_w2, 0.1) if p.stable)
    assert (round(other.q, 3), round(other.chi, 3)) == (0.423, 0.819)
    assert gelu_.maps.edge_of_chaos(0.3).stable  # beyond the half-stable point
    assert derive("tanh").maps.edge_of_chaos(0.05).stable
    assert derive("tanh").maps.edge_of_chaos().stability == "marginal"


def test_every_critical_point():
    """x³ − 3x: E[φ²] = 15q³ − 18q² + 9q and E[φ'²] = 27q² − 18q + 9."""
    zero, one = derive("x**3 - 3*x").maps.criticality
    assert (zero.kind, zero.q, zero.sigma_w2, zero.sigma_b2) == ("K* = 0", 0, 1 / 9, 0)
    assert (one.kind, one.exact) == ("half-stable", 1)
    assert (one.sigma_w2, one.sigma_b2) == pytest.approx((1 / 18, 2 / 3), rel=1e-15)
    zero, other = derive("tanh(x) + 0.05*x**3").maps.criticality
    assert (zero.kind, zero.sigma_w2, other.kind) == ("K* = 0", 1.0, "half-stable")
    assert other.q == pytest.approx(1.3307, abs=5e-5)


def test_a_search_asks_for_no_variance_that_takes_much_work():
    """At q = 10⁸ the sine has 10⁴ periods, and the exponential is beyond floats on half of them."""
    with at_most(20):
        (found,) = derive("x*tanh(exp(x)) + 0.2*sin(3*x)").maps.criticality
    assert found.sigma_w2 == pytest.approx((math.tanh(1) + 0.6) ** -2, rel=1e-15)


def test_a_function_is_known_up_to_the_first_variance_that_takes_too_much_work():
    asked = []

    def costly(variance):
        asked.append(variance)
        with quickly():
            spend(variance)
        return 1.0

    known = Known(costly)
    assert known(10.0) == 1.0 and math.isnan(known(1e9)) and math.isnan(known(1e10))
    assert known(20.0) == 1.0 and known(10.0) == 1.0 and asked == [10.0, 1e9, 20.0]


def test_two_branches_that_meet_at_a_root_without_a_formula_do_not_jump():
    met = derive("max(x, tanh(x - 1))").maps
    assert met.jumps == () and math.isfinite(met.slope_energy(1.0))
    (place,) = derive("where(x > tanh(x - 1), x + 1e-9, tanh(x - 1))").maps.jumps
    assert float(place) == pytest.approx(-0.96118, abs=1e-5)


def test_fixed_points_close_together_are_told_apart():
    """SiLU's half-stable pair: the map touches the diagonal, and 2 % beyond crosses it."""
    silu = derive("silu")
    (found,) = silu.maps.criticality
    touching, crossing = silu.maps.fixed_points(found.sigma_w2, found.sigma_b2)
    assert touching.q == pytest.approx(found.q, rel=1e-6) and touching.stability == "marginal"
    assert crossing.q == pytest.approx(14.593, abs=1e-3) and crossing.stable


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-4])
def test_the_search_sees_two_roots_however_close(distance):
    roots = [3.0, 3.0 * (1 + distance), 700.0]

    def function(x):
        a, b, c = (math.log(x / root) for root in roots)
        return a * b * c

    assert find_roots(function, 1e-8, 1e8, 1e-12) == pytest.approx(roots, rel=1e-7)
    assert find_roots(lambda x: function(x) ** 2 + 1e-3, 1e-8, 1e8, 1e-12) == []


def test_the_pair_says_that_there_are_others():
    with pytest.warns(UserWarning, match=r"keeps K\* = 0 \(K\* = 0\).*K\* = 1 \(half-stable\)"):
        kernel, _, kept = flaxinit.critical("x**3 - 3*x")
    assert kept == 0 and kernel.scale == pytest.approx(1 / 9, rel=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flaxinit.critical("silu").q == pytest.approx(14.320, abs=1e-3)
