"""A program's random bits, and a bound on how far rounding moves its results between devices.

This is a running error analysis. Two devices that draw the same bits compute the same formula but
round it at different places: one fuses a product with a sum, another has its own logarithm. Let
both be as accurate as a standard demands. Then their results of ``y = f(x_1, ..., x_n)`` differ,
to first order, by at most

    e(y) = Σ_i |∂f/∂x_i| e(x_i) + 2 a(f) ulp(y),

where ``a(f)`` is the accuracy in units in the last place (ulp). Random bits and all integers have
``e = 0``.

References: Wilkinson (1986), Error analysis revisited; Higham (2002), Accuracy and Stability of
Numerical Algorithms, section 3.3; Khronos Group, The OpenCL C Specification, "Relative Error as
ULPs"; Giles (2010), Approximating the erfinv function.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from flaxinit.versions.jaxpr import bind, called, evaluate

# Operations that move numbers, pick among them or change a sign do not round.
EXACT = (
    *("abs", "neg", "sign", "max", "min", "clamp", "nextafter", "real", "imag", "complex", "conj"),
    *("bitcast_convert_type", "device_put", "optimization_barrier", "sharding_constraint"),
    "stop_gradient",
    *("broadcast_in_dim", "reshape", "squeeze", "transpose", "rev", "slice", "pad", "concatenate"),
    *("select_n", "gather", "copy", "copy_p", "iota", "split", "stack", "unstack"),
)
# Units in the last place by which a result may be off: a half if it is rounded correctly, and
# otherwise OpenCL's limit for single precision in its full profile.
ACCURACY = {
    **dict.fromkeys(EXACT, 0.0),
    **dict.fromkeys(("add", "sub", "mul", "square", "convert_element_type"), 0.5),
    "div": 2.5,
    "sqrt": 3.0,
    "exp": 3.0,
    "expm1": 3.0,
    "log": 3.0,
    "log1p": 2.0,
    "sin": 4.0,
    "cos": 4.0,
    "erf": 16.0,
    # Giles: x p(w), w = -log1p(-x²). k ulp of one number are a relative error of at most k eps, and
    # so at most 2k ulp of another. The result halves a relative error of w, so log1p's 2 ulp become
    # at most 2. For x near 1, p is a polynomial in √w, whose 3 ulp become at most 6. The last sum
    # and the last two products each round by half a ulp, which becomes at most 1.
    "erf_inv": 11.0,
}
# Equal on all devices if the inputs are. Not so a product: fused into a sum, it stays unrounded.
ALIKE = {*EXACT, "add", "sub", "convert_element_type"}
# These round their argument too: 1 - x² is computed from a rounded x², as if x had a relative
# error of a quarter of eps.
ROUNDED_ARGUMENT = {"erf_inv": 0.25}


class Number(NamedTuple):
    """A value of a program, and a bound on its difference on another device; None if exact."""

    value: Any
    error: jax.Array | None = None


def random_bits(function: Callable[[jax.Array], Any], key: jax.Array) -> list[jax.Array]:
    """Return all words that a function draws from its key, in program order."""
    drawn = []

    def apply(equation: JaxprEqn, inputs: list) -> list:
        if (inner := called(equation)) is not None:
            return evaluate(inner, inputs, apply)
        results = bind(equation, inputs)
        if equation.primitive.name == "random_bits":
            drawn.extend(results)
        return results

    evaluate(jax.make_jaxpr(function)(key), [key], apply)
    return drawn


def spread(function: Callable[[jax.Array], Any], key: jax.Array) -> jax.Array:
    """Return the bound above for each entry of the array that a function draws.

    Raises:
        ValueError: the accuracy of an operation is not known here, as for a sum of products.
    """

    def apply(equation: JaxprEqn, inputs: list[Number]) -> list[Number]:
        if (inner := called(equation)) is not None:
            return evaluate(inner, inputs, apply, constant)
        return _with_errors(equation, inputs)

    def constant(atom, value) -> Number:
        return Number(value)

    (result,) = evaluate(jax.make_jaxpr(function)(key), [Number(key)], apply, constant)
    return jnp.zeros(jnp.shape(result.value)) if result.error is None else result.error


def _with_errors(equation: JaxprEqn, inputs: list[Number]) -> list[Number]:
    name, values = equation.primitive.name, [number.value for number in inputs]
    results = bind(equation, values)
    if not any(_is_inexact(result) for result in results):
        if any(number.error is not None for number in inputs):
            raise ValueError(f"{name} makes exact numbers from rounded ones: one may jump.")
        return [Number(result) for result in results]
    if name in ALIKE and all(number.error is None for number in inputs):
        return [Number(result) for result in results]
    if name not in ACCURACY:
        raise ValueError(f"The accuracy of {name} is not known here. Add it to ACCURACY.")
    errors = [2 * ACCURACY[name] * _ulp(result) for result in results]
    for place, (value, error) in enumerate(inputs):
        if name in ROUNDED_ARGUMENT:
            own = 2 * ROUNDED_ARGUMENT[name] * float(jnp.finfo(value.dtype).eps) * jnp.abs(value)
            error = own if error is None else error + own
        if error is None:
            continue

        def of_this_input(x, place=place):
            return bind(equation, [*values[:place], x, *values[place + 1 :]])

        tangent = jnp.broadcast_to(error, jnp.shape(value)).astype(value.dtype)
        _, moved = jax.jvp(of_this_input, (value,), (tangent,))
        errors = [e + jnp.abs(m) for e, m in zip(errors, moved, strict=True)]
    return [Number(*pair) for pair in zip(results, errors, strict=True)]


def _is_inexact(value) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _ulp(value: jax.Array) -> jax.Array:
    """Return the distance from a number's modulus to the next larger number."""
    size = jnp.abs(value)
    return jnp.nextafter(size, jnp.full_like(size, jnp.inf)) - size
