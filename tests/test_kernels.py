"""Every way from an activation to a kernel agrees; errors have the name that the user typed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import flaxinit

FORMS = [
    f"{family}{suffix}"
    for family in ("he", "glorot", "lecun", "kaiming", "xavier")
    for suffix in ("", "_normal", "_uniform")
]
MISTAKES = {
    "critical": {"scale": 3, "mode": "fan_in", "in_axs": 3},
    **{name: {"scale": 1, "foo": 1, "nonlinearity": "relu", "in_axs": 0} for name in FORMS},
}
for form in FORMS:
    if "_" in form:
        MISTAKES[form]["distribution"] = "normal"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_keyword_is_answered_with_the_name_that_was_typed(name):
    for word, value in MISTAKES[name].items():
        with pytest.raises(TypeError, match=rf"^{name} takes no keyword '{word}'\..*in_axis") as no:
            getattr(flaxinit, name)("gelu", **{word: value})
        assert ("Did you mean 'in_axis'" in str(no.value)) == (word == "in_axs")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_position_is_answered_with_the_name_that_was_typed(name):
    with pytest.raises(TypeError, match=rf"^{name} takes 1 arguments by position .activation"):
        getattr(flaxinit, name)("gelu", "fan_out")
    with pytest.raises(TypeError, match=rf"^{name} makes an initializer.*kernel_init={name}\("):
        getattr(flaxinit, name)(jax.random.key(0), (3, 4), jnp.float32)


def test_a_derivation_has_the_same_door():
    derivation = flaxinit.derive("step")
    with pytest.raises(TypeError, match=r"^initializer takes no keyword 'scale'.*variance_scaling"):
        derivation.initializer(scale=2)
    for wrong in (
        {"mode": "fan_out"},
        {"mode": "fan_im"},
        {"distribution": "gauss"},
        {"fan_in": 0},
    ):
        said = []
        for door in (derivation.initializer, lambda **k: flaxinit.he("step", **k)):
            with pytest.raises(ValueError, match=next(iter(wrong))) as no:
                door(**wrong)
            said.append(str(no.value))
        assert said[0] == said[1]


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_every_door_makes_one_initializer(mode):
    derivation = flaxinit.derive("gelu")
    init = flaxinit.he("gelu", mode=mode)
    assert init == flaxinit.he(derivation, mode=mode) == derivation.initializer(mode)
    assert init == flaxinit.variance_scaling.from_moments(derivation.moments, mode)
    assert flaxinit.gain("gelu", mode) == init.std((1, 1))


def test_names_of_one_form_make_equal_initializers():
    for suffix in ("", "_normal", "_uniform"):
        for one, other in (("he", "kaiming"), ("glorot", "xavier")):
            assert getattr(flaxinit, one + suffix)() == getattr(flaxinit, other + suffix)()


def test_a_critical_pair_is_no_initializer():
    with pytest.raises(TypeError, match=r"kernel, bias, q = flaxinit\.critical"):
        nn.Dense(8, kernel_init=flaxinit.critical("gelu")).init(jax.random.key(0), jnp.ones((1, 8)))


def test_the_warning_of_several_critical_points_points_at_the_caller():
    with pytest.warns(UserWarning, match="also has") as said:
        flaxinit.critical("x**3 - 3*x")
    assert said[0].filename == __file__
