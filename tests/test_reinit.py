"""Drawing a model's arrays again by path: which rule draws which array, and from which key."""

import dataclasses
import math
import re

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

import flaxinit
from flaxinit import recipes, reinit
from flaxinit.recipes import Rule, like_kernel
from flaxinit.trees import paths
from flaxinit.trees.rules import path_key

KEY, NEW = jax.random.key(1), jax.random.key(2)
X = jnp.ones((1, 4))
SMALL = flaxinit.normal(0.02)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.Dense(4, name="c_proj")(nn.relu(nn.Dense(8, name="c_fc")(nn.LayerNorm()(x))))
        return nn.Dense(2, name="head", dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(x)


class Layers(nnx.Module):
    def __init__(self, rngs):
        self.c_fc = nnx.Linear(4, 8, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


def linen():
    return Block().init(KEY, X)


def haiku():
    def model(x):
        return hk.nets.MLP([8, 2])(x)

    return hk.transform(model).init(KEY, X)


# How to make a model, and its paths of kernels.
MODELS = {
    "linen": (linen, r"kernel$"),
    "nnx": (lambda: Layers(nnx.Rngs(0)), r"kernel$"),
    "equinox": (lambda: eqx.nn.MLP(4, 2, 8, 2, key=KEY), r"weight$"),
    "haiku": (haiku, r"w$"),
    "pytree": (
        lambda: {"a": [jnp.ones((3, 4)), np.ones((4, 5), np.float32)], "b": None, "n": 3},
        r"a/",
    ),
}
every = pytest.mark.parametrize("name", MODELS)


def arrays(model):
    tree = nnx.state(model) if isinstance(model, nnx.Module) else model
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {paths.name(path): leaf for path, leaf in leaves}


def same(first, second) -> bool:
    if jnp.issubdtype(getattr(first, "dtype", None), jax.dtypes.prng_key):
        first, second = map(jax.random.key_data, (first, second))
    return bool(np.all(np.asarray(first) == np.asarray(second)))


@every
def test_what_a_rule_matches_is_drawn_and_the_rest_stays(name):
    make, pattern = MODELS[name]
    model = make()
    before = arrays(model)
    after = arrays(reinit(model, [(re.compile(pattern), SMALL)], NEW))
    assert before.keys() == after.keys() and jax.tree.structure(model) == jax.tree.structure(make())
    drawn = {path for path in before if re.search(pattern, path)}
    assert drawn
    for path, old in before.items():
        new = after[path]
        if path in drawn:
            assert (new.shape, new.dtype) == (old.shape, old.dtype)
            assert same(new, SMALL(path_key(NEW, path), old.shape, old.dtype))
            assert not same(new, old)
        else:
            assert same(new, old)
        assert same(arrays(model)[path], old)  # the model that was given is as it was


def test_the_first_rule_that_matches_wins():
    rules = [
        ("*/c_proj/kernel", SMALL.times(0.5)),
        (re.compile("head"), None),
        (lambda path, array: array.ndim == 2, flaxinit.he()),
        ("*/bias", "ones"),
        ("*", {"name": "constant", "value": 3.0}),
    ]
    before, after = arrays(linen()), arrays(reinit(linen(), rules, NEW))

    def key(name):
        return path_key(NEW, name)

    name = "params/c_proj/kernel"
    assert same(after[name], SMALL.times(0.5)(key(name), (8, 4)))
    name = "params/c_fc/kernel"
    assert same(after[name], flaxinit.he()(key(name), (4, 8)))
    assert same(after["params/c_fc/bias"], np.ones(8))
    assert same(after["params/LayerNorm_0/scale"], np.full(4, 3))
    for name in ("params/head/kernel", "params/head/bias"):
        assert same(after[name], before[name]) and after[name].dtype == jnp.bfloat16


def test_an_array_does_not_depend_on_the_other_rules():
    all_of_them = arrays(reinit(linen(), {"*": SMALL}, NEW))
    one = arrays(reinit(linen(), {"params/c_proj/*": SMALL}, NEW))
    assert same(one["params/c_proj/kernel"], all_of_them["params/c_proj/kernel"])
    values = [np.asarray(leaf).tobytes() for leaf in all_of_them.values()]
    assert len(set(values)) == len(values)
    other_key = arrays(reinit(linen(), {"*": SMALL}, KEY))
    assert not same(other_key["params/c_fc/kernel"], all_of_them["params/c_fc/kernel"])


def test_a_class_of_modules_is_all_that_is_inside():
    model = reinit(Layers(nnx.Rngs(0)), [(nnx.Linear, flaxinit.ones)], NEW)
    floating = {p: leaf for p, leaf in arrays(model).items() if leaf.dtype == jnp.float32}
    ones = {path for path, leaf in floating.items() if same(leaf, 1.0)}
    linear = {p for p in arrays(model) if p.startswith(("c_fc", "blocks"))}
    assert linear <= ones and "norm/scale" in ones  # which is 1 at the start
    assert not {"norm/bias", "norm/mean"} & ones
    mlp = reinit(eqx.nn.MLP(4, 2, 8, 2, key=KEY), {eqx.nn.Linear: flaxinit.ones}, NEW)
    assert all(same(leaf, 1) for leaf in jax.tree.leaves(eqx.filter(mlp, eqx.is_array)))
    assert isinstance(mlp(jnp.ones(4)), jax.Array)


def test_a_module_of_nnx_is_a_new_one_that_works():
    model = Layers(nnx.Rngs(0))
    new = reinit(model, {"*/kernel": flaxinit.orthogonal()}, NEW)
    assert new is not model and type(new) is Layers
    kernel = new.blocks[0].kernel[...]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(8), atol=1e-5)
    assert new.c_fc(X).shape == (1, 8)


def test_a_tuple_of_patterns_must_match_in_whole():
    rules = [((nnx.Linear, "*/kernel", lambda path, array: array.shape == (8, 8)), flaxinit.ones)]
    reports = []
    model = reinit(Layers(nnx.Rngs(0)), rules, NEW, report=reports.append)
    ((_, drawn),) = reports[0].redrawn
    assert drawn == ("blocks/0/kernel", "blocks/1/kernel")
    assert same(model.blocks[1].kernel[...], 1.0) and not same(model.c_fc.kernel[...], 1.0)
    with pytest.raises(ValueError, match=r"Linear and '\*/krenel' matches none .*c_fc/kernel"):
        reinit(Layers(nnx.Rngs(0)), {(nnx.Linear, "*/krenel"): SMALL}, NEW)


LIKE = like_kernel(flaxinit.lecun_uniform())


@pytest.mark.parametrize("name", ["linen", "nnx", "haiku", "equinox"])
def test_a_bias_is_drawn_by_the_fan_of_its_kernel(name):
    """As PyTorch does; but a normalization's bias has no kernel and stays."""
    make, pattern = MODELS[name]
    stored = {"in_axis": -1, "out_axis": -2} if name == "equinox" else {}
    init = flaxinit.lecun_uniform(**stored)
    rules = {re.compile("(bias|b)$"): like_kernel(init)}
    before, after = arrays(make()), arrays(reinit(make(), rules, NEW))
    biases = [path for path in before if re.search("(bias|b)$", path)]
    assert len(biases) > 1
    for path in biases:
        kernel = next(
            (
                k
                for k in before
                if re.fullmatch(re.escape(path[: path.rfind("/") + 1]) + pattern, k)
            ),
            None,
        )
        if kernel is None:
            assert "orm" in path and same(before[path], after[path])
            continue
        array = before[path]
        by_hand = like_kernel(init, before[kernel].shape)
        assert same(after[path], by_hand(path_key(NEW, path), array.shape, array.dtype))
        fan_in = before[kernel].shape[-1 if stored else 0]
        assert np.abs(after[path]).max() <= np.sqrt(3 / fan_in)


def test_a_bias_among_several_kernels_names_its_own():
    cell = eqx.nn.GRUCell(3, 5, key=KEY)
    with pytest.raises(ValueError, match=r"bias, by the rule .*weight_ih and weight_hh. Name the"):
        reinit(cell, {"bias": LIKE}, NEW)
    init = like_kernel(flaxinit.lecun_uniform(in_axis=1, out_axis=0), "weight_hh")
    new = reinit(cell, {"bias*": init}, NEW)
    known = dataclasses.replace(init, kernel=(15, 5))
    assert same(new.bias, known(path_key(NEW, "bias"), (15,)))
    assert same(new.bias_n, known(path_key(NEW, "bias_n"), (5,)))


def test_what_is_like_a_kernel_says_what_is_missing():
    with pytest.raises(ValueError, match="needs the shape of its kernel"):
        LIKE(NEW, (8,))
    with pytest.raises(ValueError, match="arrays that have a kernel beside them"):
        reinit(linen(), {"*/LayerNorm_0/bias": LIKE}, NEW)
    for wrong in (flaxinit.orthogonal(), flaxinit.zeros, LIKE, "he"):
        with pytest.raises(TypeError, match="init must be an initializer whose entries are"):
            like_kernel(wrong)
    with pytest.raises(TypeError, match="kernel must be the kernel's shape, or its name"):
        like_kernel(flaxinit.he(), 8)
    assert LIKE.times(2.0) == like_kernel(flaxinit.lecun_uniform().times(2.0))


def test_a_rule_of_a_recipe_may_draw_nothing():
    loose = [Rule("*/krenel", SMALL, must=None), Rule("*/head/bias", SMALL, must="match")]
    rules = [Rule("*/head/*", SMALL), *loose]
    reports = []
    reinit(linen(), rules, NEW, report=reports.append)
    assert [len(names) for _, names in reports[0].redrawn] == [2, 0, 0]
    with pytest.raises(ValueError, match="matches none"):
        reinit(linen(), [Rule("*/krenel", SMALL, must="match")], NEW)
    with pytest.raises(ValueError, match=r"Rule\.must must be one of draw, match; got 'maybe'"):
        reinit(linen(), [Rule("*", SMALL, must="maybe")], NEW)


def test_kernels_stored_with_their_outputs_first():
    init = flaxinit.he(in_axis=-1, out_axis=-2)
    mlp = reinit(eqx.nn.MLP(400, 2, 100, 1, key=KEY), {"layers/0/weight": init}, NEW)
    weight = np.asarray(mlp.layers[0].weight)
    assert weight.shape == (100, 400)
    expected = init(path_key(NEW, "layers/0/weight"), (100, 400))
    np.testing.assert_array_equal(weight, expected)


class Layer(eqx.Module):
    weight: jax.Array
    bias: jax.Array


def boxed(layer):
    """A layer whose arrays lie in a class that names its content for nobody, as Haliax's do."""
    box = type("Box", (), {"__init__": lambda self, array: setattr(self, "array", array)})
    jax.tree_util.register_pytree_node(box, lambda b: ((b.array,), None), lambda _, a: box(*a))
    return jax.tree.map(box, layer), box


def test_a_box_without_a_name_is_not_in_the_path():
    layer, box = boxed(Layer(jnp.ones((8, 4)), jnp.ones(8)))
    init = flaxinit.lecun_uniform(in_axis=-1, out_axis=-2)
    new = reinit(layer, {"weight": init, "bias": like_kernel(init)}, NEW)
    assert isinstance(new.weight, box)
    assert same(new.weight.array, init(path_key(NEW, "weight"), (8, 4)))
    assert same(new.bias.array, like_kernel(init, (8, 4))(path_key(NEW, "bias"), (8,)))
    for kind in (Layer, box):
        ones = jax.tree.leaves(reinit(layer, {kind: flaxinit.zeros}, NEW))
        assert all(same(array, 0) for array in ones)


def test_modules_of_haliax():
    reason = "Haliax is not installed, or its version does not run on this JAX"
    hax = pytest.importorskip("haliax", reason=reason, exc_type=ImportError)
    ins, outs = hax.make_axes(ins=4, outs=8)
    mlp = hax.nn.MLP.init(ins, outs, 16, 2, key=KEY)
    init = flaxinit.lecun_uniform(in_axis=-1, out_axis=-2)
    rules = [((hax.nn.Linear, "*/weight"), init), ("*/bias", like_kernel(init))]
    reports = []
    new = reinit(mlp, rules, NEW, report=reports.append)
    assert all(names for _, names in reports[0].redrawn) and not reports[0].left
    weight = new.layers[0].weight
    assert weight.axes == mlp.layers[0].weight.axes and weight.axes[-1] == ins
    assert same(weight.array, init(path_key(NEW, "layers/0/weight"), weight.array.shape))


class UpAndDown(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(4, name="down")(nn.Dense(16, name="up")(x)), None


def test_the_axis_of_stacked_layers_is_no_window():
    """Each layer that nn.scan stacks has the fan that it has alone, and its bias too."""
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
    variables = nn.scan(UpAndDown, **options)().init(KEY, X, None)
    each = flaxinit.lecun_uniform(batch_axis=0)
    new = reinit(variables, {"*/kernel": each, "*/bias": like_kernel(each)}, NEW)["params"]
    for name, fan in (("up", 4), ("down", 16)):
        shape = new[name]["kernel"].shape
        assert shape[0] == 3 and each.variance(shape) == 1 / fan
        assert same(new[name]["kernel"], each(path_key(NEW, f"params/{name}/kernel"), shape))
        for array in new[name].values():
            largest = jnp.max(jnp.abs(array.reshape(3, -1)), axis=1)
            assert jnp.all(largest <= math.sqrt(3 / fan)), "the bound of U with variance 1/fan"
            assert jnp.any(largest > math.sqrt(3 / (3 * fan))), "that of a window of 3"


def test_arrays_stay_where_they_were():
    mesh = jax.make_mesh((8,), ("x",))
    layout = jax.NamedSharding(mesh, jax.P(None, "x"))
    tree = {"a": jax.device_put(jnp.ones((4, 16)), layout), "b": jnp.ones((4, 16))}
    device = jax.devices()[3]
    tree["c"] = jax.device_put(jnp.ones((4, 16)), device)
    for init in (SMALL, jax.nn.initializers.normal(0.02)):
        new = reinit(tree, {"*": init}, NEW)
        assert new["a"].sharding == layout and new["c"].devices() == {device}
        alone = reinit({"a": jnp.ones((4, 16))}, {"a": init}, NEW)["a"]
        np.testing.assert_allclose(jax.device_get(new["a"]), alone, rtol=1e-6)


def test_boxes_stay_boxes():
    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "x"))
    variables = nn.Dense(8, kernel_init=init).init(KEY, X)
    new = reinit(variables, {"params/kernel": SMALL}, NEW)
    boxed = new["params"]["kernel"]
    assert isinstance(boxed, nn.Partitioned) and boxed.names == (None, "x")
    assert same(boxed.value, SMALL(path_key(NEW, "params/kernel"), (4, 8)))


RULES = {"*/kernel": flaxinit.he(), "*/bias": flaxinit.normal(0.1)}


MAKERS = {
    "linen": lambda key: Block().init(key, X),
    "nnx": lambda key: Layers(nnx.Rngs(key)),
    "haiku": lambda key: hk.transform(lambda x: hk.nets.MLP([8, 2])(x)).init(key, X),
    "equinox": lambda key: eqx.filter(eqx.nn.MLP(4, 2, 8, 2, key=key), eqx.is_array),
}


@pytest.mark.parametrize("name", MAKERS)
def test_inside_fast_init_the_bits_are_the_same_and_nothing_is_drawn_twice(name):
    rules = {re.compile(MODELS[name][1]): flaxinit.lecun_uniform()}
    reports = []
    init = flaxinit.fast_init(MAKERS[name], initializers=rules, report=reports.append)
    for key in (KEY, NEW):
        made, eager = arrays(init(key)), arrays(reinit(MAKERS[name](key), rules, key))
        assert made.keys() == eager.keys()
        for path, leaf in eager.items():
            assert same(made[path], leaf), path
    flaxinit.fast_init(MAKERS[name], report=reports.append)(KEY)
    drawn, _, before = (sum(group.draws for group in report.groups) for report in reports)
    assert 0 < drawn <= before


def test_inside_fast_init_on_a_mesh():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    kernel = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "x"))
    model = nn.Dense(16, kernel_init=kernel)
    rules = {"*/kernel": flaxinit.lecun_uniform()}
    with jax.set_mesh(mesh):
        made = flaxinit.fast_init(model.init, initializers=rules)(KEY, X)["params"]["kernel"].value
    assert made.sharding.spec == jax.P(None, "x")
    eager = reinit(model.init(KEY, X), rules, KEY)["params"]["kernel"].value
    np.testing.assert_array_equal(jax.device_get(made), eager)


def test_the_key_of_rules_is_the_first_argument_or_its_params():
    init = flaxinit.fast_init(Block().init, initializers=RULES)
    by_key, by_name = arrays(init(KEY, X)), arrays(init({"params": KEY}, X))
    for path, leaf in arrays(reinit(Block().init(KEY, X), RULES, KEY)).items():
        assert same(by_key[path], leaf) and same(by_name[path], leaf)
    for wrong in ({"dropout": KEY}, X):
        with pytest.raises(TypeError, match="the first argument is the key"):
            init(wrong, X)
    with pytest.raises(ValueError, match="matches none of the"):
        flaxinit.fast_init(Block().init, initializers={"kernle": SMALL})(KEY, X)
    with pytest.raises(TypeError, match="rules must be pairs"):
        flaxinit.fast_init(Block().init, initializers=3)


def test_under_jit_the_values_are_the_same():
    eager = arrays(reinit(linen(), RULES, NEW))
    traced = arrays(jax.jit(lambda tree, key: reinit(tree, RULES, key))(linen(), NEW))
    assert all(same(eager[path], traced[path]) for path in eager)


def test_the_report_lists_what_each_rule_drew(capsys):
    reports = []
    rules = {"*/c_proj/kernel": SMALL, re.compile("c_fc"): None}
    reinit(linen(), rules, NEW, report=reports.append)
    (report,) = reports
    assert [names for _, names in report.redrawn] == [
        ("params/c_proj/kernel",),
        ("params/c_fc/bias", "params/c_fc/kernel"),
    ]
    assert "params/head/kernel" in report.left and len(report.left) == 5
    reinit(linen(), rules, NEW, report=True)
    printed = capsys.readouterr().out
    assert printed.strip() == str(report)
    assert "'*/c_proj/kernel' -> normal(stddev=0.02)\n  params/c_proj/kernel\n" in printed
    assert "regular expression 'c_fc' -> None" in printed


BAD = {
    "nothing": (
        {"*/c_porj/kernel": SMALL},
        ValueError,
        r"'\*/c_porj/kernel' matches none of the 8 floating arrays. .*params/c_proj/kernel",
    ),
    "no regular expression": ({re.compile("^kernel"): SMALL}, ValueError, "expression '.kernel'"),
    "no class": ({nnx.Linear: SMALL}, ValueError, "Linear matches none"),
    "no array": ({(lambda path, array: False): SMALL}, ValueError, "matches none"),
    "covered": ({"*": SMALL, "*/kernel": flaxinit.he()}, ValueError, "Put it before them"),
    "a shape": (
        {"*/kernel": SMALL, "*": flaxinit.he()},
        ValueError,
        r"params/LayerNorm_0/bias, by the rule '\*': A fan needs a kernel",
    ),
    "a factory": ({"*": flaxinit.he}, TypeError, r"Call it: he\(\.\.\.\)"),
    "a name": ({"*": "hee_normal"}, ValueError, "Did you mean 'he_normal'"),
    "another shape": ({"*": lambda key, shape, dtype: jnp.ones(3)}, ValueError, "made float32"),
    "no rule": ({}, TypeError, "rules must be pairs"),
    "a recipe": (recipes.gpt2, TypeError, r"Call it: gpt2\(\.\.\.\)"),
    "no pairs": (["*"], TypeError, "rules must be pairs"),
    "three": ([("*", SMALL, False)], TypeError, "rules must be pairs"),
    "no parts": ({(): SMALL}, TypeError, "A pattern must be a glob"),
    "a part": ({("*", 3): SMALL}, TypeError, "A pattern must be a glob"),
    "a pattern": ({3: SMALL}, TypeError, "A pattern must be a glob"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_rule_is_an_error(case):
    rules, error, message = BAD[case]
    with pytest.raises(error, match=message):
        reinit(linen(), rules, NEW)


def test_what_is_no_key():
    with pytest.raises(TypeError, match="needs one key"):
        reinit(linen(), {"*": SMALL}, 3)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (nn.Dense(3), "this Dense"),
        (nn.Dense, "Dense"),
        (np.float32, "float32"),
        (None, "None"),
        ({}, "an empty dict"),
        ({"n": jnp.arange(3)}, "this dict"),
        (nnx.Dropout(0.5), "this Dropout"),
    ],
)
@pytest.mark.parametrize("rules", [{"*/kernel": "zeros"}, recipes.pytorch()])
def test_what_holds_no_floating_array_is_named(tree, named, rules):
    with pytest.raises(ValueError, match=rf"arrays in {named}\. .* Linen module its variables"):
        reinit(tree, rules, KEY)


@pytest.mark.parametrize("rules", [{"*/kernel": "zeros"}, [("*/kernel", SMALL), ("*", None)]])
def test_shapes_without_values_are_drawn_or_refused(rules):
    shapes = jax.eval_shape(linen)
    with pytest.raises(ValueError, match=r"bias is a jax\.ShapeDtypeStruct.*fast_init\(init, init"):
        reinit(shapes, rules, KEY)
    made = nnx.eval_shape(lambda: Layers(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"fast_init\(init, initializers=rules\)"):
        reinit(made, rules, KEY)
    both = [reinit(tree, {"*": SMALL}, KEY) for tree in (shapes, linen())]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, *both))
