"""What a derivation says, and what it refuses."""

import math
import pickle

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from flax import linen
from sympy import Piecewise, Rational, Symbol, exp, tanh

import flaxinit
from flaxinit.theory import CATALOGUE, Derivation, NotCertifiable, derive, q, z
from flaxinit.theory.functions.piecewise import split
from flaxinit.theory.moments.moment import Moment
from tests.pace import at_most


@pytest.mark.parametrize("name", CATALOGUE)
def test_gains_are_reciprocal_roots(name):
    d = derive(name)
    assert d.gain == pytest.approx(d.second_moment.value**-0.5, rel=1e-15)
    assert d.variance(128) * 128 == pytest.approx(d.gain**2, rel=1e-15)
    if d.derivative_second_moment.value > 0:
        expected = d.derivative_second_moment.value**-0.5
        assert d.backward_gain == pytest.approx(expected, rel=1e-15)
    else:
        assert name in ("step", "sign") and d.backward_gain == math.inf


@pytest.mark.parametrize("name", CATALOGUE)
def test_it_explains_itself(name):
    d = derive(name)
    page, latex = d.markdown(), d.latex()
    assert page.startswith(f"## {name}") and repr(d.gain) in page
    assert page.count("$$") % 2 == 0 and latex.count(r"\begin") == latex.count(r"\end")
    for moment in (d.mean, d.second_moment, d.derivative_second_moment):
        assert moment.symbol in page and moment.symbol in latex
        assert bool(moment.steps) or moment.exact is None
    assert d._repr_markdown_() == page and d._repr_latex_() == latex
    assert repr(d.gain) in repr(d)


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "step", "selu"])
def test_a_derivation_survives_a_pickle(name):
    d = derive(name)
    assert pickle.loads(pickle.dumps(d)).second_moment.bounds == d.second_moment.bounds


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "step"])
def test_the_initializer_keeps_the_signal(name):
    d = derive(name)
    kernel = d.initializer()
    assert kernel == flaxinit.he(name)
    assert kernel.variance((256, 64)) * 256 * d.second_moment.value == pytest.approx(1, rel=1e-14)
    layer = linen.Dense(64, kernel_init=kernel)
    assert layer.init(jax.random.key(0), jnp.ones((1, 256)))["params"]["kernel"].shape == (256, 64)


def test_fan_out_keeps_the_gradient():
    d = derive("gelu")
    variance = d.initializer("fan_out").variance((256, 64))
    assert variance * 64 * d.derivative_second_moment.value == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("mode", ["fan_out", "fan_avg"])
def test_a_step_has_no_gradient_to_keep(mode):
    with pytest.raises(ValueError, match=r"E\[φ'|gradient|backward"):
        derive("step").initializer(mode)


def floats():
    x = Symbol("x")
    return [
        (Piecewise((x, x > 0), (0.01 * x, True)), "leaky_relu"),
        (x * (1 + sympy.erf(x * 0.7071067811865476)) / 2, "gelu"),
        (x / (1 + exp(-1.0 * x)), "silu"),
    ]


@pytest.mark.parametrize(("expr", "name"), floats())
def test_a_float_in_an_expression_is_read_like_one_in_a_function(expr, name):
    assert derive(expr).second_moment.exact == derive(name).second_moment.exact
    assert derive(expr).gain == derive(name).gain


def test_a_symbol_of_any_name_is_the_variable():
    for symbol in (z, Symbol("x"), Symbol("t", real=True)):
        assert derive(symbol * tanh(symbol)).gain == derive("lisht").gain
    with pytest.raises(ValueError, match=r"several symbols.*lambda u, v: jax\.nn\.silu"):
        derive(Symbol("t") * Symbol("u"))


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (0.2, r'write "max\(x, 0\.2\*x\)"\.'),
        (jnp.float32, "dtype by name: dtype=\\."),
        ((0, 1), "axes by name: in_axis=, out_axis=\\."),
        (None, "of type NoneType\\."),
        (["relu"], "of type list\\."),
    ],
)
def test_what_is_not_an_activation_gets_the_remedy_for_its_kind(value, remedy):
    with pytest.raises(TypeError, match=remedy + "$"):
        flaxinit.he(value)


def test_parameters():
    leaky = derive("where(x > 0, x, a * x)")
    assert repr(leaky).endswith("E[phi^2]=q*(a**2 + 1)/2, open: a)")
    assert repr(derive("x * sigmoid(b * x)")) == "Derivation('x * sigmoid(b * x)', open: b)"
    assert leaky.subs(a=0.01).gain == derive("leaky_relu").gain
    assert leaky.subs(a=Rational(1, 4)).gain == derive("prelu").gain
    assert leaky.subs(a=np.float32(0.25)).gain == derive("prelu").gain
    with pytest.raises(ValueError, match=r"no open parameter b\. It has a"):
        leaky.subs(b=1)
    with pytest.raises(ValueError, match=r"subs\(a="):
        leaky.gain
    with pytest.raises(ValueError, match=r"subs\(a="):
        leaky.initializer()
    for door in (flaxinit.he, flaxinit.gain, lambda _: leaky.initializer()):
        with pytest.raises(ValueError, match=r"open parameters.*subs\(a=0.1\)"):
            door("where(x > 0, x, a * x)")
    assert flaxinit.he(leaky.subs(a=0.25)) == flaxinit.he("prelu")


def test_an_option_that_an_initializer_lacks_is_named():
    with pytest.raises(TypeError, match=r"^initializer takes no keyword 'axis'.*in_axis"):
        derive("gelu").initializer(axis=3)
    kernel = derive("gelu").initializer(in_axis=0, out_axis=1, dtype=jnp.bfloat16)
    assert kernel == flaxinit.he("gelu", in_axis=0, out_axis=1, dtype=jnp.bfloat16)


def test_the_variable_alone_is_the_identity():
    assert flaxinit.he("x") == flaxinit.he(" z ") == flaxinit.he("linear")


@pytest.mark.parametrize("name", ["gleu", "Swish", "nonesuch"])
def test_a_wrong_name_gets_the_same_error_everywhere(name):
    messages = []
    for use in (derive, flaxinit.he, flaxinit.gain, flaxinit.critical):
        with pytest.raises(ValueError, match="not in the catalogue") as caught:
            use(name)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1


NO_VALUE = (-1, 0, float("nan"), float("inf"), None, 1j, Symbol("c"), "x")


@pytest.mark.parametrize("bad", NO_VALUE)
def test_a_parameter_takes_a_number_that_fits_it(bad):
    with pytest.raises((ValueError, TypeError), match="parameter"):
        derive("where(x > 0, x, a * x)").subs(a=bad)


def test_parameters_without_a_closed_form_wait_for_a_number():
    waiting = derive("x * sigmoid(b * x)")
    with pytest.raises(ValueError, match=r"depends on the open parameter b"):
        _ = waiting.gain
    assert waiting.subs(b=1.702).gain == derive("quick_gelu").gain


def test_a_forward_gain_exists_where_the_gradient_diverges():
    root = derive("sign(x) * sqrt(abs(x))")
    assert root.derivative_second_moment.value == math.inf
    assert root.initializer().variance((100, 10)) == pytest.approx(0.01 / root.second_moment.value)
    with pytest.raises(ValueError, match="no finite one does"):
        root.initializer("fan_out")


@pytest.mark.parametrize("name", ["RELU", "Gelu", "gleu", "leakyrelu", "swihs"])
def test_a_mistyped_name_is_answered_with_near_ones(name):
    with pytest.raises(ValueError, match="did you mean"):
        derive(name)


def test_a_broken_record_cannot_be_built():
    d = derive("exp")
    with pytest.raises(AssertionError, match="cannot be"):
        Derivation("broken", d.expr, d.second_moment, d.mean, d.derivative_second_moment)
    low, high = d.second_moment.bounds
    with pytest.raises(AssertionError):
        Moment("E", d.second_moment.pieces, None, (high, low - mpmath.mpf(1)))


def test_the_budget_is_kept_and_the_enclosure_stands_alone():
    hard = "(x + sin(x) + exp(-x**2) + erf(x))**4"
    d = derive(hard, budget=2)
    assert d.second_moment.method == "enclosure"
    assert d.second_moment.remark
    rounded = derive("gelu", budget=1e-9)
    assert rounded.second_moment.exact is None
    assert rounded.gain == derive("gelu").gain


@pytest.mark.parametrize(
    "text",
    [
        "(x + sin(x) + exp(x) + erf(x) + 1)**12",
        "sin(sin(sin(sin(sin(sin(sin(sin(x))))))))",
        "tanh(tanh(tanh(tanh(tanh(tanh(x))))))",
        "(1 + x)**64",
    ],
)
def test_nothing_hangs(text):
    with at_most(25):
        try:
            assert derive(text, budget=2).second_moment.value > 0
        except ValueError as error:
            assert "certif" in str(error)


@pytest.mark.parametrize("text", ["exp(100 * x)", "1e-90 * 1e-90 * x", "exp(30 * x)"])
def test_a_moment_beyond_a_float_is_said_to_be(text):
    with pytest.raises(ValueError, match="range of a float"):
        derive(text).gain


@pytest.mark.parametrize("text", ["max(expm1(10**17), x)", "x * exp(-10**16)", "x + sinh(1e20)"])
def test_a_constant_that_no_algebra_can_hold_is_refused(text):
    with pytest.raises(ValueError, match="must lie between 1e-1000 and 1e1000"):
        derive(text)


@pytest.mark.parametrize("text", ["sigmoid(321503**4) * x", "min(x, 1e22)"])
def test_a_whole_number_beyond_64_bits_is_a_number(text):
    assert derive(text).gain == 1.0


def test_a_power_that_varies_has_no_closed_form():
    with pytest.raises(NotCertifiable, match="grow more slowly"):
        derive("abs(x)**x")
    power = derive("(1 + x**2)**(-1 / (1 + x**2))")
    assert power.second_moment.exact is None
    assert power.second_moment.value < 1


def test_no_closed_form_is_claimed_of_another_function():
    tanh_form, exact = derive(jax.nn.gelu), derive("gelu")
    assert tanh_form.second_moment.exact is None
    assert exact.second_moment.exact.free_symbols == {q}
    assert split(exact.expr) == exact.mean.pieces
