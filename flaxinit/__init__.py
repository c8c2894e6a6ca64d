"""Weight initialization for JAX and Flax, with the variance of every draw derived and proven.

Only re-exports live here. A name is imported on first use, so that ``import flaxinit``
costs next to nothing and SymPy is loaded only by whoever derives something.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flaxinit.activations import gain as gain
    from flaxinit.critical_pair import Critical as Critical, critical as critical
    from flaxinit.initializers import (
        Initializer as Initializer,
        chrono as chrono,
        constant as constant,
        deepnorm_factors as deepnorm_factors,
        delta_orthogonal as delta_orthogonal,
        fixup_factor as fixup_factor,
        forget_bias as forget_bias,
        gated_orthogonal as gated_orthogonal,
        identity as identity,
        lora as lora,
        lru_gamma as lru_gamma,
        lru_nu as lru_nu,
        lru_theta as lru_theta,
        mimetic as mimetic,
        normal as normal,
        ones as ones,
        orthogonal as orthogonal,
        residual_factor as residual_factor,
        residual_gamma as residual_gamma,
        s4d_inv as s4d_inv,
        s4d_lin as s4d_lin,
        semi_orthogonal as semi_orthogonal,
        siren as siren,
        sparse as sparse,
        stft as stft,
        tfixup_factor as tfixup_factor,
        truncated_normal as truncated_normal,
        uniform as uniform,
        variance_scaling as variance_scaling,
        zeros as zeros,
    )
    from flaxinit.materialize import fast_init as fast_init
    from flaxinit.named import (
        glorot as glorot,
        glorot_normal as glorot_normal,
        glorot_uniform as glorot_uniform,
        he as he,
        he_normal as he_normal,
        he_uniform as he_uniform,
        kaiming as kaiming,
        kaiming_normal as kaiming_normal,
        kaiming_uniform as kaiming_uniform,
        lecun as lecun,
        lecun_normal as lecun_normal,
        lecun_uniform as lecun_uniform,
        xavier as xavier,
        xavier_normal as xavier_normal,
        xavier_uniform as xavier_uniform,
    )
    from flaxinit.signal import Audit as Audit, audit as audit
    from flaxinit.theory import (
        Derivation as Derivation,
        Moment as Moment,
        derive as derive,
    )

_HOME = {
    "flaxinit.activations": ("gain",),
    "flaxinit.critical_pair": ("Critical", "critical"),
    "flaxinit.initializers": (
        "Initializer",
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
    ),
    "flaxinit.materialize": ("fast_init",),
    "flaxinit.named": (
        "glorot",
        "glorot_normal",
        "glorot_uniform",
        "he",
        "he_normal",
        "he_uniform",
        "kaiming",
        "kaiming_normal",
        "kaiming_uniform",
        "lecun",
        "lecun_normal",
        "lecun_uniform",
        "xavier",
        "xavier_normal",
        "xavier_uniform",
    ),
    "flaxinit.signal": ("Audit", "audit"),
    "flaxinit.theory": ("Derivation", "Moment", "derive"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    if name == "theory":  # a module of its own, for flaxinit.theory.z and the rules
        return importlib.import_module("flaxinit.theory")
    if name == "__version__":
        from importlib.metadata import version

        return version("flaxinit")
    raise AttributeError(f"module 'flaxinit' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, "__version__"])
