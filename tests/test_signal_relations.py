"""What signals share they keep: a parameter with its functions, a sum with its terms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxinit

WIDTH, PARTICLES = 256, 2**14


def x(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def forecast(params, apply, *inputs, backward=False):
    """Forecast a function of parameters, given by initializers and shapes."""

    def init(key, *_):
        return {
            name: make(jax.random.fold_in(key, n), shape)
            for n, (name, (make, shape)) in enumerate(params.items())
        }

    return flaxinit.forecast((init, apply), *inputs, particles=PARTICLES, backward=backward)


KERNEL = (flaxinit.lecun(), (64, WIDTH))
LAST = (flaxinit.lecun(), (WIDTH, 8))


@pytest.mark.parametrize("length", [32, 128, 256])
def test_a_parameter_stays_in_step_with_functions_of_it(length):
    """Of λ uniform on (0, 1): E[λ² (1 - λ²)] = 1/3 - 1/5, and not E[λ²] E[1 - λ²] = 2/9."""
    inputs = x(4, 64)

    def apply(p, x):
        h = (x @ p["w"]) * jnp.sqrt(1 - p["rate"] ** 2)
        return (h * p["rate"]) @ p["last"]

    params = {
        "w": (flaxinit.lecun(), (64, length)),
        "rate": (lambda key, shape: jax.random.uniform(key, shape), (length,)),
        "last": (flaxinit.lecun(), (length, 8)),
    }
    first, last = forecast(params, apply, inputs).layers
    expected = first.signal_out * (1 / 3 - 1 / 5)
    # u² f(λ) with f = λ² (1 - λ²) has the variance 3 E[f²] - E[f]², and E[f²] is 8/315.
    error = math.sqrt((3 * 8 / 315 - (2 / 15) ** 2) / PARTICLES) / (2 / 15)
    assert last.signal_in == pytest.approx(expected, rel=5 * error)
    assert last.signal_in != pytest.approx(first.signal_out * 2 / 9, rel=5 * error)


def test_powers_of_a_parameter_stay_at_their_places():
    """Place t is multiplied by λᵗ: the mean over places of E[λ²ᵗ] = 1 / (2t + 1)."""
    inputs = x(2, 4, 64)
    inputs /= jnp.sqrt(jnp.mean(inputs**2, -1, keepdims=True))

    def apply(p, x):
        powers = jax.lax.associative_scan(
            jnp.multiply, jnp.broadcast_to(p["rate"], (2, 4, WIDTH)), axis=1
        )
        return ((x @ p["w"]) * powers) @ p["last"]

    params = {
        "w": KERNEL,
        "rate": (lambda key, shape: jax.random.uniform(key, shape), (WIDTH,)),
        "last": LAST,
    }
    _, last = forecast(params, apply, inputs).layers
    expected = np.mean([1 / (2 * t + 1) for t in range(1, 5)])
    # Independent factors have exact moments, but for those of the sample of λ.
    assert last.signal_in == pytest.approx(expected, rel=5 / math.sqrt(PARTICLES))


def test_the_gradient_of_a_gate_stays_related_to_the_signal():
    """y_d = Σ_n u_d b_n c_n, so that the gradient of b_n is c_n Σ_d u_d δ_d: E = c_n² D E[u²]."""
    inputs, gates, weights = x(1, 64), jnp.ones((1, 16)), jnp.arange(1.0, 9.0)[None]

    def apply(p, x, z):
        u, b = x @ p["u"], z @ p["b"]
        return jnp.einsum("xdn,xn->xd", u[:, :, None] * b[:, None], weights)

    params = {"u": KERNEL, "b": (flaxinit.lecun(), (16, 8))}
    layers = {
        each.path: each for each in forecast(params, apply, inputs, gates, backward=True).layers
    }
    expected = float(jnp.mean(weights**2)) * WIDTH * layers["u"].signal_out
    # Each replica of the sample has one Σ_d.
    error = math.sqrt(2 * WIDTH / PARTICLES)
    assert layers["b"].gradient_parameter == pytest.approx(expected, rel=4 * error)


NODES = jnp.array([0, 1, 2, 3, 4, 5])


def test_the_gradient_of_what_is_gathered_goes_back_to_its_place():
    """What is gathered in order, less itself, is 0 and has no gradient."""

    def apply(p, x, places):
        h = x @ p["w"]
        return h[places] - h

    for places, some in ((NODES, False), (NODES[::-1], True)):
        (layer,) = forecast({"w": KERNEL}, apply, x(6, 64), places, backward=True).layers
        assert bool(layer.gradient_parameter) == some


def test_sums_over_edges_of_a_graph_are_exact():
    source, target = jnp.array([0, 1, 2, 2]), jnp.array([1, 1, 0, 5])

    def apply(p, x, source, target):
        h = jax.ops.segment_sum((x @ p["w"])[source], target, 6)
        return h @ p["last"]

    inputs = x(6, 64)
    report = forecast({"w": KERNEL, "last": LAST}, apply, inputs, source, target, backward=True)
    first, last = report.layers
    sums = jax.ops.segment_sum(inputs[source], target, 6)
    assert last.signal_in == pytest.approx(float(jnp.mean(sums**2)), rel=1e-5)
    assert not last.sampled
    # Each of the 8 gradients of an output is of second moment 1, and has the variance 1/WIDTH here.
    expected = 8 / WIDTH * float(jnp.sum(sums**2)) / 64
    assert first.gradient_parameter == pytest.approx(expected, rel=5 / math.sqrt(PARTICLES / 6))


def test_real_and_imaginary_parts_are_drawn_apart():
    """A real kernel keeps the parts of a signal apart, a complex one shares them out."""
    inputs = jax.lax.complex(3 * x(4, 64), jax.random.normal(jax.random.key(1), (4, 64)))
    squares = float(jnp.mean(inputs.real**2)), float(jnp.mean(inputs.imag**2))

    def real_part(kernel):
        params = {"one": KERNEL, "two": KERNEL, "last": LAST}

        def apply(p, x):
            return jnp.real(x @ kernel(p)) @ p["last"]

        return forecast(params, apply, inputs).layers[-1].signal_in

    alone = real_part(lambda p: jax.lax.complex(p["one"], jnp.zeros_like(p["one"])))
    assert alone == pytest.approx(squares[0], rel=1e-6)
    shared = real_part(lambda p: jax.lax.complex(p["one"], p["two"]))
    # The two products are samples of their own, whose sum is not matched to its moments.
    error = math.sqrt(4 * math.prod(squares) / 4 / PARTICLES) / sum(squares)
    assert shared == pytest.approx(sum(squares), rel=5 * error)


def test_an_index_beyond_a_table_is_not_a_number_as_in_jax():
    def apply(p, tokens):
        return jnp.take(p["table"], tokens, axis=0) @ p["last"]

    params = {"table": (flaxinit.normal(1.0), (10, WIDTH)), "last": LAST}
    assert forecast(params, apply, jnp.array([3, 9])).layers[-1].signal_in > 0
    with pytest.raises(ValueError, match="meets last is not finite"):
        forecast(params, apply, jnp.array([3, 10]))


def test_the_level_of_inputs_is_the_one_that_a_network_begins_with():
    """Dividing pictures by 255 is no activation: σ_w² = 1 keeps what follows."""
    pictures = jax.random.randint(jax.random.key(0), (8, 64), 0, 256)
    scaled = (pictures.astype(jnp.float32) / 255 - 0.5) / 0.25

    def apply(p, x):
        x = x if x.dtype == jnp.float32 else (x.astype(jnp.float32) / 255 - 0.5) / 0.25
        return jnp.tanh(x @ p["w"]) @ p["last"]

    one, other = (
        [layer.sigma_w2_wanted for layer in forecast({"w": KERNEL, "last": LAST}, apply, x).layers]
        for x in (pictures, scaled)
    )
    assert one == pytest.approx(other, rel=1e-5) and other[0] == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("factor", [1, 1000])
def test_a_mask_that_is_made_of_inputs_has_no_level(factor):
    """Where nothing is masked, a mask changes nothing, whatever numbers it is made of."""
    places = factor * jnp.arange(1, 13).reshape(2, 6)

    def apply(p, x, places):
        h = (x @ p["w"]) * (places > 0)[..., None].astype(x.dtype)
        return h @ p["last"]

    _, last = forecast({"w": KERNEL, "last": LAST}, apply, x(2, 6, 64), places).layers
    assert last.sigma_w2_wanted == pytest.approx(1, rel=1e-5)


def test_a_branch_that_is_added_to_the_inputs_makes_a_new_level():
    def apply(p, x):
        return (x + jnp.tanh(x @ p["w"]) @ p["down"]) @ p["last"]

    params = {"w": KERNEL, "down": (flaxinit.lecun(), (WIDTH, 64)), "last": (LAST[0], (64, 8))}
    *_, last = forecast(params, apply, x(8, 64)).layers
    assert last.sigma_w2_wanted == pytest.approx(1, rel=1e-5)


def test_the_gradient_of_a_complex_convolution():
    """E|dW|² = places · E|x|², for a gradient of unit size at each output.

    That of one channel is a mean of exponential variables, whose standard deviation is their mean;
    of WIDTH independent channels it is at most 1/√WIDTH of it.
    """
    inputs = jax.lax.complex(x(4, 8, 8), jax.random.normal(jax.random.key(1), (4, 8, 8)))

    def apply(p, x):
        around = jnp.concatenate([x[:, -1:], x, x[:, :1]], axis=1)
        dimensions = ("NHC", "HIO", "NHC")
        return jax.lax.conv_general_dilated(
            around, p["w"], (1,), "VALID", dimension_numbers=dimensions
        )

    kernel = flaxinit.lecun(dtype=jnp.complex64), (3, 8, WIDTH)
    (layer,) = forecast({"w": kernel}, apply, inputs, backward=True).layers
    wanted = 32 * float(jnp.mean(jnp.abs(inputs) ** 2))
    assert layer.gradient_parameter == pytest.approx(wanted, rel=4 / math.sqrt(WIDTH))
