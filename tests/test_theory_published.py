"""Numbers that others have published, each with its source."""

import mpmath
import numpy as np
import pytest
import sympy
from scipy import stats
from sympy import Rational, Symbol, asin, pi, sqrt

from flaxinit.theory import derive, q, z
from flaxinit.theory.functions.constants import SeluAlpha, SeluScale
from flaxinit.theory.functions.piecewise import Piece
from flaxinit.theory.moments.enclosure import enclose

pytestmark = pytest.mark.any_jax

a = Symbol("a", positive=True)


def same(one, other) -> bool:
    return sympy.simplify(one - other) == 0


def as_printed(value: float, printed: str) -> bool:
    """Whether a value rounds to a number printed with so many decimals."""
    decimals = len(printed.partition("e")[0].partition(".")[2])
    exponent = int(printed.partition("e")[2] or 0)
    return abs(value - float(printed)) <= 0.5 * 10.0 ** (exponent - decimals)


def test_as_printed_is_strict():
    assert as_printed(1.0499956, "1.05") and not as_printed(1.0556, "1.05")


# Klambauer, Unterthiner, Mayr & Hochreiter (2017), to the digits of their code.
def test_selu_constants():
    for constant, printed in (
        (SeluAlpha(), "1.6732632423543772848170429916717"),
        (SeluScale(), "1.0507009873554804934193349852946"),
    ):
        assert abs(constant.evalf(40) - sympy.Float(printed, 40)) < 1e-31


def test_selu_keeps_mean_0_and_variance_1():
    selu = derive("selu")
    low, high = selu.mean.bounds
    assert low <= 0 <= high and high - low < 1e-40
    low, high = selu.second_moment.bounds
    assert low <= 1 <= high and high - low < 1e-40


# He, Zhang, Ren & Sun (2015), equations 10 and 15: Var W = 2 / n, and 2 / ((1 + a²) n).
def test_he():
    assert derive("relu").second_moment.exact == q / 2
    assert derive("relu").variance(100) == 0.02
    prelu = derive("where(x > 0, x, a * x)").second_moment
    assert same(prelu.exact, q * (1 + a**2) / 2)


# Hendrycks & Gimpel (2016) define x Φ(x); its moments under N(0, q) follow from Stein's identity
# and Williams' arcsine (Tsuchida, Pearce, van der Heide, Roosta & Gallagher, 2021).
def test_gelu():
    quarter_turn = q / 4 + q / (2 * pi) * asin(q / (1 + q))
    published = quarter_turn + q**2 / (pi * (1 + q) * sqrt(1 + 2 * q))
    assert same(derive("gelu").second_moment.exact, published)
    assert same(derive("gelu").mean.exact, q / sqrt(2 * pi * (1 + q)))


# Williams (1998), at equal inputs: E[erf²] = (2/π) arcsin(2q / (1 + 2q)).
def test_williams():
    assert same(derive("erf").second_moment.exact, 2 / pi * asin(2 * q / (1 + 2 * q)))
    assert same(derive("erf").derivative_second_moment.exact, 4 / pi / sqrt(1 + 4 * q))


# Cho & Saul (2009), at θ = 0: J_n(0) = π (2n − 1)!!, k_n = J_n(0) / π for the
# one-sided power Θ(x) xⁿ with the kernel's factor 2.
@pytest.mark.parametrize("n", range(6))
def test_cho_saul(n):
    power = sympy.Max(z, 0) ** n if n else sympy.Heaviside(z)
    assert same(2 * derive(power).second_moment.exact, sympy.factorial2(2 * n - 1) * q**n)


# Rahimi & Recht (2007): E[cos²] + E[sin²] = 1; Sitzmann et al. (2020) for the sine.
def test_sine():
    omega = Symbol("omega", positive=True)
    sine, cosine = derive(sympy.sin(omega * z)), derive(sympy.cos(omega * z))
    assert same(sine.second_moment.exact, (1 - sympy.exp(-2 * omega**2 * q)) / 2)
    assert same(sine.second_moment.exact + cosine.second_moment.exact, 1)


# Ziyin, Hartwig & Ueda (2020): the variance of x + sin²(ax)/a at q = 1.
def test_snake():
    snake = derive(z + sympy.sin(a * z) ** 2 / a)
    mean = (1 - sympy.exp(-2 * a**2)) / (2 * a)
    variance = 1 + (1 + sympy.exp(-8 * a**2) - 2 * sympy.exp(-4 * a**2)) / (8 * a**2)
    assert same(snake.mean.exact.subs(q, 1), mean)
    assert same(snake.second_moment.exact.subs(q, 1), variance + mean**2)


# Schoenholz, Gilmer, Ganguli & Sohl-Dickstein (2017): tanh without bias is critical at σ_w² = 1.
# (1.76, 0.05), and in Xiao et al. (2018) (1.05, 2.01e-5), are (σ_w², σ_b²) on its critical line.
def test_tanh_on_the_critical_line():
    tanh = derive("tanh")
    assert tuple(tanh.maps.edge_of_chaos(0.0)) == pytest.approx((0.0, 1.0), abs=1e-9)
    for bias, printed in ((2.01e-5, "1.05"), (0.05, "1.76")):
        fixed_point, weight = tanh.maps.edge_of_chaos(bias)
        assert as_printed(weight, printed)
        assert tanh.maps.qmap(fixed_point, weight, bias) == pytest.approx(fixed_point, rel=1e-9)
        assert tanh.maps.chi(fixed_point, weight) == pytest.approx(1, rel=1e-9)


# Roberts, Yaida & Hanin (2022), chapter 5: GELU and SWISH are half-stable.
def test_half_stable_points():
    (gelu,), (swish,) = derive("gelu").maps.criticality, derive("silu").maps.criticality
    assert gelu.q == pytest.approx((3 + 17**0.5) / 2, rel=1e-12)
    assert as_printed(gelu.sigma_b2, "0.17292239") and as_printed(gelu.sigma_w2, "1.98305826")
    assert as_printed(swish.q, "14.32017362")
    assert as_printed(swish.sigma_b2, "0.55514317") and as_printed(swish.sigma_w2, "1.98800468")


# Brock, De & Smith (2021), appendix D: 1/std φ(z), estimated on 1024 rows of 256 normal samples
# as (mean over rows of the row's biased variance)^(-1/2).
NF_GAMMA = {
    "celu": 1.270926833152771,
    "elu": 1.2716004848480225,
    "gelu": 1.7015043497085571,
    "leaky_relu": 1.70590341091156,
    "log_sigmoid": 1.9193484783172607,
    "relu": 1.7139588594436646,
    "relu6": 1.7131484746932983,
    "selu": 1.0008515119552612,
    "sigmoid": 4.803835391998291,
    "silu": 1.7881293296813965,
    "softsign": 2.338853120803833,
    "softplus": 1.9203323125839233,
    "tanh": 1.5939117670059204,
}
ROWS, COLUMNS = 1024, 256
NF_Z = float(stats.norm.isf(1e-4 / (2 * len(NF_GAMMA))))


def nf_error(derivation, gamma: float) -> float:
    """Distance of the published estimate from the derived variance, in standard errors."""
    mean, pieces = derivation.mean.value, derivation.mean.pieces
    variance = derivation.second_moment.value - mean**2
    centered = [Piece(p.low, p.high, (p.expr - Rational(mean)) ** 4) for p in pieces]
    fourth = float(enclose(centered).mid())
    estimate = COLUMNS / (COLUMNS - 1) / gamma**2
    # Var of an unbiased sample variance: (μ₄ − σ⁴ (n − 3)/(n − 1)) / n, over all rows.
    kept = (COLUMNS - 3) / (COLUMNS - 1)
    error = np.sqrt((fourth - variance**2 * kept) / (COLUMNS * ROWS))
    return abs(estimate - variance) / error


@pytest.mark.parametrize("name", NF_GAMMA)
def test_variance_agrees_with_normalizer_free_networks(name):
    assert nf_error(derive(name), NF_GAMMA[name]) < NF_Z


def test_normalizer_free_constants_tell_activations_apart():
    assert nf_error(derive("gelu"), NF_GAMMA["silu"]) > NF_Z


# PyTorch's calculate_gain("tanh") is 5/3 and keeps no variance: E[tanh²] is not 9/25.
def test_five_thirds_is_not_the_gain_of_tanh():
    low, high = derive("tanh").second_moment.bounds
    assert not low <= mpmath.mpf(9) / 25 <= high
