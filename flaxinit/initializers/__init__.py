"""What Flax calls. They take numbers alone, and know no activation, no Flax and no SymPy."""

from flaxinit.initializers.constants import Constant, constant, ones, zeros
from flaxinit.initializers.contract import Initializer
from flaxinit.initializers.plain import (
    Normal,
    TruncatedNormal,
    Uniform,
    normal,
    truncated_normal,
    uniform,
)
from flaxinit.initializers.scaling import KernelOptions, VarianceScaling, variance_scaling

__all__ = [
    "Constant",
    "Initializer",
    "KernelOptions",
    "Normal",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "constant",
    "normal",
    "ones",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
