"""What users of other libraries write, and the line of flaxinit for it, each with a check.

    python tests/patterns.py

runs the checks and writes the table of docs/code_bases.md. `test_patterns.py` runs them too, and
holds the page against the table.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from pattern_checks import (
    GIVEN,
    KEY,
    LIBRARIES,
    X,
    beside_their_moments,
    close,
    completed,
    drawn,
    finds_the_fan,
    first_is,
    gates,
    haliax_tree,
    is_the_name,
    layer,
    not_called,
    of_equinox,
    of_haiku,
    orthonormal,
    parts,
    pytorch_tree,
    refused,
    repeats,
    reported,
    rows,
    rules,
    same_as,
    short,
    split,
    std,
    step_sizes,
    traced,
    tree,
    vision_tree,
    without_qr,
)

import flaxinit

PAGE = Path(__file__).parents[1] / "docs" / "code_bases.md"
FILE = re.compile(r"^([\w.-]+/[\w.-]+): (\S+)$")
BEGIN, END = "<!-- patterns -->", "<!-- end of patterns -->"


@dataclass(frozen=True)
class Pattern:
    """A pattern: what it is, where it is found, the line here, and its check.

    It is found in a file, ``owner/repository: path``, or in what a few words say. The check takes
    the value of the line, and raises if it is not what the pattern asks for.
    """

    what: str
    source: str
    line: str
    check: Callable[[Any], None]

    def run(self) -> None:
        """Evaluate the line as a user would after the imports that the page names."""
        names = {name: getattr(flaxinit, name) for name in flaxinit.__all__}
        self.check(eval(self.line, names | LIBRARIES | GIVEN))

    def row(self) -> str:
        """Return the pattern's row of the page, with a link to the repository."""
        source = FILE.sub(r"[\1](https://github.com/\1) `\2`", self.source)
        return f"| {self.what} | {source} | `{self.line}` |"


# fmt: off
SECTIONS: dict[str, list[Pattern]] = {
    "Wherever an initializer goes": [
        Pattern("a scale from `jnp`", "ikostrikov/jaxrl: jaxrl/networks/common.py",
                "orthogonal(jnp.sqrt(2.0))", traced(flaxinit.orthogonal)),
        Pattern("a deviation from the width, in a module",
                "n-gao/neural-pfaffian: src/neural_pfaffian/nn/antisymmetrizer/slater.py",
                "normal(1 / jnp.sqrt(64.0))", traced(flaxinit.normal)),
        Pattern("a bias from a probability",
                "google-research/scenic: scenic/projects/baselines/centernet/modeling/box_head.py",
                "constant(jnp.log(p / (1 - p)))", traced(flaxinit.constant)),
        Pattern("a traced scale of variance", "programs under `jax.jit` and `jax.vmap`",
                "variance_scaling(jnp.asarray(2.0), 'fan_in', 'normal')",
                traced(lambda s: flaxinit.variance_scaling(s, "fan_in", "normal"))),
        Pattern("variance by depth", "layers under `nn.scan`",
                "he().times(1 / jnp.sqrt(3.0))", traced(lambda s: flaxinit.he().times(s))),
        Pattern("axes at the call", "AI-Hypercomputer/maxtext: src/maxtext/layers/initializers.py",
                "lecun()(key, (16, 2, 8), jnp.float32, 0, (1, 2))",
                lambda made: close(made.size, 256)),
        Pattern("`w_init(shape, dtype)`", "google-deepmind/dm-haiku: haiku/_src/basic.py",
                "lambda size: hk.Linear(size, w_init=for_haiku(he()))", of_haiku),
        Pattern("`kernel_initializer=`", "keras-team/keras: keras/src/layers/core/dense.py",
                "for_keras(he(), seed=3)", lambda made: close(made.seed, 3)),
        Pattern("`nnx.Rngs` for a key", "google/flax: flax/nnx/nn/linear.py",
                "he()(nnx.Rngs(0).params(), (4, 8))",
                refused(lambda: flaxinit.he()(nnx.Rngs(0), (4, 8)), "pass rngs.params()")),
        Pattern("a factory that is not called",
                "[google/flax](https://github.com/google/flax/issues/1289), issue 1289",
                "nn.Dense(8, kernel_init=orthogonal())",
                refused(lambda: not_called().init(KEY, X), r"kernel_init=orthogonal\(\)", layer)),
        Pattern("PyTorch's `gain=`", "microsoft/torchscale: torchscale/component/xmoe/routing.py",
                "orthogonal(scale=gain)",
                refused(lambda: flaxinit.orthogonal(gain=1.5), r"orthogonal\(scale=gain\)")),
        Pattern("PyTorch's `nonlinearity=`", "pytorch/vision: torchvision/models/resnet.py",
                "he('gelu')",
                refused(lambda: flaxinit.he(nonlinearity="gelu"), "Name the activation",
                        std(flaxinit.gain("gelu") / 8))),
        Pattern("PyTorch's `a=` of a leaky ReLU", "pytorch/pytorch: torch/nn/modules/linear.py",
                "he('max(x, 0.2*x)')",
                refused(lambda: flaxinit.he(a=0.2), "slope of a leaky ReLU")),
        Pattern("axes in any sequence", "lists of OmegaConf, `range`, NumPy",
                "he(in_axis=range(2), out_axis=np.array([2]))", std(math.sqrt(2) / 8, (4, 16, 8))),
        Pattern("a product with a number", "karpathy/nanoGPT: model.py",
                "residual_factor(12, branches=2) * normal(0.02)", std(0.02 / math.sqrt(24))),
        Pattern("Flax's `zeros_init()`", "google/flax: flax/linen/linear.py",
                "zeros_init()", same_as(0, (3,))),
        Pattern("Flax's `ones_init()`", "google/flax: flax/nnx/nn/normalization.py",
                "ones_init()", same_as(1, (3,))),
        Pattern("JAX's `truncated_normal(0.02)`", "jax-ml/jax: jax/_src/nn/initializers.py",
                "truncated_normal.from_parent(0.02)", std(0.02 * 0.8796256610342398)),
        Pattern("`trunc_normal_(std=.02, a=-2, b=2)`",
                "huggingface/pytorch-image-models: timm/models/nest.py",
                "truncated_normal.from_parent(0.02, -2, 2, absolute=True)", std(0.02)),
        Pattern("an initializer that prints short", "logs of experiments",
                "repr(constant(np.ones((1000, 1000))))", short),
    ],
    "Configurations": [
        Pattern("a name", "keras-team/keras: keras/src/applications/nasnet.py",
                "get('he_uniform')", is_the_name),
        Pattern("a dict", "keras-team/keras: keras/src/applications/efficientnet.py",
                "get({'name': 'variance_scaling', 'scale': 2.0, 'mode': 'fan_in', "
                "'distribution': 'uniform'})", is_the_name),
        Pattern("JSON, YAML", "allenai/allennlp: allennlp/nn/initializers.py",
                "get(he_uniform().to_config())", is_the_name),
        Pattern("Hydra's `_target_: flaxinit.he`",
                "facebookresearch/hydra: website/docs/advanced/instantiate_objects/overview.md",
                "he(activation='gelu')", std(flaxinit.gain("gelu") / 8)),
        Pattern("Fiddle's `fdl.Config(flaxinit.he, activation='gelu')`",
                "google/fiddle: fiddle/_src/daglish_extensions.py",
                "he(activation='gelu')", std(flaxinit.gain("gelu") / 8)),
    ],
    "By path": [
        Pattern("a glob", "karpathy/nanoGPT: model.py",
                "reinit(params, {'*/c_proj/kernel': normal(0.02)}, key)",
                drawn("layers_0/mlp/c_proj/kernel")),
        Pattern("a regular expression", "allenai/allennlp: allennlp/nn/initializers.py",
                "reinit(params, {re.compile('layers_[01]/.*kernel$'): normal(0.02)}, key)",
                drawn("layers_1/mlp/c_fc/kernel")),
        Pattern("a class of modules", "patrick-kidger/equinox: docs/tricks.md",
                "reinit(eqx.nn.MLP(4, 2, 8, 1, key=key), {eqx.nn.Linear: normal(0.02)}, key)",
                of_equinox),
        Pattern("a class and a name",
                "huggingface/pytorch-image-models: timm/models/vision_transformer.py",
                "reinit(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), {(nnx.Linear, 'kernel'): he()}, key)",
                lambda made: close(float(abs(made.bias[...]).max()), 0)),
        Pattern("a function of path and shape",
                "harvardnlp/annotated-transformer: the_annotated_transformer.py",
                "reinit(params, [(lambda path, x: x.ndim == 2, lecun())], key)",
                drawn("lm_head/kernel")),
        Pattern("Equinox by `tree_at`", "patrick-kidger/equinox: docs/tricks.md",
                "reinit(eqx.nn.MLP(400, 2, 8, 1, key=key), "
                "{'*/weight': lecun(in_axis=-1, out_axis=-2)}, key)", of_equinox),
        Pattern("Haliax", "stanford-crfm/haliax: src/haliax/nn/linear.py",
                "{'*/weight': lecun(in_axis=-1, out_axis=-2)}",
                rules("Dense_0/weight", 1 / math.sqrt(8), haliax_tree)),
        Pattern("a bias by its kernel's fan", "pytorch/pytorch: torch/nn/modules/linear.py",
                "{'*/bias': recipes.like_kernel(recipes.pytorch_kernel())}",
                rules("Dense_0/bias", 1 / 12, pytorch_tree)),
        Pattern("without drawing twice", "pytorch/pytorch: torch/nn/utils/init.py",
                "fast_init(nn.Dense(8).init, initializers={'*/kernel': he()})",
                lambda made: close(made(KEY, jnp.ones((1, 4)))["params"]["kernel"].size, 32)),
        Pattern("a pattern that may match nothing", "allenai/allennlp: allennlp/nn/initializers.py",
                "reinit(params, [recipes.Rule('*/wpe/*', normal(0.02), must=None)], key)",
                refused(lambda: flaxinit.reinit(tree(), {"*/wpe/*": "zeros"}, KEY), "nearest are")),
        Pattern("a list of what each rule drew", "allenai/allennlp: allennlp/nn/initializers.py",
                "reinit(params, {'*/c_proj/kernel': normal(0.02)}, key, report=reports.append)",
                reported("layers_0/mlp/c_proj/kernel")),
    ],
    "Kernels made of parts": [
        Pattern("fused queries, keys, values", "openai/gpt-2: src/model.py",
                "concatenate([lecun()] * 3)", parts(*[1 / 64] * 3)),
        Pattern("zero queries", "microsoft/mup: examples/Transformer/model.py",
                "concatenate([zeros, lecun(), lecun()])", parts(0, 1 / 64, 1 / 64)),
        Pattern("grouped queries", "Lightning-AI/litgpt: litgpt/model.py",
                "concatenate([lecun()] * 3, sizes=(128, 32, 32))", parts(*[1 / 64] * 3)),
        Pattern("DeepNorm's values alone",
                "microsoft/torchscale: torchscale/architecture/encoder.py",
                "concatenate([glorot(), glorot(), deepnorm_factors(32).weights * glorot()])",
                parts(1 / 64, 1 / 64, 1 / 16 / 64)),
        Pattern("gate and up projections",
                "huggingface/transformers: src/transformers/models/phi3/modeling_phi3.py",
                "concatenate([he('silu'), lecun()])",
                parts(flaxinit.gain("silu") ** 2 / 64, 1 / 64)),
        Pattern("gates of an LSTM, orthogonal", "google/flax: flax/linen/recurrent.py",
                "gated_orthogonal(4)", gates),
        Pattern("gates of an LSTM, identity",
                "jihunchoi/recurrent-batch-normalization-pytorch: bnlstm.py",
                "identity(groups=4)", gates),
        Pattern("layers of their own variance", "layers under `nn.scan`",
                "stack([lecun().times(n**-0.5) for n in (1, 2)])", parts(1, 0.5, shape=(2, 1, 5))),
    ],
    "Defaults of other libraries": [
        Pattern("Linear, kernel and bias", "pytorch/pytorch: torch/nn/modules/linear.py",
                "recipes.pytorch()", rules("Dense_0/bias", 1 / 12, pytorch_tree)),
        Pattern("Conv", "pytorch/pytorch: torch/nn/modules/conv.py",
                "recipes.pytorch()", rules("Conv_0/bias", 1 / math.sqrt(3 * 9 * 8), pytorch_tree)),
        Pattern("ConvTranspose", "pytorch/pytorch: torch/nn/modules/conv.py",
                "recipes.pytorch()",
                rules("ConvTranspose_0/kernel", 1 / math.sqrt(3 * 9 * 4), pytorch_tree)),
        Pattern("LSTM", "pytorch/pytorch: torch/nn/modules/rnn.py",
                "recipes.pytorch(gates=4)",
                rules("LSTMCell_0/bias", 1 / math.sqrt(3 * 4), pytorch_tree)),
        Pattern("MultiheadAttention", "pytorch/pytorch: torch/nn/modules/activation.py",
                "recipes.pytorch(attention='*/attn/*')",
                rules("layers_0/attn/query/kernel", math.sqrt(1 / 32))),
        Pattern("Embedding", "pytorch/pytorch: torch/nn/modules/sparse.py",
                "recipes.pytorch()", rules("Embed_0/embedding", 1, pytorch_tree)),
        Pattern("a layer's kernel", "pytorch/pytorch: torch/nn/modules/linear.py",
                "recipes.pytorch_kernel()", std(1 / math.sqrt(192))),
        Pattern("a layer's bias", "pytorch/pytorch: torch/nn/modules/linear.py",
                "recipes.pytorch_bias((64, 32))", std(1 / math.sqrt(192), (32,))),
        Pattern("Keras", "keras-team/keras: keras/src/layers/core/dense.py",
                "recipes.keras()", rules("Dense_0/kernel", math.sqrt(2 / 56), pytorch_tree)),
        Pattern("Haiku", "google-deepmind/dm-haiku: haiku/_src/basic.py",
                "recipes.haiku()",
                rules("Dense_0/kernel", 0.8796256610342398 / math.sqrt(48), pytorch_tree)),
        Pattern("Equinox", "patrick-kidger/equinox: equinox/nn/_linear.py",
                "recipes.equinox()", rules("Dense_0/bias", 1 / 12, pytorch_tree)),
    ],
    "Published models": [
        Pattern("GPT-2", "karpathy/nanoGPT: model.py",
                "recipes.gpt2(layers=2)", rules("layers_0/mlp/c_proj/kernel", 0.01)),
        Pattern("T5", "huggingface/transformers: src/transformers/models/t5/modeling_t5.py",
                "recipes.t5(width=16, head_dim=8)",
                rules("layers_0/attn/query/kernel", 1 / math.sqrt(128))),
        Pattern("LLaMA", "huggingface/transformers: src/transformers/modeling_utils.py",
                "recipes.llama()", rules("layers_0/mlp/c_fc/kernel", 0.02)),
        Pattern("LLaMA 3, by depth", "pytorch/torchtitan: torchtitan/models/llama3/__init__.py",
                "recipes.torchtitan(layers=2, width=16, scaled='*/c_proj/kernel')",
                rules("layers_1/mlp/c_proj/kernel", 0.01)),
        Pattern("BERT", "google-research/bert: modeling.py",
                "recipes.bert()", rules("layers_0/mlp/c_fc/kernel", 0.02 * 0.8796256610342398)),
        Pattern("ViT", "huggingface/pytorch-image-models: timm/models/vision_transformer.py",
                "recipes.vit()", rules("patch_embed/kernel", 1 / 6, vision_tree)),
        Pattern("ViT of its authors", "google-research/vision_transformer: vit_jax/models_vit.py",
                "recipes.vit('jax')", rules("blocks/fc1/kernel", math.sqrt(2 / 80), vision_tree)),
        Pattern("DiT, adaLN-Zero", "facebookresearch/DiT: models.py",
                "recipes.dit(grid=(2, 2))", rules("adaLN_modulation/kernel", 0, vision_tree)),
        Pattern("GPT-NeoX", "EleutherAI/gpt-neox: megatron/model/init_functions.py",
                "recipes.gpt_neox(layers=2, width=16)", rules("layers_0/mlp/c_proj/kernel", 0.25)),
        Pattern("SmallInit", "EleutherAI/gpt-neox: megatron/model/init_functions.py",
                "recipes.small_init(width=1000)", std(0.02)),
        Pattern("`wang_init`", "EleutherAI/gpt-neox: megatron/model/init_functions.py",
                "recipes.wang_init(layers=2, width=100)", std(0.1)),
        Pattern("MaxText", "AI-Hypercomputer/maxtext: src/maxtext/layers/attentions.py",
                "recipes.maxtext(head_dim=8, attention='*/attn/*')",
                rules("layers_0/attn/query/kernel", 1 / math.sqrt(128))),
    ],
    "Particular parameters": [
        Pattern("Mamba's `dt_bias`", "state-spaces/mamba: mamba_ssm/modules/mamba_simple.py",
                "recipes.mamba_dt_bias()", step_sizes),
        Pattern("Mamba's `A_log`", "state-spaces/mamba: mamba_ssm/modules/mamba_simple.py",
                "recipes.mamba_a_log()", same_as(np.log([[1, 2, 3]] * 2), (2, 3))),
        Pattern("HiPPO-LegS", "srush/annotated-s4: s4/s4.py",
                "recipes.hippo_legs()", same_as([[-1, 0], [-math.sqrt(3), -2]], (2, 2))),
        Pattern("its diagonal", "state-spaces/s4: src/models/hippo/hippo.py",
                "recipes.s4d_legs()", same_as([-0.5 + 0.75 ** 0.5 * 1j], (1,))),
        Pattern("ICNR", "fastai/fastai: fastai/layers.py",
                "recipes.icnr(he())", repeats),
        Pattern("bilinear upsampling", "shelhamer/fcn.berkeleyvision.org: surgery.py",
                "recipes.upsample()",
                same_as(np.reshape([0.25, 0.75, 0.75, 0.25], (4, 1, 1)), (4, 1, 1))),
        Pattern("nearest upsampling", "Odena, Dumoulin, Olah (2016)",
                "recipes.upsample('nearest')", same_as(1, (2, 1, 1))),
        Pattern("sin-cos positions", "facebookresearch/mae: util/pos_embed.py",
                "recipes.sincos_positions(grid=(2, 2))", first_is(math.sin(1), (4, 4), (1, 0))),
        Pattern("PiSSA", "huggingface/peft: src/peft/tuners/lora/layer.py",
                "recipes.pissa(W, rank=4)", split),
        Pattern("rows for new tokens",
                "huggingface/transformers: src/transformers/modeling_utils.py",
                "recipes.new_rows(key, table, 3)", rows),
        Pattern("a Gaussian of spectral norm √(out/in)", "Yang, Simon, Bernstein (2023)",
                "recipes.spectral_normal()", std(2 / 24, (64, 256))),
        Pattern("weights for Muon", "modula-systems/modula: modula/atom.py",
                "semi_orthogonal()", orthonormal(2)),
    ],
    "Whole programs": [
        Pattern("Adam's moments, sharded as the parameters", "google/flax: examples/lm1b/utils.py",
                "fast_init(create_train_state, rule)", beside_their_moments),
        Pattern("the same with `nnx.Optimizer`", "google/flax: docs_nnx/guides/flax_gspmd.md",
                "fast_init(create_nnx, rule)", beside_their_moments),
        Pattern("what a checkpoint lacks",
                "google/orbax: docs/guides/checkpoint/checkpointing_pytrees.ipynb",
                "fast_init(lambda key: {**init(key), **checkpoint})(key)", completed),
        Pattern("orthogonal without QR and cuSOLVER", "jax-ml/jax: jax/_src/random/core.py",
                "orthogonal()", without_qr),
        Pattern("a wrong fan", "google/flax: flax/linen/linear.py",
                "audit(model.apply, variables, x).findings", finds_the_fan),
    ],
}
# fmt: on


def table() -> str:
    """Run every check, and return the page's tables."""
    blocks = []
    for title, patterns in SECTIONS.items():
        rows = [f"### {title}\n", "| pattern | found in | write |", "| --- | --- | --- |"]
        for pattern in patterns:
            pattern.run()
            rows.append(pattern.row())
        blocks.append("\n".join(rows))
    count = sum(map(len, SECTIONS.values()))
    return f"All {count} lines passed.\n\n" + "\n\n".join(blocks)


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
