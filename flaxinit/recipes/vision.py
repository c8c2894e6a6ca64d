"""Recipes of vision transformers, as rules for `flaxinit.reinit`."""

import re
from typing import Literal

from flaxinit.fans import Axes
from flaxinit.initializers.checks import checked_choice
from flaxinit.initializers.constants import zeros
from flaxinit.initializers.random import normal, truncated_normal
from flaxinit.initializers.scaling import variance_scaling
from flaxinit.recipes.positions import sincos_positions
from flaxinit.recipes.pytorch_defaults import pytorch_bias, pytorch_kernel
from flaxinit.recipes.roles import (
    BIAS,
    EMBEDDING,
    HEAD,
    KERNEL,
    PLAIN,
    convolution,
    heads,
    kernel_of,
    kernels,
    named,
    needed,
    optional,
)
from flaxinit.trees.patterns import Pattern
from flaxinit.trees.rules import Rule

POSITIONS = named("pos_embed", "pos_embedding", "position_embedding", "posembed_input/.*")
PATCH = re.compile(r"(^|/)(embedding|patch_?embed\w*|patchify|x_embedder|Conv_0)/")
PRE_LOGITS = kernel_of("pre_logits")
# Fused kernels of all three are drawn by Glorot's rule for their whole shape.
SEPARATE = kernel_of("query", "key", "value", "[qkv]", "[qkv]_proj")
TOKENS = named("cls", "cls_token", "class_token", "reg_token", "register_tokens")


def vit(
    style: Literal["timm", "jax"] = "timm",
    *,
    positions: Pattern = POSITIONS,
    tokens: Pattern = TOKENS,
    patch: Pattern = PATCH,
    mlp: Pattern = r"*[mM][lL][pP]*",
    head: Pattern = HEAD,
) -> list[Rule]:
    """Make the rules of a Vision Transformer, as timm or as its authors draw it.

    ::

                            timm                      jax
        kernels             N(0, 0.02²)               Glorot's uniform; the head 0
        patch embedding     PyTorch's, with its bias  LeCun's
        convolutions                                  LeCun's, of the hybrid models
        pre-logits                                    LeCun's
        positions           N(0, 0.02²)               N(0, 0.02²)
        class token         N(0, 1e-6²)               0
        biases              0                         0; in the MLP N(0, 1e-6²)

    timm's normals are cut at -2 and 2, which is 100 deviations away. ``jax`` is also timm's
    ``weight_init="jax"``, but for the class token.

    Args:
        style: ``"timm"`` or ``"jax"``.
        positions: which arrays are the table of positions, a pattern of `reinit`.
        tokens: which arrays are class or register tokens.
        patch: which arrays belong to the patch embedding.
        mlp: which arrays belong to the MLP.
        head: which kernel is the output layer.

    Returns:
        The rules.

    Raises:
        ValueError: an unknown style.

    >>> vit("jax")[1].init
    zeros

    References: Dosovitskiy et al. (2021), ViT; google-research/vision_transformer c6de1e5,
    ``vit_jax/models_vit.py``; timm 1.0.31, ``init_weights_vit_timm`` and ``init_weights_vit_jax``.
    """
    tiny = normal(1e-6)
    if checked_choice("style", style, ("timm", "jax")) == "timm":
        cut = truncated_normal.from_parent(0.02, -2, 2, absolute=True)
        return [
            *needed(((patch, *KERNEL), pytorch_kernel())),
            *optional(((patch, BIAS), pytorch_bias()), (positions, cut), (tokens, tiny)),
            *needed((KERNEL, cut)),
            *PLAIN,
        ]
    lecun = variance_scaling(1.0, "fan_in", "truncated_normal")  # Flax's default
    return [
        *needed(((patch, *KERNEL), lecun)),
        *optional((head, zeros), ((convolution, *KERNEL), lecun), (PRE_LOGITS, lecun)),
        *optional((positions, normal(0.02)), (tokens, zeros), ((mlp, BIAS), tiny)),
        *kernels(variance_scaling(1.0, "fan_avg", "uniform")),
        *PLAIN,
    ]


def dit(
    grid: Axes,
    *,
    modulation: Pattern = re.compile("adaLN|ada_ln|[mM]odulation"),
    final: Pattern = re.compile("final"),
    timestep: Pattern = re.compile("t_embed|time"),
    patch: Pattern = PATCH,
    positions: Pattern = POSITIONS,
) -> list[Rule]:
    """Make the rules of a Diffusion Transformer with adaLN-Zero.

    ::

        modulation (adaLN)            0, so every block starts as the identity
        final layer                   0, so the model starts by predicting 0
        MLP of the timestep, labels   N(0, 0.02²)
        positions                     sines and cosines on the grid
        other kernels                 Glorot's uniform; queries, keys and values as one kernel, and
                                      the patch embedding as a dense layer on patches
        biases                        0

    The table of positions is fixed in the original: leave it out of the optimizer.

    Args:
        grid: height and width of the image, in patches.
        modulation: which arrays belong to layers that make shifts, scales and gates; a pattern of
            `reinit`, as all of these.
        final: which arrays belong to the final layer.
        timestep: which arrays belong to the MLP of the timestep.
        patch: which arrays belong to the patch embedding.
        positions: which arrays are the table of positions.

    Returns:
        The rules.

    Raises:
        ValueError: a grid that is not two positive integers.

    >>> dit(grid=(16, 16))[0].init
    zeros

    References: Peebles, Xie (2023), DiT; facebookresearch/DiT ed81ce2, ``models.py``,
    ``initialize_weights``.
    """
    glorot = variance_scaling(1.0, "fan_avg", "uniform")
    fused = variance_scaling(1 / 2, "fan_in", "uniform")
    return [
        *needed(
            ((modulation, *KERNEL), zeros),
            ((final, *KERNEL), zeros),
            ((timestep, *KERNEL), normal(0.02)),
            ((patch, *KERNEL, convolution), glorot.with_axes((0, 1, 2), 3)),
        ),
        *optional(
            ((SEPARATE, heads), fused.with_axes(0, (1, 2))),
            (SEPARATE, fused),
            (positions, sincos_positions(grid=grid)),
            (EMBEDDING, normal(0.02)),
        ),
        *kernels(glorot),
        *PLAIN,
    ]
