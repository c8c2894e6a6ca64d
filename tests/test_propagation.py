"""The signal through twenty layers stays where the theory says, and leaves with a wrong gain.

With fan_in N and pre-activations h, the second moment q = mean(h²) of a layer is random: given
the layer below, the N entries of h are independent with variance v = mean(φ(h_below)²)/m and
v itself is a mean over N entries. The chain log v -> log v' is computed here on a grid, with no
linearization: one step is normal with

    mean  log F(v) - g/2 + k/3,   F(v) = E[φ(√v z)²]/m
    var   g = Var(φ²)/(N E[φ²]²)

where k is the third cumulant's share (order 1/N²) and E runs over the nearly normal h whose
excess kurtosis the kernel's own excess gives (Gram and Charlier's He₄ term, order 1/N). What is
left out is of order 1/N² per layer and bounded below by the terms kept at that order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.activations import DEFINITIONS
from benchmarks.bounds import PARENTS, z_score
from flaxinit.catalogue import MOMENTS

DEPTH, WIDTH = 20, 512
KEEPING, LOSING = 4, 1  # networks with the right gain and with a wrong one
BEST_KNOWN = (
    *("linear", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "tanh"),
    *("sigmoid", "softplus", "erf", "sin"),
)
Z = z_score(2 * len(BEST_KNOWN))  # one right and one wrong gain for each activation
KERNEL_EXCESS = float(PARENTS["truncated_normal"].stats("k"))

_Z = np.linspace(-12, 12, 1201)  # 0 is a node: the kinks of the piecewise activations are there
_WEIGHT = np.exp(-(_Z**2) / 2) * (_Z[1] - _Z[0]) / np.sqrt(2 * np.pi)
_HE4 = _Z**4 - 6 * _Z**2 + 3
LOG_V = np.linspace(-32, 16, 1201)  # e^±20 is as far as twenty factors of 2 can go, and more


def forecast(activation: str, moment: float) -> tuple[float, float]:
    """Mean and variance of log q after `DEPTH` kernels of variance 1/(WIDTH·moment)."""
    h = np.exp(LOG_V / 2)[:, None] * _Z
    squares = np.asarray(DEFINITIONS[activation](jnp.asarray(h)), np.float64) ** 2
    fourth_ratio = squares**2 @ _WEIGHT / (squares @ _WEIGHT) ** 2
    excess = KERNEL_EXCESS / WIDTH * fourth_ratio  # of h, by independence of the kernel's entries
    weight = _WEIGHT * (1 + excess[:, None] / 24 * _HE4)
    first, second, third = (np.sum(weight * squares**n, axis=1) for n in (1, 2, 3))
    g = (second / first**2 - 1) / WIDTH
    k = (third / first**3 - 3 * second / first**2 + 2) / WIDTH**2
    mean = np.clip(np.log(first / moment) - g / 2 + k / 3, LOG_V[0], LOG_V[-1])
    step = LOG_V[1] - LOG_V[0]
    kernel = np.exp(-((LOG_V - mean[:, None]) ** 2) / (2 * np.maximum(g, step**2)[:, None]))
    kernel /= kernel.sum(axis=1, keepdims=True)
    narrow = g < step**2  # a nearly constant φ²: move the mass instead of blurring it
    kernel[narrow] = _split(mean[narrow], step)
    # The first kernel sees inputs of second moment exactly 1: v = 1.
    density = (LOG_V == 0).astype(float)
    for _ in range(DEPTH - 1):
        density = density @ kernel
    center = density @ LOG_V
    # q is a mean over WIDTH entries of variance v and (nearly) normal: Var(q)/v² = 2/WIDTH.
    return center - 1 / WIDTH, density @ (LOG_V - center) ** 2 + 2 / WIDTH


def _split(means, step):
    """Rows that put mass on the two grid points around each mean, keeping the mean."""
    place = np.clip((means - LOG_V[0]) / step, 0, len(LOG_V) - 1.001)
    left = place.astype(int)
    rows = np.zeros((len(means), len(LOG_V)))
    index = np.arange(len(means))
    rows[index, left] = 1 - (place - left)
    rows[index, left + 1] = place - left
    return rows


def mean_log_q(activation, init, networks):
    """Return log q of the last pre-activation, a mean over networks with kernels from `init`."""
    logs = []
    for key in jax.random.split(jax.random.key(0), networks):
        first, *rest = jax.random.split(key, DEPTH)
        signs = jax.random.rademacher(first, (WIDTH,), jnp.float32)
        h = signs @ flaxinit.lecun()(first, (WIDTH, WIDTH))
        # Drawn one by one and outside of jit: all networks then share one compiled draw.
        for layer in rest:
            h = _layer(h, init(layer, (WIDTH, WIDTH)), activation)
        logs.append(np.log(np.mean(np.square(np.asarray(h, np.float64)))))
    return np.mean(logs)


@functools.partial(jax.jit, static_argnums=2)
def _layer(h, kernel, activation):
    return DEFINITIONS[activation](h) @ kernel


def wrong_gain(activation: str) -> str:
    """Of the two gains everybody uses, linear's and ReLU's, the one that is further off."""
    return max(
        ("linear", "relu"), key=lambda g: abs(np.log(MOMENTS[g][0] / MOMENTS[activation][0]))
    )


@pytest.mark.parametrize("activation", BEST_KNOWN)
def test_right_gain_keeps_the_signal_and_wrong_gain_loses_it(activation):
    center, variance = forecast(activation, MOMENTS[activation][0])
    error = Z * np.sqrt(variance / KEEPING)
    kept = float(mean_log_q(activation, flaxinit.he(activation), KEEPING))
    assert abs(kept - center) < error

    wrong = wrong_gain(activation)
    lost_center, lost_variance = forecast(activation, MOMENTS[wrong][0])
    lost_error = Z * np.sqrt(lost_variance / LOSING)
    lost = float(mean_log_q(activation, flaxinit.he(wrong), LOSING))
    # The theory separates the two gains, and the samples are where it says.
    assert abs(lost_center - center) > error + lost_error
    assert abs(lost - lost_center) < lost_error
    print(
        f"{activation}: {kept:.3f} = {center:.3f} ± {error:.3f}; "
        f"{wrong}'s gain: {lost:.3f} = {lost_center:.3f} ± {lost_error:.3f}"
    )
