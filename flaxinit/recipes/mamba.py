"""Mamba's step sizes and decay rates."""

import math

import jax.numpy as jnp
import numpy as np

from flaxinit import sampling
from flaxinit.initializers.base import AnyAxes, Deterministic
from flaxinit.initializers.checks import DType, KnownPositive
from flaxinit.initializers.state_space import OfUniform


class mamba_dt_bias(AnyAxes, OfUniform):
    """Draw the bias of Mamba's step size Δ, so that ``softplus(bias)`` is log-uniform.

    ``log Δ ~ U(log dt_min, log dt_max)``, then ``Δ = max(Δ, floor)``, and the bias is the inverse
    of the softplus, ``Δ + log(1 - e^(-Δ))``. Its variance is computed by quadrature.

    Args:
        dt_min: the smallest step.
        dt_max: the largest step, above ``dt_min``.
        floor: what smaller steps are raised to; at most ``dt_max``.
        dtype: default dtype if the call gives none; real.

    Raises:
        ValueError: steps that are not positive and in order; when called, a complex dtype.

    >>> import jax
    >>> dt = jax.nn.softplus(mamba_dt_bias()(jax.random.key(0), (1000,)))
    >>> 0.001 < dt.min() < dt.max() < 0.1
    Array(True, dtype=bool)

    References: Gu, Dao (2023), Mamba; state-spaces/mamba e9594ce,
    ``mamba_ssm/modules/mamba_simple.py``, for the three defaults.
    """

    dt_min: KnownPositive = 0.001
    dt_max: KnownPositive = 0.1
    floor: KnownPositive = 1e-4
    dtype: DType = None

    def __post_init__(self):
        if not self.dt_min < self.dt_max >= self.floor:
            raise ValueError(
                f"mamba_dt_bias needs dt_min < dt_max and floor <= dt_max, got dt_min={self.dt_min}"
                f", dt_max={self.dt_max}, floor={self.floor}."
            )

    def _transform(self):
        low, high = math.log(self.dt_min), math.log(self.dt_max)
        return (low, high - low, math.log(self.floor)), _inverse_softplus


def _inverse_softplus(u, numbers, xp=jnp):
    low, width, floor = numbers
    dt = xp.exp(xp.maximum(low + width * u, floor))
    return dt + xp.log(-xp.expm1(-dt))


class mamba_a_log(Deterministic, AnyAxes):
    """S4D-Real's decay rates, as Mamba stores them: ``A_log[..., n] = log(n + 1)``.

    The state matrix is ``A = -exp(A_log)``, so state n of every channel decays at rate n + 1. It is
    the real part of the diagonal of HiPPO-LegS.

    Args:
        dtype: default dtype if the call gives none; Mamba keeps it in float32.

    Raises:
        ValueError: when called, a shape without axes.

    >>> jnp.exp(mamba_a_log()(None, (2, 3))).round(5).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]

    References: Gu, Gupta, Goel, Ré (2022); Gu, Dao (2023), Mamba; state-spaces/mamba e9594ce,
    ``mamba_ssm/modules/mamba_simple.py``.
    """

    dtype: DType = None

    def check_shape(self, shape):
        if not shape:
            raise ValueError("mamba_a_log fills the last axis of an array, but the shape is ().")

    def draw(self, key, shape, dtype, out_sharding):
        row = np.log(np.arange(1, shape[-1] + 1)).astype(dtype)
        return sampling.full(row, shape=shape, dtype=dtype, out_sharding=out_sharding)
