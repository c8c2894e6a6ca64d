"""Traces a JAX function once: its expression, its values and its gradient come of one program."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun, jaxprs_in_params
from sympy import Expr, Symbol

from flaxinit.theory.entries import LENGTH, concretely, not_elementwise
from flaxinit.theory.interpret import interpret
from flaxinit.theory.symbols import z


@dataclass(frozen=True, eq=False)
class Traced:
    """A JAX function of one or more vectors, as the program that it is.

    It is traced in float64, so that its constants can be read exactly.

    Attributes:
        name: what the function is called.
        program: the jaxpr, on vectors of `LENGTH` numbers.
    """

    name: str
    program: ClosedJaxpr

    def expr(self, *others: Symbol) -> Expr:
        """What it computes, its first argument as z and the others as the given symbols.

        Raises:
            ValueError: if it is not elementwise, or uses a primitive that has no rule.
        """
        return interpret(self.program, (z, *others))

    @cached_property
    def spacing(self) -> float:
        """The relative spacing of the coarsest float format that it computes in."""
        return max(_spacings(self.program.jaxpr))

    @cached_property
    def derivative(self) -> "Traced":
        """The derivative as JAX propagates it, custom rules included."""
        function = jaxpr_as_fun(self.program)

        def derivative(x):
            (value,), pullback = jax.vjp(function, x)
            return pullback([jnp.ones_like(value)])[0]

        derivative.__name__ = f"the derivative of {self.name}"
        return trace(derivative)

    def evaluate(self, *points: np.ndarray) -> np.ndarray:
        """Its own values at the points, in float64 on the CPU."""
        (count,) = points[0].shape
        rounds = -(-count // LENGTH)
        vectors = [np.resize(p, (rounds, LENGTH)) for p in points]
        with concretely():
            values = [self._call(*arguments) for arguments in zip(*vectors, strict=True)]
        return np.concatenate(values)[:count]

    def _call(self, *vectors: np.ndarray) -> np.ndarray:
        (value,) = _run(self.program.jaxpr, self.program.consts, vectors)
        return np.broadcast_to(np.asarray(value, np.float64), LENGTH)


# Calls, and the parameter that holds what is called.
_CALLS = {
    **{"jit": "jaxpr", "checkpoint": "jaxpr", "closed_call": "call_jaxpr"},
    **{"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"},
}


def _run(jaxpr: Jaxpr, consts: Sequence, arguments: Sequence) -> list:
    """Computes primitive by primitive: these JAX keeps compiled, but not a function made anew."""
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= dict(zip(jaxpr.constvars, consts, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if (name := equation.primitive.name) in _CALLS:
            body = equation.params[_CALLS[name]]
            results = _run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), inputs)
        else:
            results = equation.primitive.bind(*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def trace(function: Callable, arguments: int = 1) -> Traced:
    """Traces a function of one array, or of several.

    Args:
        function: an elementwise function.
        arguments: how many arrays it takes.

    Returns:
        The traced function.

    Raises:
        ValueError: if it cannot be traced, or does not return one real array of the same shape.

    >>> trace(jax.nn.silu).expr()
    z/(1 + exp(-z))
    """
    name = getattr(function, "__name__", None) or type(function).__name__
    vectors = [jax.ShapeDtypeStruct((LENGTH,), np.float64)] * arguments

    def fresh(*args):  # JAX would remember the function itself, whose closure may have changed
        return function(*args)

    with jax.enable_x64(True):
        try:
            program, out = jax.make_jaxpr(fresh, return_shape=True)(*vectors)
        except Exception as error:
            # A function of one number (lax.cond, lax.switch) is elementwise once mapped.
            try:
                program, out = jax.make_jaxpr(jax.vmap(fresh), return_shape=True)(*vectors)
            except Exception:
                raise ValueError(_failure(name, error)) from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise not_elementwise(f"this one returns {type(out).__name__}, not one array")
    if out.shape not in ((LENGTH,), ()):
        raise not_elementwise(f"this one maps the shape {(LENGTH,)} to {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"an activation is real-valued, but this one returns {out.dtype}")
    return Traced(name, program)


def _spacings(jaxpr: Jaxpr):
    """The relative spacing of every float format that a computation passes through."""
    yield float(jnp.finfo(jnp.float64).eps)
    for equation in jaxpr.eqns:
        for atom in (*equation.invars, *equation.outvars):
            if jnp.issubdtype(atom.aval.dtype, jnp.floating):
                yield float(jnp.finfo(atom.aval.dtype).eps)
        for inner in jaxprs_in_params(equation.params):
            yield from _spacings(inner)


def _failure(name: str, error: Exception) -> str:
    if "truth value" in str(error) or isinstance(error, jax.errors.TracerBoolConversionError):
        cause = "it branches on its input with a Python `if`; use jnp.where instead"
    elif _is_of_sympy(error):
        cause = (
            "it computes with SymPy, which JAX cannot trace; an activation with open parameters is "
            "a SymPy expression or a formula, such as 'where(x > 0, x, a * x)'"
        )
    elif isinstance(error, jax.errors.TracerArrayConversionError):
        cause = "it uses a NumPy function; use its counterpart in jax.numpy"
    else:
        cause = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"{name} cannot be traced on a vector of float64: {cause}"


def _is_of_sympy(error: Exception) -> bool:
    modules = (f.f_globals.get("__name__", "") for f, _ in traceback.walk_tb(error.__traceback__))
    return "sympy" in str(error) or any(name.startswith("sympy.") for name in modules)
