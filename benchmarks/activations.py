"""Every activation of the catalogue as its paper or its library defines it, in JAX.

None of these is read from the catalogue's formulas: the tests hold one against the other. An
activation that is not listed here is made from its page of the book.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import sympy

import derivations
from derivations.notation import x as variable

nn = jax.nn

DEFINITIONS: dict[str, Callable] = {
    "linear": nn.identity,
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "prelu": functools.partial(nn.leaky_relu, negative_slope=0.25),
    "relu6": nn.relu6,
    "relu_squared": lambda x: jnp.square(nn.relu(x)),
    "abs": jnp.abs,
    "square": jnp.square,
    "step": lambda x: jnp.heaviside(x, 0.0),
    "sign": jnp.sign,
    "hard_tanh": nn.hard_tanh,
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_swish": nn.hard_swish,
    "softshrink": lambda x: jnp.where(x > 0.5, x - 0.5, jnp.where(x < -0.5, x + 0.5, 0.0)),
    "hardshrink": lambda x: jnp.where((x > 0.5) | (x < -0.5), x, 0.0),
    "sparse_plus": nn.sparse_plus,
    "sparse_sigmoid": nn.sparse_sigmoid,
    "elu": nn.elu,
    "celu": nn.celu,
    "selu": nn.selu,
    "exp": jnp.exp,
    "gaussian": lambda x: jnp.exp(-jnp.square(x)),
    "x_gaussian": lambda x: x * jnp.exp(-jnp.square(x)),
    "sin": jnp.sin,
    "cos": jnp.cos,
    "snake": lambda x: x + (1 - jnp.cos(2 * x)) / 2,
    "x_cos": lambda x: x * jnp.cos(x),
    "erf": jax.lax.erf,
    "normal_cdf": jax.scipy.stats.norm.cdf,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "squareplus": nn.squareplus,
    "isru": lambda x: x * jax.lax.rsqrt(1 + jnp.square(x)),
    "isrlu": lambda x: jnp.where(x < 0, x * jax.lax.rsqrt(1 + jnp.square(x)), x),
    "bent_identity": lambda x: (jnp.sqrt(jnp.square(x) + 1) - 1) / 2 + x,
    "softsign": nn.soft_sign,
    "gelu_tanh": nn.gelu,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "silu": nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "log_sigmoid": nn.log_sigmoid,
    "mish": nn.mish,
    "arctan": jnp.arctan,
    "log_cosh": lambda x: jnp.logaddexp(x, -x) - jnp.log(2.0),
    "tanhshrink": lambda x: x - jnp.tanh(x),
    "serf": lambda x: x * jax.lax.erf(nn.softplus(x)),
    "lisht": lambda x: x * jnp.tanh(x),
}


def definition(name: str) -> Callable:
    """Return the activation as a JAX function."""
    return DEFINITIONS.get(name) or _in_the_book(name)


@functools.cache
def _in_the_book(name: str) -> Callable:
    page = derivations.write(name)
    pieces = [
        (sympy.lambdify(variable, piece.subs(page.at), "jax"), float(end.subs(page.at)))
        for piece, _, end in page.pieces
    ]

    def activation(x):
        *others, (last, _) = pieces
        value = last(x)
        for piece, end in reversed(others):
            value = jnp.where(x < end, piece(x), value)
        return value

    return activation
