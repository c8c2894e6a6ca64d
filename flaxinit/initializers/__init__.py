"""What Flax calls. They take numbers alone, and know no activation, no Flax and no SymPy."""

from flaxinit.initializers.constants import Constant, constant, ones, zeros
from flaxinit.initializers.contract import Initializer
from flaxinit.initializers.depth import (
    deepnorm_factors,
    fixup_factor,
    residual_factor,
    residual_gamma,
    tfixup_factor,
)
from flaxinit.initializers.fourier import Stft, stft
from flaxinit.initializers.lora import Lora, lora
from flaxinit.initializers.mimetic import AttentionKernels, Mimetic, mimetic
from flaxinit.initializers.orthogonal import (
    DeltaOrthogonal,
    GatedOrthogonal,
    Orthogonal,
    SemiOrthogonal,
    delta_orthogonal,
    gated_orthogonal,
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
from flaxinit.initializers.spectrum import (
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
from flaxinit.initializers.structured import Identity, Sparse, identity, sparse

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
