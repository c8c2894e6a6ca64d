"""The law of each parameter, read off the program that makes it.

Random bits become a sample of the uniform distribution that is as even as possible. The program's
elementwise operations run on this sample: its moments are those of the law. No parameter is drawn,
whatever its size, unless its entries depend on each other. The entries of an orthogonal matrix do,
but their law is known.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Var

from flaxinit.signal.reading.model import WithInit
from flaxinit.signal.reading.reader import ENTRIES, ONE, WHOLE, Reader
from flaxinit.signal.samples.signals import PLACE, WIDTH, Signal, exact, is_key, squared
from flaxinit.signal.samples.whole import MOST
from flaxinit.versions.jaxpr import aval, bind, evaluate, part, variables

_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Law:
    """The law of an entry of a parameter.

    Attributes:
        mean: E[w]; nan if it is not known.
        square: E[w²]; nan if it is not known.
        drawn: whether it depends on random numbers.
        unread: why it is not known; empty if it is.
    """

    mean: float = math.nan
    square: float = math.nan
    drawn: bool = False
    unread: str = ""

    @property
    def centered(self) -> bool:
        """Whether the mean is 0, up to the rounding of a sum whose terms cancel, in 24 bits."""
        return self.mean**2 <= _EPS * self.square


def laws(program: ClosedJaxpr, count: int) -> list[Law]:
    """Return the law of an entry for each of the first results of an initialization.

    Args:
        program: (key, arrays of the inputs) -> parameters, and other arrays.
        count: of parameters.

    >>> def init(key):
    ...     return 3 * jax.random.uniform(key, (10**6, 10**6)), jnp.ones(7)
    >>> drawn, fixed = laws(jax.make_jaxpr(init)(jax.random.key(0)), 2)
    >>> round(drawn.mean, 4), round(drawn.square, 4), fixed.mean, fixed.drawn
    (1.5, 3.0, 1.0, False)
    """
    program = part(program, range(count))
    reader = Reader(ONE, np.random.default_rng(0))
    shapes = [aval(var).shape for var in program.jaxpr.invars[1:]]
    inputs = [reader.unread(shape, "it depends on the values of the inputs") for shape in shapes]
    # The caller may be traced; the laws are numbers all the same.
    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
        made = reader.run(program, [exact(jax.random.key(0)), *inputs])
        return [
            _measured(part(program, [n]), why) if (why := reader.why(each)) else _law(each)
            for n, each in enumerate(made)
        ]


def read(
    programs: WithInit,
    inputs: Sequence[Any],
    given: Sequence[Signal],
    numbers: Iterator[int],
    rng: np.random.Generator,
    whole: Collection[int] = (),
) -> list[Signal]:
    """Read samples of the parameters, each with its own origin, then of the state.

    Args:
        programs: of the model.
        inputs: its arrays.
        given: the inputs as signals.
        numbers: names draws.
        rng: random numbers.
        whole: which of them are to be held whole, by number.

    Returns:
        The parameters and then the state, as signals.

    Raises:
        ValueError: if a parameter whose entries depend on each other is too large, or if entries
            of one are not numbers.
    """
    reader = Reader(ENTRIES, rng, numbers)
    start = [exact(jax.random.key(0)), *given]
    made = reader.run(programs.init, start)
    if whole:
        for n in whole:
            _check_size(programs, n, "they meet in an operation")
        every = replace(reader, limits=WHOLE).run(part(programs.init, whole), start)
        for n, each in zip(sorted(whole), every, strict=True):
            made[n] = each
    for n, each in enumerate(made):
        if why := reader.why(each):
            made[n] = _drawn(programs, n, inputs, next(numbers), why)
    count = len(programs.names)
    for name, each in zip(programs.names, made, strict=False):
        if np.any(np.isnan(each.data)):
            raise ValueError(
                f"The initialization of {name} makes entries that are not numbers (NaN). Look at "
                "its initializer, and at the dtype that it draws in."
            )
    params = [replace(each, origin=frozenset({(n, ())})) for n, each in enumerate(made[:count])]
    return [*params, *made[count:]]


def _law(signal: Signal) -> Law:
    data = signal.data.astype(np.result_type(signal.data, np.float64))
    mean, square = np.mean(data), np.mean(squared(data))
    return Law(float(np.real(mean)), float(square), bool(signal.sources))


def _measured(program: ClosedJaxpr, why: str) -> Law:
    """Measure a law that could not be read, if draws with two keys have the same mean square.

    Draws of orthogonal matrices have, although their entries depend on each other. For other laws,
    two draws give no number that could be trusted.

    Args:
        program: makes this parameter alone.
        why: the reason why it could not be read.
    """
    size, inputs = math.prod(aval(program.jaxpr.outvars[0]).shape), program.jaxpr.invars[1:]
    used = {var for equation in program.eqns for var in variables(equation)}
    if used & set(inputs) or not 0 < size <= MOST:
        return Law(drawn=True, unread=why)
    one, other = (np.asarray(_value(program, seed, inputs), np.float64) for seed in (0, 1))
    squares = float(np.mean(one**2)), float(np.mean(other**2))
    if abs(squares[0] - squares[1]) > _EPS * math.sqrt(size) * squares[1]:
        return Law(drawn=True, unread=why)
    mean = float(np.mean([one, other]))
    # The mean of 2·size entries strays by at most 5 of its standard deviations.
    centered = mean**2 <= 25 * squares[0] / (2 * size)
    return Law(0.0 if centered else mean, squares[0], drawn=True)


def _value(program: ClosedJaxpr, seed: int, inputs: Sequence[Any]) -> Any:
    """Run the program of one parameter; inputs without values are zero."""
    arrays = [x if isinstance(x, jax.Array | np.ndarray) else _zeros(x) for x in inputs]
    (value,) = evaluate(program, [jax.random.key(seed), *arrays], bind)
    return value


def _zeros(x: Any) -> jax.Array:
    like = aval(x) if isinstance(x, Var) else x
    return jnp.zeros(like.shape, like.dtype)


def _drawn(programs: WithInit, number: int, inputs: Sequence[Any], source: int, why: str) -> Signal:
    """Draw a parameter at its true size, and mark it as sampled.

    A small one is drawn several times. Draw by draw, the parameters are those of one network.
    """
    _check_size(programs, number, why)
    program = part(programs.init, [number])
    shape = aval(program.jaxpr.outvars[0]).shape
    count = max(1, min(_DRAWS, WHOLE.particles // max(1, math.prod(shape))))
    drawn = [exact(_value(program, seed, inputs)) for seed in range(count)]
    if is_key(drawn[0].data):
        return replace(drawn[0], sampled=True)
    data = np.concatenate([each.data for each in drawn])
    roles = tuple(WIDTH if role == PLACE else role for role in drawn[0].roles)
    return replace(drawn[0], data=data, roles=roles, sources=frozenset({source}), sampled=True)


# Draws of a parameter whose entries depend on each other.
_DRAWS = 8


def _check_size(programs: WithInit, number: int, why: str) -> None:
    shape = aval(programs.init.jaxpr.outvars[number]).shape
    if math.prod(shape) > MOST:
        name = programs.names[number] if number < len(programs.names) else "the state"
        raise ValueError(
            f"The entries of {name} depend on each other ({why}), and it is too large "
            f"to be drawn for its law: {shape}. Forecast a narrower model."
        )
