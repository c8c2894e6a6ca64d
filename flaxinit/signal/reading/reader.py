"""An interpreter that runs an initialization on samples, to read the laws of its results."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr
from scipy import special

from flaxinit.initializers.haar import SCOPE
from flaxinit.signal.rules.along import ALONG
from flaxinit.signal.rules.functions import function
from flaxinit.signal.rules.interpret import Interpreter
from flaxinit.signal.rules.movement import MOVEMENTS
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import CONSTANT, Signal, exact, is_key
from flaxinit.signal.samples.whole import MOST
from flaxinit.versions.jaxpr import called

# The held entries of a parameter: its moments are right to 2e-3, by the midpoint rule
# (`draws.bits`): the error of a normal's variance is that of its outermost parts, about log(n) / n.
# Each axis has some, because a kernel may be divided by its norm over some axes.
ENTRIES = Limits(particles=2**14, cap=2**14, longest=2**5, entries=2**14, law=True, alike=True)
# All entries of a parameter of any size; of a small one several draws, since what is computed from
# all entries, as a norm, is one number in each.
WHOLE = Limits(particles=2**20, cap=MOST, longest=MOST, entries=MOST, law=True)
# One entry stands for all. Its sample does not depend on the parameter's shape, so that the laws of
# one program at two widths have the same errors, and their quotient has none.
ONE = Limits(particles=2**14, cap=1, longest=1, entries=2**14, law=True)
# Entries are moved, repeated or left out; none is changed.
_MOVES = {*MOVEMENTS, "dynamic_slice", "expand_dims", "gather", "tile"} - {"iota"}
_JOINT = {"dot_general", "conv_general_dilated", *ALONG}
_CONTROL = ("cond", "scan", "while")


@dataclass
class Reader(Interpreter):
    """Runs an initialization on samples.

    Attributes:
        reasons: why an array has no sample, by the number of its draw.
    """

    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def alike(self) -> bool:
        """Whether one entry stands for all of an array."""
        return self.limits.cap == 1

    def why(self, *signals: Signal) -> str:
        """Return why these have no sample; empty if they have one."""
        sources = frozenset().union(*(signal.sources for signal in signals))
        return next((self.reasons[n] for n in sorted(sources) if n in self.reasons), "")

    def unread(self, shape: Sequence[int], why: str) -> Signal:
        """Return a stand-in without values for an array whose law cannot be read."""
        number = next(self.numbers)
        self.reasons[number] = why
        data = np.full((1,) * (len(shape) + 1), np.nan)
        return Signal(data, tuple(shape), (CONSTANT,) * len(shape), frozenset({number}))

    def equation(self, equation, signals: list[Signal]) -> list[Signal]:
        name = equation.primitive.name
        if name != "qr" and is_orthonormal(equation):
            return self.orthonormal(equation)
        if called(equation) or name in _CONTROL:
            return super().equation(equation, signals)
        if name in ("random_bits", "threefry2x32"):
            shapes = [(var.aval.shape, 8 * var.aval.dtype.itemsize) for var in equation.outvars]
            return [self.random_bits(tuple(shape), width) for shape, width in shapes]
        if why := self.why(*signals) or self.refusal(equation, signals):
            return [self.unread(var.aval.shape, why) for var in equation.outvars]
        if name == "qr" and signals[0].sources:
            return self.orthonormal(equation)
        alike = name in _MOVES and set(signals[0].held) <= {1}
        if alike or (name in ("concatenate", "stack") and self.is_one(signals)):
            shapes = [tuple(var.aval.shape) for var in equation.outvars]
            return [_reshaped(signals[0], shape) for shape in shapes]
        return super().equation(equation, signals)

    def refusal(self, equation, signals: Sequence[Signal]) -> str:
        """Return why the law of the results cannot be read off samples; empty if it can."""
        name = equation.primitive.name
        from_key = any(is_key(signal.data) for signal in signals) and name != "random_unwrap"
        if from_key and not jax.dtypes.issubdtype(
            equation.outvars[0].aval.dtype, jax.dtypes.prng_key
        ):
            return f"it is made of a key by {name}"
        if name == "qr" or not any(signal.sources for signal in signals):
            return ""
        if name in _JOINT:
            return f"its entries meet in {name}"
        if not self.alike or name in _MOVES:
            return ""
        if name in ("concatenate", "stack"):
            return "" if self.is_one(signals) else "its parts are drawn from different laws"
        alone = function(name, equation.params) and all(set(s.held) <= {1} for s in signals)
        return "" if alone else f"its entries meet in {name}"

    def is_one(self, signals: Sequence[Signal]) -> bool:
        """Return whether one entry stands for all entries of each of these."""
        if not self.alike or not any(signal.sources for signal in signals):
            return False
        first, *others = map(_quantiles, signals)
        return all(np.array_equal(other, first) for other in others)

    def without_rule(self, equation, signals: list[Signal]) -> list[Signal]:
        if any(signal.sources for signal in signals):
            why = f"its entries meet in {equation.primitive.name}"
            return [self.unread(var.aval.shape, why) for var in equation.outvars]
        return super().without_rule(equation, signals)

    def control(self, equation, signals: list[Signal]) -> list[Signal] | None:
        if equation.primitive.name == "cond" and signals[0].sources:
            why = self.why(signals[0]) or "its draw depends on a condition"
            return [self.unread(var.aval.shape, why) for var in equation.outvars]
        try:
            return super().control(equation, signals)
        except _Undecided as error:
            return [self.unread(var.aval.shape, str(error)) for var in equation.outvars]

    def holds(self, test: ClosedJaxpr, operands: list[Signal]) -> bool:
        (result,) = self.run(test, operands)
        if result.sources:
            raise _Undecided(self.why(result) or "its draw depends on the condition of a loop")
        return bool(result.data.flat[0])

    def stacked(self, steps: Sequence[Signal]) -> Signal:
        if why := self.why(*steps):
            return self.unread((len(steps), *steps[0].shape), why)
        if self.is_one(steps):
            return _reshaped(steps[0], (len(steps), *steps[0].shape))
        if self.alike and any(step.sources for step in steps):
            why = "it is computed step by step in a loop"
            return self.unread((len(steps), *steps[0].shape), why)
        return super().stacked(steps)

    def random_bits(self, shape: tuple[int, ...], width: int) -> Signal:
        made = super().random_bits(shape, width)
        return replace(made, roles=(CONSTANT,) * len(shape)) if self.alike else made

    def orthonormal(self, equation) -> list[Signal]:
        """Sample the entries of Q, a random matrix with orthonormal columns, or rows if fewer.

        Such a vector of n entries is uniform on the sphere, so w² has the law Beta(1/2, (n-1)/2).
        Signs of R's diagonal, which often multiply Q, do not change it.
        """
        shape, *others = (tuple(var.aval.shape) for var in equation.outvars)
        bits = self.random_bits(shape, 32)
        quantiles = of_sphere(max(shape[-2:]), bits.data.size)
        data = quantiles[(bits.data * (len(quantiles) / 2.0**32)).astype(np.int64)]
        made = replace(bits, data=data)
        return [made, *(_reshaped(exact(np.float32(1)), other) for other in others)]


def is_orthonormal(equation: Any) -> bool:
    """Return whether an operation makes an orthonormal matrix, of random numbers or of another."""
    if equation.primitive.name == "custom_vmap_call":
        return SCOPE in str(equation.source_info.name_stack)
    return equation.primitive.name == "qr"


class _Undecided(Exception):
    """Raised where a loop's condition is random."""


@functools.lru_cache(32)
def of_sphere(n: int, count: int) -> np.ndarray:
    """Return quantiles of an entry of a random vector of n entries and length 1."""
    u = (2 * np.arange(count) + 1) / count - 1
    square = special.betaincinv(0.5, (n - 1) / 2, np.abs(u)) if n > 1 else np.ones(count)
    # The mean square is 1/n exactly, and 1/n nearly by the midpoint rule.
    return np.sign(u) * np.sqrt(square / (n * np.mean(square)))


def _reshaped(signal: Signal, shape: tuple[int, ...]) -> Signal:
    """Return an array of this shape whose entries are all alike one of a signal's."""
    data = signal.data.reshape(signal.data.shape[:1] + (1,) * len(shape))
    return signal.with_data(data, shape=shape, roles=(CONSTANT,) * len(shape))


def _quantiles(signal: Signal) -> np.ndarray:
    return np.sort([np.real(signal.data).ravel(), np.imag(signal.data).ravel()])
