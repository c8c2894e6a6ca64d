"""The public names, each once, with the module that defines it.

Type checkers read this file. `flaxinit/__init__.py` reads it to find the module of a name.
"""

from flaxinit import recipes as recipes, theory as theory
from flaxinit.initializers.adapters import for_haiku as for_haiku, for_keras as for_keras
from flaxinit.initializers.attention import mimetic as mimetic
from flaxinit.initializers.base import Initializer as Initializer
from flaxinit.initializers.config import get as get
from flaxinit.initializers.constants import (
    constant as constant,
    ones as ones,
    ones_init as ones_init,
    zeros as zeros,
    zeros_init as zeros_init,
)
from flaxinit.initializers.depth import (
    deepnorm_factors as deepnorm_factors,
    fixup_factor as fixup_factor,
    residual_factor as residual_factor,
    residual_gamma as residual_gamma,
    tfixup_factor as tfixup_factor,
)
from flaxinit.initializers.embeddings import embedding as embedding
from flaxinit.initializers.fourier import stft as stft
from flaxinit.initializers.identity_sparse import identity as identity, sparse as sparse
from flaxinit.initializers.low_rank import lora as lora
from flaxinit.initializers.lstm import chrono as chrono, forget_bias as forget_bias
from flaxinit.initializers.orthogonal_kernels import (
    delta_orthogonal as delta_orthogonal,
    gated_orthogonal as gated_orthogonal,
    orthogonal as orthogonal,
    semi_orthogonal as semi_orthogonal,
)
from flaxinit.initializers.parts import concatenate as concatenate, stack as stack
from flaxinit.initializers.random import (
    normal as normal,
    truncated_normal as truncated_normal,
    uniform as uniform,
)
from flaxinit.initializers.scaling import variance_scaling as variance_scaling
from flaxinit.initializers.sines import siren as siren
from flaxinit.initializers.state_space import (
    lru_gamma as lru_gamma,
    lru_nu as lru_nu,
    lru_theta as lru_theta,
    s4d_inv as s4d_inv,
    s4d_lin as s4d_lin,
)
from flaxinit.kernels import (
    Critical as Critical,
    critical as critical,
    gain as gain,
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
from flaxinit.materialize import fast_init as fast_init
from flaxinit.mixing import attention_gain as attention_gain, pooling_gain as pooling_gain
from flaxinit.signal import (
    Calibration as Calibration,
    Factors as Factors,
    Report as Report,
    Tuned as Tuned,
    audit as audit,
    calibrate as calibrate,
    forecast as forecast,
    tune as tune,
)
from flaxinit.theory import Derivation as Derivation, Moment as Moment, derive as derive
from flaxinit.trees.rules import Reinit as Reinit, reinit as reinit
from flaxinit.width import (
    CoordinateCheck as CoordinateCheck,
    Parametrization as Parametrization,
    coord_check as coord_check,
    mup as mup,
)

__version__: str
