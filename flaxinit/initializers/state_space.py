"""Eigenvalues of linear recurrences: a ring in the unit disk, and S4D's diagonals."""

import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from flaxinit import sampling
from flaxinit.initializers.base import Deterministic, Initializer
from flaxinit.initializers.checks import DType, checked_number


class OfUniform(Initializer):
    """A real parameter that is a monotone function of a uniform variable."""

    def draw(self, key, shape, dtype, out_sharding):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{self!r} draws a real parameter, got {dtype.name}.")
        numbers, of_uniform = self._transform()
        cell = float(jnp.finfo(sampling.real_dtype(dtype)).eps)
        ends = of_uniform(np.array([cell / 2, 1 - cell / 2]), numbers, np)
        sampling.check_representable(dtype, 0.0, float(np.abs(ends).max()))
        return _of_uniform(
            key,
            numbers,
            shape=shape,
            dtype=dtype,
            of_uniform=of_uniform,
            out_sharding=out_sharding,
        )

    def _variance(self, shape):
        from scipy import integrate

        numbers, of_uniform = self._transform()

        def moment(order):
            return integrate.quad(lambda u: float(of_uniform(u, numbers, np)) ** order, 0, 1)[0]

        return moment(2) - moment(1) ** 2

    def _transform(self):
        """Return numbers, and the function that makes a draw from a uniform variable and them."""
        raise NotImplementedError


Radius = Annotated[float, functools.partial(checked_number, minimum=0.0)]


class lru_nu(OfUniform):
    """Draw ν of the eigenvalues ``λ = exp(-exp(ν) + i exp(θ))``, uniform on a ring.

    ``|λ|²`` is uniform on ``(r_min², r_max²)``, so ``ν = log(-½ log |λ|²)``. With `lru_theta` for
    θ, λ is uniform on the part of the ring between its phases. On the whole disk the variance of
    ν is ``π²/6``; on other rings it is computed by quadrature.

    Args:
        r_min: inner radius, at least 0.
        r_max: outer radius, above ``r_min`` and at most 1.
        dtype: default dtype if the call gives none; real.

    Raises:
        ValueError: radii that are not ``0 <= r_min < r_max <= 1``; when called, a complex dtype.

    >>> import math
    >>> abs(lru_nu().variance((8,)) - math.pi**2 / 6) < 1e-8
    True

    References: Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De (2023), Resurrecting Recurrent
    Neural Networks for Long Sequences.
    """

    r_min: Radius = 0.0
    r_max: Radius = 1.0
    dtype: DType = None

    def __post_init__(self):
        if not self.r_min < self.r_max <= 1:
            raise ValueError(
                "The ring needs 0 <= r_min < r_max <= 1 (outside the unit disk states grow), got "
                f"r_min={self.r_min:g}, r_max={self.r_max:g}."
            )

    def _transform(self):
        return (1 - self.r_max**2, self.r_max**2 - self.r_min**2), _nu


class lru_theta(OfUniform):
    """Draw θ of the eigenvalues ``λ = exp(-exp(ν) + i exp(θ))``, with phases up to a largest.

    ``θ = log(max_phase · u)`` with u uniform on (0, 1). Since ``-log u`` is exponential, the
    variance is 1 for every largest phase.

    Args:
        max_phase: the largest phase in radians, in (0, 2π]. Long inputs need low frequencies,
            so a small one.
        dtype: default dtype if the call gives none; real.

    Raises:
        ValueError: a phase out of range; when called, a complex dtype.

    >>> lru_theta(0.3).variance((8,))
    1.0

    References: Orvieto et al. (2023).
    """

    max_phase: Annotated[
        float, functools.partial(checked_number, above=0.0, maximum=2 * math.pi)
    ] = 2 * math.pi
    dtype: DType = None

    def _variance(self, shape):
        return 1.0

    def _transform(self):
        return (self.max_phase,), _theta


def lru_gamma(nu: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ``log √(1 - |λ|²)``, the logarithm of the input's normalizer.

    Driven by white noise of unit variance, ``x' = λ x + √(1 - |λ|²) u`` has states of unit
    variance however slowly they forget.

    Args:
        nu: ν as `lru_nu` drew it.

    Returns:
        An array like ``nu``.

    >>> gamma = lru_gamma(jnp.array([0.0]))  # |λ| = 1/e
    >>> bool(abs(jnp.exp(2 * gamma[0]) + jnp.exp(-2.0) - 1) < 1e-6)
    True

    References: Orvieto et al. (2023).
    """
    return jnp.log(-jnp.expm1(-2 * jnp.exp(nu))) / 2


def _nu(u, numbers, xp=jnp):
    # log|λ|² is computed from 1 - |λ|², which must be exact near the unit circle.
    gap, width = numbers
    return xp.log(-xp.log1p(-(gap + width * (1 - u))) / 2)


def _theta(u, numbers, xp=jnp):
    return xp.log(numbers[0] * u)


@sampling.program
def _of_uniform(key, numbers, *, shape, dtype, of_uniform):
    compute = sampling.compute_dtype(dtype)
    numbers = lax.optimization_barrier(numbers)  # see `sampling.draw`
    # JAX draws the left ends of cells of width eps. Their middles are never 0 or 1.
    u = jax.random.uniform(key, shape, compute) + jnp.finfo(compute).eps / 2
    return of_uniform(u, [jnp.asarray(n, compute) for n in numbers]).astype(dtype)


class S4d(Deterministic):
    """A diagonal state matrix with real parts -1/2."""

    def frequencies(self, n: int) -> np.ndarray:
        """Return the imaginary parts of n eigenvalues, one of each conjugate pair."""
        raise NotImplementedError

    def check_shape(self, shape):
        if not shape:
            raise ValueError(f"{self!r} fills the last axis of an array, but the shape is ().")

    def draw(self, key, shape, dtype, out_sharding):
        if not jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"{self!r} fills complex eigenvalues, got {dtype.name}. Ask for complex64, or hold "
                "the parts as real parameters: constant(log(1/2)) for log(-Re A) and "
                "constant(init.frequencies(n)) for Im A."
            )
        # HiPPO-LegS is a normal matrix, -1/2 plus a skew-symmetric one, minus one of rank 1.
        row = (-0.5 + 1j * self.frequencies(shape[-1])).astype(dtype)
        return sampling.full(row, shape=shape, dtype=dtype, out_sharding=out_sharding)


class s4d_lin(S4d):
    """S4D-Lin's diagonal: ``A_n = -1/2 + iπn``, the frequencies of a Fourier series.

    The last axis holds one eigenvalue of each conjugate pair.

    Args:
        dtype: default dtype if the call gives none; complex.

    Raises:
        ValueError: when called, a real dtype.

    >>> (s4d_lin().frequencies(3) / np.pi).tolist()
    [0.0, 1.0, 2.0]

    References: Gu, Gupta, Goel, Ré (2022), On the Parameterization and Initialization of Diagonal
    State Space Models.
    """

    dtype: DType = "complex64"

    def frequencies(self, n: int) -> np.ndarray:
        """Return ``π k`` for k below n."""
        return np.pi * np.arange(n)


class s4d_inv(S4d):
    """S4D-Inv's diagonal: ``A_n = -1/2 + i (N/π)(N/(2n + 1) - 1)``, close to S4-LegS's spectrum.

    The last axis holds one eigenvalue of each conjugate pair, so N is twice its length.

    Args:
        dtype: default dtype if the call gives none; complex.

    Raises:
        ValueError: when called, a real dtype.

    >>> (s4d_inv().frequencies(2) * np.pi).round(6).tolist()
    [12.0, 1.333333]

    References: Gu, Gupta, Goel, Ré (2022).
    """

    dtype: DType = "complex64"

    def frequencies(self, n: int) -> np.ndarray:
        """Return ``(N/π)(N/(2k + 1) - 1)`` for k below n and N = 2n."""
        size = 2 * n
        return size / np.pi * (size / (2 * np.arange(n) + 1) - 1)
