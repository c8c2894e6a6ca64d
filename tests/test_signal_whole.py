"""Functions of all entries of a kernel: norms, solves, Gram matrices, maxima and quantiles."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit

WIDTH, DRAWS = 96, 32


def cayley(w):
    skew, one = w - w.T, jnp.eye(WIDTH)
    return jnp.linalg.solve(one + skew, one - skew)


def newton_schulz(w):
    w = w / jnp.linalg.norm(w)
    for _ in range(5):
        w = 1.5 * w - 0.5 * w @ w.T @ w
    return w


def power_iteration(w):
    u = jnp.ones(WIDTH)
    for _ in range(3):
        v = w.T @ u
        u = w @ (v / jnp.linalg.norm(v))
    return w / jnp.linalg.norm(u)


FIXED = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)) / math.sqrt(WIDTH)
KERNELS = {
    "orthogonal by a Cayley transform": cayley,
    "orthogonal by Newton's and Schulz's steps": newton_schulz,
    "of spectral norm 1 by an SVD": lambda w: w / jnp.linalg.norm(w, 2),
    "of spectral norm 1 by power iteration": power_iteration,
    "a Gram matrix": lambda w: w @ w.T,
    "of low rank": lambda w: w[:, :16] @ w[:16],
    "exponential": lambda w: jax.scipy.linalg.expm((w - w.T) / 2),
    "divided by its largest columns": lambda w: w / jnp.max(jnp.abs(w), axis=0),
    "of differences of rows": lambda w: jnp.diff(w, axis=0, prepend=0),
    "multiplied by a fixed matrix": lambda w: jnp.asarray(FIXED) @ w,
    "added to the identity": lambda w: w / 2 + jnp.eye(WIDTH),
    "of columns whose sums are small": lambda w: jax.nn.log_softmax(w, axis=0) + math.log(WIDTH),
    "pruned below a quantile": lambda w: jnp.where(
        jnp.abs(w) > jnp.quantile(jnp.abs(w), 0.8), w, 0
    ),
}


def model(kernel):
    """Return a model with such a kernel between two others, which reads what ReLU leaves."""

    def init(key, x):
        keys = dict(zip("uwv", jax.random.split(key, 3), strict=True))
        return {name: flaxinit.he()(key, (WIDTH, WIDTH)) for name, key in keys.items()}

    def apply(params, x):
        x = jax.nn.relu(x @ params["u"])
        return jax.nn.relu(x @ kernel(params["w"])) @ params["v"]

    return init, apply


def drawn(init, apply, x):
    """Return the mean squares of the output and of both gradients, draws × 3."""

    def one(key):
        params = init(key, x)
        y, pull = jax.vjp(lambda params: apply(params, x), params)
        (slopes,) = pull(jax.random.normal(jax.random.fold_in(key, 9), y.shape))
        return jnp.stack([jnp.mean(each**2) for each in (y, slopes["w"], slopes["v"])])

    keys = jax.random.split(jax.random.key(1), DRAWS)
    return np.asarray(jax.jit(functools.partial(jax.lax.map, one))(keys), np.float64)


@pytest.mark.parametrize("name", KERNELS)
def test_a_function_of_all_entries_of_a_kernel_is_that_of_its_draws(name):
    """Of a part of a matrix the norm is smaller, and its inverse is another one."""
    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    init, apply = model(KERNELS[name])
    report = flaxinit.forecast((init, apply), x, backward=True)
    found = {layer.path: layer for layer in report.layers}
    squares = drawn(init, apply, x)
    # The kernel is one of eight draws or more, so its moments stray by √(1/8) of what draws do.
    error = np.std(squares, axis=0, ddof=1) * math.sqrt(1 / DRAWS + 1 / 8)
    output, slope, last = np.mean(squares, axis=0)
    assert found["v"].signal_out == pytest.approx(output, abs=4 * error[0])
    assert found["v"].gradient_parameter == pytest.approx(last, abs=4 * error[2])
    if "w" in found:
        assert found["w"].gradient_parameter == pytest.approx(slope, abs=4 * error[1])


def test_an_orthogonal_kernel_keeps_the_signal():
    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    (_, first, _) = flaxinit.forecast(model(cayley), x).layers
    # The mean of n independent entries has a share of 1/n, and up to 16/n by chance.
    assert first.signal_out == pytest.approx(first.signal_in, rel=16 / WIDTH**2)


def test_an_audit_computes_the_norm_of_the_weights_that_are_there():
    init, apply = model(KERNELS["of spectral norm 1 by an SVD"])
    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    params = init(jax.random.key(1), x)
    (_, first, _) = flaxinit.audit(apply, params, x).layers
    norm = np.linalg.norm(params["w"], 2)
    variance = float(np.mean(params["w"] ** 2)) / norm**2
    assert first.signal_out == pytest.approx(WIDTH * variance * first.signal_in, rel=1e-4)


def test_spectral_norms_of_a_module_are_those_of_its_weights():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(WIDTH, use_bias=False)
            return nn.SpectralNorm(dense, n_steps=3)(x, update_stats=True)

    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    module = Model()
    (layer,) = flaxinit.forecast(module, x).layers

    def one(key):
        variables = module.init(key, x)
        return jnp.mean(module.apply(variables, x, mutable=True)[0] ** 2)

    squares = jax.lax.map(one, jax.random.split(jax.random.key(1), DRAWS))
    error = float(jnp.std(squares)) * math.sqrt(1 / DRAWS + 1 / 8)
    assert layer.signal_out == pytest.approx(float(jnp.mean(squares)), abs=4 * error)


def test_a_model_with_such_a_kernel_is_tuned():
    init, apply = model(newton_schulz)
    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    factors = flaxinit.tune((init, apply), x).factors
    # An orthogonal kernel leaves one half of the signal after ReLU, whatever its parameter's scale.
    assert factors["v"] ** 2 == pytest.approx(1, rel=0.05)


def test_a_kernel_too_large_to_be_held_whole_is_refused_by_name():
    def init(key, x):
        return {"w": jax.random.normal(key, (2**13, 2**12))}

    def apply(params, x):
        return x @ (params["w"] / jnp.linalg.norm(params["w"], 2))

    with pytest.raises(ValueError, match=r"The entries of w .* too large"):
        flaxinit.forecast((init, apply), jax.ShapeDtypeStruct((2, 2**13), "float32"))


@pytest.mark.parametrize("axes", [None, (0, 1, 2)])
@pytest.mark.parametrize("levels", [1, 7])
def test_quantized_filters_are_read(axes, levels):
    """Their entries have few values, so many are equal by chance, and not because of a turn."""

    def quantized(w):
        scale = jnp.max(jnp.abs(w), axis=axes) if levels > 1 else jnp.mean(jnp.abs(w), axis=axes)
        return scale * (jnp.round(w / scale * levels) / levels if levels > 1 else jnp.sign(w))

    def init(key, x):
        return {"w": flaxinit.he()(key, (3, 3, 16, 32))}

    def apply(params, x):
        shape = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, quantized(params["w"]), (1, 1), "VALID", dimension_numbers=shape
        )

    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 16))
    (layer,) = flaxinit.forecast((init, apply), x).layers
    keys = jax.random.split(jax.random.key(1), 4)
    squares = [quantized(init(key, x)["w"]) ** 2 for key in keys]
    # The variance of draws strays like that of normal entries, or less.
    error = math.sqrt(2 / np.size(squares))
    assert layer.sigma_w2 == pytest.approx(9 * 16 * float(np.mean(squares)), rel=4 * error)


def test_masks_of_an_autoregressive_network_are_read_entry_by_entry():
    """E[y_j²] = Σ_i E[W_ij²] E[x_i²], and ReLU leaves one half of it, at any width.

    A mask has other zeros in each row and each column, so its mean says little.
    """
    inputs, width = 16, 64
    hidden = jnp.arange(width) % (inputs - 1)
    degrees = [jnp.arange(inputs), hidden, hidden, jnp.arange(inputs) - 1]
    masks = [(one[:, None] <= other).astype(float) for one, other in itertools.pairwise(degrees)]
    x = jax.random.normal(jax.random.key(0), (8, inputs))

    def init(key, x):
        keys = jax.random.split(key, len(masks))
        return {
            f"w{n}": flaxinit.he()(key, mask.shape)
            for n, (key, mask) in enumerate(zip(keys, masks, strict=True))
        }

    def apply(params, x):
        for n, mask in enumerate(masks):
            x = (jax.nn.relu(x) if n else x) @ (params[f"w{n}"] * mask)
        return x

    squares, expected = np.asarray(x, np.float64) ** 2, []
    for mask in masks:
        squares = squares @ mask * (2 / len(mask))
        expected.append(float(np.mean(squares)))
        squares = squares / 2
    particles = 4096
    layers = flaxinit.forecast((init, apply), x, particles=particles).layers
    found = [layer.signal_out for layer in layers]
    assert found == pytest.approx(expected, rel=5 / math.sqrt(particles))


def test_a_kernel_of_sums_along_its_rows_is_multiplied_as_it_is():
    """x · cumsum(W) = S · W with the sums S_k of x_i over i ≥ k, each row of W independent."""
    n = 64

    def init(key, x):
        return {"w": flaxinit.lecun()(key, (n, n))}

    def apply(params, x):
        return x @ jnp.cumsum(params["w"], axis=0)

    x = jax.random.normal(jax.random.key(0), (8, n))
    (layer,) = flaxinit.forecast((init, apply), x).layers
    sums = np.cumsum(np.asarray(x, np.float64)[:, ::-1], axis=1)
    # The sample is of 16 kernels or more.
    error = math.sqrt(2 / (n * 16)) * np.sqrt(np.mean(np.sum(sums**2, 1) ** 2)) / n
    assert layer.signal_out == pytest.approx(np.mean(np.sum(sums**2, 1)) / n, abs=5 * error)
    assert layer.sampled


def test_a_scan_by_halves_of_a_kernel_ends():
    """It takes slices of slices, each another part of the parameter."""
    init, apply = model(lambda w: jnp.cumprod(1 + w / WIDTH, axis=0) * w)
    x = jax.ShapeDtypeStruct((4, WIDTH), "float32")
    (_, second, _) = flaxinit.forecast((init, apply), x, backward=True).layers
    assert second.path == "w"
