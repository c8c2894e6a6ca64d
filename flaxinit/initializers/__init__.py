"""What Flax calls. They take numbers alone, and know no activation, no Flax and no SymPy."""

from flaxinit.initializers.constants import Constant, constant, ones, zeros
from flaxinit.initializers.contract import Initializer
from flaxinit.initializers.depth import (
    deepnorm_factors,
    fixup_factor,
    residual_factor,
    tfixup_factor,
)
from flaxinit.initializers.orthogonal import (
    DeltaOrthogonal,
    Orthogonal,
    SemiOrthogonal,
    delta_orthogonal,
    orthogonal,
    semi_orthogonal,
)
from flaxinit.initializers.plain import (
    Normal,
    TruncatedNormal,
    Uniform,
    normal,
    truncated_normal,
    uniform,
)
from flaxinit.initializers.recurrent import Chrono, ForgetBias, chrono, forget_bias
from flaxinit.initializers.scaling import KernelOptions, VarianceScaling, variance_scaling
from flaxinit.initializers.siren import Siren, siren
from flaxinit.initializers.structured import Identity, Sparse, identity, sparse

__all__ = [
    "Chrono",
    "Constant",
    "DeltaOrthogonal",
    "ForgetBias",
    "Identity",
    "Initializer",
    "KernelOptions",
    "Normal",
    "Orthogonal",
    "SemiOrthogonal",
    "Siren",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "chrono",
    "constant",
    "deepnorm_factors",
    "delta_orthogonal",
    "fixup_factor",
    "forget_bias",
    "identity",
    "normal",
    "ones",
    "orthogonal",
    "residual_factor",
    "semi_orthogonal",
    "siren",
    "sparse",
    "tfixup_factor",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
