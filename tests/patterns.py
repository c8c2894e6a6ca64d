"""What users of other libraries write, and the line of flaxinit for it, each with a check.

    python tests/patterns.py

runs the checks and writes the table of docs/code_bases.md. `test_patterns.py` runs them too, and
holds the page against the table.
"""

import math
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
    rows,
    rules,
    same_as,
    short,
    split,
    std,
    step_sizes,
    traced,
    vision_tree,
    without_qr,
)

import flaxinit

PAGE = Path(__file__).parents[1] / "docs" / "code_bases.md"
BEGIN, END = "<!-- patterns -->", "<!-- end of patterns -->"


@dataclass(frozen=True)
class Pattern:
    """A pattern: what it is, a public code base that has it, the line here, and its check.

    The check takes the value of the line, and raises if it is not what the pattern asks for.
    """

    what: str
    where: str
    line: str
    check: Callable[[Any], None]

    def run(self) -> None:
        """Evaluate the line as a user would after the imports that the page names."""
        names = {name: getattr(flaxinit, name) for name in flaxinit.__all__}
        self.check(eval(self.line, names | LIBRARIES | GIVEN))


# fmt: off
SECTIONS: dict[str, list[Pattern]] = {
    "Wherever an initializer goes": [
        Pattern("a scale from `jnp`", "ikostrikov/jaxrl", "orthogonal(jnp.sqrt(2.0))",
                traced(flaxinit.orthogonal)),
        Pattern("a deviation from the width, in a module", "sail-sg/jrystal",
                "normal(1 / jnp.sqrt(64.0))", traced(flaxinit.normal)),
        Pattern("a bias from a probability", "RetinaNet's prior", "constant(jnp.log(p / (1 - p)))",
                traced(flaxinit.constant)),
        Pattern("a traced scale of variance", "nn.scan, jax.vmap",
                "variance_scaling(jnp.asarray(2.0), 'fan_in', 'normal')",
                traced(lambda s: flaxinit.variance_scaling(s, "fan_in", "normal"))),
        Pattern("variance by depth", "nn.scan", "he().times(1 / jnp.sqrt(3.0))",
                traced(lambda s: flaxinit.he().times(s))),
        Pattern("axes at the call", "AI-Hypercomputer/maxtext, google-research/t5x, flaxformer",
                "lecun()(key, (16, 2, 8), jnp.float32, 0, (1, 2))",
                lambda made: close(made.size, 256)),
        Pattern("`w_init(shape, dtype)`", "google-deepmind/dm-haiku",
                "lambda size: hk.Linear(size, w_init=for_haiku(he()))", of_haiku),
        Pattern("`kernel_initializer=`", "keras-team/keras", "for_keras(he(), seed=3)",
                lambda made: close(made.seed, 3)),
        Pattern("`nnx.Rngs` for a key", "google/flax", "he()(nnx.Rngs(0).params(), (4, 8))",
                refused(lambda: flaxinit.he()(nnx.Rngs(0), (4, 8)), "pass rngs.params()")),
        Pattern("a factory that is not called", "google/flax",
                "nn.Dense(8, kernel_init=orthogonal())",
                refused(lambda: not_called().init(KEY, X), r"kernel_init=orthogonal\(\)", layer)),
        Pattern("PyTorch's `gain=`", "pytorch/pytorch", "orthogonal(scale=gain)",
                refused(lambda: flaxinit.orthogonal(gain=1.5), r"orthogonal\(scale=gain\)")),
        Pattern("PyTorch's `nonlinearity=`", "pytorch/pytorch", "he('gelu')",
                refused(lambda: flaxinit.he(nonlinearity="gelu"), "Name the activation",
                        std(flaxinit.gain("gelu") / 8))),
        Pattern("PyTorch's `a=` of a leaky ReLU", "pytorch/pytorch", "he('max(x, 0.2*x)')",
                refused(lambda: flaxinit.he(a=0.2), "slope of a leaky ReLU")),
        Pattern("axes in any sequence", "OmegaConf lists, `range`, NumPy",
                "he(in_axis=range(2), out_axis=np.array([2]))", std(math.sqrt(2) / 8, (4, 16, 8))),
        Pattern("a product with a number", "karpathy/nanoGPT",
                "residual_factor(12, branches=2) * normal(0.02)", std(0.02 / math.sqrt(24))),
        Pattern("Flax's `zeros_init()`", "google/flax", "zeros_init()", same_as(0, (3,))),
        Pattern("JAX's `truncated_normal(0.02)`", "jax-ml/jax",
                "truncated_normal.from_parent(0.02)", std(0.02 * 0.8796256610342398)),
        Pattern("`trunc_normal_(std=.02, a=-2, b=2)`", "huggingface/pytorch-image-models",
                "truncated_normal.from_parent(0.02, -2, 2, absolute=True)", std(0.02)),
        Pattern("an initializer that prints short", "logs of experiments",
                "repr(constant(np.ones((1000, 1000))))", short),
    ],
    "Configurations": [
        Pattern("a name", "keras-team/keras", "get('he_uniform')", is_the_name),
        Pattern("a dict", "google/ml_collections",
                "get({'name': 'variance_scaling', 'scale': 2.0, 'mode': 'fan_in', "
                "'distribution': 'uniform'})",
                is_the_name),
        Pattern("JSON, YAML", "configurations in files", "get(he_uniform().to_config())",
                is_the_name),
        Pattern("Hydra's `_target_: flaxinit.he`", "facebookresearch/hydra",
                "he(activation='gelu')", std(flaxinit.gain("gelu") / 8)),
    ],
    "By path": [
        Pattern("a glob", "`apply(init_weights)`, karpathy/nanoGPT",
                "reinit(params, {'*/c_proj/kernel': normal(0.02)}, key)",
                drawn("layers_0/mlp/c_proj/kernel")),
        Pattern("a regular expression", "the masks of google-research/big_vision",
                "reinit(params, {re.compile('layers_[01]/.*kernel$'): normal(0.02)}, key)",
                drawn("layers_1/mlp/c_fc/kernel")),
        Pattern("a class of modules", "`isinstance(m, nn.Linear)`",
                "reinit(eqx.nn.MLP(4, 2, 8, 1, key=key), {eqx.nn.Linear: normal(0.02)}, key)",
                of_equinox),
        Pattern("a class and a name", "`isinstance(m, nn.Linear)`, `m.weight`",
                "reinit(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), {(nnx.Linear, 'kernel'): he()}, key)",
                lambda made: close(float(abs(made.bias[...]).max()), 0)),
        Pattern("a function of path and shape", "parameter groups",
                "reinit(params, [(lambda path, x: x.ndim == 2, lecun())], key)",
                drawn("lm_head/kernel")),
        Pattern("Equinox by `tree_at`", "patrick-kidger/equinox",
                "reinit(eqx.nn.MLP(400, 2, 8, 1, key=key), "
                "{'*/weight': lecun(in_axis=-1, out_axis=-2)}, key)",
                of_equinox),
        Pattern("Haliax", "stanford-crfm/levanter", "{'*/weight': lecun(in_axis=-1, out_axis=-2)}",
                rules("Dense_0/weight", 1 / math.sqrt(8), haliax_tree)),
        Pattern("a bias by its kernel's fan", "pytorch/pytorch",
                "{'*/bias': recipes.like_kernel(recipes.pytorch_kernel())}",
                rules("Dense_0/bias", 1 / 12, pytorch_tree)),
        Pattern("without drawing twice", "large models",
                "fast_init(nn.Dense(8).init, initializers={'*/kernel': he()})",
                lambda made: close(made(KEY, jnp.ones((1, 4)))["params"]["kernel"].size, 32)),
    ],
    "Kernels made of parts": [
        Pattern("fused queries, keys, values", "c_attn of GPT-2", "concatenate([lecun()] * 3)",
                parts(*[1 / 64] * 3)),
        Pattern("zero queries", "microsoft/mup", "concatenate([zeros, lecun(), lecun()])",
                parts(0, 1 / 64, 1 / 64)),
        Pattern("grouped queries", "LLaMA 3", "concatenate([lecun()] * 3, sizes=(128, 32, 32))",
                parts(*[1 / 64] * 3)),
        Pattern("DeepNorm's values alone", "microsoft/torchscale, labml.ai",
                "concatenate([glorot(), glorot(), deepnorm_factors(32).weights * glorot()])",
                parts(1 / 64, 1 / 64, 1 / 16 / 64)),
        Pattern("gate and up projections", "LLaMA's MLP", "concatenate([he('silu'), lecun()])",
                parts(flaxinit.gain("silu") ** 2 / 64, 1 / 64)),
        Pattern("gates of an LSTM, orthogonal", "google/flax", "gated_orthogonal(4)", gates),
        Pattern("gates of an LSTM, identity", "Le, Jaitly, Hinton (2015)", "identity(groups=4)",
                gates),
        Pattern("layers of their own variance", "nn.scan",
                "stack([lecun().times(n**-0.5) for n in (1, 2)])", parts(1, 0.5, shape=(2, 1, 5))),
    ],
    "Defaults of other libraries": [
        Pattern("Linear, kernel and bias", "pytorch/pytorch", "recipes.pytorch()",
                rules("Dense_0/bias", 1 / 12, pytorch_tree)),
        Pattern("ConvTranspose", "pytorch/pytorch", "recipes.pytorch()",
                rules("ConvTranspose_0/kernel", 1 / math.sqrt(3 * 9 * 4), pytorch_tree)),
        Pattern("LSTM", "pytorch/pytorch", "recipes.pytorch(gates=4)",
                rules("LSTMCell_0/bias", 1 / math.sqrt(3 * 4), pytorch_tree)),
        Pattern("MultiheadAttention", "pytorch/pytorch", "recipes.pytorch(attention='*/attn/*')",
                rules("layers_0/attn/query/kernel", math.sqrt(1 / 32))),
        Pattern("Embedding", "pytorch/pytorch", "recipes.pytorch()",
                rules("Embed_0/embedding", 1, pytorch_tree)),
        Pattern("a layer's kernel", "pytorch/pytorch", "recipes.pytorch_kernel()",
                std(1 / math.sqrt(192))),
        Pattern("a layer's bias", "pytorch/pytorch", "recipes.pytorch_bias((64, 32))",
                std(1 / math.sqrt(192), (32,))),
        Pattern("Keras", "keras-team/keras", "recipes.keras()",
                rules("Dense_0/kernel", math.sqrt(2 / 56), pytorch_tree)),
        Pattern("Haiku", "google-deepmind/dm-haiku", "recipes.haiku()",
                rules("Dense_0/kernel", 0.8796256610342398 / math.sqrt(48), pytorch_tree)),
        Pattern("Equinox", "patrick-kidger/equinox", "recipes.equinox()",
                rules("Dense_0/bias", 1 / 12, pytorch_tree)),
    ],
    "Published models": [
        Pattern("GPT-2", "openai/gpt-2, karpathy/nanoGPT", "recipes.gpt2(layers=2)",
                rules("layers_0/mlp/c_proj/kernel", 0.01)),
        Pattern("T5", "huggingface/transformers", "recipes.t5(width=16, head_dim=8)",
                rules("layers_0/attn/query/kernel", 1 / math.sqrt(128))),
        Pattern("LLaMA", "huggingface/transformers", "recipes.llama()",
                rules("layers_0/mlp/c_fc/kernel", 0.02)),
        Pattern("LLaMA 3, by depth", "pytorch/torchtitan",
                "recipes.torchtitan(layers=2, width=16, scaled='*/c_proj/kernel')",
                rules("layers_1/mlp/c_proj/kernel", 0.01)),
        Pattern("BERT", "google-research/bert", "recipes.bert()",
                rules("layers_0/mlp/c_fc/kernel", 0.02 * 0.8796256610342398)),
        Pattern("ViT", "huggingface/pytorch-image-models", "recipes.vit()",
                rules("patch_embed/kernel", 1 / 6, vision_tree)),
        Pattern("ViT of its authors", "google-research/vision_transformer", "recipes.vit('jax')",
                rules("blocks/fc1/kernel", math.sqrt(2 / 80), vision_tree)),
        Pattern("DiT, adaLN-Zero", "facebookresearch/DiT", "recipes.dit(grid=(2, 2))",
                rules("adaLN_modulation/kernel", 0, vision_tree)),
        Pattern("GPT-NeoX", "EleutherAI/gpt-neox", "recipes.gpt_neox(layers=2, width=16)",
                rules("layers_0/mlp/c_proj/kernel", 0.25)),
        Pattern("SmallInit", "EleutherAI/gpt-neox", "recipes.small_init(width=1000)", std(0.02)),
        Pattern("`wang_init`", "EleutherAI/gpt-neox", "recipes.wang_init(layers=2, width=100)",
                std(0.1)),
        Pattern("MaxText", "AI-Hypercomputer/maxtext",
                "recipes.maxtext(head_dim=8, attention='*/attn/*')",
                rules("layers_0/attn/query/kernel", 1 / math.sqrt(128))),
    ],
    "Particular parameters": [
        Pattern("Mamba's `dt_bias`", "state-spaces/mamba", "recipes.mamba_dt_bias()", step_sizes),
        Pattern("Mamba's `A_log`", "state-spaces/mamba", "recipes.mamba_a_log()",
                same_as(np.log([[1, 2, 3]] * 2), (2, 3))),
        Pattern("HiPPO-LegS", "srush/annotated-s4", "recipes.hippo_legs()",
                same_as([[-1, 0], [-math.sqrt(3), -2]], (2, 2))),
        Pattern("its diagonal", "srush/annotated-s4", "recipes.s4d_legs()",
                same_as([-0.5 + 0.75 ** 0.5 * 1j], (1,))),
        Pattern("ICNR", "kostyaev/ICNR", "recipes.icnr(he())", repeats),
        Pattern("bilinear upsampling", "shelhamer/fcn.berkeleyvision.org", "recipes.upsample()",
                same_as(np.reshape([0.25, 0.75, 0.75, 0.25], (4, 1, 1)), (4, 1, 1))),
        Pattern("nearest upsampling", "GANs", "recipes.upsample('nearest')", same_as(1, (2, 1, 1))),
        Pattern("sin-cos positions", "facebookresearch/mae, facebookresearch/DiT",
                "recipes.sincos_positions(grid=(2, 2))", first_is(math.sin(1), (4, 4), (1, 0))),
        Pattern("PiSSA", "GraphPKU/PiSSA, huggingface/peft", "recipes.pissa(W, rank=4)", split),
        Pattern("rows for new tokens", "huggingface/transformers, stanford-crfm/levanter",
                "recipes.new_rows(key, table, 3)", rows),
        Pattern("a Gaussian of spectral norm √(out/in)", "Yang, Simon, Bernstein (2023)",
                "recipes.spectral_normal()", std(2 / 24, (64, 256))),
        Pattern("weights for Muon", "KellerJordan/Muon", "semi_orthogonal()", orthonormal(2)),
    ],
    "Whole programs": [
        Pattern("Adam's moments, sharded as the parameters", "google/flax's TrainState",
                "fast_init(create_train_state, rule)", beside_their_moments),
        Pattern("the same with `nnx.Optimizer`", "google/flax", "fast_init(create_nnx, rule)",
                beside_their_moments),
        Pattern("what a checkpoint lacks", "google/orbax",
                "fast_init(lambda key: {**init(key), **checkpoint})(key)", completed),
        Pattern("orthogonal without QR and cuSOLVER", "jax-ml/jax", "orthogonal()", without_qr),
        Pattern("a wrong fan", "layers that reshape kernels",
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
            rows.append(f"| {pattern.what} | {pattern.where} | `{pattern.line}` |")
        blocks.append("\n".join(rows))
    count = sum(map(len, SECTIONS.values()))
    return f"All {count} lines passed.\n\n" + "\n\n".join(blocks)


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
