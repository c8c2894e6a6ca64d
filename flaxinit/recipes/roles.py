"""What an array of a model is, by the names that libraries give it: kernel, bias, embedding."""

import re

import jax

from flaxinit.initializers.base import AnyAxes, Initializer
from flaxinit.initializers.constants import ones, zeros
from flaxinit.initializers.entrywise import Entrywise
from flaxinit.initializers.like_kernel import like_kernel
from flaxinit.trees.patterns import Pattern
from flaxinit.trees.rules import Rule


def matrix(path: str, array: jax.ShapeDtypeStruct) -> bool:
    """Match arrays of at least two axes, so not the weight of a normalization."""
    return len(array.shape) > 1


def convolution(path: str, array: jax.ShapeDtypeStruct) -> bool:
    """Match kernels with two axes of space."""
    return len(array.shape) == 4


def heads(path: str, array: jax.ShapeDtypeStruct) -> bool:
    """Match kernels of attention that have an axis of heads."""
    return len(array.shape) == 3


def named(*names: str) -> re.Pattern[str]:
    """Return the pattern of arrays whose path ends with one of these regular expressions."""
    return re.compile(rf"(^|/)({'|'.join(names)})$")


def kernel_of(*modules: str) -> tuple[Pattern, ...]:
    """Return the pattern of kernels in modules of these names."""
    return named(*(rf"{module}/(kernel|weight|w)" for module in modules)), matrix


KERNEL = named("kernel", "weight", "w", "weight_[ih]h", "w_[ih]"), matrix
BIAS = named("bias", "b", "bias_n")
EMBEDDING = named("embedding", "embeddings", "wte", "wpe")
NORM = named("scale", "gamma")
SHIFT = named("offset", "beta")
INPUTS = "query", "key", "value", "[qkv]", "[qkv]_proj", "qkv", "qkv_proj", "c_attn"
INPUT = kernel_of(*INPUTS)
INPUT_BIAS = named(*(rf"{module}/(bias|b)" for module in INPUTS))
HEAD = kernel_of("head", "lm_head", "logits_dense", "output")
OUTPUT = kernel_of("out", "o_proj", "attention_output")
# The last kernels of a transformer's residual branches: of attention, and of the MLP.
PROJECTION = kernel_of(
    *("c_proj", "out", "o", "o_proj", "out_proj", "wo", "w2", "down_proj", "proj", "fc2"),
    *("attention/dense", "attention_output", "dense_4h_to_h", "linear2"),
)


def needed(*pairs: tuple[Pattern, Initializer]) -> list[Rule]:
    """Return rules that must match something."""
    return [Rule(pattern, init, must="match") for pattern, init in pairs]


def optional(*pairs: tuple[Pattern, Initializer]) -> list[Rule]:
    """Return rules that may match nothing."""
    return [Rule(pattern, init, must=None) for pattern, init in pairs]


def kernels(init: Initializer, *where: Pattern) -> list[Rule]:
    """Return rules for kernels, with the axes of Flax's attention where they have heads."""
    rules = needed(((*where, *KERNEL), init))
    if isinstance(init, AnyAxes):
        return rules
    reads = init.with_axes(0, (1, 2)), init.with_axes((0, 1), 2)
    return [
        *optional(((*where, *INPUT, heads), reads[0]), ((*where, *OUTPUT, heads), reads[1])),
        *rules,
    ]


def biases(init: Entrywise) -> list[Rule]:
    """Return rules for biases like their kernels, also of attention with an axis of heads."""
    with_heads = like_kernel(init.with_axes(0, (1, 2)))
    return optional(((INPUT_BIAS, matrix), with_heads), (BIAS, like_kernel(init)))


# What nearly all models share.
PLAIN = optional((BIAS, zeros), (NORM, ones), (SHIFT, zeros))
