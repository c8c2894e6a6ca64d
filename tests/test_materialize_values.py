"""fast_init returns what the init function returns, to the last bit."""

import jax
import numpy as np
import pytest
from flax import nnx
from materialize_models import INIT_FUNCTIONS

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
@pytest.mark.parametrize("impl", KEYS)
def test_bits_of_the_eager_run(name, impl):
    init_fn, key = INIT_FUNCTIONS[name], KEYS[impl]
    assert_same_bits(state(flaxinit.fast_init(init_fn)(key)), state(init_fn(key)))
