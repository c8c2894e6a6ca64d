"""The law of each parameter, read off the program that makes it.

Random bits become a sample of the uniform distribution that is as even as possible. The program's
elementwise operations run on this sample: its moments are those of the law. If entries depend on
each other, as those of an orthogonal kernel do, the parameter is drawn once, at its true size, and
marked.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.jaxpr import bind, evaluate
from flaxinit.signal.interpret import Interpreter
from flaxinit.signal.limits import Limits
from flaxinit.signal.model import Programs
from flaxinit.signal.signals import PLACE, WIDTH, Signal, exact

# The held entries of a parameter: its moments are right to 2e-3, by the midpoint rule
# (`draws.bits`). Each axis has some, because a kernel may be divided by its norm over some axes.
_ENTRIES = Limits(particles=2**14, cap=2**14, longest=2**5, entries=2**14, law=True)
_DRAWN = 2**24  # entries of a parameter that is drawn to read its law, at most


def read(
    programs: Programs,
    inputs: Sequence[Any],
    given: Sequence[Signal],
    numbers: Iterator[int],
    rng: np.random.Generator,
) -> tuple[list[Signal], dict[int, tuple[int, ...]]]:
    """Read the laws of the parameters, each with its own origin, then of the state.

    Args:
        programs: of the model.
        inputs: its arrays.
        given: the inputs as signals.
        numbers: names draws.
        rng: random numbers.

    Returns:
        The parameters and then the state, as signals; and the shapes of draws by number.

    Raises:
        ValueError: if a parameter whose entries depend on each other is too large.
    """
    reader = Interpreter(_ENTRIES, rng, numbers)
    made = reader.run(programs.init, [exact(jax.random.key(0)), *given])
    made = [
        _drawn(programs, n, inputs, next(numbers)) if each.sampled else each
        for n, each in enumerate(made)
    ]
    count = len(programs.names)
    params = [replace(each, origin=frozenset({(n, ())})) for n, each in enumerate(made[:count])]
    return [*params, *made[count:]], reader.drawn


def _drawn(programs: Programs, number: int, inputs: Sequence[Any], source: int) -> Signal:
    aval: Any = programs.init.out_avals[number]
    shape = aval.shape
    if math.prod(shape) > _DRAWN:
        name = programs.names[number] if number < len(programs.names) else "the state"
        raise ValueError(
            f"The entries of {name} depend on each other, and it is too large "
            f"to be drawn for its law: {shape}. Forecast a narrower model."
        )
    arrays = [
        jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x for x in inputs
    ]
    (value,) = evaluate(programs.alone(number), [jax.random.key(0), *arrays], bind)
    drawn = exact(value)
    roles = tuple(WIDTH if role == PLACE else role for role in drawn.roles)
    return replace(drawn, roles=roles, sources=frozenset({source}), sampled=True)
