"""What Flax calls. They take numbers alone, and know no activation, no Flax and no SymPy."""

from flaxinit.initializers.attention import AttentionKernels, Mimetic, mimetic
from flaxinit.initializers.base import Initializer
from flaxinit.initializers.constants import Constant, constant, ones, zeros
from flaxinit.initializers.depth import (
    deepnorm_factors,
    fixup_factor,
    residual_factor,
    residual_gamma,
    tfixup_factor,
)
from flaxinit.initializers.fourier import Stft, stft
from flaxinit.initializers.identity_sparse import Identity, Sparse, identity, sparse
from flaxinit.initializers.low_rank import Lora, lora
from flaxinit.initializers.lstm import Chrono, ForgetBias, chrono, forget_bias
from flaxinit.initializers.orthogonal_kernels import (
    DeltaOrthogonal,
    GatedOrthogonal,
    Orthogonal,
    SemiOrthogonal,
    delta_orthogonal,
    gated_orthogonal,
    orthogonal,
    semi_orthogonal,
)
from flaxinit.initializers.random import (
    Normal,
    TruncatedNormal,
    Uniform,
    normal,
    truncated_normal,
    uniform,
)
from flaxinit.initializers.scaling import KernelOptions, VarianceScaling, variance_scaling
from flaxinit.initializers.sines import Siren, siren
from flaxinit.initializers.state_space import (
    LruNu,
    LruTheta,
    S4dInv,
    S4dLin,
    lru_gamma,
    lru_nu,
    lru_theta,
    s4d_inv,
    s4d_lin,
)

__all__ = [
    "AttentionKernels",
    "Chrono",
    "Constant",
    "DeltaOrthogonal",
    "ForgetBias",
    "GatedOrthogonal",
    "Identity",
    "Initializer",
    "KernelOptions",
    "Lora",
    "LruNu",
    "LruTheta",
    "Mimetic",
    "Normal",
    "Orthogonal",
    "S4dInv",
    "S4dLin",
    "SemiOrthogonal",
    "Siren",
    "Sparse",
    "Stft",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "chrono",
    "constant",
    "deepnorm_factors",
    "delta_orthogonal",
    "fixup_factor",
    "forget_bias",
    "gated_orthogonal",
    "identity",
    "lora",
    "lru_gamma",
    "lru_nu",
    "lru_theta",
    "mimetic",
    "normal",
    "ones",
    "orthogonal",
    "residual_factor",
    "residual_gamma",
    "s4d_inv",
    "s4d_lin",
    "semi_orthogonal",
    "siren",
    "sparse",
    "stft",
    "tfixup_factor",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
