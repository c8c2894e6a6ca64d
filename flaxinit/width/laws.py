"""The law of each parameter, read off the program that draws it.

A draw is an elementwise function of random bits. Run on the midpoints of equal parts of their
range in place of the bits, it gives the quantiles of an entry, and their mean and mean square are
integrals by the midpoint rule. No parameter is drawn, whatever its size, unless that fails: then
parameters of up to four million entries are drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from flaxinit.jaxpr import bind, called, closed, evaluate, scan_operands
from flaxinit.width.primitives import ELEMENTWISE, IDENTITIES, MOVES

_EPS = float(np.finfo(np.float32).eps)
# Entries that are drawn for a law that cannot be read.
_DRAWN = 2**22
# Midpoints. The error of a normal's variance is that of its outermost parts, about log(n) / n.
_POINTS = 2**14


@dataclass(frozen=True)
class Law:
    """The law of an entry of a parameter.

    Attributes:
        mean: E[w]; nan if it is not known.
        square: E[w²]; nan if it is not known.
        drawn: whether random numbers are in it.
        unread: why it is not known; empty if it is.
    """

    mean: float = float("nan")
    square: float = float("nan")
    drawn: bool = False
    unread: str = ""

    @property
    def centered(self) -> bool:
        """Whether the mean is 0, up to what 24 bits leave of a sum of many terms that cancel."""
        return self.mean**2 <= _EPS * self.square


class _Key:
    """A random key, or what is computed from one."""


class _Fixed:
    """Entries that are not random and differ; their values are not needed."""


@dataclass(frozen=True)
class _Unread:
    reason: str


@dataclass(frozen=True)
class _Entries:
    """The quantiles of equally distributed entries; one number if all are equal."""

    values: Any

    @property
    def drawn(self) -> bool:
        return np.ndim(self.values) > 0


def laws(program: ClosedJaxpr, count: int) -> list[Law]:
    """Return the laws of the first results of an initialization.

    Args:
        program: (key, arrays of the inputs) -> parameters, and other arrays.
        count: of parameters.

    >>> def init(key):
    ...     return 3 * jax.random.uniform(key, (4000, 4000)), jax.numpy.ones(7)
    >>> drawn, fixed = laws(jax.make_jaxpr(init)(jax.random.key(0)), 2)
    >>> round(drawn.mean, 4), round(drawn.square, 4), fixed.mean, fixed.drawn
    (1.5, 3.0, 1.0, False)
    """
    inputs = program.jaxpr.invars[1:]
    operands = [_Key(), *(_Unread("it depends on the values of the inputs") for _ in inputs)]
    reader = _Reader()
    with jax.numpy_dtype_promotion("standard"):
        results = reader.run(program, operands)[:count]
    read = [_law(result) for result in results]
    return [
        _measured(program, n, law) if math.isnan(law.square) else law for n, law in enumerate(read)
    ]


def _law(value: Any) -> Law:
    match value:
        case _Entries(values):
            values = np.asarray(values).astype(np.result_type(values, np.float64))
            mean, square = np.mean(values), np.mean(np.abs(values) ** 2)
            return Law(float(np.real(mean)), float(square), value.drawn)
        case _Fixed():
            return Law()
        case _Unread(reason):
            return Law(drawn=True, unread=reason)
    return Law(drawn=True, unread="it is made of a key")


def _measured(program: ClosedJaxpr, n: int, law: Law) -> Law:
    """Measure a law that could not be read, if entries drawn at two keys have one mean square.

    Numbers that are not random do, and so do orthogonal matrices, whose entries are not
    independent. For other laws, two draws give no number that could be trusted.
    """
    jaxpr, used = dce_jaxpr(program.jaxpr, [i == n for i in range(len(program.jaxpr.outvars))])
    aval: Any = program.jaxpr.outvars[n].aval
    size = math.prod(aval.shape)
    if any(used[1:]) or not 0 < size <= _DRAWN:
        return law
    kept = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    consts = [kept[var] for var in jaxpr.constvars]
    keys = [(jax.random.key(seed),) for seed in (0, 1)] if used[0] else [()]
    draw = jax.jit(lambda *key: jax.core.eval_jaxpr(jaxpr, consts, *key)[0])
    draws = [np.asarray(draw(*key), np.float64) for key in keys]
    squares = [float(np.mean(draw**2)) for draw in draws]
    mean = float(np.mean(draws))
    if not used[0]:
        return Law(mean, squares[0])
    if abs(squares[0] - squares[1]) > _EPS * math.sqrt(size) * squares[1]:
        return law
    # The mean of 2·size entries strays by at most 5 of its standard deviations.
    centered = mean**2 <= 25 * squares[0] / (2 * size)
    return Law(0.0 if centered else mean, squares[0], drawn=True)


class _Reader:
    def __init__(self):
        self.rng = np.random.default_rng(0)  # pairs the quantiles of independent draws

    def run(self, program: ClosedJaxpr, operands: Sequence[Any]) -> list[Any]:
        return evaluate(program, operands, self.equation, lambda _, value: _constant(value))

    def equation(self, equation, operands: list[Any]) -> list[Any]:
        name, out = equation.primitive.name, equation.outvars
        if name in ("random_bits", "threefry2x32"):
            return [self.bits(var.aval.dtype) for var in out]
        if body := called(equation):
            return self.run(body, operands)
        if name == "scan":
            return self.scan(equation, operands)
        if name == "cond":
            return self.branches(equation, operands)
        if name in IDENTITIES and len(operands) == len(out):
            return operands
        if name in ("qr", "householder_product") and not isinstance(operands[0], _Unread):
            # The columns of Q are orthonormal, so E[w²] = 1/rows, and have signs of either kind,
            # which the signs of R's diagonal do not change.
            half = 1 / np.sqrt(np.float32(out[0].aval.shape[-2]))
            return [
                _Entries(np.repeat([half, -half], _POINTS // 2)),
                *(_Entries(1.0) for _ in out[1:]),
            ]
        if any(isinstance(x, _Key) for x in operands):
            return [_Key() for _ in out]
        for x in operands:
            if isinstance(x, _Unread):
                return [x for _ in out]
        return self.compute(equation, operands)

    def compute(self, equation, operands: list[Any]) -> list[Any]:
        name, out = equation.primitive.name, equation.outvars
        if name in MOVES:
            data = operands if name in ("concatenate", "stack") else operands[:1]
            if all(isinstance(x, _Fixed) or not x.drawn for x in data):
                same = all(x == data[0] for x in data)
                return [data[0] if same else _Fixed() for _ in out]
            first, *others = map(_law, data)
            if all(other == first for other in others):
                return [data[0] for _ in out]
            return [_Unread("its parts are drawn from different laws") for _ in out]
        drawn = any(isinstance(x, _Entries) and x.drawn for x in operands)
        fixed = any(isinstance(x, _Fixed) for x in operands)
        if name in ELEMENTWISE and not fixed:
            return [_Entries(np.asarray(v)) for v in bind(equation, [x.values for x in operands])]
        if drawn:
            return [_Unread(f"its entries meet in {name}") for _ in out]
        return [_Fixed() for _ in out]

    def bits(self, dtype) -> _Entries:
        midpoints = (self.rng.permutation(_POINTS) + 0.5) / _POINTS
        width = 8 * np.dtype(dtype).itemsize
        return _Entries(np.floor(midpoints * 2.0**width).astype(dtype))

    def scan(self, equation, operands: list[Any]) -> list[Any]:
        """Read the law of one step for all, unless a step changes what the next one reads."""
        constants, carry, rows = scan_operands(equation, operands)
        results = self.run(closed(equation.params["jaxpr"]), [*constants, *carry, *rows])
        for before, after in zip(carry, results, strict=False):
            if not isinstance(after, _Key) and not _equal(before, after):
                return [_Unread("it is computed step by step in a loop") for _ in equation.outvars]
        return results

    def branches(self, equation, operands: list[Any]) -> list[Any]:
        branches = equation.params["branches"]
        if "branches_platforms" in equation.params:  # one computation; the last is for the rest
            branches = branches[-1:]
        taken = [self.run(closed(b), operands[1:]) for b in branches]
        first, *others = taken
        reason = _Unread("its draw depends on a condition")
        same = [all(_equal(a, b) for b in bs) for a, *bs in zip(first, *others, strict=True)]
        return [a if s else reason for a, s in zip(first, same, strict=True)]


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (isinstance(one, _Key) or _law(one) == _law(other))


def _constant(value: Any) -> Any:
    if jax.dtypes.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.prng_key):
        return _Key()
    array = np.asarray(value)
    if array.size and np.all(array == array.flat[0]):
        return _Entries(array.flat[0])
    return _Fixed()
