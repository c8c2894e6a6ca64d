"""Formulas in a string: what is read; what is refused, quickly and without evaluation."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
import sympy
from hypothesis import given, settings, strategies as st
from jax import lax
from sympy import Abs, Max, Min, Rational, Symbol, erf, exp, log, sign, sqrt, tanh

from flaxinit.catalogue import ALIASES
from flaxinit.theory import CATALOGUE, derive, z
from flaxinit.theory.functions.branches import Piecewise
from flaxinit.theory.reading.catalogue import ACTIVATIONS, catalogue_expr
from flaxinit.theory.reading.formula import MAX_LENGTH, read_formula
from flaxinit.theory.reading.jax_function import trace
from flaxinit.theory.reading.vocabulary import FUNCTIONS
from tests.pace import at_most

a = Symbol("a", positive=True)
READ = {
    "x": z,
    "z": z,
    " x ": z,
    "x if x > 0 else x / 2": Piecewise((z, z > 0), (z / 2, True)),
    "+x - -x": 2 * z,
    "x / 2 + 0.25": z / 2 + Rational(1, 4),
    "0.044715 * x**3": Rational(44715, 10**6) * z**3,
    "1_000.5 * x": Rational(2001, 2) * z,
    "x**0.5": sqrt(z),
    "exp(-x**2)": exp(-(z**2)),
    "e**x": exp(z),
    "pi * x": sympy.pi * z,
    "sigmoid(x)": 1 / (1 + exp(-z)),
    "x * tanh(softplus(x))": z * tanh(log(1 + exp(z))),
    "normal_cdf(x)": (1 + erf(z / sqrt(2))) / 2,
    "relu(x)": Max(z, 0),
    "acosh(2 + x**2)": log(2 + z**2 + sqrt((2 + z**2) ** 2 - 1)),
    "max(x, 0) + min(x, 1, 2)": Max(z, 0) + Min(z, 1),
    "sign(x) * abs(x)": sign(z) * Abs(z),
    "where(x > 0, x, a * x)": Piecewise((z, z > 0), (a * z, True)),
    "where(-1 <= x < 1, x, 0)": Piecewise((z, sympy.Le(-1, z) & (z < 1)), (0, True)),
    "where(x < -1 or x > 1, x, 0)": Piecewise((z, (z < -1) | (z > 1)), (0, True)),
    "where(x == 1, 2, x)": Piecewise((2, sympy.Eq(z, 1)), (z, True)),
    "ｘ * 2": 2 * z,  # Python normalizes identifiers (NFKC), so a full-width x is an x
}

REFUSED = {
    # Code
    "__import__('os').system('x')": "a call is a function's name",
    "eval('x')": "unknown function 'eval'",
    "exec(x)": "unknown function 'exec'",
    "open(x)": "unknown function 'open'",
    "__import__(x)": "unknown function '__import__'",
    "x.real": "only numbers, names",
    "().__class__.__bases__[0]": "only numbers, names",
    "x.__class__": "only numbers, names",
    "(lambda: x)()": "a call is a function's name",
    "lambda: x": "only numbers, names",
    "(y := x)": "only numbers, names",
    "f'{x}'": "only numbers, names",
    "[x for x in (1, 2)]": "only numbers, names",
    "{x: 1}": "only numbers, names",
    "x if x else 0": "a number is not a condition",
    "where(acosh(-1) > 1, x, 0)": "a comparison must be between real numbers",
    "x and x": "a number is not a condition",
    "where(x > 0 or x, x, 0)": "a number is not a condition",
    "where(x, x, 0)": "a number is not a condition",
    "x[0]": "only numbers, names",
    "await x": "only numbers, names",
    "sin(*x)": "only numbers, names",
    "sin(x=1)": "have no names",
    "sin(**x)": "have no names",
    "x; x": "not an expression",
    "x = 1": "not an expression",
    "import os": "not an expression",
    "x\nx": "not an expression",
    "x\x00": "not an expression",
    "": "not an expression",
    "  ": "not an expression",
    "x²": r"Write x² as x\*\*2",
    "|x|": r"invalid syntax\. Write \|x\| as abs\(x\)",
    "max(-|x|, -1)": r"Write \|x\| as abs\(x\)",
    "2x + 1": r"invalid decimal literal\. Write 2x as 2\*x\.$",
    "x +": "not an expression",
    # Numbers
    "x**65": "an exponent may be at most",
    "x**-65": "an exponent may be at most",
    "x**1e99": "an exponent may be at most",
    "2**64**64": "a power may be at most",
    "1e999 * x": "a number must lie between",
    "1e-999999999 * x": "a number must lie between",
    "9" * 41 + " * x": "a number may have",
    "1j * x": "a constant must be a real number",
    "True * x": "a constant must be a real number",
    "None": "a constant must be a real number",
    "'a' * x": "a constant must be a real number",
    "...": "a constant must be a real number",
    "x / 0": "divide by zero",
    "x / (1 - 1)": "divide by zero",
    # Operators
    "x // 2": "the only operators",
    "x % 2": "the only operators",
    "x @ x": "the only operators",
    "x << 2": "the only operators",
    "x | 1": "the only operators",
    "x^2 + 1": r"x\^2 is written x\*\*2",
    "~x": "the only unary operators",
    "not x": "the only unary operators",
    "x is 1": "the comparisons",
    "where(x != 0, x, 0)": "the comparisons",
    # Meaning
    "x > 0": "is a condition, not a number",
    "tnah(x)": "did you mean tanh",
    "x * tanh": "tanh is a function: call it",
    "x(x)": "unknown function 'x'",
    "sin(x, x)": "sin takes 1 argument, got 2",
    "sqrt(x, 5)": "sqrt takes 1 argument, got 2",
    "log(x, 2, 3)": "log takes 1 or 2 arguments, got 3",
    "tanh(1)": r"no variable: it is a number.*as in tanh\(x\)\.$",
    "tanh(a)": r"no variable: a is a parameter\. Call the variable x\.$",
    "tanh(u) * v": r"no variable: u, v are parameters.*lambda u, v: jax\.nn\.silu\(u\) \* v",
    "erf_inv(tanh(x))": "unknown function 'erf_inv'",
    "where(x > 0, x)": "where takes 3 arguments, got 2",
    "max(x > 0, 1)": "a condition is not a number",
}

# Texts that would take a careless reader years. Each must be refused within a second.
BOMBS = {
    "long": "x" * 100_000,
    "long sum": "+".join("x" * 100_000),
    "deep parentheses": "(" * 499 + "x" + ")" * 499,
    "deep signs": "-" * 990 + "x",
    "deep calls": "sin(" * 240 + "x" + ")" * 240,
    "deep products": "2*(" * 180 + "x" + ")" * 180,
    "power tower": "**".join(["9"] * 200),
    "nested powers": "((((((2**64)**64)**64)**64)**64)**64) * x",
    "nested powers of x": "((x + 1)**64)**64",
    "tiny exponent": "1e-999999999 * x",
    "exponentials": "x**exp(exp(exp(exp(9))))",
    "compared exponentials": "max(exp(exp(exp(exp(9)))), x)",
}


@pytest.mark.parametrize("text", READ)
def test_read(text):
    assert sympy.expand(read_formula(text) - READ[text]) == 0


@pytest.mark.parametrize("name", [*CATALOGUE, *ALIASES])
def test_every_activation_is_a_function(name):
    doubled = catalogue_expr(ALIASES.get(name, name)).subs(z, 2 * z)
    assert read_formula(f"{name}(2 * x)", FUNCTIONS | ACTIVATIONS) == doubled


JAXS = {name: getattr(jnp, name) for name in FUNCTIONS if hasattr(jnp, name)}
JAXS |= {name: getattr(lax, name) for name in ("erf", "erfc", "logistic", "rsqrt")}
JAXS |= {name: getattr(jax.nn, name) for name in ("relu", "sigmoid", "softplus")}
BETWEEN = {"acos", "asin", "atanh"}  # -1 and 1; the others take what is above 1


@pytest.mark.parametrize("name", sorted(JAXS.keys() - {"where", "max", "min"}))
def test_a_formula_and_a_jax_function_mean_the_same_by_a_name(name):
    argument = "1 / (2 + x**2)" if name in BETWEEN else "2 + x**2"
    arguments = [argument, "x"] if name == "logaddexp" else [argument]
    formula = read_formula(f"{name}({', '.join(arguments)})")

    def function(x):
        inner = 1 / (2 + x**2) if name in BETWEEN else 2 + x**2
        return JAXS[name](inner, x) if name == "logaddexp" else JAXS[name](inner)

    assert sympy.simplify(trace(function).expr() - formula) == 0


def test_a_formula_of_activations():
    assert derive("gelu(x)").second_moment == derive("gelu").second_moment
    assert derive("0.5 * silu(2 * x)").gain == derive("x * sigmoid(2 * x)").gain
    with pytest.raises(ValueError, match="did you mean gelu"):
        derive("x + gleu(x)")
    with pytest.raises(ValueError, match="gelu is a function: call it"):
        derive("x * gelu")


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(ValueError, match=REFUSED[text]) as caught:
        read_formula(text)
    size = len(str(caught.value))
    assert size < 600


ACTIVATION_WITH_NUMBERS = {
    "leaky_relu(x, 0.3)": r"takes 1 argument, got 2\. It is where\(x > 0, x, x / 100\): write that",
    "elu(x, alpha=2)": r"have no names\. It is where\(x > 0, x, exp\(x\) - 1\): write that",
    "leaky_relu(0.3)": r"it is a number.*as in leaky_relu\(x\)\. It is where",
    "selu(x, 1.5)": r"takes 1 argument, got 2\.$",  # its constants have no name in a formula
    "x * softplus(x, 2)": r"takes 1 argument, got 2\.$",
}


@pytest.mark.parametrize("text", ACTIVATION_WITH_NUMBERS)
def test_an_activation_with_other_numbers_is_written_as_its_formula(text):
    with pytest.raises(ValueError, match=ACTIVATION_WITH_NUMBERS[text]):
        derive(text)


@pytest.mark.parametrize("name", BOMBS)
def test_refused_quickly(name):
    # A tenth of a second on a quiet machine; an expansion would take years.
    with at_most(5), pytest.raises(ValueError) as caught:
        derive(BOMBS[name])
    size = len(str(caught.value))
    assert size < 600


@pytest.mark.parametrize("name", ["q", "nan", "inf", "oo", "E", "I"])
def test_a_parameter_with_a_meaning_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match=name):
        derive(f"where(x > 0, x, {name} * x)")


@pytest.mark.parametrize("text", ["(x > 0) * x", "where(x > 0, x > 1, 0)", "where(x, 1, 2)"])
def test_a_condition_is_not_a_number_nor_a_number_a_condition(text):
    with pytest.raises(ValueError, match="condition"):
        derive(text)


def test_the_longest_formula_is_read():
    terms = MAX_LENGTH // 2
    assert read_formula("+".join(["x"] * terms)) == terms * z
    assert read_formula("1" + "-x" * (terms - 1)) == 1 - (terms - 1) * z


ALPHABET = "xz019.e+-*/()<>=,'\"_ \\\n{}[]:;@%~|&^#lambdainfosqrtexp"


@given(st.text(ALPHABET, max_size=40) | st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(read_formula(text), sympy.Expr)
