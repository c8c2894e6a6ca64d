"""Arrays of expressions: what a traced program computes, entry by entry.

A function is traced on a vector of `LENGTH` inputs, so an axis of that length stands for the
inputs. An elementwise function treats all of them alike, and one expression stands for all: the
array of expressions has the same axes, but length 1 along the axis of the inputs. For
``lambda x: jnp.sum(jnp.stack([x, x**2]), axis=0)``::

    JAX's array    its shape      array of expressions
    x              (LENGTH,)      [z]
    stacked        (2, LENGTH)    [[z], [z**2]]
    sum            (LENGTH,)      [z**2 + z]

A sum along the axis of the inputs would mix them, so ``jnp.sum(x)`` is refused.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sympy import Integer, nan, sympify
from sympy.logic.boolalg import BooleanAtom

from flaxinit.theory.functions.constants import read_constant
from flaxinit.theory.functions.effort import size, spend
from flaxinit.theory.functions.symbols import z
from flaxinit.theory.reading.cells import Cells, apply, apply_to_all, cells, is_threshold
from flaxinit.versions import jaxpr
from flaxinit.versions.compat import enable_x64

# A prime that nobody writes by hand: a function that splits, pairs or counts its inputs shows it
# by its shapes.
LENGTH = 103
MAX_SIZE = 1024  # numbers that a function may hold for each of its inputs
MAX_NODES = 10_000  # parts of an expression
_LONG = 256  # cells to which shorter columns are padded, so that JAX compiles once
_APPLYING = 20  # units of work for each part of an expression that a rule is applied to


def not_elementwise(what: str) -> ValueError:
    """Return the error for a function that is not elementwise."""
    return ValueError(
        f"An activation must act on each number by itself (elementwise), but {what}. "
        "Derive the elementwise part, and treat the rest as a separate layer."
    )


def draws_random(what: str) -> ValueError:
    """Return the error for a function that draws random numbers."""
    return ValueError(
        "An activation must depend on its input alone, but this one draws random numbers "
        f"({what}). Pass its deterministic form."
    )


def shape_of(atom) -> tuple[int, ...]:
    """Return the shape of a variable's array of expressions."""
    shape = atom.aval.shape
    if shape.count(LENGTH) > 1:
        raise not_elementwise("this one pairs every input with every other")
    return tuple(1 if n == LENGTH else n for n in shape)


def each(rule: Callable, operands: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Apply a rule to every entry."""
    rows = [np.broadcast_to(operand, shape) for operand in operands]
    result = np.empty(shape, object)
    for index in np.ndindex(shape):
        result[index] = applied(rule, [row[index] for row in rows])
    return result


def applied(rule: Callable, entries: Sequence):
    """Apply a rule to entries of arrays, cell by cell if one of them is given by cells."""

    def checked(*values):
        parts = sum(map(size, values))
        if parts > MAX_NODES:
            raise ValueError(
                f"Written out, this function is a formula of more than {MAX_NODES} parts. Derive a "
                "simpler one."
            )
        spend(_APPLYING * parts)
        return entry_of(rule(*values))

    if any(isinstance(entry, Cells) for entry in entries) and of_one_input(entries):
        return apply(checked, entries)
    return checked(*map(written, entries))


def of_one_input(entries: Iterable) -> bool:
    """Tell whether no entry depends on the second input of a gate; else cells are written out."""
    return all(entry.free_symbols <= {z} for entry in entries)


def entry_of(value):
    """Return the result of a rule as an entry of an array."""
    if isinstance(value, Cells):
        return value
    value = sympify(value)
    return cells(value) if is_threshold(value) else value


def written(entry):
    """Return an entry as an expression."""
    return entry.expr if isinstance(entry, Cells) else entry


def constant(value) -> np.ndarray:
    """Return an array of numbers, each read as the exact number that it stands for."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            "A parameter of the activation is traced by JAX (jit, grad, vmap), so its value is not "
            "known when the activation is derived. Pass it as a number, for example with "
            "jax.jit's static_argnums."
        )
    if jnp.issubdtype(jax.dtypes.result_type(value), jax.dtypes.prng_key):
        raise draws_random("a key")
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise ValueError(
            "An activation must be real, but this one uses a complex constant. Write it with real "
            "numbers."
        )
    for axis in (axis for axis, n in enumerate(array.shape) if n == LENGTH):
        single = array.take([0], axis)
        if not np.array_equal(np.broadcast_to(single, array.shape), array, equal_nan=True):
            raise not_elementwise(
                f"this one treats its inputs by position (with a constant of shape {array.shape})"
            )
        array = single
    check_size(array)
    result = np.empty(array.shape, object)
    for index, entry in np.ndenumerate(array):
        if array.dtype == bool:
            result[index] = sympify(bool(entry))
        else:  # the nan of a guard disappears later, because its condition never holds
            result[index] = nan if entry != entry else read_constant(entry)
    return result


def check_size(array: np.ndarray) -> None:
    """Refuse tables that are too large to be formulas."""
    if array.size > MAX_SIZE:
        raise ValueError(
            f"This function computes with {array.size} numbers for each of its inputs, but at most "
            f"{MAX_SIZE} are read. Derive a simpler function."
        )


def are_numbers(operands: Iterable[np.ndarray]) -> bool:
    """Tell whether nothing depends on the input."""
    return not any(entry.free_symbols for operand in operands for entry in operand.flat)


def compute(equation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Let JAX compute what does not depend on the input, such as counters and places."""
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
    """Tell whether all entries are numbers, on each cell of the line."""
    entries = [entry for operand in operands for entry in operand.flat]
    return all(
        entry.are_numbers if isinstance(entry, Cells) else not entry.free_symbols
        for entry in entries
    )


def compute_counts(equation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Let JAX compute with integers, because it rounds their quotients and shifts."""
    dtypes = [atom.aval.dtype for atom in equation.invars]

    def computed(*columns: Sequence) -> list[Integer]:
        numbers = [np.array(list(map(_number, column))) for column in columns]
        count = len(numbers[0])
        # JAX compiles the primitive again for every new length.
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


# NumPy computes these as JAX does, even if integers overflow, and does not compile them.
_ALIKE = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply},
    **{"max": np.maximum, "min": np.minimum},
}


def _number(entry) -> bool | float:
    return bool(entry) if isinstance(entry, BooleanAtom) else float(entry)


def bind(equation, arrays: Sequence[np.ndarray]) -> list:
    """Let JAX apply a primitive to arrays of numbers."""
    with concretely():
        return jaxpr.bind(equation, list(map(jnp.asarray, arrays)))


@contextlib.contextmanager
def concretely():
    """Compute in float64 on the CPU at once, even while a model is being traced.

    Values that are not finite are allowed here, whatever the user's debug flags say.
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
