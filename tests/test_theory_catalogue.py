"""The catalogue: each formula is the function it is named after, and its moments are known."""

import functools

import jax
import pytest

import flaxinit
from benchmarks.activations import DEFINITIONS, definition
from derivations.__main__ import PAGES
from flaxinit import catalogue
from flaxinit.catalogue import ALIASES
from flaxinit.theory import CATALOGUE, derive

MOMENTS = ("mean", "second_moment", "derivative_second_moment")

# JAX's activations, but for those that a call makes.
IN_JAX = [n for n, function in DEFINITIONS.items() if function.__module__.startswith("jax")]


def closed_in_the_book(name: str) -> bool:
    """Whether the page of the book has closed forms, and not a certificate alone."""
    return "certified enclosure" not in (PAGES / f"{name}.md").read_text()


CLOSED = [name for name in CATALOGUE if closed_in_the_book(name)]
CERTIFIED = [name for name in CATALOGUE if name not in CLOSED]


def test_every_activation_is_a_case():
    assert set(DEFINITIONS) <= set(CATALOGUE)
    # By default, `jax.nn.gelu` is the form with tanh.
    assert {name for name in CATALOGUE if hasattr(jax.nn, name)} - {"gelu"} <= set(IN_JAX)


def overlap(one, other) -> bool:
    """Whether two certified intervals have a number in common."""
    return one[0] <= other[1] and other[0] <= one[1]


@pytest.mark.parametrize("name", CATALOGUE)
def test_function_and_formula_have_the_same_moments(name):
    from_formula, from_function = derive(name), derive(definition(name))
    for moment in MOMENTS:
        read, written = getattr(from_function, moment), getattr(from_formula, moment)
        assert overlap(read.bounds, written.bounds), moment
        assert read.value == pytest.approx(written.value, rel=1e-15, abs=1e-30)
        assert read.method == written.method


@pytest.mark.parametrize("name", IN_JAX)
def test_jaxs_own_function_has_the_same_gain(name):
    assert derive(DEFINITIONS[name]).gain == derive(name).gain


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
    """Two independent derivations, one float: `catalogue.MOMENTS` is written by the proof book."""
    assert set(catalogue.MOMENTS) == set(CATALOGUE)
    for name, row in catalogue.MOMENTS.items():
        derivation = derive(name)
        moments = (derivation.second_moment.value, derivation.derivative_second_moment.value)
        assert moments == row


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_form_of_one_activation_gives_one_gain(name):
    derivation = derive(name)
    assert derive(derivation).gain == derivation.gain == derive(derivation.expr).gain
    assert derivation.gain == flaxinit.gain(name)
    wrapped = jax.jit(functools.partial(definition(name)))
    assert derive(wrapped).gain == pytest.approx(derivation.gain, rel=1e-15)
