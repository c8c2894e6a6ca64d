"""Recipes as rules: which array gets which distribution, with the numbers of the papers.

`test_recipes_libraries.py` compares them with the libraries themselves where these are installed.
"""

import fnmatch
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import flaxinit
from benchmarks.bounds import PARENTS, STATISTICS, Rounded, z_score
from flaxinit import recipes, reinit
from flaxinit.recipes import Rule
from flaxinit.trees import paths

KEY, NEW = jax.random.key(5), jax.random.key(6)
WIDTH, HEADS, HEAD, HIDDEN, VOCABULARY, LAYERS = 96, 4, 24, 160, 300, 3


def filled(shapes):
    """Return a tree of sevens: what no rule takes is seen."""
    return jax.tree.map(lambda s: jnp.full(s, 7.0), shapes, is_leaf=lambda s: type(s) is tuple)


def dense(*shape, bias=True):
    outputs = shape[-1:] if len(shape) != 3 else shape[1:]
    return {"kernel": shape, **({"bias": outputs} if bias else {})}


NORM = {"scale": (WIDTH,), "bias": (WIDTH,)}


def decoder(attention, mlp, block="h_{}", **others):
    """A decoder whose blocks hold these kernels."""
    inside = {"attn": attention, "mlp": mlp, "ln_1": NORM}
    blocks = {block.format(n): inside for n in range(LAYERS)}
    return filled({"wte": {"embedding": (VOCABULARY, WIDTH)}, "ln_f": NORM, **blocks, **others})


HEADED = {
    **{name: dense(WIDTH, HEADS, HEAD) for name in ("query", "key", "value")},
    "out": {"kernel": (HEADS, HEAD, WIDTH), "bias": (WIDTH,)},
}
FLAT = {
    **{f"w{name}": dense(WIDTH, WIDTH, bias=False) for name in "qkv"},
    "wo": dense(WIDTH, WIDTH, bias=False),
}
GPT = decoder(
    {"c_attn": dense(WIDTH, 3 * WIDTH), "c_proj": dense(WIDTH, WIDTH)},
    {"c_fc": dense(WIDTH, HIDDEN), "c_proj": dense(HIDDEN, WIDTH)},
    wpe={"embedding": (200, WIDTH)},
)
T5 = decoder(
    HEADED,
    {"wi_0": dense(WIDTH, HIDDEN), "wo": dense(HIDDEN, WIDTH)},
    relative_attention_bias={"embedding": (200, HEADS)},
    lm_head=dense(WIDTH, VOCABULARY, bias=False),
)
LLAMA = decoder(
    FLAT,
    {"w1": dense(WIDTH, HIDDEN), "w2": dense(HIDDEN, WIDTH), "w3": dense(WIDTH, HIDDEN)},
    block="layers_{}",
    output=dense(WIDTH, VOCABULARY, bias=False),
)
VIT = filled(
    {
        "pos_embed": (1, 16, WIDTH),
        "cls_token": (1, 1, WIDTH),
        "patch_embed": {"proj": dense(4, 4, 3, WIDTH)},
        "blocks": {"attn": HEADED, "mlp": {"fc1": dense(WIDTH, HIDDEN)}, "norm": NORM},
        "head": dense(WIDTH, VOCABULARY),
    }
)
HYBRID = VIT | filled(  # with a root of ResNet, and a layer before the head
    {"conv_root": dense(7, 7, 3, 64, bias=False), "pre_logits": dense(WIDTH, WIDTH)}
)
DIT = filled(
    {
        "pos_embed": (1, 16, WIDTH),
        "x_embedder": {"proj": dense(2, 2, 4, WIDTH)},
        "t_embedder": {"mlp_0": dense(256, WIDTH)},
        "y_embedder": {"embedding": (VOCABULARY, WIDTH)},
        "blocks": {
            "attn": HEADED,
            "fused": {"qkv": dense(WIDTH, 3 * WIDTH)},
            "mlp": {"fc1": dense(WIDTH, HIDDEN)},
            "adaLN_modulation": dense(WIDTH, 6 * WIDTH),
        },
        "final_layer": {"adaLN": dense(WIDTH, 2 * WIDTH), "linear": dense(WIDTH, 16)},
    }
)
PYTORCH = filled(
    {
        "Dense_0": dense(48, 2000),
        "Conv_0": dense(3, 3, 8, 500),
        "ConvTranspose_0": dense(3, 3, 8, 500),
        "LSTMCell_0": {"hi": dense(WIDTH, WIDTH), "ii": dense(40, WIDTH, bias=False)},
        "MultiHeadDotProductAttention_0": HEADED,
        "Embed_0": {"embedding": (VOCABULARY, WIDTH)},
        "LayerNorm_0": NORM,
    }
)


def u(fan):
    """The standard deviation of U(-1/√fan, 1/√fan)."""
    return 1 / math.sqrt(3 * fan)


def glorot(fan_in, fan_out):
    return math.sqrt(2 / (fan_in + fan_out))


def cut(stddev, at=2):
    """Return the standard deviation that a normal has after a cut (Johnson et al., 1994)."""
    density = math.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)
    return stddev * math.sqrt(1 - 2 * at * density / math.erf(at / math.sqrt(2)))


DEFAULTS_OF_NORMS = {"*scale": (1.0,), "LayerNorm*": (0.0,)}
LAWS = PARENTS | {"cut at 3": stats.truncnorm(-3, 3, scale=1 / cut(1, 3))}
DEFAULTS = {"*scale": (1.0,), "*bias": (0.0,)}
# For each array, by the first glob: a distribution and its deviation, or a constant.
CASES = {
    "gpt2": (
        GPT,
        recipes.gpt2(LAYERS),
        {
            "*c_proj/kernel": ("normal", 0.02 / math.sqrt(2 * LAYERS)),
            **DEFAULTS,
            "*": ("normal", 0.02),
        },
    ),
    "gpt_neox": (
        GPT,
        recipes.gpt_neox(LAYERS, WIDTH),
        {
            "*c_proj/kernel": ("normal", 2 / LAYERS / math.sqrt(WIDTH)),
            **DEFAULTS,
            "*": ("normal", math.sqrt(2 / (5 * WIDTH))),
        },
    ),
    "llama": (LLAMA, recipes.llama(), {**DEFAULTS, "*": ("normal", 0.02)}),
    "bert": (GPT, recipes.bert(), {**DEFAULTS, "*": ("truncated_normal", cut(0.02))}),
    "torchtitan": (
        LLAMA,
        recipes.torchtitan(LAYERS, WIDTH),
        {
            **{
                f"layers_{n}/*/{name}/kernel": ("normal", 0.02 / math.sqrt(2 * (n + 1)))
                for n in range(LAYERS)
                for name in ("wo", "w2", "w3")
            },
            **DEFAULTS,
            "wte/*": ("normal", 1.0),
            "output/*": ("cut at 3", cut(WIDTH**-0.5, 3)),
            "*": ("normal", 0.02),
        },
    ),
    "t5": (
        T5,
        recipes.t5(WIDTH, HEAD),
        {
            **DEFAULTS,
            "*/query/*": ("normal", 1 / math.sqrt(WIDTH * HEAD)),
            "*/out/*": ("normal", 1 / math.sqrt(HEADS * HEAD)),
            "*/wo/*": ("normal", 1 / math.sqrt(HIDDEN)),
            "relative*": ("normal", 1 / math.sqrt(WIDTH)),
            "wte*": ("normal", 1.0),
            "lm_head*": ("normal", 1.0),
            "*": ("normal", 1 / math.sqrt(WIDTH)),
        },
    ),
    "maxtext": (
        T5,
        recipes.maxtext(HEAD, attention="*/attn/*"),
        {
            **DEFAULTS,
            "*/query/*": ("normal", 1 / math.sqrt(WIDTH * HEAD)),
            "*/attn/out/*": ("normal", 1 / math.sqrt(HEADS * HEAD)),
            "*/attn/*": ("normal", 1 / math.sqrt(WIDTH)),
            "*/wo/*": ("truncated_normal", 1 / math.sqrt(HIDDEN)),
            "relative*": ("normal", 1 / math.sqrt(HEADS)),
            "wte*": ("normal", 1 / math.sqrt(WIDTH)),
            "*": ("truncated_normal", 1 / math.sqrt(WIDTH)),
        },
    ),
    "vit": (
        VIT,
        recipes.vit(),
        {
            "patch_embed*": ("uniform", u(3 * 16)),
            **DEFAULTS,
            "cls_token": ("normal", 1e-6),
            "*": ("normal", 0.02),
        },
    ),
    "vit of its authors": (
        HYBRID,
        recipes.vit("jax"),
        {
            "patch_embed/*/kernel": ("truncated_normal", 1 / math.sqrt(3 * 16)),
            "conv_root/kernel": ("truncated_normal", 1 / math.sqrt(3 * 49)),
            "pre_logits/kernel": ("truncated_normal", 1 / math.sqrt(WIDTH)),
            "head/*": (0.0,),
            "*mlp*bias": ("normal", 1e-6),
            **DEFAULTS,
            "cls_token": (0.0,),
            "pos_embed": ("normal", 0.02),
            "*fc1*": ("uniform", glorot(WIDTH, HIDDEN)),
            "*": ("uniform", glorot(WIDTH, WIDTH)),
        },
    ),
    "dit": (
        DIT,
        recipes.dit(grid=(4, 4)),
        {
            **DEFAULTS,
            "*adaLN*": (0.0,),
            "final*": (0.0,),
            "t_embedder*": ("normal", 0.02),
            "y_embedder*": ("normal", 0.02),
            "x_embedder*": ("uniform", glorot(4 * 4, WIDTH)),
            "*qkv*": ("uniform", glorot(WIDTH, 3 * WIDTH)),
            "*/out/*": ("uniform", glorot(WIDTH, WIDTH)),
            "*attn*": ("uniform", glorot(WIDTH, 3 * WIDTH)),
            "*fc1*": ("uniform", glorot(WIDTH, HIDDEN)),
        },
    ),
    "pytorch": (
        PYTORCH,
        recipes.pytorch(),
        {
            "Dense_0/*": ("uniform", u(48)),
            "Conv_0/*": ("uniform", u(9 * 8)),
            "ConvTranspose_0/*": ("uniform", u(9 * 500)),
            "LSTMCell_0/*": ("uniform", u(WIDTH)),
            **DEFAULTS,
            "*Attention*/out/*": ("uniform", u(WIDTH)),
            "*Attention*": ("uniform", glorot(WIDTH, 3 * WIDTH)),
            "Embed*": ("normal", 1.0),
        },
    ),
    "equinox": (
        PYTORCH,
        recipes.equinox(),
        {
            **DEFAULTS_OF_NORMS,
            "Dense_0/*": ("uniform", u(48)),
            "Conv*": ("uniform", u(9 * 8)),
            "Embed*": ("normal", 1.0),
            "*": ("uniform", u(WIDTH)),
        },
    ),
    "haiku": (
        PYTORCH,
        recipes.haiku(),
        {
            **DEFAULTS,
            "Embed*": ("truncated_normal", cut(1.0)),
            "Dense*": ("truncated_normal", cut(48**-0.5)),
            "Conv*": ("truncated_normal", cut(72**-0.5)),
            "*/ii/*": ("truncated_normal", cut(40**-0.5)),
            "*": ("truncated_normal", cut(WIDTH**-0.5)),
        },
    ),
}


def flat(tree):
    return {paths.name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("name", CASES)
def test_each_array_has_the_published_distribution(name):
    tree, rules, expected = CASES[name]
    drawn = flat(reinit(tree, rules, NEW))
    used = set()
    for path, array in drawn.items():
        if path == "pos_embed" and name == "dit":
            grid = recipes.sincos_positions(grid=(4, 4))(None, array.shape)
            np.testing.assert_array_equal(array, grid)
            continue
        glob, (*law, number) = next(
            (glob, law) for glob, law in expected.items() if fnmatch.fnmatchcase(path, glob)
        )
        used.add(glob)
        sample = np.asarray(array, np.float32).ravel()
        if not law:
            assert (sample == number).all(), path
            continue
        cases = len(STATISTICS) * len(CASES) * len(drawn)
        shares = Rounded(LAWS[law[0]], number, "float32").shares(sample, cases)
        assert max(shares.values()) <= 1, (path, shares)
    assert used == set(expected) - (set(DEFAULTS) - used)


def test_a_kernel_with_the_wrong_fan_is_seen():
    """The negative control: queries of T5 read as a convolution's kernel."""
    tree, rules, _ = CASES["t5"]
    wrong = [("*/query/kernel", flaxinit.lecun(distribution="normal")), *rules]
    sample = np.asarray(flat(reinit(tree, wrong, NEW))["h_0/attn/query/kernel"]).ravel()
    exact = Rounded(PARENTS["normal"], 1 / math.sqrt(WIDTH * HEAD), "float32")
    assert max(exact.shares(sample, len(CASES)).values()) > 1


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 16, name="wte")(tokens)
        for n in range(2):
            h = nn.LayerNorm(name=f"ln_{n}")(x)
            x = x + nn.SelfAttention(2, name=f"attn_{n}")(h)
            h = nn.gelu(nn.Dense(32, name=f"c_fc_{n}")(x))
            x = x + nn.Dense(16, name=f"mlp_{n}_out")(h)
        return x


class NnxLayers(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.ConvTranspose(3, 5, (2, 2), rngs=rngs)
        self.cell = nnx.OptimizedLSTMCell(4, 6, rngs=rngs)
        self.mix = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
        self.table = nnx.Embed(10, 4, rngs=rngs)


def test_on_models_of_linen_and_nnx():
    params = Transformer().init(KEY, jnp.zeros((1, 3), int))
    ends = recipes.gpt2(2, projections=re.compile(r"(attn_\d+/out|_out)/kernel"))
    reports = []
    reinit(params, ends, NEW, report=reports.append)
    assert not reports[0].left
    assert len(reports[0].redrawn[0][1]) == 4  # two in each block
    tokens = jnp.zeros((1, 3), int)
    for rules in (ends, recipes.pytorch()):  # which draws biases by their kernels
        drawn = reinit(Transformer().init(NEW, tokens), rules, NEW)
        made = flaxinit.fast_init(Transformer().init, initializers=rules)(NEW, tokens)
        for ours, theirs in zip(*map(jax.tree.leaves, (drawn, made)), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    rules = recipes.pytorch(
        transposed=nnx.ConvTranspose,
        recurrent=nnx.OptimizedLSTMCell,
        gates=4,
        attention=nnx.MultiHeadAttention,
    )
    model = reinit(NnxLayers(nnx.Rngs(0)), rules, NEW, report=reports.append)
    assert not [path for path in reports[1].left if "key" not in path]
    assert abs(model.up.bias[...]).max() <= 1 / math.sqrt(2 * 2 * 5)
    assert abs(model.cell.dense_h.bias[...]).max() <= 1 / math.sqrt(6)
    assert not model.mix.query.bias[...].any()


WRONG = {
    "other names": (
        lambda: reinit(LLAMA, recipes.gpt2(2, projections="*/c_proj/*"), NEW),
        r"'\*/c_proj/\*' matches none of the .*nearest are .*kernel",
    ),
    "too many layers": (
        lambda: reinit(LLAMA, recipes.torchtitan(4, WIDTH), NEW),
        r"'\*layers_3/\*' and .* matches none",
    ),
    "no modulation": (lambda: reinit(VIT, recipes.dit((4, 4)), NEW), "adaLN.* matches none"),
    "another grid": (
        lambda: reinit(DIT, recipes.dit((4, 5)), NEW),
        "pos_embed, by the rule .*has 20 positions",
    ),
    "a later rule": (
        lambda: reinit(GPT, [*recipes.llama(), ("*/c_fc/kernel", "zeros")], NEW),
        "changes nothing: rules before it",
    ),
    "no kernel": (
        lambda: reinit({"a": jnp.ones((3, 4))}, recipes.pytorch(), NEW),
        "matches none of the 1 floating arrays",
    ),
    "a style": (lambda: recipes.vit("flax"), "style must be one of timm, jax"),
    "no layers": (lambda: recipes.gpt2(0), "layers must be a positive integer"),
    "no width": (lambda: recipes.small_init(1.5), "width must be a positive integer"),
    "no head": (lambda: recipes.t5(8, 0), "head_dim must be a positive integer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_recipe_that_does_not_fit_is_an_error(case):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_recipes_are_rules_that_print_and_compare():
    for name in ("pytorch", "keras", "haiku", "equinox", "llama", "bert", "vit"):
        rules = getattr(recipes, name)()
        assert rules == getattr(recipes, name)()
        assert all(isinstance(rule, Rule) and str(rule) for rule in rules)


def test_initializers_of_pytorchs_layers():
    layer = nn.Dense(
        4000, kernel_init=recipes.pytorch_kernel(), bias_init=recipes.pytorch_bias((48, 4000))
    )
    params = layer.init(KEY, jnp.ones((1, 48)))["params"]
    for array in params.values():
        exact = Rounded(PARENTS["uniform"], u(48), "float32")
        assert exact.variance_error(np.asarray(array, float).ravel()) < z_score(2)
        assert abs(array).max() <= 48**-0.5
    grouped = recipes.pytorch_kernel(in_axis=1, out_axis=0)
    assert grouped.variance((300, 5, 3, 3)) == pytest.approx(1 / (3 * 45))
    with pytest.raises(TypeError, match="pytorch_kernel takes no keyword 'scale'"):
        recipes.pytorch_kernel(scale=2)
