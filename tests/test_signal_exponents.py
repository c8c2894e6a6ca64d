"""Two exponents of a deep transformer whose tokens are nearly alike: of angles, and of gradients.

Cowsik et al. (2024), Geometric dynamics of signal propagation predict trainability of transformers
(arXiv:2403.02579), ask how fast the angle between two exchangeable tokens grows or shrinks over the
depth, and how fast gradients do. The formulas here are derived here, for the network below.

Each branch of a block reads the normalized stream, and keeps its second moment 1:

    x ← √(1 - a²) x + a V softmax(Q K) norm(x),    x ← √(1 - b²) x + b W φ(σ_w U norm(x)).

Let two tokens have the correlation 1 - ε. The scores of queries i and keys j are Gaussian with
covariance s² C_ik C_jl, where C is the tokens' Gram matrix; up to what is the same for all keys,
they are s √ε (√(1 - ε) k_j + √ε w_ij) for independent unit normals k, w. Hence the weights of two
queries differ by O(ε), and Σ_j E[(p_ij - p_kj)²] / 2 is O(ε²). This times ε is what attention
leaves of the angle, and the stream keeps its share: ε → (1 - a²) ε. The other branch multiplies
ε by χ = σ_w² E[φ'(σ_w z)²] / E[φ(σ_w z)²]. So the angle exponent, per block, is

    λ_a = log(1 - a²) + log(1 - b² + b² χ).

A gradient passes the second branch as the angle does. Attention averages it over the tokens: what
the gradients of all tokens have in common passes whole, and the rest as in the stream alone. Of a
white gradient at the end of L blocks of n tokens there is before the last k of them

    G = (1 - b² + b² χ)^k (1/n + (1 - 1/n) (1 - a²)^k),

so the gradient exponent is λ_g = log(1 - b² + b² χ).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

import flaxinit

TOKENS, WIDTH, BLOCKS, PARTICLES = 4, 128, 6, 2**15
ALIKE = 1e-4  # ε at the start; what the formulas leave out is of its size


def norm(x):
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True))


def transformer(a, b, sigma_w, maps):
    """Return the functions that start a network and run it."""
    unit = flaxinit.lecun()
    second = unit.times(1 / math.sqrt(maps.energy(sigma_w**2)))
    draws = {**dict.fromkeys(("query", "key", "value"), unit), "up": unit.times(sigma_w)}
    draws["down"] = second

    def init(key, x):
        rows = jax.random.split(key, (BLOCKS, len(draws)))
        pairs = [zip(draws.items(), keys, strict=True) for keys in rows]
        return [{name: draw(k, (WIDTH, WIDTH)) for (name, draw), k in row} for row in pairs]

    def apply(blocks, x):
        for w in blocks:
            h = norm(x)
            scores = (h @ w["query"]) @ jnp.swapaxes(h @ w["key"], 1, 2) / math.sqrt(WIDTH)
            mixed = jax.nn.softmax(scores, axis=-1) @ (h @ w["value"])
            x = math.sqrt(1 - a * a) * x + a * mixed
            y = jnp.tanh(norm(x) @ w["up"]) @ w["down"]
            x = math.sqrt(1 - b * b) * x + b * y
        return x

    return init, apply


def tokens(correlation):
    """Exchangeable tokens of unit second moment, each two of this correlation."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, TOKENS + 1)))
    common, *own = math.sqrt(WIDTH) * basis.T
    rows = [math.sqrt(correlation) * common + math.sqrt(1 - correlation) * each for each in own]
    return jnp.asarray(rows, jnp.float32)[None]


@pytest.mark.parametrize(
    ("a", "b", "sigma_w"),
    [(0.6, 0.6, 1.0), (0.3, 0.8, 3.0), (0.5, 0.7, 2.0)],
    ids=["tokens become one", "tokens part", "between"],
)
def test_angles_and_gradients_have_their_exponents(a, b, sigma_w):
    maps = flaxinit.derive("tanh").maps
    chi = maps.chi(sigma_w**2, sigma_w**2) / maps.energy(sigma_w**2)
    gradient = math.log(1 - b * b + b * b * chi)
    angle = math.log(1 - a * a) + gradient
    report = flaxinit.forecast(
        transformer(a, b, sigma_w, maps), tokens(1 - ALIKE), backward=True, particles=PARTICLES
    )
    # Each factor is at worst the mean of φ'² times a squared normal over all particles.
    z, weights = np.polynomial.hermite_e.hermegauss(200)
    slope = 1 - np.tanh(sigma_w * z) ** 2
    fourth = 3 * (weights @ slope**4) * weights.sum() / (weights @ slope**2) ** 2
    error = 4 * math.sqrt(2 * fourth / PARTICLES / BLOCKS)
    after = report.stream[1::2]
    assert len(after) == BLOCKS
    apart = [ALIKE, *(1 - float(each.positions or 0) for each in after)]
    largest = max(apart)
    found = math.log(apart[-1] / apart[0]) / BLOCKS
    assert found == pytest.approx(angle, abs=error + largest)

    last = [layer for layer in report.layers if layer.path.endswith("down")]
    steps = BLOCKS - 1
    shared = (1 + (TOKENS - 1) * (1 - a * a) ** steps) / TOKENS
    found = math.log((last[0].gradient_out or 0) / (last[-1].gradient_out or 1)) / steps
    assert found == pytest.approx(gradient + math.log(shared) / steps, abs=error + largest)


def test_what_attention_leaves_of_an_angle_is_of_third_order():
    """Of two tokens: E Σ_j (p_1j - p_2j)² / 2 = s² ε² / 4, so that ε becomes s² ε³ / 4."""
    s, root = sp.symbols("s t", positive=True)  # t² = ε
    key, one, other = sp.symbols("k w_1 w_2", real=True)  # differences of two normals: variance 2

    def weight(own):
        return 1 / (1 + sp.exp(-s * root * (sp.sqrt(1 - root**2) * key + root * own)))

    apart = sp.series(weight(one) - weight(other), root, 0, 3).removeO()
    # The two entries of a row differ by as much, and half of the sum of their squares is meant.
    leading = sp.Poly(sp.expand((apart / root**2) ** 2), one, other)
    moments = {0: 1, 1: 0, 2: 2}
    square = sum(
        coefficient * math.prod(moments[power] for power in powers)
        for powers, coefficient in leading.terms()
    )
    assert sp.simplify(square - s**2 / 4) == 0
