"""Recipes of language models, as rules for `flaxinit.reinit`."""

import math

from flaxinit.initializers.checks import checked_count
from flaxinit.initializers.depth import residual_factor
from flaxinit.initializers.random import normal, truncated_normal
from flaxinit.initializers.scaling import variance_scaling
from flaxinit.recipes.roles import (
    EMBEDDING,
    HEAD,
    KERNEL,
    PLAIN,
    PROJECTION,
    heads,
    kernel_of,
    kernels,
    needed,
    optional,
)
from flaxinit.trees.patterns import Pattern
from flaxinit.trees.rules import Rule

QUERY = kernel_of("query", "q", "q_proj")
# What TorchTitan draws by depth: attention's output, and two of the MLP's three kernels.
SCALED = kernel_of("wo", "o_proj", "w2", "w3", "down_proj", "up_proj")


def gpt2(layers: int, *, stddev: float = 0.02, projections: Pattern = PROJECTION) -> list[Rule]:
    """Make GPT-2's rules: ``N(0, 0.02²)``, the ends of residual branches by ``1/√(2 layers)``.

    Biases are 0, scales of normalizations 1, embeddings as kernels. This is the paper's
    initialization as others have written it. The code that OpenAI published draws the ends of
    residual branches at 0.02 too, and the table of positions at 0.01.

    Args:
        layers: number of blocks, each with two residual branches.
        stddev: of kernels and embeddings.
        projections: which kernels end a residual branch, a pattern of `reinit`; the default knows
            ``c_proj``, ``out``, ``out_proj``, ``o_proj``, ``wo``, ``down_proj``, ``fc2`` and other
            common names, and `reinit` raises an error if a model has none of them.

    Returns:
        The rules.

    Raises:
        ValueError: a number that is not positive.

    >>> print(gpt2(layers=8)[0].init)
    normal(stddev=0.005)

    References: Radford et al. (2019); transformers 5.24, ``GPT2PreTrainedModel``; karpathy/nanoGPT
    3adf61e, ``model.py``; openai/gpt-2 9b63575, ``src/model.py``.
    """
    init = normal(stddev)
    return [
        *needed(
            (projections, init.times(residual_factor(layers, branches=2))),
            (KERNEL, init),
        ),
        *optional((EMBEDDING, init)),
        *PLAIN,
    ]


def small_init(width: int) -> normal:
    """Make SmallInit, for the kernels and embeddings of a transformer: ``Var W = 2/(5 width)``.

    It is Glorot's variance of a kernel with ``width`` inputs and ``4 width`` outputs, for all.

    Args:
        width: features of the residual stream.

    Returns:
        The initializer.

    Raises:
        ValueError: a width that is not a positive integer.

    >>> round(small_init(1000).variance(()), 12)
    0.0004

    References: Nguyen, Salazar (2019), Transformers without Tears; EleutherAI/gpt-neox ea7aefd,
    ``megatron/model/init_functions.py``.
    """
    return normal(math.sqrt(2 / (5 * checked_count("width", width))))


def wang_init(layers: int, width: int) -> normal:
    """Make an initializer of the ends of residual branches: ``Var W = 4/(layers² width)``.

    Args:
        layers: number of blocks.
        width: features of the residual stream.

    Returns:
        The initializer.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> wang_init(4, 100).stddev
    0.05

    References: Wang, Komatsuzaki (2021), GPT-J; EleutherAI/gpt-neox ea7aefd,
    ``megatron/model/init_functions.py``.
    """
    return normal(2 / checked_count("layers", layers) / math.sqrt(checked_count("width", width)))


def gpt_neox(layers: int, width: int, *, projections: Pattern = PROJECTION) -> list[Rule]:
    """Make GPT-NeoX's rules: `small_init`, and `wang_init` for the ends of residual branches.

    ::

        embedding, other kernels      Var W = 2/(5 width)
        ends of residual branches     Var W = 4/(layers² width)
        biases                        0

    Args:
        layers: number of blocks.
        width: features of the residual stream.
        projections: which kernels end a residual branch, see `gpt2`.

    Returns:
        The rules.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> gpt_neox(layers=4, width=100)[0].init == wang_init(4, 100)
    True

    References: Black et al. (2022), GPT-NeoX-20B; EleutherAI/gpt-neox ea7aefd, ``configs/20B.yml``.
    """
    init = small_init(width)
    return [
        *needed((projections, wang_init(layers, width)), (KERNEL, init)),
        *optional((EMBEDDING, init)),
        *PLAIN,
    ]


def llama(*, stddev: float = 0.02) -> list[Rule]:
    """Make the rules of Hugging Face's LLaMA: ``N(0, 0.02²)`` for kernels and embeddings.

    The authors published no initialization. `torchtitan` has that of Meta's trainer.

    Args:
        stddev: of kernels and embeddings.

    Returns:
        The rules.

    Raises:
        ValueError: a negative or infinite stddev.

    >>> print(llama()[0].init)
    normal(stddev=0.02)

    References: transformers 5.24, ``PreTrainedModel``, with ``initializer_range``.
    """
    return [*needed((KERNEL, normal(stddev))), *optional((EMBEDDING, normal(stddev))), *PLAIN]


def torchtitan(
    layers: int,
    width: int,
    *,
    block: str = "*layers_{}/*",
    scaled: Pattern = SCALED,
    head: Pattern = HEAD,
) -> list[Rule]:
    """Make the rules of TorchTitan's LLaMA 3, whose blocks are drawn by their depth.

    ::

        embedding                                  N(0, 1)
        attention's output, the MLP's w2 and w3    0.02/√(2 l) in block l = 1 ... layers
        other kernels                              0.02
        output layer                               1/√width, cut at three deviations

    All but the embedding are truncated normals, of which only the last is cut where it matters.

    Args:
        layers: number of blocks.
        width: features of the residual stream.
        block: the glob of a block's arrays, with its number, from 0, in the place of ``{}``.
        scaled: which kernels are drawn by depth, a pattern of `reinit`.
        head: which kernel is the output layer.

    Returns:
        The rules.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> print(torchtitan(layers=2, width=64)[1].init.stddev)  # of the second block
    0.01

    References: pytorch/torchtitan b5bcd76, ``torchtitan/models/llama3/__init__.py``.
    """
    checked_count("layers", layers)
    plain = truncated_normal.from_parent(0.02, -2, 2, absolute=True)
    by_depth = [plain.times(residual_factor(n, branches=2)) for n in range(1, layers + 1)]
    last = truncated_normal.from_parent(checked_count("width", width) ** -0.5, -3, 3)
    return [
        *needed(*(((block.format(n), scaled), init) for n, init in enumerate(by_depth))),
        *optional((head, last)),
        *needed((KERNEL, plain)),
        *optional((EMBEDDING, normal(1.0))),
        *PLAIN,
    ]


def bert(*, stddev: float = 0.02) -> list[Rule]:
    """Make BERT's rules: a normal of deviation 0.02, cut at two deviations; biases 0, scales 1.

    The cut leaves ``√(Var W) = 0.0176``. Hugging Face's BERT does not cut: `llama` has the same
    rules as that.

    Args:
        stddev: of the normal before the cut.

    Returns:
        The rules.

    Raises:
        ValueError: a negative or infinite stddev.

    >>> round(bert()[0].init.stddev, 4)
    0.0176

    References: Devlin et al. (2019), BERT; google-research/bert eedf571, ``modeling.py``,
    ``create_initializer``.
    """
    init = truncated_normal.from_parent(stddev)
    return [*needed((KERNEL, init)), *optional((EMBEDDING, init)), *PLAIN]


def t5(
    width: int,
    head_dim: int,
    *,
    query: Pattern = QUERY,
    relative: Pattern = r"*relative_attention_bias/*",
    head: Pattern = HEAD,
) -> list[Rule]:
    """Make T5's rules: kernels ``N(0, 1/fan_in)``, queries divided by √head_dim.

    T5 does not divide its scores by √head_dim, so its queries are drawn that much smaller.
    Embeddings and an output layer of its own are ``N(0, 1)``, biases of relative positions
    ``N(0, 1/width)``. These are the rules of Hugging Face's T5, whose own output layer starts with
    logits of variance ``width``. t5x draws the kernels of the MLP and of the output layer from a
    truncated normal of variance ``1/fan_in``, and the biases of relative positions by Glorot's
    uniform. Mesh TensorFlow cuts the MLP's normal at two deviations, which leaves ``0.774/fan_in``.

    Args:
        width: features of the residual stream.
        head_dim: features of a head.
        query: which kernels make queries, a pattern of `reinit`.
        relative: which arrays are the biases of relative positions.
        head: which kernel is the output layer.

    Returns:
        The rules.

    Raises:
        ValueError: a number that is not a positive integer.

    >>> query = t5(512, head_dim=64)[2].init
    >>> query.variance((512, 8, 64)) == 1 / (512 * 64)
    True

    References: Raffel et al. (2020), T5; transformers 5.24, ``T5PreTrainedModel``;
    google-research/t5x cc342d4, ``t5x/examples/t5/layers.py``; tensorflow/mesh da90793,
    ``mesh_tensorflow/layers.py`` and ``transformer/attention.py``.
    """
    kernel = variance_scaling(1.0, "fan_in", "normal")
    queries = kernel.times(checked_count("head_dim", head_dim) ** -0.5)
    return [
        *optional((relative, normal(checked_count("width", width) ** -0.5)), (head, normal(1.0))),
        *_queries(queries, query),
        *kernels(kernel),
        *optional((EMBEDDING, normal(1.0))),
        *PLAIN,
    ]


def maxtext(
    head_dim: int, *, query: Pattern = QUERY, attention: Pattern = "*attention/*"
) -> list[Rule]:
    """Make MaxText's rules: kernels of variance ``1/fan_in``, queries divided by √head_dim.

    Attention is normal, the MLP a truncated normal with the same variance, embeddings
    ``N(0, 1/features)``. For a model that normalizes its queries pass ``head_dim=1``: MaxText does
    not divide there.

    Args:
        head_dim: features of a head.
        query: which kernels make queries, a pattern of `reinit`.
        attention: which arrays belong to attention.

    Returns:
        The rules.

    Raises:
        ValueError: a head_dim that is not a positive integer.

    >>> maxtext(head_dim=64)[0].init.variance((512, 8, 64)) == 1 / (512 * 64)
    True

    References: AI-Hypercomputer/maxtext e591f30, ``src/maxtext/layers``: ``attentions.py``,
    ``linears.py``, ``initializers.py``.
    """
    normal_kernel = variance_scaling(1.0, "fan_in", "normal")
    queries = normal_kernel.times(checked_count("head_dim", head_dim) ** -0.5)
    embedding = variance_scaling(1.0, "fan_in", "normal", out_axis=0)
    return [
        *_queries(queries, query),
        *kernels(normal_kernel, attention),
        *kernels(variance_scaling(1.0, "fan_in", "truncated_normal")),
        *optional((EMBEDDING, embedding)),
        *PLAIN,
    ]


def _queries(init: variance_scaling, query: Pattern) -> list[Rule]:
    """Return rules for queries, with and without an axis of heads."""
    return [*optional(((query, heads), init.with_axes(0, (1, 2)))), *needed((query, init))]
