"""Arrays of expressions: what a traced program computes, entry by entry.

A program is traced on vectors of `LENGTH` numbers. Every entry along such an axis goes the same
way, so that one expression stands for all: an array here has that axis too, with length 1.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sympy import nan, sympify
from sympy.logic.boolalg import BooleanAtom

from flaxinit import jaxpr
from flaxinit.theory.choice import Choice, are_choices, combine
from flaxinit.theory.constants import read_constant

# A prime that nobody writes by hand, so that a function which splits, pairs up or counts its
# inputs betrays itself by its shapes.
LENGTH = 103
MAX_SIZE = 1024  # numbers that a function may hold for each of its inputs


def not_elementwise(what: str) -> ValueError:
    return ValueError(
        f"an activation acts on each number by itself (elementwise), but {what}; "
        "derive the elementwise part, and treat the rest as a layer of its own"
    )


def draws_random(what: str) -> ValueError:
    return ValueError(
        "an activation is a function of its input alone, but this one draws random numbers "
        f"({what}); pass its deterministic form"
    )


def shape_of(atom) -> tuple[int, ...]:
    """The shape of a variable's array of expressions."""
    shape = atom.aval.shape
    if shape.count(LENGTH) > 1:
        raise not_elementwise("this one pairs every input with every other")
    return tuple(1 if n == LENGTH else n for n in shape)


def each(rule: Callable, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """A rule applied to every entry; case by case where it is a choice among numbers."""
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        entries = [np.broadcast_to(operand, shape)[index] for operand in operands]
        if are_choices(entries):
            result[index] = combine(rule, entries)
        else:
            result[index] = entry_of(rule(*map(written, entries)))
    return result


def entry_of(value):
    """What a rule returned, as an entry of an array."""
    return value if isinstance(value, Choice) else sympify(value)


def written(entry):
    """An entry as an expression."""
    return entry.expr if isinstance(entry, Choice) else entry


def constant(value) -> np.ndarray:
    """An array of numbers, each read as what it was meant to be."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            "a parameter of the activation is traced by JAX (jit, grad, vmap), so that its value "
            "is not known when the activation is derived; give it as a number, for example "
            "by jax.jit's static_argnums"
        )
    if jnp.issubdtype(jax.dtypes.result_type(value), jax.dtypes.prng_key):
        raise draws_random("a key")
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise ValueError("an activation has to be real, but this one uses a complex constant")
    for axis in (axis for axis, n in enumerate(array.shape) if n == LENGTH):
        single = array.take([0], axis)
        if not np.array_equal(np.broadcast_to(single, array.shape), array, equal_nan=True):
            raise not_elementwise(
                f"this one treats its inputs by their place (by a constant of shape {array.shape})"
            )
        array = single
    check_size(array)
    result = np.empty(array.shape, object)
    for index, entry in np.ndenumerate(array):
        if array.dtype == bool:
            result[index] = sympify(bool(entry))
        else:  # a guard against nan falls away, as its condition never holds
            result[index] = nan if entry != entry else read_constant(entry)
    return result


def check_size(array: np.ndarray) -> None:
    """Refuses tables that are no formula any more."""
    if array.size > MAX_SIZE:
        raise ValueError(
            f"this function computes with {array.size} numbers for each of its inputs; at most "
            f"{MAX_SIZE} are read"
        )


def are_numbers(operands: Iterable[np.ndarray]) -> bool:
    """Whether nothing depends on the input."""
    return not any(entry.free_symbols for operand in operands for entry in operand.flat)


def compute(equation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What does not depend on the input, counters and places say, is left to JAX."""
    arrays = []
    for atom, operand in zip(equation.invars, operands, strict=True):
        entries = [bool(e) if isinstance(e, BooleanAtom) else float(e) for e in operand.flat]
        array = np.array(entries).reshape(operand.shape).astype(atom.aval.dtype)
        arrays.append(np.broadcast_to(array, atom.aval.shape))
    return [constant(np.asarray(result)) for result in bind(equation, arrays)]


def bind(equation, arrays: Sequence[np.ndarray]) -> list:
    """What JAX itself makes of arrays of numbers."""
    with concretely():
        return jaxpr.bind(equation, list(map(jnp.asarray, arrays)))


@contextlib.contextmanager
def concretely():
    """Computes in float64 on the CPU at once, even while some model is being traced.

    Values that are not finite are looked at here, whatever is set for the model.
    """
    cpu = jax.local_devices(backend="cpu")[0]
    with (
        jax.ensure_compile_time_eval(),
        jax.enable_x64(True),
        jax.default_device(cpu),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield
