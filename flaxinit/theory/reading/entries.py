"""Arrays of expressions: what a traced program computes, entry by entry.

A program is traced on vectors of `LENGTH` numbers. Every entry along such an axis goes the same
way, so that one expression stands for all: an array here has that axis too, with length 1.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sympy import Integer, nan, sympify
from sympy.logic.boolalg import BooleanAtom

from flaxinit import jaxpr
from flaxinit.compat import enable_x64
from flaxinit.theory.functions.constants import read_constant
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.cells import Cells, apply, apply_to_all, cells, is_threshold

# A prime that nobody writes by hand, so that a function which splits, pairs up or counts its
# inputs betrays itself by its shapes.
LENGTH = 103
MAX_SIZE = 1024  # numbers that a function may hold for each of its inputs
MAX_NODES = 10_000  # parts of an expression
_LONG = 256  # cells that are computed at once, if there are no more
_APPLYING = 20  # units of work for each part of an expression that a rule is applied to


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
    """A rule applied to every entry."""
    rows = [np.broadcast_to(operand, shape) for operand in operands]
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = applied(rule, [row[index] for row in rows])
    return result


def applied(rule: Callable, entries: Sequence):
    """A rule applied to entries of arrays, cell by cell where one of them is given by cells."""

    def checked(*values):
        parts = sum(map(size, values))
        if parts > MAX_NODES:
            raise ValueError(
                f"written out, this function is a formula of more than {MAX_NODES} parts; derive a "
                "simpler one"
            )
        spend(_APPLYING * parts)
        return entry_of(rule(*values))

    if any(isinstance(entry, Cells) for entry in entries) and of_one_input(entries):
        return apply(checked, entries)
    return checked(*map(written, entries))


def of_one_input(entries: Iterable) -> bool:
    """Whether there is no second input, of a gate: its product with cells is kept a product."""
    return all(entry.free_symbols <= {z} for entry in entries)


def entry_of(value):
    """What a rule returned, as an entry of an array."""
    if isinstance(value, Cells):
        return value
    value = sympify(value)
    return cells(value) if is_threshold(value) else value


def written(entry):
    """An entry as an expression."""
    return entry.expr if isinstance(entry, Cells) else entry


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
        array = (
            np.array(list(map(_number, operand.flat)))
            .reshape(operand.shape)
            .astype(atom.aval.dtype)
        )
        arrays.append(np.broadcast_to(array, atom.aval.shape))
    return [constant(np.asarray(result)) for result in bind(equation, arrays)]


def are_counts(operands: Iterable[np.ndarray]) -> bool:
    """Whether all are numbers, on each cell of the line."""
    entries = [entry for operand in operands for entry in operand.flat]
    return all(
        entry.are_numbers if isinstance(entry, Cells) else not entry.free_symbols
        for entry in entries
    )


def compute_counts(equation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What JAX makes of whole numbers, the quotients and shifts of which it rounds."""
    dtypes = [atom.aval.dtype for atom in equation.invars]

    def computed(*columns: Sequence) -> list[Integer]:
        numbers = [np.array(list(map(_number, column))) for column in columns]
        count = len(numbers[0])
        # For every new length JAX compiles the primitive anew.
        padding = max(_LONG, 1 << (count - 1).bit_length()) - count
        padded = [np.pad(row, (0, padding), "edge") for row in numbers]
        arrays = [row.astype(dtype) for row, dtype in zip(padded, dtypes, strict=True)]
        if (alike := _ALIKE.get(equation.primitive.name)) is not None:
            result = alike(*arrays)
        else:
            (result,) = bind(equation, arrays)
        return [Integer(int(number)) for number in np.asarray(result)[:count]]

    shape = shape_of(equation.outvars[0])
    rows = [np.broadcast_to(operand, shape) for operand in operands]
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = apply_to_all(computed, [row[index] for row in rows])
    return [result]


# What NumPy computes as JAX does, whole numbers that overflow included, and need not compile.
_ALIKE = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply},
    **{"max": np.maximum, "min": np.minimum},
}


def _number(entry) -> bool | float:
    return bool(entry) if isinstance(entry, BooleanAtom) else float(entry)


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
        enable_x64(True),
        jax.default_device(cpu),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield
