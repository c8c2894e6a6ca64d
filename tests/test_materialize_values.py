"""fast_init returns what the init function returns, to the last bit."""

import jax
import numpy as np
import pytest
from flax import nnx
from materialize_models import INIT_FUNCTIONS, WIDTH, Mlp

import flaxinit

KEYS = {
    "typed": jax.random.key(17),
    "raw": jax.random.PRNGKey(17),
    "rbg": jax.random.key(17, impl="rbg"),
}


def bits(x):
    """Bytes, dtype and shape of an array or key; other leaves as they are."""
    if not isinstance(x, jax.Array | np.ndarray):
        return x
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return str(x.dtype), bits(jax.random.key_data(x))
    return x.shape, str(x.dtype), np.asarray(x).tobytes()


def assert_same_bits(actual, expected):
    """Same structure and same bits, with the paths of those that differ."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    different = [jax.tree_util.keystr(p) for (p, a), e in pairs if bits(a) != bits(e)]
    assert not different, different


def state(x):
    """Modules compare by identity: look at their state."""
    return nnx.state(x) if isinstance(x, nnx.Module) else x


@pytest.mark.parametrize("name", INIT_FUNCTIONS)
def test_bits_of_the_eager_run(name):
    init_fn, key = INIT_FUNCTIONS[name], KEYS["typed"]
    assert_same_bits(state(flaxinit.fast_init(init_fn)(key)), state(init_fn(key)))


@pytest.mark.parametrize("name", ["transformer with flaxinit", "nnx", "haiku-like", "entangled"])
@pytest.mark.parametrize("impl", ["raw", "rbg"])
def test_keys_of_every_kind(name, impl):
    init_fn, key = INIT_FUNCTIONS[name], KEYS[impl]
    assert_same_bits(state(flaxinit.fast_init(init_fn)(key)), state(init_fn(key)))


def test_a_seed_inside_the_init_function():
    def make():
        return Mlp(nnx.Rngs(3))

    assert_same_bits(nnx.state(flaxinit.fast_init(make)()), nnx.state(make()))


def test_modules_keep_what_they_share():
    model = flaxinit.fast_init(lambda key: Mlp(nnx.Rngs(key)))(KEYS["typed"])
    assert isinstance(model, Mlp) and model.tied is model.layers[0]
    assert model.layers[0].kernel[...] is model.tied.kernel[...]
    x = np.ones((2, WIDTH), np.float32)
    model.norm(model.layers[0](x))  # and are alive: batch statistics can be updated


def test_keyword_and_static_arguments():
    def init(key, *, width, scale):
        assert width == 4 and scale == "large"
        return jax.random.normal(key, (width,))

    made = flaxinit.fast_init(init)(KEYS["typed"], width=4, scale="large")
    assert_same_bits(made, init(KEYS["typed"], width=4, scale="large"))


def test_two_units_are_not_contracted():
    """A sum after a product: in one program it would be rounded once, eagerly it is twice."""

    def affine(key):
        x = jax.random.normal(key, (64, 64))
        return np.float32(0.7) + x * np.float32(0.3)

    key = KEYS["typed"]
    assert_same_bits(flaxinit.fast_init(affine)(key), affine(key))
    # Negative control: compiled as a whole it differs, so that the test above can fail.
    assert bits(jax.jit(affine)(key)) != bits(affine(key))
