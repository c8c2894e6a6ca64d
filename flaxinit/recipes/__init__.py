"""Other libraries' defaults and published recipes: initializers, and rules for `reinit`."""

from flaxinit.initializers.like_kernel import like_kernel as like_kernel
from flaxinit.recipes.from_weights import new_rows as new_rows, pissa as pissa
from flaxinit.recipes.hippo import hippo_legs as hippo_legs, s4d_legs as s4d_legs
from flaxinit.recipes.mamba import mamba_a_log as mamba_a_log, mamba_dt_bias as mamba_dt_bias
from flaxinit.recipes.positions import sincos_positions as sincos_positions
from flaxinit.recipes.spectral import spectral_normal as spectral_normal
from flaxinit.recipes.upsampling import icnr as icnr, upsample as upsample
from flaxinit.rules import Rule as Rule

__all__ = [
    "Rule",
    "hippo_legs",
    "icnr",
    "like_kernel",
    "mamba_a_log",
    "mamba_dt_bias",
    "new_rows",
    "pissa",
    "s4d_legs",
    "sincos_positions",
    "spectral_normal",
    "upsample",
]
