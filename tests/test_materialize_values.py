"""fast_init returns what the init function returns, to the last bit."""

import threading
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from materialize_models import FEATURES, INIT_FUNCTIONS, WIDTH, Mlp

import flaxinit

KEYS = {
    "typed": jax.random.key(17),
    "raw": jax.random.PRNGKey(17),
    "rbg": jax.random.key(17, impl="rbg"),
}

SHAPE = (40, 50)
DISTRIBUTIONS = [
    *(
        partial(draw, shape=SHAPE)
        for draw in (
            jax.random.cauchy,
            jax.random.exponential,
            jax.random.gumbel,
            jax.random.laplace,
            jax.random.logistic,
            jax.random.lognormal,
            jax.random.maxwell,
            jax.random.normal,
            jax.random.rademacher,
            jax.random.uniform,
        )
    ),
    partial(jax.random.bernoulli, p=0.3, shape=SHAPE),
    partial(jax.random.gamma, a=2.0, shape=SHAPE),
    partial(jax.random.generalized_normal, p=3.0, shape=SHAPE),
    partial(jax.random.geometric, p=0.3, shape=SHAPE),
    partial(jax.random.permutation, x=100),
    partial(jax.random.randint, shape=SHAPE, minval=-5, maxval=99),
    partial(jax.random.rayleigh, scale=2.0, shape=SHAPE),
    partial(jax.random.t, df=3.0, shape=SHAPE),
    partial(jax.random.truncated_normal, lower=-1.0, upper=3.0, shape=SHAPE),
    partial(jax.random.wald, mean=1.0, shape=SHAPE),
    partial(jax.random.weibull_min, scale=1.0, concentration=2.0, shape=SHAPE),
]


def bits(x):
    """Bytes, dtype and shape of an array or key; other leaves as they are."""
    if not isinstance(x, jax.Array | np.ndarray):
        return x
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return str(x.dtype), bits(jax.random.key_data(x))
    return x.shape, str(x.dtype), np.asarray(x).tobytes()


def assert_same_bits(actual, expected):
    """Assert the same structure and the same bits; name the paths of arrays that differ."""
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


@pytest.mark.parametrize("name", ["transformer with flaxinit", "nnx", "haiku", "entangled"])
@pytest.mark.parametrize("impl", ["raw", "rbg"])
def test_keys_of_every_kind(name, impl):
    init_fn, key = INIT_FUNCTIONS[name], KEYS[impl]
    assert_same_bits(state(flaxinit.fast_init(init_fn)(key)), state(init_fn(key)))


def test_a_seed_inside_the_init_function():
    def make():
        return Mlp(nnx.Rngs(3))

    assert_same_bits(nnx.state(flaxinit.fast_init(make)()), nnx.state(make()))


def test_the_cache_of_a_decoder():
    """Keys and values in the dtype of the computation, and a counter, beside the parameters."""
    attention = nn.MultiHeadDotProductAttention(num_heads=2, decode=True, dtype="bfloat16")
    init = partial(attention.init, inputs_q=np.ones((2, 5, WIDTH), np.float32))
    made = flaxinit.fast_init(init)(KEYS["typed"])
    assert_same_bits(made, init(KEYS["typed"]))
    assert made["cache"]["cache_index"].dtype == np.int32


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


@pytest.mark.parametrize("draw", DISTRIBUTIONS, ids=lambda draw: draw.func.__name__)
def test_every_distribution_of_jax(draw):
    """Each rounds in its own way, so a difference in any function of the compiler is found."""
    key = KEYS["typed"]
    assert_same_bits(flaxinit.fast_init(draw)(key), draw(key))


CONTEXTS = {
    "64-bit types": partial(jax.enable_x64, True),
    "another device": lambda: jax.default_device(jax.devices()[5]),
    "no jit": jax.disable_jit,
    "older random bits": partial(jax.threefry_partitionable, False),
    "no promotion": partial(jax.numpy_dtype_promotion, "strict"),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_settings_of_the_caller_hold(name):
    """They belong to a thread; compiling uses others."""
    key = KEYS["typed"]

    def init(key):
        keys = jax.random.split(key)
        return jax.random.normal(keys[0], (8, 8)), jax.random.randint(keys[1], (5,), -9, 9)

    with CONTEXTS[name]():
        made, expected = flaxinit.fast_init(init)(key), init(key)
    assert_same_bits(made, expected)
    assert [x.devices() for x in made] == [x.devices() for x in expected]


INNER = {
    "64-bit types": partial(jax.enable_x64, True),
    "older random bits": partial(jax.threefry_partitionable, False),
    "coarse products": partial(jax.default_matmul_precision, "bfloat16"),
    "no jit": jax.disable_jit,
    "promotion": partial(jax.numpy_dtype_promotion, "standard"),
    "other generator": partial(jax.default_prng_impl, "rbg"),
}


@pytest.mark.parametrize("name", INNER)
def test_settings_of_the_init_function_hold(name):
    """They hold for a part of it: what comes before and after is not affected."""

    def draw(key):
        keys = jax.random.split(key, 3)
        w = jax.random.normal(keys[0], (8, 8), float)
        bits = jax.random.bits(keys[1], (5, 3))  # as wide as a number is
        return w @ w, w.mean(), bits, flaxinit.he()(keys[2], (8, 8)), jnp.arange(3.0)

    def init(key):
        with INNER[name]():
            inner = draw(key), jax.random.key(3), draw(jax.random.key(3))
        return draw(key), inner, draw(key)

    key = KEYS["typed"]
    assert_same_bits(flaxinit.fast_init(init)(key), init(key))


def test_numpy_arguments_have_the_dtype_of_the_trace():
    """Even where the init function asks for 64 bits in a part of it."""

    def init(key, x):
        with jax.enable_x64(True):
            wide = jax.random.normal(key, (3,), float)
        return x, jnp.asarray(x) * np.float32(2), wide

    key, x = KEYS["typed"], np.arange(4.0)
    assert_same_bits(flaxinit.fast_init(init)(key, x)[1:], init(key, x)[1:])
    assert flaxinit.fast_init(init)(key, x)[0].dtype == np.float32


def test_what_was_compiled_for_one_device_is_not_run_for_another():
    init = partial(jax.random.normal, shape=(8, 8))
    initialize = flaxinit.fast_init(init)
    for device in jax.devices()[:2]:
        with jax.default_device(device):
            assert initialize(KEYS["typed"]).devices() == {device}


def test_the_axes_of_an_argument_s_description_are_left_out():
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])  # of explicit axes
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    example = jax.ShapeDtypeStruct((4, 8), np.float32, sharding=sharding)
    init = nn.Dense(3).init
    expected = init(KEYS["typed"], np.ones((4, 8), np.float32))
    assert_same_bits(flaxinit.fast_init(init)(KEYS["typed"], example), expected)


def test_numpy_arrays_become_jax_arrays_and_other_values_stay():
    def init(key):
        return {
            "none": None,
            "text": "relu",
            "function": jax.nn.relu,
            "number": 3,
            "table": np.arange(4.0),
            "scalar": np.float32(2),
            "w": jax.random.normal(key, (2,)),
        }

    made, eager = flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"])
    for name in ("none", "text", "function", "number"):
        assert made.pop(name) is eager.pop(name)
    assert all(isinstance(x, jax.Array) for x in made.values())
    assert_same_bits(made, jax.tree.map(jnp.asarray, eager))


def test_remat_is_not_compiled_as_a_unit():
    """In an eager run its body runs operation by operation."""

    def affine(key):
        x = jax.random.normal(key, (64, 64))
        return np.float32(0.7) + x * np.float32(0.3)

    init = jax.checkpoint(affine)
    assert_same_bits(flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"]))


def test_it_runs_under_a_transfer_guard():
    init = partial(jax.random.normal, shape=(8, 8))
    with jax.transfer_guard("disallow"):
        made = flaxinit.fast_init(init)(KEYS["typed"])
    assert_same_bits(made, init(KEYS["typed"]))


def test_two_units_are_not_contracted():
    """A sum after a product: one program would round once, an eager run rounds twice."""

    def affine(key):
        x = jax.random.normal(key, (64, 64))
        return np.float32(0.7) + x * np.float32(0.3)

    key = KEYS["typed"]
    assert_same_bits(flaxinit.fast_init(affine)(key), affine(key))
    # Negative control: compiled as a whole it differs, so the test above can fail.
    assert bits(jax.jit(affine)(key)) != bits(affine(key))


LENGTHS = (3, 7, 100, 1001)
NORMALIZED = {
    "mean": lambda w: w.mean(),
    "variance": lambda w: (w.var(), w.var(0), w.std(1)),
    "centered": lambda w: (w - w.mean(), w - w.mean(0)),
    "standardized": lambda w: (w - w.mean(0)) / (w.std(0) + np.float32(1e-5)),
    "norm": lambda w: (w / jnp.linalg.norm(w), w / jnp.linalg.norm(w, axis=0)),
    "spectral norm": lambda w: w / jnp.linalg.norm(w, ord=2),
    "average of bfloat16": lambda w: jnp.average(w.astype(jnp.bfloat16)),
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_means_over_lengths_that_are_not_powers_of_two(name):
    """The compiler multiplies by the reciprocal of a length that it knows, if it sees the sum."""

    def init(key):
        return [NORMALIZED[name](jax.random.normal(key, (n, 7))) for n in LENGTHS]

    assert_same_bits(flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"]))


def test_a_mean_in_two_programs_rounds_differently():
    """Negative control of the test above: in two programs its last bit differs."""
    w = jax.random.normal(KEYS["typed"], (1001, 7))
    assert any(bits(w[:n].mean()) != bits(w[:n].sum() / np.float32(7 * n)) for n in range(3, 40))


def test_the_memory_of_the_caller_is_not_used():
    """On the host JAX uses NumPy's aligned memory without a copy."""
    space = np.empty(64 + 16, np.float32)
    table = space[-space.ctypes.data // 4 % 16 :][:64]
    table[:] = 1
    places = [None, *map(jax.sharding.SingleDeviceSharding, jax.devices()[:2])]
    made = [
        flaxinit.fast_init(init, place)(KEYS["typed"], table)
        for init in (lambda key, x: jnp.asarray(x), lambda key, x: jnp.asarray(table))
        for place in places
    ]
    table[:] = 7
    assert_same_bits(made, [np.ones(64, np.float32)] * len(made))


TWINS = {
    "derived scalars": lambda key: [jnp.zeros(()) + 1, jnp.zeros(()) + 1],
    "literals": lambda key: [jnp.float32(1) / 3, jnp.float32(1) / 3],
    "a table": lambda key: [jnp.asarray(TABLE), jnp.asarray(TABLE)],
    "keys": lambda key: [jax.random.key(0), jax.random.key(0)],
}
TABLE = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("name", TWINS)
def test_equal_arrays_can_be_donated(name):
    """Two equal arrays share no memory."""
    pair = flaxinit.fast_init(TWINS[name])(KEYS["typed"])
    jax.jit(lambda pair: [x.reshape(-1) for x in pair], donate_argnums=0)(pair)
    shared = lambda key: (lambda x: [x, x])(jax.random.normal(key, (3,)))
    one, other = flaxinit.fast_init(shared)(KEYS["typed"])
    assert one is other


def test_weak_types_stay_weak():
    def init(key):
        return {
            "full": jnp.full((3,), 0.5),
            "scalar": jnp.array(3),
            "derived": jnp.log(jnp.array(10.0)),
            "product": 2 * jax.random.normal(key, (3,)),
        }

    made, eager = flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"])
    assert jax.tree.map(jax.typeof, made) == jax.tree.map(jax.typeof, eager)
    assert made["full"].weak_type and not made["product"].weak_type
    assert_same_bits(made, eager)


def test_arrays_are_where_what_they_are_made_of_was_put():
    def init(key, x):
        return {"drawn": jax.random.normal(key, (3,)), "twice": x * 2, "x": x, "new": jnp.ones(3)}

    first, third = jax.devices()[0], jax.devices()[3]
    x = jnp.arange(8.0)
    put = [jax.device_put(a, third) for a in (KEYS["typed"], x)]
    for arguments in (put, [put[0], x], [KEYS["typed"], put[1]]):
        made, eager = flaxinit.fast_init(init)(*arguments), init(*arguments)
        assert_same_bits(made, eager)
        assert {k: v.devices() for k, v in made.items()} == {
            k: v.devices() for k, v in eager.items()
        }
    assert made["new"].devices() == {first}


def test_other_threads_may_draw():
    """They may draw from the generators that all threads share."""
    stop = threading.Event()

    def loader():
        while not stop.is_set():
            np.random.normal()

    thread = threading.Thread(target=loader)
    thread.start()
    try:
        made = flaxinit.fast_init(nn.Dense(3).init)(KEYS["typed"], np.ones((1, 2), np.float32))
    finally:
        stop.set()
        thread.join()
    assert made["params"]["kernel"].shape == (2, 3)


class Rematted(nn.Module):
    """Blocks under remat whose arguments are static: JAX's cache keeps their traces."""

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.remat(Gated, static_argnums=(2,))()(x, True)
        return x


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(WIDTH)(x) if train else x


def checkpointed(key):
    sample = jax.checkpoint(lambda key, n: jax.random.normal(key, (n, 16)), static_argnums=(1,))
    return [sample(key, 3), sample(jax.random.fold_in(key, 1), 3), sample(key, 4)]


@pytest.mark.parametrize(
    "init_fn", [lambda key: Rematted().init(key, FEATURES), checkpointed], ids=["linen", "jax"]
)
def test_checkpoints_with_static_arguments(init_fn):
    assert_same_bits(flaxinit.fast_init(init_fn)(KEYS["typed"]), init_fn(KEYS["typed"]))


@jax.custom_jvp
def centered(x):
    return x - jnp.mean(x, axis=0)


centered.defjvp(lambda primals, tangents: (centered(*primals), centered(*tangents)))


@jax.custom_vjp
def standardized(x):
    return (x - jnp.mean(x, axis=0)) / jnp.std(x, axis=0)


standardized.defvjp(lambda x: (standardized(x), x), lambda x, g: (g,))


@jax.custom_batching.custom_vmap
def batched(x):
    return x * 0.3 - 0.1


@batched.def_vmap
def _(size, mapped, x):
    return jax.vmap(lambda x: x * 0.3 - 0.1)(x), True


composed = jax.lax.composite(lambda x: x * 0.3 - jnp.mean(x), "test.composed")


def mapped(function):
    return lambda x: jax.vmap(function)(x)


CALLS = {"jvp": centered, "vjp": standardized, "vmap": batched, "composite": composed}
CALLS |= {f"{name}, mapped": mapped(CALLS[name]) for name in ("jvp", "vjp", "vmap")}
CALLS |= {f"{name}, jitted": jax.jit(call) for name, call in CALLS.items()}


@pytest.mark.parametrize("function", CALLS)
def test_functions_that_jax_keeps_as_calls(function):
    """An eager run evaluates their operations one by one; means over 7 round by their unit."""
    init = lambda key: CALLS[function](jax.random.normal(key, (5, 7, 33)))
    assert_same_bits(flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"]))


@pytest.mark.parametrize("shape", [(300, 4), (40, 3), (7, 15), (3, 5, 2), (5,), (6, 16)])
def test_short_axes(shape):
    """The compiler unrolls a short loop, and then rounds differently what it has fused into it."""
    for draw in (jax.random.normal, jax.random.exponential):
        init = partial(draw, shape=shape)
        assert_same_bits(flaxinit.fast_init(init)(KEYS["typed"]), init(KEYS["typed"]))


def by_index(key):
    keys = jax.random.split(key, 6)
    return [jax.random.normal(keys[i], (16,)) for i in (0, 1, 2, -1)]


def by_iteration(key):
    return [jax.random.normal(k, (16,)) for k in jax.random.split(key, 6)]


def by_rows(key):
    table = jax.random.split(key, 6)
    keys = table.reshape(3, 2, *table.shape[1:])[::2]  # of words, if these are legacy keys
    return [jax.random.normal(k, (16,)) for row in keys for k in row], keys[0]


@pytest.mark.parametrize("init_fn", [by_index, by_iteration, by_rows])
@pytest.mark.parametrize("kind", KEYS)
def test_keys_out_of_a_table(init_fn, kind):
    assert_same_bits(flaxinit.fast_init(init_fn)(KEYS[kind]), init_fn(KEYS[kind]))


def logarithm(key):
    return {"w": jnp.log(-jnp.abs(jax.random.normal(key, (3,))))}


@jax.jit
def root(key):
    return jnp.sqrt(-1 - jax.random.uniform(key, (3,)))


def quotient(key):
    return 1 / (0 * jax.random.normal(key, (3,)))


@pytest.mark.parametrize(
    ("init_fn", "setting"),
    [(logarithm, jax.debug_nans), (root, jax.debug_nans), (quotient, jax.debug_infs)],
)
def test_debug_nans_and_infs_raise_the_eager_error(init_fn, setting):
    messages = []
    for init in (init_fn, flaxinit.fast_init(init_fn)):
        with setting(True), pytest.raises(FloatingPointError, match="invalid value") as error:
            jax.block_until_ready(init(KEYS["typed"]))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "init", [flaxinit.orthogonal(), flaxinit.identity(), flaxinit.he("gelu")], ids=str
)
def test_ranks_need_not_be_promoted(init):
    with jax.numpy_rank_promotion("raise"):
        assert_same_bits(
            flaxinit.fast_init(init)(KEYS["typed"], (32, 16)), init(KEYS["typed"], (32, 16))
        )


@pytest.mark.parametrize("whole", [True, False], ids=["module", "function of a module"])
def test_a_path_is_the_same_text_everywhere(whole):
    """A rule of fast_init and a table of audit name an array in the same way."""

    def make(key):
        rngs = nnx.Rngs(key)
        return nnx.Sequential(*(nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2)))

    seen = []
    module = flaxinit.fast_init(make, lambda path, x: seen.append(path))(KEYS["typed"])
    model = (module,) if whole else (lambda module, x: module(x), module)
    measured = flaxinit.audit(*model, FEATURES)
    assert [layer.path for layer in measured.layers] == ["layers/0/kernel", "layers/1/kernel"]
    assert {layer.path for layer in measured.layers} | set(measured.others) == set(seen)
