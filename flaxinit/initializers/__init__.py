"""What Flax calls. They take numbers alone, and know no activation, no Flax and no SymPy."""

from flaxinit.initializers.constants import Constant, constant, ones, zeros
from flaxinit.initializers.contract import Initializer
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
from flaxinit.initializers.scaling import KernelOptions, VarianceScaling, variance_scaling
from flaxinit.initializers.structured import Identity, Sparse, identity, sparse

__all__ = [
    "Constant",
    "DeltaOrthogonal",
    "Identity",
    "Initializer",
    "KernelOptions",
    "Normal",
    "Orthogonal",
    "SemiOrthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "constant",
    "delta_orthogonal",
    "identity",
    "normal",
    "ones",
    "orthogonal",
    "semi_orthogonal",
    "sparse",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
