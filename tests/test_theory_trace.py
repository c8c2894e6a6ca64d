"""A JAX function is read as the formula it computes, or refused with the cause and the remedy."""

import functools
import sys

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from flax import nnx
from sympy import Abs, Max, Min, Piecewise, Symbol, erf, exp, log, sign, sqrt, tanh

import flaxinit
from flaxinit.theory import derive, register_rule, z
from flaxinit.theory.reading import rules
from flaxinit.theory.reading.jax_function import trace
from flaxinit.theory.reading.vocabulary import logistic

a = Symbol("a", positive=True)
leaky = Piecewise((z / 5, z < 0), (z, True))


class Leaky:
    """An activation as an object, with its slope in an attribute."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        return jnp.where(x >= 0, x, self.slope * x)

    def method(self, x):
        return self(x)


class Swish(nnx.Module):
    def __init__(self):
        self.beta = nnx.Param(jnp.array(1.5))

    def __call__(self, x):
        return x * jax.nn.sigmoid(self.beta[...] * x)


def lambda_of(slope):
    return lambda x: jnp.where(x >= 0, x, slope * x)


def with_default(x, slope=0.2):
    return jnp.where(x >= 0, x, slope * x)


coefficients = np.array([0.5, -2.0, 3.0])
polynomial = sympy.Rational(1, 2) - 2 * z + 3 * z**2
lower = Piecewise((-z, z < 0), (z, z < 1), (1, True))

# Functions in JAX, each beside the same in SymPy.
READ = {
    "exp": (jnp.exp, exp(z)),
    "exp2": (jnp.exp2, 2**z),
    "expm1": (jnp.expm1, exp(z) - 1),
    "log1p": (lambda x: jnp.log1p(jnp.square(x)), log(1 + z**2)),
    "tan and atan": (lambda x: jnp.tan(jnp.arctan(x)), z),
    "sinh": (jnp.sinh, sympy.sinh(z)),
    "cosh": (jnp.cosh, sympy.cosh(z)),
    "asinh": (jnp.arcsinh, sympy.asinh(z)),
    "rsqrt": (lambda x: x * jax.lax.rsqrt(1 + x * x), z / sqrt(1 + z**2)),
    "cbrt": (jnp.cbrt, sign(z) * Abs(z) ** sympy.Rational(1, 3)),
    "power": (lambda x: jnp.abs(x) ** 1.5, Abs(z) ** sympy.Rational(3, 2)),
    "integer power": (lambda x: x**3 - x**-2, z**3 - 1 / z**2),
    "erf": (jax.scipy.special.erf, erf(z)),
    "erfc": (jax.scipy.special.erfc, sympy.erfc(z)),
    "logistic": (jax.scipy.special.expit, logistic(z)),
    "logaddexp": (lambda x: jnp.logaddexp(x, 0.0), log(1 + exp(z))),
    "clip": (lambda x: jnp.clip(x, -1, 2), Min(Max(z, -1), 2)),
    "clamp": (lambda x: jax.lax.clamp(-1.0, x, 2.0), Min(Max(z, -1), 2)),
    "sign": (lambda x: jnp.sign(x) * x, Abs(z)),
    "where": (lambda x: jnp.where(x > 0, x, x / 5), leaky),
    "nested where": (
        lambda x: jnp.where(x > 1, 1.0, jnp.where(x < -1, -1.0, x)),
        Min(Max(z, -1), 1),
    ),
    "and, or, not": (
        lambda x: jnp.where(~((x > 1) | (x < -1)) & (x != 0), x, 0.0),
        Piecewise((z, (z <= 1) & (z >= -1)), (0, True)),
    ),
    "a condition as a number": (lambda x: x * (x > 0).astype(x.dtype), Max(z, 0)),
    "cond": (lambda x: jax.lax.cond(x > 0, lambda u: u, lambda u: u / 5, x), leaky),
    "switch": (
        lambda x: jax.lax.switch(
            (x > 0).astype(jnp.int32) + (x > 1).astype(jnp.int32),
            [lambda u: 0 * u, lambda u: u, lambda u: u * u],
            x,
        ),
        Piecewise((0, z <= 0), (z, z <= 1), (z**2, True)),
    ),
    "nan guard": (lambda x: jnp.nan_to_num(jax.nn.relu(x)), Max(z, 0)),
    "jit": (jax.jit(jnp.tanh), tanh(z)),
    "vmap": (jax.vmap(jnp.tanh), tanh(z)),
    "jit of vmap": (jax.jit(jax.vmap(lambda x: x * jnp.tanh(x))), z * tanh(z)),
    "checkpoint": (jax.checkpoint(lambda x: jnp.tanh(jnp.tanh(x))), tanh(tanh(z))),
    "partial": (functools.partial(jax.nn.leaky_relu, negative_slope=0.2), leaky),
    "default": (with_default, leaky),
    "closure": (lambda_of(0.2), leaky),
    "object": (Leaky(0.2), leaky),
    "method": (Leaky(0.2).method, leaky),
    "nnx function": (nnx.leaky_relu, Max(z, 0) + Min(z / 100, 0)),
    "nnx module": (Swish(), z * logistic(sympy.Rational(3, 2) * z)),
    "nnx parameter": (nnx.PReLU(0.2), leaky),
    "linen function": (linen.silu, z * logistic(z)),
    "float32 inside": (lambda x: jnp.tanh(x.astype(jnp.float32)).astype(x.dtype), tanh(z)),
    "bfloat16 inside": (lambda x: jnp.tanh(x.astype(jnp.bfloat16)).astype(x.dtype), tanh(z)),
    "reshape": (lambda x: jnp.tanh(x.reshape(1, -1)).reshape(x.shape), tanh(z)),
    "a whole array of one constant": (lambda x: jnp.full_like(x, 0.5) * x, z / 2),
    "acosh": (lambda x: jnp.arccosh(2 + x * x), log(2 + z**2 + sqrt((2 + z**2) ** 2 - 1))),
    "atan2": (lambda x: jnp.arctan2(x, 1 + x * x), sympy.atan(z / (1 + z**2))),
    "hypot": (lambda x: jnp.hypot(x, 1.0), sqrt(1 + z**2)),
    "heaviside": (lambda x: x * jnp.heaviside(x, 0.5), Max(z, 0)),
    # Arrays within the function, of any shape that keeps the inputs apart.
    "select": (lambda x: jnp.select([x < -1, x > 1], [-1.0, 1.0], x), Min(Max(z, -1), 1)),
    "select, the first that holds": (lambda x: jnp.select([x < 0, x < 1], [-x, x], 1.0), lower),
    "select, all together": (
        lambda x: jnp.select([x < n for n in range(9)], [x + n for n in range(9)], 9.0),
        Piecewise(*[(z + n, z < n) for n in range(9)], (9, True)),
    ),
    "piecewise": (
        lambda x: jnp.piecewise(x, [x < 0, x >= 1], [lambda u: -u, 1.0, lambda u: u]),
        lower,
    ),
    "piecewise, the last that holds": (
        lambda x: jnp.piecewise(x, [x > -1, x > 0, x > 1, x > 2], [1.0, lambda u: u, 2.0, 3.0]),
        Piecewise((3, z > 2), (2, z > 1), (z, z > 0), (1, z > -1), (0, True)),
    ),
    "polyval": (lambda x: jnp.polyval(jnp.array([0.5, -2.0, 3.0]), x), z**2 / 2 - 2 * z + 3),
    "powers": (lambda x: jnp.sum(coefficients * x[..., None] ** jnp.arange(3.0), -1), polynomial),
    "matrix product": (
        lambda x: jnp.stack([jnp.ones_like(x), x, x * x], -1) @ coefficients,
        polynomial,
    ),
    "maxout": (lambda x: jnp.max(jnp.stack([x, 2 * x + 1, -x]), axis=0), Max(z, 2 * z + 1, -z)),
    "argmin": (
        lambda x: jnp.argmin(jnp.stack([x, x * x]), axis=0).astype(x.dtype) * x,
        Piecewise((z, (z > 0) & (z < 1)), (0, True)),
    ),
    "logsumexp": (
        lambda x: jax.nn.logsumexp(jnp.stack([x, jnp.zeros_like(x)]), axis=0),
        log(1 + exp(z)),
    ),
    "softmax of two": (
        lambda x: jax.nn.softmax(jnp.stack([x, jnp.zeros_like(x)], axis=-1))[..., 0],
        logistic(z),
    ),
    "cumsum": (lambda x: jnp.cumsum(jnp.stack([x, x * x]), axis=0)[1], z + z**2),
    "reversed cumprod": (
        lambda x: jax.lax.cumprod(jnp.stack([x, x + 1, x * x]), reverse=True)[1],
        (z + 1) * z**2,
    ),
    "flip of another axis": (lambda x: jnp.stack([x, -x])[::-1][0], -z),
    "a constant from a table": (lambda x: jnp.take(coefficients, 1) * x, -2 * z),
    "interp": (
        lambda x: jnp.interp(x, jnp.array([-1.0, 0.0, 2.0]), jnp.array([0.0, 1.0, -1.0])),
        Piecewise((0, z < -1), (1 + z, z < 0), (1 - z, z < 2), (-1, True)),
    ),
    "digitize": (
        lambda x: jnp.array([-1.0, 0.0, 2.0])[jnp.digitize(x, jnp.array([-1.0, 1.0]))] * x,
        Piecewise((-z, z < -1), (0, z < 1), (2 * z, True)),
    ),
    # Loops of known length
    "fori_loop": (
        lambda x: jax.lax.fori_loop(0, 3, lambda n, u: jnp.sin(u) + n, x),
        sympy.sin(sympy.sin(sympy.sin(z)) + 1) + 2,
    ),
    "while_loop": (
        lambda x: jax.lax.while_loop(
            lambda s: s[0] < 2, lambda s: (s[0] + 1, jnp.tanh(s[1])), (0, x)
        )[1],
        tanh(tanh(z)),
    ),
    "scan": (
        lambda x: jax.lax.scan(lambda u, a: (u * x + a, u), 0 * x, coefficients[::-1])[0],
        polynomial,
    ),
    "reversed scan": (
        lambda x: jax.lax.scan(lambda u, a: (u * x + a, u), 0 * x, coefficients, reverse=True)[0],
        polynomial,
    ),
    "collecting scan": (
        lambda x: jax.lax.scan(lambda u, a: (u * x, a * u), 1 + 0 * x, coefficients)[1].sum(0),
        polynomial,
    ),
    "map": (lambda x: jax.lax.map(jnp.tanh, x), tanh(z)),
}


def same(read, meant) -> bool:
    points = np.linspace(-3, 3, 31) + 0.01
    both = [sympy.lambdify(z, e, modules=["scipy", "numpy"])(points) for e in (read, meant)]
    # Two orders of evaluation differ by a few roundings.
    return np.allclose(*both, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", READ)
def test_read(name):
    function, meant = READ[name]
    assert same(trace(function).expr(), meant)


def test_another_function_is_not_the_same():
    assert not same(trace(jnp.tanh).expr(), tanh(z) * (1 + sympy.Rational(1, 10**9)))


@pytest.mark.parametrize(
    "name", [n for n in READ if n not in ("cbrt", "integer power", "while_loop")]
)
def test_the_reading_and_the_function_agree_on_the_grid(name):
    derive(READ[name][0])  # raises where they part


@jax.custom_jvp
def straight_through(x):
    return jnp.sign(x)


straight_through.defjvps(lambda tangent, out, x: tangent * (jnp.abs(x) < 1).astype(x.dtype))


@jax.custom_vjp
def clipped_gradient(x):
    return jnp.tanh(x)


clipped_gradient.defvjp(
    lambda x: (jnp.tanh(x), x), lambda x, g: (g * jnp.where(jnp.abs(x) < 1, 1.0, 0.0),)
)
window = Piecewise((1, (z > -1) & (z < 1)), (0, True))


@pytest.mark.parametrize(
    "function",
    [
        straight_through,
        clipped_gradient,
        lambda x: jax.lax.stop_gradient(jnp.sign(x) - jnp.clip(x, -1, 1)) + jnp.clip(x, -1, 1),
    ],
)
def test_the_backward_gain_is_that_of_the_gradient_that_jax_propagates(function):
    derivation = derive(function)
    assert derivation.custom_derivative
    assert same(trace(function).derivative.expr(), window)
    within = derive("min(max(x, -1), 1)").derivative_second_moment  # P(|z| < 1)
    assert derivation.derivative_second_moment.exact == within.exact


def test_no_gradient_is_made_up():
    """`lax.while_loop` has a value, and so a forward gain, but JAX cannot differentiate it."""
    looped, formula = derive(READ["while_loop"][0]), derive("tanh(tanh(x))")
    assert looped.gain == formula.gain == flaxinit.gain(READ["while_loop"][0])
    assert looped.initializer() == formula.initializer()
    assert "backward" not in repr(looped) and "It does not exist" in looped.markdown()
    assert looped.maps.qmap(2.0, 1.5) == formula.maps.qmap(2.0, 1.5)
    for backward in (
        lambda: looped.backward_gain,
        lambda: looped.derivative_second_moment.at(2.0),
        lambda: looped.maps.chi(1.0, 1.0),
    ):
        with pytest.raises(ValueError, match=r"no certified E\[φ'²\].*Reverse-mode"):
            backward()
    with pytest.raises(ValueError, match="JAX cannot differentiate"):
        flaxinit.gain(looped, mode="fan_avg")


def test_a_plain_function_has_no_custom_derivative():
    assert not derive(jnp.tanh).custom_derivative


def numbers(x):
    return x * jax.random.uniform(jax.random.key(0), x.shape, x.dtype)


REFUSED = {
    "sum": (lambda x: x / jnp.sum(x), "elementwise.*mixes its inputs.*reduce_sum"),
    "softmax": (jax.nn.softmax, "elementwise.*mixes its inputs"),
    "norm": (lambda x: x / jnp.linalg.norm(x), "elementwise.*mixes its inputs"),
    "cumsum": (jnp.cumsum, "elementwise.*mixes its inputs.*cumsum"),
    "flip": (lambda x: x[::-1], "elementwise"),
    "roll": (lambda x: jnp.roll(x, 1), "elementwise"),
    "sort": (jnp.sort, "elementwise.*mixes its inputs.*sort"),
    "neighbors": (lambda x: x[1:] - x[:-1], "elementwise"),
    "outer": (lambda x: x[:, None] * x[None, :], "elementwise"),
    "concatenate": (lambda x: jnp.concatenate([x, -x]), "elementwise"),
    "glu": (jax.nn.glu, "glu"),
    "position": (lambda x: x * jnp.arange(x.shape[0], dtype=x.dtype), "elementwise"),
    "per-channel constant": (lambda x: x * np.linspace(0.0, 1.0, x.shape[0]), "elementwise"),
    "two outputs": (lambda x: (x, x), "elementwise.*returns tuple"),
    "kinked gate": (lambda u, v: jax.nn.relu(jnp.maximum(u, v)), "not a sum of products.*kinks"),
    "three arguments": (lambda u, v, w: u * v * w, "needs 3 arguments.*functools.partial"),
    "random": (numbers, "draws random numbers"),
    "integers": (lambda x: (x > 0).astype(jnp.int32), "must return real numbers.*int32"),
    "booleans": (lambda x: x > 0, "must return real numbers.*bool"),
    "complex": (lambda x: jax.lax.complex(x, x), "must return real numbers.*complex"),
    "python if": (lambda x: x if x > 0 else 0, "Use jnp.where"),
    "numpy": (lambda x: np.tanh(x), "NumPy|numpy"),
    "no rule": (lambda x: jax.lax.digamma(1 + x * x), "There is no rule.*'digamma'.*register_rule"),
    "long loop": (
        lambda x: jax.lax.fori_loop(0, 65, lambda _, u: jnp.sin(u), x),
        "loops more than 64 times",
    ),
    "loop of unknown length": (
        lambda x: jax.lax.while_loop(lambda u: jnp.all(u > 1), lambda u: u / 2, x),
        "elementwise.*mixes its inputs.*reduce_and",
    ),
    "mapped loop of unknown length": (
        lambda x: jax.lax.map(lambda u: jax.lax.while_loop(lambda v: v > 1, lambda v: v / 2, u), x),
        "loops until a condition on its input holds",
    ),
    "carried over": (lambda x: jax.lax.scan(lambda u, v: (u + v, u), 0.0, x)[1], "mixes.*scan"),
    "bushy": (
        lambda x: jax.lax.fori_loop(0, 20, lambda _, u: u * jnp.sin(u), x),
        "a formula of more than 10000 parts",
    ),
    "scaled by the norm if that is large": (
        lambda x: x / jnp.maximum(1.0, jnp.linalg.norm(x) / 1e6),
        "elementwise.*mixes its inputs.*reduce_sum",
    ),
    "the first": (lambda x: x + 0 * x[0], "elementwise.*mixes its inputs"),
    "transposed": (
        lambda x: jnp.stack([x, -x]).reshape(-1, 2)[:, 0],
        "elementwise.*mixes its inputs.*reshape",
    ),
    "product with itself": (lambda x: x * (x @ x), "elementwise.*mixes its inputs.*dot_general"),
    "large table": (
        lambda x: x * jnp.sum(np.linspace(0.0, 1.0, 2000)),
        "2000 numbers for each of its inputs",
    ),
    "to whole numbers": (lambda x: x.astype(jnp.int32).astype(x.dtype), "whole numbers"),
    "length": (lambda x: x / x.shape[0], "was read as .*z/103.* but at x"),
    "length of a loop": (
        lambda x: jax.lax.fori_loop(0, x.size - 50, lambda _, u: u + 1, x),
        "was read as|loops more than",
    ),
    "floor": (jnp.floor, "'floor' has infinitely many jumps"),
    "remainder": (lambda x: x % 2.0, "'rem' has infinitely many jumps"),
    "atan2 around": (lambda x: jnp.arctan2(x, x), "arctan2.*needs x > 0"),
    "nan": (lambda x: x * jnp.nan, "constant nan"),
    "compared with nan": (lambda x: jnp.where(x > jnp.nan, x, 0), "rule.*'gt' cannot be applied"),
    "logarithm": (jnp.log, "whole real line"),
    "square root": (jnp.sqrt, "whole real line"),
}


def test_a_ufunc_of_two_arrays_is_a_gate():
    product = derive(lambda u, v: u * v)
    assert derive(jnp.multiply).second_moment.exact == product.second_moment.exact


def test_a_traced_parameter_is_refused():
    @jax.jit
    def gain(a):
        return flaxinit.gain(lambda x: jnp.where(x > 0, x, a * x))

    with pytest.raises(ValueError, match="A parameter of the activation is traced"):
        gain(0.1)


def test_sympy_in_a_function_is_refused():
    for function in (
        lambda x: jnp.where(x > 0, x, a * x),
        functools.partial(jax.nn.leaky_relu, negative_slope=a),
        lambda x: sympy.tanh(x),
    ):
        with pytest.raises(ValueError, match=r"SymPy.*SymPy expression or a formula"):
            derive(function)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    function, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        derive(function)


@pytest.mark.parametrize(
    "what", [None, 3, 2.5, [1], (jnp.tanh,), b"relu", np.ones(3), z > 0, jnp.float32, np.float32]
)
def test_what_is_not_an_activation_is_refused(what):
    with pytest.raises(TypeError, match="An activation must be a name"):
        derive(what)


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda x: 0 * x, "is zero"), (lambda x: jnp.full_like(x, 2.0), "is constant")],
)
def test_no_gain_exists(function, message):
    with pytest.raises(ValueError, match=message):
        derive(function)


def scaled(x):
    return x * jnp.tanh(slope * x)


slope = 1.0


def test_a_function_is_read_as_it_is_now(monkeypatch):
    assert derive(scaled).gain == derive("lisht").gain
    monkeypatch.setitem(globals(), "slope", 2.0)
    assert derive(scaled).gain == derive("x * tanh(2 * x)").gain


def test_a_function_read_again_is_not_derived_again():
    first, second = (derive(lambda x: x * jnp.tanh(3 * x)) for _ in range(2))
    assert first is second
    assert derive(lambda x: x * jnp.tanh(4 * x)) is not first


def test_a_custom_derivative_is_not_forgotten():
    """Two functions have the same formula and name, but one has a custom derivative."""

    def twice():
        return lambda x: jnp.sign(x)

    plain, estimator = twice(), jax.custom_jvp(twice())
    estimator.defjvps(lambda tangent, out, x: tangent * (jnp.abs(x) < 1).astype(x.dtype))
    assert derive(plain).backward_gain == np.inf
    assert derive(estimator).backward_gain == derive(straight_through).backward_gain


def jitted(function):
    return lambda: jax.jit(lambda x: (function(), x)[1])(1.0)


def mapped_over_shards(function):
    mesh = jax.make_mesh((8,), ("a",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("a")

    def run():
        body = jax.shard_map(lambda x: (function(), x)[1], mesh=mesh, in_specs=spec, out_specs=spec)
        jax.jit(body)(jnp.ones(8))

    return run


def on_explicit_axes(function):
    def run():
        with jax.set_mesh(jax.make_mesh((8,), ("a",), (jax.sharding.AxisType.Explicit,))):
            function()

    return run


def with_debugging(function):
    def run():
        with jax.debug_nans(True), jax.disable_jit():
            function()

    return run


@pytest.mark.parametrize("name", ["select", "interp", "cond"])
@pytest.mark.parametrize(
    "inside",
    [jitted, mapped_over_shards, on_explicit_axes, with_debugging],
    ids=lambda f: f.__name__,
)
def test_an_activation_is_derived_wherever_a_model_is_built(name, inside):
    function, found = READ[name][0], []
    inside(lambda: found.append(derive(lambda x: function(x)).gain))()
    assert found == [derive(lambda x: function(x)).gain]


def test_a_wrong_rule_is_caught(monkeypatch):
    monkeypatch.setitem(rules.RULES, "tanh", lambda u: tanh(u) * (1 + sympy.Rational(1, 10**6)))
    with pytest.raises(ValueError, match=r"was read as .* but at x"):
        derive(lambda x: jnp.tanh(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.nan_to_num(jnp.sqrt(x)),
        lambda x: jnp.where(jnp.isnan(jnp.log(x)), 0.0, jnp.log(x)),
        lambda x: jnp.where(jnp.isfinite(1 / jnp.sqrt(x)), jnp.sqrt(x), 0.0),
    ],
)
def test_a_guard_against_nan_is_not_ignored(function):
    with pytest.raises(ValueError, match=r"not a real number at x = -.*guard against NaN"):
        derive(function)


def test_a_guard_that_never_acts_changes_nothing():
    assert derive(lambda x: jnp.nan_to_num(jnp.tanh(x))).gain == derive("tanh").gain


def test_a_new_rule_is_used(monkeypatch):
    monkeypatch.setattr(rules, "RULES", rules.RULES)  # undone below: the registry is global
    monkeypatch.delitem(rules.RULES, "digamma", raising=False)
    register_rule("digamma", sympy.digamma)
    assert trace(lambda x: jax.lax.digamma(1 + x * x)).expr() == sympy.digamma(1 + z**2)
    monkeypatch.delitem(rules.RULES, "digamma")


def _raise(message):
    def function(x):
        raise RuntimeError(message)

    return function


def _refusing(x):
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (_refusing, "AssertionError"),
        (lambda x: sys.exit(), "SystemExit"),
        (_raise("\n told"), "told"),
    ],
)
def test_whatever_a_function_raises_is_one_message(function, cause):
    with pytest.raises(ValueError, match=f"cannot be traced on a vector of float64: .*{cause}$"):
        derive(function)


def test_the_logarithm_of_a_cdf_is_that_of_its_formula():
    """Φ(z) is uniform, so −log Φ(z) is exponential: E = 1 and E of the square = 2."""
    log_cdf = derive(lambda x: jax.scipy.special.log_ndtr(x))
    for moment, exact in ((log_cdf.mean, -1), (log_cdf.second_moment, 2)):
        low, high = moment.bounds
        assert low <= exact <= high and moment.value == exact
    assert flaxinit.gain(jax.scipy.special.log_ndtr) == flaxinit.gain("log(normal_cdf(x))")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.minimum(x, 1e300),
        lambda x: jnp.minimum(x, jnp.float32(3e38).astype(x.dtype)),
    ],
    ids=["float", "float32"],
)
def test_whole_numbers_beyond_64_bits(function):
    assert derive(function).gain == 1
