"""Recipes beside the libraries they are of: the same distributions, array by array.

A model of the library is drawn again by our rules. Of each array the mean square, the extremes and
the distribution are compared with what the library drew.
"""

import os
import re

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flaxinit
from benchmarks.bounds import ks_bound, z_score
from flaxinit import recipes
from flaxinit.trees import paths

KEY, NEW = jax.random.key(5), jax.random.key(6)
NO_LIBRARY = "{} is not installed; it is too large for the tests' environment"


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {paths.name(path): np.asarray(leaf, np.float64).ravel() for path, leaf in found}


def compare(ours, theirs, cases):
    """Return what is different about two samples of one size, or None."""
    if not ours.std() or not theirs.std():
        return None if np.array_equal(ours, theirs) else "a constant"
    squares = ours**2, theirs**2
    error = np.sqrt(sum(square.var() / square.size for square in squares))
    if abs(squares[0].mean() - squares[1].mean()) > z_score(cases) * error:
        return f"mean squares {squares[0].mean():.4g}, {squares[1].mean():.4g}"
    if stats.ks_2samp(ours, theirs).statistic > ks_bound(ours.size // 2, cases):
        return "the distribution"
    return None


def differences(theirs, rules, sizes=0):
    """Draw a model again, and return by path what is different, and what was left."""
    reports = []
    again = flaxinit.reinit(theirs, rules, NEW, report=reports.append)
    ours, theirs = leaves(again), leaves(theirs)
    assert ours.keys() == theirs.keys()
    found = {path: compare(ours[path], theirs[path], len(ours)) for path in ours}
    return {path: what for path, what in found.items() if what}, reports[0].left


def haiku_model(x):
    tokens = hk.Embed(300, 100)(jnp.zeros((1, 3), int))
    image = hk.Conv2D(64, (3, 3))(x)
    image = hk.Conv2DTranspose(48, 2)(image)
    state = hk.GRU(100)(jnp.ones((1, 80)), jnp.zeros((1, 100)))[0]
    heads = hk.MultiHeadAttention(4, 32, w_init_scale=1.0)(tokens, tokens, tokens)
    return hk.Linear(200)(hk.LayerNorm(-1, True, True)(image)), tokens, state, heads


def test_haiku():
    params = hk.transform(haiku_model).init(KEY, jnp.ones((1, 8, 8, 32)))
    attention = {name: params.pop(name) for name in list(params) if "attention" in name}
    assert attention  # its initializer is an argument, not a default
    assert differences(params, recipes.haiku()) == ({}, ())
    # A negative control: without the cut the variance is 1/0.774 as large.
    wrong, _ = differences(params, [("*/w*", flaxinit.lecun()), *recipes.haiku()])
    assert {"linear/w", "conv2_d/w"} <= wrong.keys()


class Cells(eqx.Module):
    lstm: eqx.nn.LSTMCell
    gru: eqx.nn.GRUCell
    linear: eqx.nn.Linear
    conv: eqx.nn.Conv2d
    grouped: eqx.nn.Conv2d
    transposed: eqx.nn.ConvTranspose2d
    embedding: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm

    def __init__(self):
        keys = iter(jax.random.split(KEY, 9))
        self.lstm = eqx.nn.LSTMCell(60, 90, key=next(keys))
        self.gru = eqx.nn.GRUCell(60, 90, key=next(keys))
        self.linear = eqx.nn.Linear(30, 900, key=next(keys))
        self.conv = eqx.nn.Conv2d(20, 300, 3, key=next(keys))
        self.grouped = eqx.nn.Conv2d(20, 300, 3, groups=4, key=next(keys))
        self.transposed = eqx.nn.ConvTranspose2d(20, 300, 3, key=next(keys))
        self.embedding = eqx.nn.Embedding(300, 90, key=next(keys))
        self.attention = eqx.nn.MultiheadAttention(4, 64, use_query_bias=True, key=next(keys))
        self.norm = eqx.nn.LayerNorm(64)


def equinox_rules(gates_of_lstm=4):
    stored = {"embedding": eqx.nn.Embedding, "outputs_first": True}
    lstm = recipes.equinox(recurrent=eqx.nn.LSTMCell, gates=gates_of_lstm, **stored)
    gru = recipes.equinox(recurrent=eqx.nn.GRUCell, gates=3, **stored)
    own = [rule for rule in lstm if isinstance(rule.pattern, tuple)]
    return [*(rule for rule in own if eqx.nn.LSTMCell in rule.pattern), *gru]


def test_equinox():
    model = eqx.filter(Cells(), eqx.is_array)
    # Vectors named weight are scales of normalizations, which Equinox too sets to 1.
    assert differences(model, equinox_rules()) == ({}, ("norm/weight",))
    wrong, _ = differences(model, equinox_rules(gates_of_lstm=1))
    assert {"lstm/weight_ih", "lstm/weight_hh", "lstm/bias"} <= wrong.keys()


def test_keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    reason = "Keras is not installed; `pip install flaxinit[elsewhere]` has it"
    keras = pytest.importorskip("keras", reason=reason)
    keras.utils.set_random_seed(3)
    layers = {
        "dense": (keras.layers.Dense(200), (None, 150)),
        "conv": (keras.layers.Conv2D(64, 3), (None, 8, 8, 32)),
        "transposed": (keras.layers.Conv2DTranspose(64, 3), (None, 8, 8, 32)),
        "lstm": (keras.layers.LSTM(90), (None, 4, 60)),
        "embedding": (keras.layers.Embedding(300, 90), (None, 3)),
        "norm": (keras.layers.LayerNormalization(), (None, 90)),
    }
    params = {}
    for name, (layer, shape) in layers.items():
        layer.build(shape)
        weights = {w.path.split("/")[-1]: jnp.asarray(w.value) for w in layer.weights}
        renamed = {"gamma": "scale", "beta": "bias"}
        params[name] = {renamed.get(key, key): weight for key, weight in weights.items()}
    rules = recipes.keras(recurrent="lstm/recurrent_kernel", lstm="lstm/bias")
    assert differences(params, rules) == ({}, ())
    attention = keras.layers.MultiHeadAttention(4, 64)
    attention.build((None, 5, 100), (None, 5, 100))
    params = {w.path: jnp.asarray(w.value) for w in attention.weights}
    assert differences(params, recipes.keras()) == ({}, ())


def flax_tree(torch, module):
    """Return the parameters of a module of PyTorch with Flax's names and layouts."""
    tree = {}
    for path, owner in module.named_modules():
        kind = type(owner).__name__
        for name, weight in owner.named_parameters(recurse=False):
            array = weight.detach().numpy()
            if array.ndim == 1 and name == "weight":
                name = "scale"
            elif "Embedding" in kind:
                name = "embedding"
            elif kind == "MultiheadAttention" and array.ndim == 2:
                name, array = "qkv/kernel", array.T
            elif kind == "MultiheadAttention":
                name = "qkv/bias"
            elif "Transpose" in kind and array.ndim > 2:
                name, array = "kernel", np.moveaxis(array, (0, 1), (-2, -1))
            elif "Conv" in kind and array.ndim > 2:
                name, array = "kernel", np.moveaxis(array, (1, 0), (-2, -1))
            elif "Linear" in kind and array.ndim == 2:
                name, array = "kernel", array.T
            elif kind in ("LSTM", "GRU") and array.ndim == 2:
                name, array = f"{name}/kernel", array.T
            elif kind in ("LSTM", "GRU"):  # beside its kernel
                name = name.replace("bias", "weight") + "/bias"
            tree[f"{path}/{name}".replace(".", "/").strip("/")] = jnp.asarray(array)
    return nested(tree)


def nested(flat):
    tree = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = array
    return tree


def library(name):
    return pytest.importorskip(name, reason=NO_LIBRARY.format(name))


def test_pytorch():
    torch = library("torch")
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(30, 900),
            "conv": nn.Conv2d(20, 300, 3),
            "grouped": nn.Conv2d(20, 300, 3, groups=4),
            "ConvTranspose": nn.ConvTranspose2d(300, 20, 3),
            "LSTMCell": nn.LSTM(60, 90),
            "Attention": nn.MultiheadAttention(160, 4),
            "embedding": nn.Embedding(300, 90),
            "norm": nn.LayerNorm(64),
        }
    )
    tree = flax_tree(torch, model)
    assert differences(tree, recipes.pytorch(gates=4)) == ({}, ())
    wrong, _ = differences(tree, recipes.pytorch(gates=1, transposed="none", attention="none"))
    assert {"ConvTranspose/kernel", "LSTMCell/weight_ih_l0/kernel", "Attention/qkv/kernel"} <= set(
        wrong
    )


def transformers_model(kind, **config):
    torch, library_of = library("torch"), library("transformers")
    torch.manual_seed(0)
    config = getattr(library_of, f"{kind[0]}Config")(**config)
    return flax_tree(torch, getattr(library_of, kind[1])(config))


SMALL = {"vocab_size": 500, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS = {
    "gpt2": (
        ("GPT2", "GPT2LMHeadModel"),
        {"vocab_size": 500, "n_embd": 128, "n_layer": 3, "n_head": 4, "n_positions": 200},
        lambda: recipes.gpt2(layers=3),
    ),
    "llama": (
        ("Llama", "LlamaForCausalLM"),
        {**SMALL, "hidden_size": 128, "intermediate_size": 300},
        recipes.llama,
    ),
    "t5": (
        ("T5", "T5ForConditionalGeneration"),
        {
            "vocab_size": 500,
            "d_model": 128,
            "d_kv": 16,
            "d_ff": 300,
            "num_layers": 2,
            "num_heads": 6,
        },
        lambda: recipes.t5(128, 16),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name):
    kind, config, rules = MODELS[name]
    tree = transformers_model(kind, **config)
    assert differences(tree, rules()) == ({}, ())
    louder = [("*q*", flaxinit.normal(0.1)), ("*c_proj*", flaxinit.normal(0.1))]
    wrong, _ = differences(tree, [louder[name == "gpt2"], *rules()])
    assert wrong


@pytest.mark.parametrize("style", ["timm", "jax"])
def test_timm(style):
    torch, timm = library("torch"), library("timm")
    torch.manual_seed(0)
    sizes = {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 4}
    weights = "" if style == "timm" else "jax"
    model = timm.models.VisionTransformer(**sizes, num_classes=100, weight_init=weights)
    rules = recipes.vit(style)
    if style == "jax":  # of which timm keeps its own class token
        rules = [("cls_token", flaxinit.normal(1e-6)), *rules]
    assert differences(flax_tree(torch, model), rules) == ({}, ())


def test_mamba():
    torch, library_of = library("torch"), library("transformers")
    torch.manual_seed(0)
    config = library_of.MambaConfig(
        vocab_size=100, hidden_size=300, num_hidden_layers=1, state_size=16, expand=4
    )
    mixer = library_of.MambaModel(config).layers[0].mixer
    dt, a_log = (p.detach().numpy().astype(float) for p in (mixer.dt_proj.bias, mixer.A_log))
    ours = np.asarray(recipes.mamba_dt_bias()(KEY, dt.shape), float)
    assert compare(ours, dt, 2) is None
    np.testing.assert_allclose(recipes.mamba_a_log()(None, a_log.shape), a_log, rtol=1e-6)
    kernel = mixer.dt_proj.weight.detach().numpy().astype(float)
    ours = np.asarray(recipes.pytorch_kernel()(KEY, kernel.T.shape), float)
    assert compare(ours.ravel(), kernel.ravel(), 2) is None


def test_a_difference_of_five_percent_is_found():
    first, second = (jax.random.normal(key, (1 << 16,)) for key in (KEY, NEW))
    first, second = (np.asarray(a, np.float64) for a in (first, second))
    assert compare(first, second, 10) is None
    assert "mean squares" in compare(first, 1.05 * second, 10)
    assert compare(first, np.sign(second) * first.std(), 10) == "the distribution"
    assert compare(first, 0 * second, 10) == "a constant"
    assert re.match("a constant", compare(0 * first, 0 * second + 1, 10))
