"""Closed forms: even parts, logarithms, inverse powers; and how a paper prints them."""

import jax.numpy as jnp
import pytest
import sympy
from sympy import EulerGamma, Rational, exp, log, pi, sqrt

import flaxinit.theory
from flaxinit.theory import Diverges, c, derive, q, z
from flaxinit.theory.functions import balls
from flaxinit.theory.functions.parity import even_part, is_odd
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.functions.printing import as_printed, latex, text
from flaxinit.theory.moments.closed_form import expectation
from flaxinit.theory.moments.enclosure import enclose
from flaxinit.theory.moments.record import Expectation
from flaxinit.theory.moments.terms import NoClosedForm


def holds(steps) -> int:
    """How many steps are equations between expectations; each is held against integration."""

    def value(side, variance):
        numbers = {e: balls_of(enclose(split_on(e), variance)) for e in side.atoms(Expectation)}
        return balls.evaluate(side.xreplace(numbers).subs(q, variance))

    def split_on(e):
        integrand, low, high = e.args
        inside = sympy.Piecewise((integrand, (z > low) & (z < high)), (0, True))
        return split(integrand if (low, high) == (-sympy.oo, sympy.oo) else inside)

    checked = 0
    for step in steps:
        sides = [s for s in (step.left, step.right, step.result) if isinstance(s, sympy.Expr)]
        if len(sides) < 2 or any(s.has(z) and not s.has(Expectation) for s in sides):
            continue
        if any(e.has(sympy.I) for s in sides for e in s.atoms(Expectation)):
            continue
        checked += 1
        for variance in (Rational(1, 3), Rational(2)):
            with balls.precision():
                known = [value(side, variance) for side in sides]
                assert all(abs(k - known[0]) < 1e-20 * (1 + abs(known[0])) for k in known), step
    return checked


def balls_of(ball):
    """Return a ball's middle as an exact number."""
    mantissa, exponent = ball.mid().man_exp()
    return sympy.Integer(int(mantissa)) * sympy.Integer(2) ** int(exponent)


# Functions whose E[φ²], or E[φ], follows from symmetry alone.
EVEN = {
    "x * sin(pi / 2 * sigmoid(x))": q / 2,
    "x * cos(pi / 2 * normal_cdf(x))": q / 2,
    "x * sin(pi / 4 * (1 + tanh(x)))": q / 2,
    "x**2 * sin(pi / 2 * sigmoid(2 * x))": 3 * q**2 / 2,
    "x * sqrt(sigmoid(x))": q / 2,
    "x * sqrt(1 + tanh(x))": q,
    "sqrt(2 + atan(x))": sympy.Integer(2),
    "sqrt(1 + x / sqrt(1 + x**2))": sympy.Integer(1),
    "sqrt(2 + sin(x))": sympy.Integer(2),
    "abs(x) * sqrt(sigmoid(x))": q / 2,
    "softplus(x) - softplus(-x)": q,
}


@pytest.mark.parametrize("text", EVEN)
def test_only_the_even_part_counts(text):
    moment = derive(text).second_moment
    assert moment.exact == EVEN[text]
    assert balls.bounds(enclose(moment.pieces))[0] == pytest.approx(moment.value, rel=1e-15)


def test_a_mean_by_symmetry():
    assert derive("log_sigmoid(x + 1) - log_sigmoid(x - 1)").mean.exact == 1
    assert derive("log(sigmoid(x + 1)) - log(sigmoid(x - 1))").mean.exact == 1
    assert derive("sigmoid(x)").mean.exact == Rational(1, 2)
    assert even_part(split(sympy.tanh(z) ** 2)) is None  # it is even already
    assert is_odd(split(sympy.tanh(z))) and not is_odd(split(sympy.Max(z, 0)))


# Functions with inverse powers whose poles cancel, and with logarithms.
ERF = sqrt(pi / (2 * q))
FORMS = {
    "sin(x) / x": ERF * sympy.erf(sqrt(2 * q)) - (1 - exp(-2 * q)) / (2 * q),
    "log(abs(x))": ((log(q) - EulerGamma - log(2)) / 2) ** 2 + pi**2 / 8,
    # E[z² log²|z|]: E[|z|^p] twice differentiated at p = 2, (1 + ψ-terms of Γ(3/2)).
    "x * log(abs(x))": q * (((log(q) - EulerGamma - log(2)) / 2 + 1) ** 2 + pi**2 / 8 - 1),
    "x * log(x**2)": 4 * q * (((log(q) - EulerGamma - log(2)) / 2 + 1) ** 2 + pi**2 / 8 - 1),
    "(1 - exp(-x**2)) / x": (2 * sqrt(2 * q + 1) - sqrt(4 * q + 1) - 1) / q,
}


@pytest.mark.parametrize("text", FORMS)
def test_a_closed_form(text):
    exact = derive(text).second_moment.exact
    with balls.precision():
        for variance in (Rational(1, 5), Rational(1), Rational(7, 2)):
            gap = balls.evaluate(exact - FORMS[text], {q: variance})
            assert gap.contains(0) and gap.rad() < 1e-40


POLES_CANCEL = [
    *("sin(2 * x) / x", "(1 - cos(x)) / x", "(exp(x) - 1) / x", "sinh(x) / x", "sin(x)**2 / x"),
    *("(1 - cos(x)) / x**2", "sin(x) * sin(2 * x) / x**2", "exp(-x**2) * sin(x) / x"),
    *("(sin(x) - x * cos(x)) / x**2", "abs(x)**(1/3) * log(abs(x))", "max(x, 0) * log(abs(x))"),
    *(
        "x * log(3 * abs(x))",
        "abs(x) * log(abs(x))**2",
        "log(x**2)**2",
        "where(x > 0, x * log(x), 0)",
    ),
    *("sqrt(abs(x)) * log(abs(x))", "x**2 * log(x**2)", "log(abs(x))**3"),
]


@pytest.mark.parametrize("text", POLES_CANCEL)
def test_a_form_agrees_with_integration_at_any_variance(text):
    for moment in (derive(text).mean, derive(text).second_moment):
        assert moment.exact is not None
        for variance in (Rational(1, 10), Rational(3)):
            integral = enclose(moment.pieces, variance)
            assert integral.overlaps(balls.sharp(moment.exact, {q: variance}))


def test_sinc_of_jax():
    for activation in (jnp.sinc, lambda x: jnp.sinc(x) ** 2):
        sinc = derive(activation)
        assert sinc.second_moment.exact is not None and sinc.second_moment.value > 0
    assert derive(jnp.sinc).mean.exact == derive("sin(pi * x) / (pi * x)").mean.exact


def test_a_pole_that_does_not_cancel_has_no_closed_form():
    with pytest.raises(NoClosedForm, match="pole"):
        expectation(split(sympy.cos(z) / z**2))
    with pytest.raises(Diverges, match="pole"):
        derive("cos(x) / x")


PRINTED = {
    sqrt(2 * q / pi): "sqrt(2*q/pi)",
    sqrt(2) * q / (2 * sqrt(pi) * sqrt(q + 1)): "q/sqrt(2*pi*(q + 1))",
    q ** Rational(3, 2) * sqrt(2) / sqrt(pi): "q*sqrt(2*q/pi)",
    sympy.erf(sqrt(2) * sqrt(q) / 2): "erf(sqrt(q/2))",
    sqrt(2) / (4 * sqrt(pi) * sqrt(q)): "1/(2*sqrt(2*pi*q))",
    q / sqrt(2 * q + 1): "q/sqrt(2*q + 1)",
    sqrt(3) * q / 3: "sqrt(3)*q/3",
}


@pytest.mark.parametrize("expr", PRINTED, ids=str)
def test_forms_as_a_paper_prints_them(expr):
    assert text(expr) == PRINTED[expr]
    value = sympy.sympify(text(expr), locals={"q": q})
    assert sympy.simplify(value - expr) == 0


def test_a_report_prints_whole_roots():
    assert r"\sqrt{\frac{2 q}{\pi}}" in derive("abs").latex()
    assert "exact=sqrt(2*q/pi)" in repr(derive("abs").mean)
    assert latex(as_printed(z)) == "z"


@pytest.mark.parametrize(
    "text",
    [
        *("isru", "squareplus", "softsign", "isrlu", "bent_identity", "x**3 / (1 + x**2)**2"),
        *("x**2 * sqrt(1 + x**2)", "exp(-x**2) * x**2 / sqrt(2 + x**2)", "relu(x)**3 / (1 + x**2)"),
    ],
)
def test_every_step_of_the_algebraic_route_holds(text):
    d = derive(text)
    steps = [
        step for m in (d.mean, d.second_moment, d.derivative_second_moment) for step in m.steps
    ]
    assert holds(steps) >= 2
    assert any("part" in step.reason or "bracket" in step.reason for step in steps)


@pytest.mark.parametrize("text", ["x * log(abs(x))", "gelu", "x * sqrt(sigmoid(x))"])
def test_every_step_holds(text):
    assert holds(derive(text).second_moment.steps) >= 1


def test_the_complex_mean_is_explained_once():
    page = derive("cos").markdown()
    shifts = [s for s in derive("cos").second_moment.steps if "contour" in s.reason]
    assert len(shifts) == 1 and r"\mathcal{N}(z;\, m,\, s)" in page
    assert not any("contour" in step.reason for step in derive("gelu").second_moment.steps)


def test_a_heading_is_text():
    for activation, heading in (
        (lambda x: jnp.tanh(x), r"## \<lambda\>"),
        ("x * tanh(x) * 2", r"## x \* tanh(x) \* 2"),
        ("gelu_tanh", "## gelu_tanh"),
    ):
        assert derive(activation).markdown().splitlines()[0] == heading


def test_the_correlation_is_public():
    assert derive("erf").maps.dual_expr.free_symbols == {c, q}
    assert flaxinit.theory.c is c
