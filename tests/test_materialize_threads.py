"""Threads, and repeated calls, share what one function of fast_init has compiled."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from materialize_models import INIT_FUNCTIONS
from test_materialize_values import assert_same_bits

import flaxinit
from flaxinit.materialize.fingerprint import Fingerprints

MESH = jax.make_mesh((8,), ("x",))
ROWS = NamedSharding(MESH, PartitionSpec("x"))


@pytest.mark.parametrize("spread", [False, True])
def test_threads_that_call_at_once(spread):
    init = INIT_FUNCTIONS["transformer with flaxinit"]
    keys = jax.random.split(jax.random.key(4), 4)

    def rule(path, x):
        return ROWS if x.shape[0] % 8 == 0 else NamedSharding(MESH, PartitionSpec())

    initialize = flaxinit.fast_init(init, rule if spread else None)
    barrier = Barrier(len(keys))

    def call(key):
        barrier.wait()
        return initialize(key)

    with ThreadPoolExecutor(len(keys)) as pool:
        made = list(pool.map(call, keys))
    assert_same_bits(made, [init(key) for key in keys])


def test_a_name_is_given_once():
    """Even if another thread gives one while a structure is being looked up."""
    prints = Fingerprints()

    class Interrupted:
        def __hash__(self):
            prints.intern("other")
            return 0

    assert prints.intern(Interrupted()) != prints.intern("other")


def with_new_functions(key):
    """Every call makes them anew: JAX traces them again, and compares by identity."""

    @jax.custom_jvp
    def twice(x):
        return 2 * x

    twice.defjvp(lambda primals, tangents: (twice(*primals), tangents[0]))

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, cotangent: (cotangent,))
    draw = jax.jit(lambda key: jax.random.normal(key, (4,)))
    return {
        "jit": draw(key),
        "jvp": jax.jit(lambda key: twice(draw(key)))(key),
        "vjp": jax.jit(lambda key: sine(draw(key)))(key),
        "scan": jax.lax.map(lambda k: jax.random.normal(k, (3,)), jax.random.split(key, 2)),
        "reduce": jax.jit(
            lambda key: jax.lax.reduce(draw(key), np.float32(0), lambda a, b: a + b, (0,))
        )(key),
    }


@pytest.mark.slow
def test_many_calls_keep_no_more_than_one(executors):
    initialize = flaxinit.fast_init(with_new_functions)
    kept = []
    for seed in range(3):
        initialize(jax.random.key(seed))
        executor = executors[0]
        known = executor.prints._number, executor.prints._alive
        kept.append((len(executor.executables), *map(len, known)))
    assert len(set(kept)) == 1
    key = jax.random.key(1)
    assert_same_bits(initialize(key), with_new_functions(key))
