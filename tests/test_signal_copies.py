"""Kernels that repeat, or are used again in another way: turned, transposed, masked, in part.

Most models are written twice: with such a kernel, and as the same function of the parameters with
each kernel used whole and once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit
from benchmarks.bounds import z_score
from benchmarks.forecasts import GRADIENT

WIDTH, PARTICLES, DRAWS = 128, 2**14, 64
SHAPES = {"w": (32, WIDTH), "u": (32, WIDTH), "v": (WIDTH, WIDTH), "last": (WIDTH, 64)}
relu = jax.nn.relu


def inputs(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def init(key, *_):
    keys = jax.random.split(key, len(SHAPES))
    drawn = zip(keys, SHAPES.items(), strict=True)
    return {name: flaxinit.lecun()(key, shape) for key, (name, shape) in drawn}


def behind(y):
    """Sum four copies that stand one behind the other."""
    return y.reshape(*y.shape[:-1], 4, -1).sum(-2)


def beside(y):
    """Sum four copies of each channel that stand side by side."""
    return y.reshape(*y.shape[:-1], -1, 4).sum(-1)


def difference(y):
    one, other = jnp.split(y, 2, axis=-1)
    return one - other


def in_batch(x, w):
    return jnp.einsum("eni,eio->eno", x, w)


FOUR = jnp.arange(WIDTH) % 4 > 0
SIZES = jnp.where(jnp.arange(WIDTH) < WIDTH // 2, 1.0, 3.0)
HALF = slice(WIDTH // 2)
TOP = slice(16)
# What is multiplied by `last`.
PAIRS = {
    "columns tiled": (
        lambda p, x: behind(x @ jnp.tile(p["w"], (1, 4))),
        lambda p, x: 4 * (x @ p["w"]),
    ),
    "columns repeated": (
        lambda p, x: beside(x @ jnp.repeat(p["w"], 4, 1)),
        lambda p, x: 4 * (x @ p["w"]),
    ),
    "columns looked up": (
        lambda p, x: behind(x @ p["w"][:, jnp.arange(4 * WIDTH) % WIDTH]),
        lambda p, x: 4 * (x @ p["w"]),
    ),
    "columns and their opposites": (
        lambda p, x: difference(relu(x @ jnp.concatenate([p["w"], -p["w"]], 1))),
        lambda p, x: x @ p["w"],
    ),
    "rows tiled": (
        lambda p, x: relu(x @ p["w"]) @ jnp.tile(p["v"][:32], (4, 1)),
        lambda p, x: behind(relu(x @ p["w"])) @ p["v"][:32],
    ),
    "rows and columns tiled": (
        lambda p, x: relu(x @ p["w"]) @ jnp.tile(p["v"][:32, :32], (4, 4)),
        lambda p, x: jnp.tile(behind(relu(x @ p["w"])) @ p["v"][:32, :32], (1, 4)),
    ),
    "one kernel for a batch": (
        lambda p, x: in_batch(jnp.stack([x, x / 2]), jnp.tile(p["w"], (2, 1, 1))).sum(0),
        lambda p, x: 1.5 * (x @ p["w"]),
    ),
    "in reverse": (
        lambda p, x: x @ p["w"] + (x @ p["w"][:, ::-1])[:, ::-1],
        lambda p, x: 2 * (x @ p["w"]),
    ),
    "opposite": (
        lambda p, x: 1.5 * (x @ p["w"]) + x @ -p["w"],
        lambda p, x: 0.5 * (x @ p["w"]),
    ),
    "masked": (
        lambda p, x: x @ p["w"] - x @ jnp.where(FOUR, p["w"], 0),
        lambda p, x: jnp.where(FOUR, 0, x @ p["w"]),
    ),
    "in part": (
        lambda p, x: jnp.tile((x @ p["w"])[:, HALF] + x @ p["w"][:, HALF], (1, 2)),
        lambda p, x: jnp.tile(2 * (x @ p["w"])[:, HALF], (1, 2)),
    ),
    "in part, then whole": (
        lambda p, x: jnp.tile(x @ p["w"][:, HALF], (1, 2)) + x @ p["w"],
        lambda p, x: jnp.tile((h := x @ p["w"])[:, HALF], (1, 2)) + h,
    ),
    "rows in part, then whole": (
        lambda p, x: x[:, TOP] @ p["w"][TOP] + x @ p["w"],
        lambda p, x: (x + jnp.where(jnp.arange(32) < 16, x, 0)) @ p["w"],
    ),
    "parts that overlap": (
        lambda p, x: jnp.tile(x @ p["w"][:, HALF] + x @ p["w"][:, 32:96], (1, 2)),
        lambda p, x: jnp.tile((h := x @ p["w"])[:, HALF] + h[:, 32:96], (1, 2)),
    ),
    "concatenated with another": (
        lambda p, x: 3 * (x @ p["w"]) - difference(x @ jnp.concatenate([p["w"], p["u"]], 1)),
        lambda p, x: 2 * (x @ p["w"]) + x @ p["u"],
    ),
    "columns of two sizes": (
        lambda p, x: jnp.tanh(relu(x @ p["w"]) @ (p["v"] * SIZES)),
        lambda p, x: jnp.tanh(relu(x @ p["w"]) @ p["v"] * SIZES),
    ),
    "columns of zeros": (
        lambda p, x: jnp.exp(relu(x @ p["w"]) @ (p["v"] * (SIZES - 1) / 4)),
        lambda p, x: jnp.exp(relu(x @ p["w"]) @ p["v"] * (SIZES - 1) / 4),
    ),
    "rows of two sizes": (
        lambda p, x: (relu(x @ p["w"]) / SIZES) @ (p["v"] * SIZES[:, None]),
        lambda p, x: relu(x @ p["w"]) @ p["v"],
    ),
    "channels repeated": (
        lambda p, x: beside(jnp.repeat(relu(x @ p["w"]), 4, -1)),
        lambda p, x: 4 * relu(x @ p["w"]),
    ),
    "channels and their opposites": (
        lambda p, x: difference(jnp.concatenate([relu(h := x @ p["w"]), relu(-h)], -1)),
        lambda p, x: x @ p["w"],
    ),
}


def forecast(apply):
    model = init, lambda p, x: apply(p, x) @ p["last"]
    return flaxinit.forecast(model, inputs(8, 32), particles=PARTICLES, backward=True).layers


def seen(apply):
    """Return E[x²] at the last kernel, and E[dW²] of each parameter that is a kernel alone."""
    layers = forecast(apply)
    alone = (layer for layer in layers if "," not in layer.path)
    slopes = {layer.path.split("[")[0]: layer.gradient_parameter for layer in alone}
    return layers[-1].signal_in, slopes


@pytest.mark.parametrize("name", PAIRS)
def test_a_kernel_with_copies_makes_what_the_kernel_makes(name):
    copied, plain = PAIRS[name]
    params = init(jax.random.key(1))
    np.testing.assert_allclose(*(f(params, inputs(8, 32)) for f in (copied, plain)), atol=1e-5)
    (signal, slopes), (wanted, others) = map(seen, (copied, plain))
    assert signal == pytest.approx(wanted, rel=5 / np.sqrt(PARTICLES))
    common = {name: others[name] for name in slopes}
    assert slopes == pytest.approx(common, rel=GRADIENT)


def convolution(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"))


def mirrored(x, w):
    return (convolution(x, w) + convolution(x[:, :, ::-1], w)[:, :, ::-1]) / 2


def rotated(x, w):
    turned = (jnp.rot90(convolution(jnp.rot90(x, -n, (1, 2)), w), n, (1, 2)) for n in range(4))
    return jnp.concatenate(list(turned), -1)


# Functions with a kernel whose taps move, and the same ones with images that move instead.
MOVED = {
    "mirrored": (lambda x, w: convolution(x, (w + w[:, ::-1]) / 2), mirrored),
    "rotated": (
        lambda x, w: convolution(x, jnp.concatenate([jnp.rot90(w, n) for n in range(4)], -1)),
        rotated,
    ),
    "rotated one by one": (
        lambda x, w: jnp.concatenate([convolution(x, jnp.rot90(w, n)) for n in range(4)], -1),
        rotated,
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MOVED)
def test_taps_that_move_are_refused_with_a_remedy(name, channels):
    def made(key, *_):
        return flaxinit.lecun()(key, (3, 3, channels, 64))

    x, (moved, remedy) = inputs(2, 8, 8, channels), MOVED[name]
    kernel = made(jax.random.key(1))
    np.testing.assert_allclose(moved(x, kernel), remedy(x, kernel), atol=1e-5)
    with pytest.raises(ValueError, match="Turn the images instead"):
        flaxinit.forecast((made, lambda p, x: moved(x, p)), x)
    assert flaxinit.forecast((made, lambda p, x: remedy(x, p)), x).layers


TWO = jnp.repeat(jnp.array([1.0, 3.0]), 32)
SCALED = {
    "columns": (
        lambda x, w: jnp.tanh(convolution(x, w * TWO)),
        lambda x, w: jnp.tanh(convolution(x, w) * TWO),
    ),
    "rows": (lambda x, w: convolution(x / TWO, w * TWO[:, None]), convolution),
}


@pytest.mark.parametrize("name", SCALED)
def test_a_convolution_of_two_sizes_is_that_of_scaled_images(name):
    shapes = {"first": (3, 3, 4, 64), "second": (3, 3, 64, 64), "last": (64, 8)}

    def made(key, *_):
        keys = jax.random.split(key, len(shapes))
        return {n: flaxinit.he()(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}

    def found(second):
        def apply(p, x):
            x = relu(convolution(x, p["first"]))
            return second(x, p["second"]).mean((1, 2)) @ p["last"]

        x = inputs(2, 6, 6, 4)
        layers = flaxinit.forecast((made, apply), x, particles=PARTICLES, backward=True).layers
        return layers[-1].signal_in, layers[0].gradient_parameter

    (signal, slope), (wanted, other) = map(found, SCALED[name])
    assert signal == pytest.approx(wanted, rel=5 / np.sqrt(PARTICLES))
    assert slope == pytest.approx(other, rel=GRADIENT)


def queries(p, x, latents):
    """Let latents, the same for all samples, look twice at what each sample has."""
    z = jnp.broadcast_to(latents, (len(x), *latents.shape))
    for _ in range(2):
        scores = jax.nn.softmax(z @ p["q"] @ (x @ p["k"]).swapaxes(1, 2) / 8)
        z = z + scores @ (x @ p["v"])
    return z


def test_learned_latents_are_forecast_as_given_ones_are():
    """A parameter times a kernel makes a kernel, which is uncorrelated with the second use."""

    def made(key, *_):
        keys = jax.random.split(key, 5)
        kernels = {n: flaxinit.lecun()(k, (64, 64)) for n, k in zip("qkvl", keys, strict=False)}
        return kernels | {"latents": jax.random.normal(keys[4], (4, 64))}

    def scale(apply):
        model = made, lambda p, x: apply(p, x) @ p["l"]
        layers = flaxinit.forecast(model, inputs(4, 8, 64), particles=PARTICLES, backward=True)
        return layers.layers[-1].signal_in

    given = inputs(4, 64)
    learned, wanted = (
        scale(lambda p, x: queries(p, x, p["latents"])),
        scale(lambda p, x: queries(p, x, given)),
    )
    assert learned == pytest.approx(wanted, rel=GRADIENT)


def test_a_kernel_may_be_used_again_where_there_are_fewer_positions():
    def made(key, *_):
        keys = jax.random.split(key, 2)
        return {n: flaxinit.lecun()(k, (1, 1, 64, 64)) for n, k in zip("ab", keys, strict=True)}

    def apply(p, x):
        y = convolution(x, p["a"])
        return sum(convolution(each, p["b"]).mean((1, 2)) for each in (y, y[:, ::2, ::2]))

    report = flaxinit.forecast((made, apply), inputs(2, 16, 16, 64), particles=PARTICLES)
    for layer in report.layers:
        assert layer.signal_out == pytest.approx(layer.signal_in, rel=5 / np.sqrt(PARTICLES))


def test_kernels_that_are_no_copies_are_told_from_copies():
    """Four equal channels sum to 4² times the square of one, four independent ones to 4 times."""

    def size(kernel):
        return seen(lambda p, x: jnp.tile(behind(x @ kernel(p["w"])), (1, 4)))[0]

    apart, copied = size(lambda w: w), size(lambda w: jnp.tile(w[:, :32], (1, 4)))
    assert copied == pytest.approx(4 * apart, rel=10 / np.sqrt(PARTICLES))


TRANSPOSED = {
    "an autoencoder": lambda p, x: relu(relu(x @ p["w"]) @ p["v"]) @ p["v"].T,
    "a residual": lambda p, x: (h := x @ p["w"]) + relu(h @ p["v"]) @ p["v"].T,
    "a symmetric kernel": lambda p, x: (h := x @ p["w"]) @ p["v"] + h @ p["v"].T,
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_kernel_and_its_transpose_make_what_draws_make(name):
    apply, x = TRANSPOSED[name], inputs(8, 32)

    def one(key):
        params = init(key)

        def run(p):
            h = apply(p, x)
            return h @ p["last"], h

        out, pull, h = jax.vjp(run, params, has_aux=True)
        (slopes,) = pull(jax.random.normal(jax.random.fold_in(key, 1), out.shape))
        return {"signal": jnp.mean(h**2), **{k: jnp.mean(v**2) for k, v in slopes.items()}}

    draws = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(1), DRAWS))
    signal, slopes = seen(apply)
    z = z_score(4 * len(TRANSPOSED))
    for key, value in {"signal": signal, **slopes}.items():
        mean, error = np.mean(draws[key]), np.std(draws[key], ddof=1) / np.sqrt(DRAWS)
        assert abs(value - mean) <= max(GRADIENT * mean, z * error), key


REFUSED = {
    "in an order that is not known": lambda p, x: x @ p["w"] + x @ jnp.roll(p["w"], 1, 1),
    "and has others too": lambda p, x: (
        x[:, TOP] @ p["w"][TOP] + jnp.tile(x @ p["w"][:, HALF], (1, 2))
    ),
    "in turn with its transpose": lambda p, x: relu(x @ p["w"] @ p["v"]) @ p["v"].T @ p["v"],
    "all its outputs": lambda p, x: x @ jnp.broadcast_to(p["w"][:, :1], p["w"].shape),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_read_is_refused_by_name(why):
    with pytest.raises(ValueError, match=rf"does not read [vw].*{why}"):
        forecast(REFUSED[why])


def image(kernel, groups=1):
    """Convolve images, with a kernel that is a function of a parameter."""

    def apply(p, x):
        numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
        return jax.lax.conv_general_dilated(x, kernel(p["w"]), (1, 1), "SAME", **numbers)

    model = (lambda key, x: {"w": flaxinit.lecun()(key, (3, 3, 16 // groups, 8))}), apply
    return flaxinit.forecast(model, inputs(2, 6, 6, 16)).layers


def test_a_kernel_that_is_turned_and_joined_to_itself_is_refused():
    turns = [
        lambda w: jnp.concatenate([jnp.rot90(w, n) for n in range(4)], -1),
        lambda w: jnp.broadcast_to(w[:1, :1], w.shape),
    ]
    for turn in turns:
        with pytest.raises(ValueError, match=r"does not read w.*repeat along its window"):
            image(turn)
    with pytest.raises(ValueError, match="repeat along its window"):
        image(lambda w: jnp.tile(w, (1, 1, 1, 2)), groups=16)


@pytest.mark.parametrize("law", [jnp.sign, lambda w: jnp.where(w > 0, w, 0)])
def test_equal_entries_of_a_law_are_no_copies(law):
    (layer,) = image(law)
    assert layer.signal_out > 0
