"""A wrong call of an initializer: the error says what was typed and what to write instead."""

import dataclasses
import inspect
import pickle
import pydoc

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import flaxinit
from flaxinit import initializers
from flaxinit.initializers import calls, checks

KEY = jax.random.key(0)
FACTORIES = sorted(
    name for name in flaxinit.__all__ if name.islower() and inspect.isclass(getattr(flaxinit, name))
)

WRONG = {
    "a keyword": (
        lambda: flaxinit.orthogonal(scal=1),
        r"^orthogonal takes no keyword 'scal'\. Did you mean 'scale'\? "
        r"It takes scale, column_axis, dtype, batch_axis\.$",
    ),
    "a keyword beside others": (
        lambda: flaxinit.variance_scaling(1.0, "fan_in", "normal", in_axs=1),
        "^variance_scaling takes no keyword 'in_axs'. Did you mean 'in_axis'",
    ),
    "of a subclass": (lambda: flaxinit.semi_orthogonal(scal=1), "^semi_orthogonal takes no"),
    "nothing near": (
        lambda: flaxinit.s4d_lin(step=1),
        r"^s4d_lin takes no keyword 'step'\. It takes dtype\.$",
    ),
    "of attention": (lambda: flaxinit.mimetic(value_nose=1), "Did you mean 'value_noise'"),
    "of a replacement": (
        lambda: dataclasses.replace(flaxinit.normal(), std=1),
        "^normal takes no keyword 'std'. Write stddev",
    ),
    "too many": (
        lambda: flaxinit.uniform(1.0, None, -1.0),
        r"^uniform takes 2 arguments by position \(scale, dtype\), got 3\..*minval",
    ),
    "too few": (
        lambda: flaxinit.variance_scaling(1.0),
        "^variance_scaling needs 'mode' and 'distribution'. It takes scale, mode",
    ),
    "none": (lambda: flaxinit.constant(), r"^constant needs 'value'\."),
    "twice": (lambda: flaxinit.normal(0.1, stddev=0.2), "^normal got 'stddev' twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_error_names_what_was_typed(case):
    call, message = WRONG[case]
    with pytest.raises(TypeError, match=message) as raised:
        call()
    assert "__init__" not in str(raised.value)


FOREIGN = [
    (name, word)
    for name in FACTORIES
    for word in calls.ELSEWHERE.keys()
    - inspect.signature(getattr(flaxinit, name)).parameters.keys()
]


@pytest.mark.parametrize(("name", "word"), sorted(FOREIGN))
def test_what_other_libraries_call_it_is_translated(name, word):
    factory = getattr(flaxinit, name)
    with pytest.raises(TypeError) as raised:
        factory(**{word: 1})
    said = f"{name} takes no keyword {word!r}. {calls.ELSEWHERE[word]} It takes "
    assert str(raised.value).startswith(said)


def test_the_translations_mean_the_same():
    """Compare what the hints say to write with torch.nn.init's documented formulas."""
    gain, a, b, std = 5 / 3, -0.04, 0.06, 0.02
    assert flaxinit.orthogonal(scale=gain).singular_value((8, 8)) == gain
    init = flaxinit.variance_scaling(gain**2, "fan_in", "normal")
    assert init.std((64, 9)) == pytest.approx(gain / 8, rel=1e-15)
    # kaiming_uniform_(a=0.2): gain² = 2/(1 + a²).
    assert flaxinit.he("max(x, 0.2*x)").scale == pytest.approx(2 / (1 + 0.2**2), rel=1e-15)
    assert flaxinit.he("tanh").scale > 1 and flaxinit.he("relu").scale == 2
    drawn = flaxinit.uniform(b, minval=a)(KEY, (999,))
    assert a <= drawn.min() < drawn.max() < b
    cut = flaxinit.truncated_normal(std, lower=a / std, upper=b / std)
    assert cut.lower == -2 and cut.upper == 3


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(0)], ids=["typed", "legacy"])
def test_a_factory_that_was_not_called_says_so(name, key):
    factory = getattr(flaxinit, name)
    built = rf"{name}\([a-z_, ]*\)"
    message = rf"^{name} makes an initializer.*write kernel_init={built}, not kernel_init={name}\."
    for call in (
        lambda: factory(key, (3, 4), jnp.float32),  # as layers call it
        lambda: factory(key, (3, 4)),
        lambda: factory(key=key, shape=(3, 4)),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_layers_that_are_given_a_factory_say_so():
    for init in (
        lambda: nn.Dense(3, kernel_init=flaxinit.orthogonal).init(KEY, jnp.ones((1, 4))),
        lambda: nnx.Linear(4, 3, kernel_init=flaxinit.orthogonal, rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(TypeError, match=r"write kernel_init=orthogonal\(\)"):
            init()


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_is_called_what_users_call_it(name):
    factory = getattr(flaxinit, name)
    assert factory.__name__ == factory.__qualname__ == name
    assert pickle.loads(pickle.dumps(factory)) is factory
    capitals = "".join(map(str.capitalize, name.split("_")))
    assert getattr(initializers, capitals, factory) is factory
    # `help` shows the fields and their types, without the checks.
    signature = inspect.signature(factory)
    assert f"class {name}(" in pydoc.plain(pydoc.render_doc(factory))
    assert "Annotated" not in str(signature) and str(signature).endswith("-> None")
    fields = [field.name for field in dataclasses.fields(factory)]
    assert list(signature.parameters) == fields


def test_a_subclass_of_a_user_is_checked_and_named_too():
    class halves(flaxinit.Initializer):  # noqa: N801  named as users call it
        scale: float = 1.0
        first: bool = False
        dtype: checks.DType = None

        def _variance(self, shape):
            return self.scale**2 / 4

    assert repr(halves(2, dtype="float32")) == "halves(scale=2.0, dtype='float32')"
    assert halves(3).std((2,)) == 1.5 and halves() == halves(1) != halves(2)
    for call, message in (
        (lambda: halves("2"), "scale must be a number"),
        (lambda: halves(first=1), "first must be True or False"),
        (lambda: halves(dtype="int8"), "floating"),
        (lambda: halves(scales=1), "^halves takes no keyword 'scales'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_no_module_has_the_name_of_an_initializer():
    """``from flaxinit.initializers import siren`` is a class to type checkers, not a module."""
    import pkgutil

    modules = {module.name for module in pkgutil.iter_modules(initializers.__path__)}
    assert "base" in modules and not modules & set(flaxinit.__all__)
