"""Bounds on sampling errors, computed from the sample size and the exact distribution."""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from flaxinit.sampling import Distribution

# The probability that at least one assertion of a correct family fails. Keys are fixed, so a family
# always passes or always fails; this is the risk that its first run fails.
ALPHA = 1e-4

# A compiler may round a multiply-add once or twice, by half a unit in the last place each time. The
# choice depends on the shape and on the rest of the program. The longest chain in an elementwise
# draw is two logarithms, each a polynomial of nine terms.
ROUNDING = 18 / 2

# The unit-variance parents of variance scaling, each an exact distribution.
PARENTS: dict[Distribution, Any] = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)),
    "truncated_normal": stats.truncnorm(-2, 2, scale=1 / stats.truncnorm(-2, 2).std()),
}


# The statistics of `Rounded.shares`.
STATISTICS = ("mean", "variance", "fourth moment", "distribution", "distinct", "largest")


def z_score(cases: int) -> float:
    """Return the two-sided normal quantile at `ALPHA`, Bonferroni-corrected for `cases` cases."""
    return float(stats.norm.isf(ALPHA / (2 * cases)))


def _cut_cdf(x):
    """Return the truncated parent's distribution function; SciPy's takes minutes for millions."""
    width = PARENTS["truncated_normal"].kwds["scale"]
    low, high = special.ndtr(-2), special.ndtr(2)
    return np.clip((special.ndtr(x / width) - low) / (high - low), 0, 1)


_FAST_CDF = {PARENTS["normal"]: special.ndtr, PARENTS["truncated_normal"]: _cut_cdf}


class Rounded:
    """A continuous distribution after rounding to a dtype: exact probabilities of its values.

    A narrow value is drawn if the continuous one falls between the midpoints to its neighbors. Wide
    dtypes are treated as continuous, because their steps are far below any bound here.
    """

    def __init__(self, parent, scale: float, dtype):
        self.parent, self.scale, self.dtype = parent, scale, np.dtype(dtype)
        self.cdf = _FAST_CDF.get(parent, parent.cdf)
        self.discrete = jnp.finfo(dtype).bits < 32
        if self.discrete:
            self.values = _finite_values(self.dtype)
            midpoints = (self.values[1:] + self.values[:-1]) / 2
            cdf = np.concatenate([[0.0], self.cdf(midpoints / scale), [1.0]])
            self.probabilities = np.diff(cdf)

    def moment(self, order: int) -> float:
        if self.discrete:
            return float(np.sum(self.probabilities * self.values**order))
        return float(self.parent.moment(order)) * self.scale**order

    def absolute_cdf(self, value: float, strict: bool) -> float:
        """Return P(|x| <= value), or P(|x| < value) if strict."""
        if not self.discrete:
            ends = np.array([-value, value]) / self.scale
            return float(np.diff(self.cdf(ends))[0])
        inside = np.abs(self.values) < value if strict else np.abs(self.values) <= value
        return float(self.probabilities[inside].sum())

    def distinct(self, n: int) -> tuple[float, float]:
        """Return the mean number of distinct values among n, and a bound on its spread.

        Value i is missed with probability ``(1 - p_i)^n``, and misses are negatively correlated.
        Wide dtypes draw from a grid of equally likely uniforms, one for each mantissa.
        """
        if self.discrete:
            missed = np.exp(n * np.log1p(-np.minimum(self.probabilities, 1 - 1e-16)))
            return float(np.sum(1 - missed)), float(np.sqrt(np.sum(missed * (1 - missed))))
        grid = 2.0 ** jnp.finfo(self.dtype).nmant
        missed = np.exp(-n / grid)
        return grid * -np.expm1(-n / grid), float(np.sqrt(grid * missed * (1 - missed)))

    def tally(self, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values in ascending order, and how often each was drawn.

        For a narrow dtype these are all finite values, for a wide one the values drawn.
        """
        if not self.discrete:
            return np.unique(sample.astype(np.float64), return_counts=True)
        every = _every_value(self.dtype)
        drawn = np.bincount(sample.view(f"uint{8 * self.dtype.itemsize}"), minlength=every.size)
        finite = np.isfinite(every)  # 0 and -0 count as one value
        places = np.searchsorted(self.values, every[finite])
        return self.values, np.bincount(places, drawn[finite]).astype(int)

    def ks_statistic(self, values: np.ndarray, counts: np.ndarray) -> float:
        """Return the largest distance between a tally's distribution function and the exact one."""
        if not self.discrete:
            return ks_distance(values / self.scale, self.cdf, counts)
        gap = np.cumsum(counts) / counts.sum() - np.cumsum(self.probabilities)
        return float(np.max(np.abs(gap)))

    def shares(self, sample: np.ndarray, cases: int) -> dict[str, float]:
        """Return each statistic of a sample over its bound; above 1, the distribution is wrong.

        Args:
            sample: values of this dtype.
            cases: the number of statistics tested in all, on this sample and others.
        """
        values, counts = self.tally(sample)
        n, z = sample.size, z_score(cases)
        if counts.sum() < n or not np.isfinite(values).all():
            return dict.fromkeys(STATISTICS, np.inf)
        powers = values, values**2, np.square(values**2)
        moments = []
        for order, power in zip((1, 2, 4), powers, strict=True):
            exact = self.moment(order)
            error = np.sqrt((self.moment(2 * order) - exact**2) / n)
            moments.append(abs(power @ counts / n - exact) / (z * error))
        largest = np.abs(values[counts > 0]).max()
        # P(every |x| <= largest) and P(every |x| < largest); rounding makes them differ.
        at_most, below = (self.absolute_cdf(largest, strict) ** n for strict in (False, True))
        tail = ALPHA / (2 * cases)
        expected, spread = self.distinct(n)
        with np.errstate(divide="ignore"):
            extreme = max(np.divide(tail, at_most), np.divide(tail, 1 - below))
        found = [
            *moments,
            self.ks_statistic(values, counts) / ks_bound(n, cases),
            abs(np.count_nonzero(counts) - expected) / (z * spread + 1),
            extreme,
        ]
        return dict(zip(STATISTICS, map(float, found), strict=True))

    def mean_error(self, sample: np.ndarray) -> float:
        """Return the sample mean's distance from 0 in standard errors."""
        return abs(sample.mean()) / np.sqrt(self.moment(2) / sample.size)

    def variance_error(self, sample: np.ndarray) -> float:
        """Return the sample second moment's distance from the exact one in standard errors."""
        error = np.sqrt((self.moment(4) - self.moment(2) ** 2) / sample.size)
        return abs(np.mean(sample**2) - self.moment(2)) / error


@functools.cache
def _every_value(dtype: np.dtype) -> np.ndarray:
    """Return the value of each bit pattern of a dtype of at most 16 bits, as float64."""
    bits = dtype.itemsize * 8
    with np.errstate(invalid="ignore"):  # NaNs with payloads
        return np.arange(2**bits, dtype=f"uint{bits}").view(dtype).astype(np.float64)


@functools.cache
def _finite_values(dtype: np.dtype) -> np.ndarray:
    """Return every finite value in ascending order."""
    every = _every_value(dtype)
    return np.unique(every[np.isfinite(every)])


def ks_distance(ascending: np.ndarray, cdf, counts: ArrayLike = 1) -> float:
    """Return the Kolmogorov-Smirnov statistic of sorted values; SciPy's sorts several times."""
    below_or_at = np.cumsum(np.broadcast_to(counts, ascending.shape))
    n, exact = below_or_at[-1], cdf(ascending)
    return float(
        max(np.max(below_or_at / n - exact), np.max(exact - (below_or_at - np.asarray(counts)) / n))
    )


def ks_bound(n: int, cases: int) -> float:
    """Return d with P(D > d) <= 2 exp(-2nd²) = ALPHA / cases, for any n.

    References: Dvoretzky, Kiefer, Wolfowitz (1956); Massart (1990), for the constant.
    """
    return float(np.sqrt(np.log(2 * cases / ALPHA) / (2 * n)))


def gram_error(w: np.ndarray, scale: float = 1.0) -> float:
    """Return the largest error of W Wᴴ (or of Wᴴ W for a tall W) against scale² I."""
    w = np.asarray(w, np.complex128)
    gram = w.conj().T @ w if w.shape[0] >= w.shape[1] else w @ w.conj().T
    return float(np.abs(gram - scale**2 * np.eye(len(gram))).max())


def gram_bound(shape: tuple[int, int], dtype) -> float:
    """Bound the `gram_error` of a product of reflections at scale 1.

    Each reflection errs by a small multiple of eps, and the sum of independent errors grows with
    the square root of their number. Rounding the result moves each entry by at most eps/2.

    References: Higham (2002), section 19.3; Higham, Mary (2019).
    """
    compute = jnp.finfo("float32" if np.dtype(dtype).itemsize < 4 else dtype).eps
    rounding = float(jnp.finfo(dtype).eps) * math.sqrt(max(shape))
    return 8 * math.sqrt(min(shape)) * float(compute) + rounding
