"""What mup() makes of Optax's optimizers: rates, decay and epsilon where they belong."""

import inspect

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import flaxinit
from flaxinit.trees.paths import name
from flaxinit.width.optimizers import FAMILIES, kind
from tests.test_width_mup import mlp
from tests.width_models import FEATURES

M = 4


@pytest.fixture(autouse=True)
def promotion():
    """Optax's own optimizers need JAX's default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def made(optimizer="adam", growth=M, make=mlp):
    scale = flaxinit.mup(make(32 * growth), FEATURES, base=make(32), optimizer=optimizer)
    params = make(32 * growth).init(jax.random.key(0), jnp.ones(FEATURES.shape))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    gradients = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), params)
    return scale, params, gradients


def step(transformation, params, gradients):
    return transformation.update(gradients, transformation.init(params), params)[0]


# What is left of float32 after the dozens of operations of an optimizer's step.
ROUNDING = 64 * float(jnp.finfo(jnp.float32).eps)


def close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        largest = float(jnp.max(jnp.abs(b)))
        np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING * largest)


FACTORIES = {
    "sgd": (optax.sgd, "sgd", {"momentum": 0.9}),
    "adam": (optax.adam, "adam", {}),
    "adamw": (optax.adamw, "adam", {"weight_decay": 0.1}),
    "lion": (optax.lion, "adam", {"weight_decay": 0.1}),
    "nadam": (optax.nadam, "adam", {}),
    "muon": (optax.contrib.muon, "muon", {"weight_decay": 0.1}),
    "muon and its adam": (
        optax.contrib.muon,
        "muon",
        {"weight_decay": 0.1, "adam_weight_decay": 0.3, "adam_learning_rate": 0.01},
    ),
    "adafactor": (optax.adafactor, "adafactor", {"weight_decay_rate": 0.2}),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_at_the_base_an_optimizer_is_optax_own(name):
    factory, family, options = FACTORIES[name]
    scale, params, gradients = made(family, growth=1)
    params = jax.tree.map(lambda p: p + 1, params)  # biases decay too
    own = scale.optimizer(factory, learning_rate=0.1, **options)
    close(step(own, params, gradients), step(factory(0.1, **options), params, gradients))


@pytest.mark.parametrize("name", ["sgd", "adam", "lion", "nadam", "muon", "adafactor"])
def test_updates_are_multiplied_by_the_factors(name):
    factory, family, options = FACTORIES[name]
    options = {key: value for key, value in options.items() if "decay" not in key}
    # Without Adam's epsilon, which has a factor of its own.
    besides = {"lion": {"weight_decay": 0.0}, "adam": {"eps": 0.0}, "nadam": {"eps": 0.0}}
    plain = {**options, **besides.get(name, {})}
    scale, params, gradients = made(family)
    updates = step(scale.optimizer(factory, learning_rate=0.1, **plain), params, gradients)
    expected = step(factory(0.1, **plain), params, gradients)
    expected = jax.tree.map(lambda u, m: u * m, expected, scale.multipliers)
    close(updates, expected)
    chain = optax.chain(factory(0.1, **plain), scale.scale())
    close(step(chain, params, gradients), expected)


def steps(factory, gradients, params, **options):
    """The updates of several steps."""
    known = inspect.signature(factory).parameters
    zero = ("eps", "eps_root", "weight_decay", "initial_accumulator_value")
    optimizer = factory(0.1, **{name: 0.0 for name in zero if name in known}, **options)
    state, updates = optimizer.init(params), []
    for gradient in gradients:
        update, state = optimizer.update(gradient, state, params)
        updates.append(update)
    return jnp.stack(updates)


ENTRYWISE = [
    (rule, each)
    for rule in ("sgd", "adam")
    for each in FAMILIES[rule]
    if each != "noisy_sgd"  # its noise differs from shape to shape
]


@pytest.mark.parametrize(("rule", "each"), ENTRYWISE)
def test_an_optimizer_follows_the_rule_of_its_family(rule, each):
    """Each entry alone decides its update, and Adam's family takes no notice of its size."""
    gradients = jax.random.normal(jax.random.key(0), (8, 6))
    factory, params = getattr(optax, each, None) or getattr(optax.contrib, each), jnp.ones(6)
    updates = steps(factory, gradients, params)
    close(steps(factory, gradients[:, :3], params[:3]), updates[:, :3])
    close(steps(factory, gradients, 2 * params), updates)
    if rule == "adam" and each not in FROM_BASE:
        close(steps(factory, 4 * gradients, params), updates)
    assert kind(each) == rule


# The size of its gradients counts in the first steps: optimizer() brings it to that of the base.
FROM_BASE = {"radam", "yogi"}


def kernels(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


SCALED_TWICE = {
    "next to each other": lambda scale, own: optax.chain(own, scale.scale()),
    "the same one": lambda scale, own: optax.chain(one := scale.scale(), optax.clip(1.0), one),
    "with others between": lambda scale, own: optax.chain(
        scale.scale(), optax.clip(1.0), optax.add_decayed_weights(0.1), scale.scale()
    ),
    "a chain in a chain": lambda scale, own: optax.chain(
        optax.chain(optax.adam(0.1), optax.chain(scale.scale())), optax.clip(1.0), scale.scale()
    ),
    "named": lambda scale, own: optax.named_chain(
        ("one", own), ("clip", optax.clip(1.0)), ("two", scale.scale())
    ),
    "masked": lambda scale, own: optax.chain(
        optax.masked(own, kernels), optax.clip(1.0), scale.scale()
    ),
    "by label": lambda scale, own: optax.chain(
        optax.multi_transform({True: own, False: optax.sgd(0.1)}, kernels),
        optax.clip(1.0),
        scale.scale(),
    ),
    "every other step": lambda scale, own: optax.chain(
        optax.MultiSteps(own, 2).gradient_transformation(), optax.clip(1.0), scale.scale()
    ),
    "around all": lambda scale, own: optax.MultiSteps(
        optax.chain(own, optax.clip(1.0), scale.scale()), 2
    ).gradient_transformation(),
    "with options in the state": lambda scale, own: optax.chain(
        optax.inject_hyperparams(lambda rate: scale.optimizer(optax.adam, rate))(rate=0.1),
        optax.clip(1.0),
        scale.scale(),
    ),
    "if finite": lambda scale, own: optax.apply_if_finite(
        optax.chain(own, optax.clip(1.0), scale.scale()), 2
    ),
}


@pytest.mark.parametrize("name", SCALED_TWICE)
def test_factors_are_not_applied_twice(name):
    scale, params, gradients = made()
    chain = SCALED_TWICE[name](scale, scale.optimizer(optax.adamw, 0.1))
    state = chain.init(params)
    for update in (chain.update, jax.jit(chain.update)):
        with pytest.raises(ValueError, match="multiplied by the factors of mup twice"):
            update(gradients, state, params)


def test_factors_are_applied_once_in_each_optimizer():
    """The same gradients may go to several, and parts of the parameters to several parts of one."""
    scale, params, gradients = made()
    whole = step(scale.scale(), params, gradients)
    parts = {True: scale.scale(), False: optax.chain(scale.scale())}
    for chain in (
        optax.multi_transform(parts, kernels),
        optax.chain(optax.clip(1e9), optax.multi_transform(parts, kernels(params))),
        optax.chain(optax.masked(scale.scale(), True), optax.masked(optax.clip(0.0), False)),
        optax.chain(scale.scale()),
    ):
        close(step(chain, params, gradients), whole)


def test_draws_are_scaled_once():
    init = made()[0].init(mlp(32 * M).init)
    with pytest.raises(ValueError, match="multiplies its draws by factors of mup already"):
        made()[0].init(init)


def test_the_state_can_be_stored_and_laid_out():
    """It holds what Optax's own state holds, and a mark without numbers."""
    scale, params, gradients = made()
    own, plain = scale.optimizer(optax.adam, 0.1), optax.adam(0.1)
    state = own.update(gradients, own.init(params), params)[1]
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(plain.init(params)))
    restored = flax.serialization.from_bytes(own.init(params), flax.serialization.to_bytes(state))
    close(restored, state)
    close(own.update(gradients, restored, params)[0], own.update(gradients, state, params)[0])
    places = jax.tree.map(lambda p: str(p.shape), params)
    found = optax.tree.map_params(own, lambda _, place: place, state, places)
    assert [x for x in jax.tree.leaves(found) if isinstance(x, str)] == 2 * jax.tree.leaves(places)


def test_each_step_decays_every_parameter_alike():
    """The rate of a parameter times its decay is the base's, with a schedule too."""
    scale, params, gradients = made()
    for rate in (0.1, optax.linear_schedule(0.1, 0.0, 10)):
        with_decay, without = (
            step(scale.optimizer(optax.adamw, rate, weight_decay=decay), params, gradients)
            for decay in (0.3, 0.0)
        )
        difference = jax.tree.map(jnp.subtract, with_decay, without)
        jax.tree.map(
            lambda d, p: np.testing.assert_allclose(d, -0.1 * 0.3 * p, atol=1e-6),
            difference,
            params,
        )
    own = scale.optimizer(optax.adamw, 0.5, weight_decay=0.3, independent_decay=True)
    without = scale.optimizer(optax.adamw, 0.5, weight_decay=0.0)
    difference = jax.tree.map(
        jnp.subtract, step(own, params, gradients), step(without, params, gradients)
    )
    jax.tree.map(
        lambda d, p: np.testing.assert_allclose(d, -0.3 * p, atol=1e-6), difference, params
    )


def test_decay_keeps_the_default_and_the_mask_of_the_optimizer():
    scale, params, gradients = made(growth=1)
    mask = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    own = scale.optimizer(optax.adamw, 10.0, mask=mask)
    close(step(own, params, gradients), step(optax.adamw(10.0, mask=mask), params, gradients))


def test_epsilon_shrinks_with_the_gradients():
    """Adam's first step is -rate g / (|g| + ε)."""
    scale, params, gradients = made()
    updates = step(scale.optimizer(optax.adam, 1.0, eps=0.5), params, gradients)
    factors = {row.path: (row.rate, row.epsilon) for row in scale.rows}
    for (path, update), (_, g) in zip(
        jax.tree_util.tree_leaves_with_path(updates),
        jax.tree_util.tree_leaves_with_path(gradients),
        strict=True,
    ):
        rate, epsilon = factors[name(path)]
        expected = -rate * g / (np.abs(g) + 0.5 * epsilon)
        np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_muon_counts_what_optax_does_by_shape():
    """Only matrices get Muon; √(b/a) less the growth of √max(1, out/in), or of √max(in, out)."""

    def make(width):
        return nn.Sequential([nn.Embed(50, width), nn.Dense(4 * width), nn.Dense(3)])

    tokens = jax.ShapeDtypeStruct((2, 6), jnp.int32)
    scale = flaxinit.mup(make(128), tokens, base=make(32), optimizer="muon")
    rates = {row.path: row.rate for row in scale.rows}
    assert rates["params/layers_1/kernel"] == 1
    assert rates["params/layers_2/kernel"] == pytest.approx(1 / 2)
    # 50 × 32 has the factor 1, and 50 × 128 that of √(128/50).
    embedding = rates["params/layers_0/embedding"]
    assert embedding == pytest.approx(2 / np.sqrt(128 / 50))
    assert rates["params/layers_1/bias"] == 1
    params = make(128).init(jax.random.key(0), jnp.zeros(tokens.shape, int))
    gradients = jax.tree.map(jnp.ones_like, params)
    tuned = scale.optimizer(optax.contrib.muon, 0.1, consistent_rms=0.2)
    plain = optax.contrib.muon(0.1, consistent_rms=0.2)
    ratio = jax.tree.map(
        lambda a, b: float(jnp.median(a / b)),
        step(tuned, params, gradients),
        step(plain, params, gradients),
    )["params"]
    # Here orthogonal updates are multiplied by √max(in, out): 2 times as much at 4 times the width.
    assert ratio["layers_1"]["kernel"] == pytest.approx(1 / 2, rel=1e-5)
    assert ratio["layers_2"]["kernel"] == pytest.approx(1 / 4, rel=1e-5)
    assert ratio["layers_0"]["embedding"] == pytest.approx(2 / np.sqrt(128 / 50), rel=1e-5)


def test_muon_reads_dimension_numbers_as_optax_does():
    """Attention's kernel d × heads × size is a matrix from d to heads · size."""

    def make(width):
        heads = nn.DenseGeneral((width // 8, 8))
        return nn.Sequential([nn.Dense(width), heads, nn.DenseGeneral(3, (-2, -1))])

    numbers = optax.contrib.MuonDimensionNumbers
    tree = {"layers_0": numbers(), "layers_1": numbers(0, (1, 2)), "layers_2": numbers((0, 1), 2)}

    def of_kernels(params):
        layers = {
            name: {"kernel": tree[name], "bias": None} for name in params.get("params", params)
        }
        return {"params": layers} if "params" in params else layers

    scale, params, gradients = made("muon", make=make)
    plain = optax.contrib.muon(0.1, muon_weight_dimension_numbers=of_kernels)
    for given in (of_kernels, of_kernels(params)):
        tuned = scale.optimizer(optax.contrib.muon, 0.1, muon_weight_dimension_numbers=given)
        ratio = jax.tree.map(
            lambda a, b: float(jnp.median(a / b)),
            step(tuned, params, gradients),
            step(plain, params, gradients),
        )["params"]
        assert ratio["layers_1"]["kernel"] == pytest.approx(1, rel=1e-5)
        assert ratio["layers_2"]["kernel"] == pytest.approx(M**-0.5, rel=1e-5)
        # 8 × 32 had optax's factor 2, and 8 × 128 that of 4.
        assert ratio["layers_0"]["kernel"] == pytest.approx(1, rel=1e-5)
    # Without them these kernels, of three axes, are left to Adam.
    rates = {row.path: row.rate for row in scale.rows}
    assert rates["params/layers_1/kernel"] == 1 / M
    lost = of_kernels(params)
    del lost["params"]["layers_1"]
    with pytest.raises(ValueError, match="says nothing of params/layers_1/bias"):
        scale.optimizer(optax.contrib.muon, 0.1, muon_weight_dimension_numbers=lost)


def test_adafactor_counts_the_size_of_the_parameter():
    rates = {row.path: row.rate for row in made("adafactor")[0].rows}
    assert rates["params/layers_0/kernel"] == pytest.approx(1)
    assert rates["params/layers_2/kernel"] == pytest.approx(M**-0.5)
    assert rates["params/layers_4/kernel"] == pytest.approx(1)
    zero = lambda width: nn.Sequential(
        [nn.Dense(width), nn.Dense(3, kernel_init=nn.initializers.zeros)]
    )
    scale = flaxinit.mup(zero(128), FEATURES, base=zero(32), optimizer="adafactor")
    assert {row.path: row.rate for row in scale.rows}["params/layers_1/kernel"] == 1 / M


def test_trees_that_hold_the_parameters_and_that_they_hold():
    scale, params, gradients = made()
    whole = step(scale.scale(), params, gradients)
    close(step(scale.scale(), params["params"], gradients["params"]), whole["params"])
    labels = jax.tree.map(lambda p: "a" if p.ndim > 1 else "b", params)
    parts = {"a": scale.scale(), "b": optax.set_to_zero()}
    some = step(optax.multi_transform(parts, labels), params, gradients)
    kernel = some["params"]["layers_2"]["kernel"]
    np.testing.assert_array_equal(kernel, whole["params"]["layers_2"]["kernel"])
    steps = optax.MultiSteps(scale.optimizer(optax.adam, 0.1), 2)
    state = steps.init(params)
    for _ in range(2):
        updates, state = steps.update(gradients, state, params)
    close(updates, step(scale.optimizer(optax.adam, 0.1), params, gradients))


def test_an_nnx_module_is_drawn_and_trained():
    class Net(nnx.Module):
        def __init__(self, width, rngs):
            normal = nn.initializers.normal(0.1)
            self.first = nnx.Linear(8, width, rngs=rngs, kernel_init=normal)
            self.norm = nnx.BatchNorm(width, rngs=rngs)
            self.second = nnx.Linear(width, width, rngs=rngs, kernel_init=normal)

        def __call__(self, x):
            return self.second(self.norm(self.first(x)))

    def build(width):
        return lambda rngs: Net(width, rngs)

    scale = flaxinit.mup(build(128), FEATURES, base=build(32))
    plain = build(128)(nnx.Rngs(0))
    model = scale.init(build(128))(nnx.Rngs(0))
    fast = flaxinit.fast_init(scale.init(lambda key: build(128)(nnx.Rngs(key))))(jax.random.key(0))
    for each in (model, fast):
        np.testing.assert_array_equal(each.second.kernel[...], plain.second.kernel[...] / 2)
        np.testing.assert_array_equal(each.first.kernel[...], plain.first.kernel[...])
    before = np.asarray(model.second.kernel[...])
    optimizer = nnx.Optimizer(model, scale.optimizer(optax.adam, 0.1), wrt=nnx.Param)
    gradients = nnx.grad(lambda m: jnp.sum(m(jnp.ones((4, 8)))))(model)
    gradients = jax.tree.map(jnp.ones_like, gradients)
    optimizer.update(model, gradients)
    np.testing.assert_allclose(model.second.kernel[...], before - 0.1 / M, atol=1e-6)


def test_the_weighted_norm_is_that_of_the_base():
    """Gradients that grow as they should in number and size have the norm they had."""
    base = made(growth=1)
    norms = []
    for growth in (1, M):
        scale, params, _ = made(growth=growth)
        rows = {row.path: row for row in scale.rows}
        gradients = jax.tree_util.tree_map_with_path(
            lambda path, p, rows=rows: jnp.full(p.shape, rows[name(path)].epsilon),
            params,
        )
        clipped = step(scale.clip_by_global_norm(1.0), params, gradients)
        ratio = jax.tree.leaves(jax.tree.map(lambda a, b: a / b, clipped, gradients))
        norms.append(1 / float(ratio[0].ravel()[0]))
        assert len({round(float(r.ravel()[0]), 6) for r in ratio}) == 1
    sizes = sum(leaf.size for leaf in jax.tree.leaves(base[1]))
    assert norms == pytest.approx([np.sqrt(sizes)] * 2, rel=1e-5)


def test_small_gradients_are_not_clipped():
    scale, params, gradients = made()
    small = jax.tree.map(lambda g: 1e-6 * g, gradients)
    close(step(scale.clip_by_global_norm(1.0), params, small), small)


def test_the_family_of_an_optimizer_is_found():
    for factory, family, _ in FACTORIES.values():
        assert made(factory)[0].family == family
    with pytest.raises(ValueError, match="received 'lbfgs'"):
        made(optax.lbfgs)


def test_what_does_not_fit_is_refused():
    scale, *_ = made()
    with pytest.raises(ValueError, match=r"put scale\(\) behind it"):
        scale.optimizer(optax.lbfgs, 0.1)
    with pytest.raises(ValueError, match="optimizer='sgd'"):
        scale.optimizer(optax.sgd, 0.1)
    with pytest.raises(ValueError, match="other/kernel"):
        scale.scale().init({"params": {"other": {"kernel": jnp.ones((3, 3))}}})
    with pytest.raises(ValueError, match="lacks params/layers_0/bias"):
        scale.init(lambda key: {"params": {}})(jax.random.key(0))


def test_an_optimizer_that_is_made_is_refused_with_what_to_pass():
    scale = made(growth=1)[0]
    inputs = jnp.ones(FEATURES.shape)
    for call in (
        lambda made: scale.optimizer(made),
        lambda made: flaxinit.mup(mlp(64), FEATURES, base=mlp(32), optimizer=made),
        lambda made: flaxinit.coord_check(mlp, [32, 64], inputs, optimizer=made, learning_rate=0.1),
    ):
        with pytest.raises(TypeError, match=r"Pass the function.*optax\.adamw.*learning_rate"):
            call(optax.adamw(3e-3))
    with pytest.raises(TypeError, match=r"optax\.lion,.*received 'lion'"):
        scale.optimizer("lion", 3e-3)
    with pytest.raises(TypeError, match="needs the learning_rate"):
        scale.optimizer(optax.adamw)


def test_a_name_of_optax_is_its_family():
    for each, rule in {"adamw": "adam", "lion": "adam", "muon": "muon"}.items():
        assert made(each)[0].family == rule
    with pytest.raises(ValueError, match=r"received 'adamwm'\. Did you mean 'adamw'"):
        made("adamwm")
    with pytest.raises(ValueError, match=r"received 'lamb'.*scale\(\) behind it"):
        made("lamb")  # the size of the parameters matters
