"""Other libraries' defaults and published recipes: initializers, and rules for `reinit`.

A recipe is a list of rules; put your own before it. Rules that read fans take a kernel as one layer
has it: for layers that `nn.scan` stacks, write rules with ``batch_axis=0``.
"""

from flaxinit.initializers.like_kernel import like_kernel as like_kernel
from flaxinit.recipes.from_weights import new_rows as new_rows, pissa as pissa
from flaxinit.recipes.hippo import hippo_legs as hippo_legs, s4d_legs as s4d_legs
from flaxinit.recipes.jax_defaults import equinox as equinox, haiku as haiku, keras as keras
from flaxinit.recipes.language import (
    bert as bert,
    gpt2 as gpt2,
    gpt_neox as gpt_neox,
    llama as llama,
    maxtext as maxtext,
    small_init as small_init,
    t5 as t5,
    torchtitan as torchtitan,
    wang_init as wang_init,
)
from flaxinit.recipes.mamba import mamba_a_log as mamba_a_log, mamba_dt_bias as mamba_dt_bias
from flaxinit.recipes.positions import sincos_positions as sincos_positions
from flaxinit.recipes.pytorch_defaults import (
    pytorch as pytorch,
    pytorch_bias as pytorch_bias,
    pytorch_kernel as pytorch_kernel,
)
from flaxinit.recipes.spectral import spectral_normal as spectral_normal
from flaxinit.recipes.upsampling import icnr as icnr, upsample as upsample
from flaxinit.recipes.vision import dit as dit, vit as vit
from flaxinit.trees.rules import Rule as Rule

__all__ = [
    "Rule",
    "bert",
    "dit",
    "equinox",
    "gpt2",
    "gpt_neox",
    "haiku",
    "hippo_legs",
    "icnr",
    "keras",
    "like_kernel",
    "llama",
    "mamba_a_log",
    "mamba_dt_bias",
    "maxtext",
    "new_rows",
    "pissa",
    "pytorch",
    "pytorch_bias",
    "pytorch_kernel",
    "s4d_legs",
    "sincos_positions",
    "small_init",
    "spectral_normal",
    "t5",
    "torchtitan",
    "upsample",
    "vit",
    "wang_init",
]


def __dir__():
    return __all__
