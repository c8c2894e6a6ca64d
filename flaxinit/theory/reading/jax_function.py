"""Trace a JAX function: its expression, its values and its gradient."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun
from sympy import Expr, Symbol

from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.entries import LENGTH, concretely, not_elementwise
from flaxinit.theory.reading.symbolic import interpret
from flaxinit.versions.compat import enable_x64
from flaxinit.versions.jaxpr import bind, called, equations, evaluate


class NotTraceable(ValueError):
    """JAX cannot trace the function or its derivative."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A JAX function of one or more vectors, read and run as the program that it traces to.

    It is traced in float64 so that its constants can be read exactly.

    Attributes:
        name: the name of the function.
        function: the function.
        arguments: how many vectors it takes.
    """

    name: str
    function: Callable
    arguments: int = 1

    @cached_property
    def program(self) -> ClosedJaxpr:
        """The jaxpr on vectors of `LENGTH` numbers.

        Raises:
            ValueError: if it cannot be traced, or does not return one real array of that shape.
        """
        return self._trace(LENGTH)

    def expr(self, *others: Symbol) -> Expr:
        """Return what it computes, with z as its first argument and symbols as the others.

        Raises:
            ValueError: if it is not elementwise, or uses a primitive that has no rule.

        >>> trace(jax.nn.silu).expr()
        z/(1 + exp(-z))
        """
        return interpret(self.program, (z, *others))

    @cached_property
    def spacing(self) -> float:
        """The relative spacing of the coarsest float format in which it computes."""
        return max(_spacings(self.program))

    @cached_property
    def derivative(self) -> "Traced":
        """The derivative as JAX propagates it, custom rules included."""

        def derivative(x):
            value, pullback = jax.vjp(lambda u: jnp.asarray(self.function(u)), x)
            return pullback(jnp.ones_like(value))[0]

        return Traced(f"the derivative of {self.name}", derivative)

    def evaluate(self, *points: np.ndarray) -> np.ndarray:
        """Return its own values at the points, in float64 on the CPU.

        It is traced again for them, on vectors of another length than the one that was read. If
        it depends on the length, the values differ from the reading.
        """
        (count,) = points[0].shape
        assert count != LENGTH
        program = self._trace(count)
        with concretely():
            if _is_compiled_sooner(program):
                value = jax.jit(jaxpr_as_fun(program))(*points)[0]
            else:
                (value,) = evaluate(program, points, _compute)
            return np.broadcast_to(np.asarray(value, np.float64), count)

    def _trace(self, length: int) -> ClosedJaxpr:
        vectors = [jax.ShapeDtypeStruct((length,), np.float64)] * self.arguments

        def fresh(*args):  # JAX caches the trace of `self.function`, even if its closure changes
            return self.function(*args)

        with enable_x64(True):
            try:
                program, out = jax.make_jaxpr(fresh, return_shape=True)(*vectors)
            except (Exception, SystemExit) as error:  # user code may raise anything
                # A function of one number (lax.cond, lax.switch) becomes elementwise under vmap.
                try:
                    program, out = jax.make_jaxpr(jax.vmap(fresh), return_shape=True)(*vectors)
                except (Exception, SystemExit):
                    if self.arguments == 1 and _is_split_gate(fresh):
                        raise _split_gate(self.name) from error
                    raise NotTraceable(_failure(self.name, error)) from error
        if not isinstance(out, jax.ShapeDtypeStruct):
            raise not_elementwise(f"this one returns {type(out).__name__}, not one array")
        if out.shape == (length // 2,):
            raise _split_gate(self.name)
        if out.shape not in ((length,), ()):
            raise not_elementwise(f"this one maps the shape {(length,)} to {out.shape}")
        if not jnp.issubdtype(out.dtype, jnp.floating):
            raise ValueError(
                f"An activation must return real numbers, but this one returns {out.dtype}. "
                "Convert its result to floats."
            )
        return program


def _is_split_gate(function: Callable) -> bool:
    """Tell whether a function makes one number of every two: a gate of an array's two halves."""
    try:
        whole = jax.ShapeDtypeStruct((2 * LENGTH,), np.float64)
        return jax.eval_shape(function, whole).shape == (LENGTH,)
    except (Exception, SystemExit):
        return False


def _split_gate(name: str) -> ValueError:
    return ValueError(
        f"{name} returns half as many numbers as it takes. If it is a gate of two halves, pass the "
        "gate as a function of both: lambda u, v: u * jax.nn.sigmoid(v) is jax.nn.glu."
    )


def trace(function: Callable, arguments: int = 1) -> Traced:
    """Return a function of one or more arrays, ready to be read."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return Traced(name, function, arguments)


# A program of more distinct operations probably has some that JAX has not compiled yet.
_MANY_KINDS = 16
_REPEATS = 4  # average uses of an operation that make it worth compiling by itself


def _is_compiled_sooner(program: ClosedJaxpr) -> bool:
    """Tell whether it is faster to compile the whole program than each of its primitives."""
    kinds = [
        (equation.primitive.name, *((a.aval.shape, a.aval.dtype) for a in equation.invars))
        for equation in equations(program)
        if called(equation) is None
    ]
    distinct = len(set(kinds))
    return distinct > _MANY_KINDS and len(kinds) < _REPEATS * distinct


def _compute(equation: JaxprEqn, operands: list) -> list:
    """Apply one primitive at once. JAX keeps a primitive compiled, but not a new function."""
    body = called(equation)
    return bind(equation, operands) if body is None else evaluate(body, operands, _compute)


def _spacings(program: ClosedJaxpr) -> Iterator[float]:
    """Yield the relative spacing of every float format that a computation passes through."""
    yield float(jnp.finfo(jnp.float64).eps)
    for equation in equations(program):
        for atom in (*equation.invars, *equation.outvars):
            if jnp.issubdtype(atom.aval.dtype, jnp.floating):
                yield float(jnp.finfo(atom.aval.dtype).eps)


def _failure(name: str, error: BaseException) -> str:
    if "truth value" in str(error) or isinstance(error, jax.errors.TracerBoolConversionError):
        cause = "it branches on its input with a Python `if`. Use jnp.where instead."
    elif _is_of_sympy(error):
        cause = (
            "it computes with SymPy, which JAX cannot trace. Pass an activation with open "
            "parameters as a SymPy expression or a formula, such as 'where(x > 0, x, a * x)'."
        )
    elif isinstance(error, jax.errors.TracerArrayConversionError):
        cause = "it uses a NumPy function. Use its counterpart in jax.numpy."
    else:
        said = next(filter(str.strip, str(error).splitlines()), "")
        cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{name} cannot be traced on a vector of float64: {cause}"


def _is_of_sympy(error: BaseException) -> bool:
    modules = (f.f_globals.get("__name__", "") for f, _ in traceback.walk_tb(error.__traceback__))
    return "sympy" in str(error) or any(name.startswith("sympy.") for name in modules)
