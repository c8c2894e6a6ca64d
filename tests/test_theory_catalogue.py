"""The catalogue: each formula is the function it is named for, and its moments close."""

import functools
from operator import attrgetter

import jax
import pytest
from definitions import DEFINITIONS

import flaxinit.gains
from flaxinit.aliases import ALIASES
from flaxinit.theory import CATALOGUE, derive

MOMENTS = ("mean", "second_moment", "derivative_second_moment")

# No closed form of E[φ²] is known for these; all three moments of the others are.
CERTIFIED = (
    *("gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid", "softplus", "log_sigmoid", "mish"),
    *("arctan", "log_cosh", "tanhshrink", "serf", "lisht"),
)
CLOSED = [name for name in CATALOGUE if name not in CERTIFIED]
IN_JAX = {name: entry.jax for name, entry in CATALOGUE.items() if entry.jax}


def test_every_activation_is_a_case():
    assert set(DEFINITIONS) == set(CATALOGUE) == set(CLOSED) | set(CERTIFIED)
    # `jax.nn.gelu` is the form with tanh.
    assert {name for name in CATALOGUE if hasattr(jax.nn, name)} - {"gelu"} <= set(IN_JAX)


def named(path: str):
    """The function that ``jax.nn.silu`` names."""
    return attrgetter(path.removeprefix("jax."))(jax)


def overlap(one, other) -> bool:
    """Whether two certified intervals have a number in common."""
    return one[0] <= other[1] and other[0] <= one[1]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_function_and_formula_have_the_same_moments(name):
    from_formula, from_function = derive(name), derive(DEFINITIONS[name])
    for moment in MOMENTS:
        read, written = getattr(from_function, moment), getattr(from_formula, moment)
        assert overlap(read.bounds, written.bounds), moment
        assert read.value == pytest.approx(written.value, rel=1e-15, abs=1e-30)
        assert read.method == written.method


@pytest.mark.parametrize("name", IN_JAX)
def test_jax_has_the_function_that_the_entry_names(name):
    assert derive(named(IN_JAX[name])).gain == derive(name).gain


def test_another_function_is_told_apart():
    # The two forms of GELU differ in the fourth digit.
    exact, tanh_form = derive("gelu").second_moment, derive(jax.nn.gelu).second_moment
    assert not overlap(exact.bounds, tanh_form.bounds)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    derivation = derive(name)
    assert [getattr(derivation, moment).method for moment in MOMENTS] == ["closed form"] * 3


@pytest.mark.parametrize("name", CERTIFIED)
def test_enclosure(name):
    assert derive(name).second_moment.method == "enclosure"
    assert derive(name).second_moment.exact is None


@pytest.mark.parametrize("name", CATALOGUE)
def test_thirty_certified_digits(name):
    for moment in (getattr(derive(name), m) for m in MOMENTS):
        low, high = moment.bounds
        middle = abs(low + high) / 2
        is_zero = moment.exact is not None and middle < 1e-40  # SELU's mean is 0 by construction
        assert low <= high
        assert high - low <= (1e-40 if is_zero else middle * 1e-30), moment.symbol


def test_aliases_are_other_names():
    assert not set(ALIASES) & set(CATALOGUE)
    assert set(ALIASES.values()) <= set(CATALOGUE)
    for alias, name in ALIASES.items():
        assert derive(alias).gain == derive(name).gain


def test_engine_and_book_agree():
    """Two independent derivations, one float: `flaxinit.gains` is written by the proof book."""
    assert list(flaxinit.gains.MOMENTS) == list(CATALOGUE)
    for name, row in flaxinit.gains.MOMENTS.items():
        derivation = derive(name)
        moments = (derivation.second_moment.value, derivation.derivative_second_moment.value)
        assert moments == row


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_form_of_one_activation_gives_one_gain(name):
    derivation = derive(name)
    assert derive(derivation).gain == derivation.gain == derive(derivation.expr).gain
    assert derivation.gain == flaxinit.gain(name)
    wrapped = jax.jit(functools.partial(DEFINITIONS[name]))
    assert derive(wrapped).gain == pytest.approx(derivation.gain, rel=1e-15)
