"""A model's program on real inputs, in which kernels are divided by what they make."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.signal.tuning.homogeneity import Key, Place
from flaxinit.signal.tuning.plan import KERNELS, Bias, Branch, Merge, Plan, Trail
from flaxinit.signal.tuning.rescaling import Rescaling
from flaxinit.versions.jaxpr import bind, called, evaluate, unroll_scan


class CalibratingRun(Rescaling):
    """A run of the program, traced, in which kernels are divided by what they make."""

    def __init__(
        self,
        plan: Plan,
        path: Callable[[Key], str],
        level: float,
        center: bool,
        fixed: frozenset[Key],
    ):
        self.plan, self.path, self.center, self.fixed = plan, path, center, fixed
        self.wanted = math.sqrt(level)
        self.trail = Trail()
        self.factors: dict[Key, Any] = {}
        self.shifts: dict[Key, Any] = {}
        # Of what each kernel makes at its first use: its root mean square, and whether it varies.
        self.sizes: dict[Key, Any] = {}
        self.spreads: dict[Key, Any] = {}
        self.uses: dict[Key, int] = {}
        self.begun: dict[Place, Any] = {}

    def run(self, program: ClosedJaxpr, operands: Sequence[Any]) -> list[Any]:
        with self.trail:
            return evaluate(program, operands, self.equation)

    def equation(self, equation, values: list[Any]) -> list[Any]:
        place = self.trail.step()
        name = equation.primitive.name
        if body := called(equation):
            return self.run(body, values)
        if name == "scan" and equation.params["length"]:
            return unroll_scan(equation, values, self.run, lambda x, n: x[n], jnp.stack)
        event = self.plan.sums.get(place)
        if isinstance(event, Branch):
            values = self.branch(event, values)
        elif isinstance(event, Merge):
            values = self.merge(event, values)
        elif isinstance(event, Bias):
            values = self.bias(event, values)
        results = bind(equation, values)
        if (owner := self.plan.products.get(place)) is not None:
            return [self.product(owner, name in KERNELS, results[0])]
        return results

    def product(self, owner: Key, kernel: bool, y: Any) -> Any:
        first = owner not in self.uses
        self.use(owner)
        if kernel and first:
            if not y.size:
                raise ValueError(
                    f"What {self.path(owner)} makes has shape {y.shape}, no entries. Give a batch "
                    "of inputs that is not empty."
                )
            self.sizes[owner] = size = _size(y)
            if owner not in self.fixed:
                self.choose(owner, _ratio(self.wanted, size))
        return _times(y, self.factors.get(owner, 1.0))

    def bias(self, event: Bias, values: list[Any]) -> list[Any]:
        """Center a kernel's outputs by the bias that is added to them, and rescale the kernel."""
        bias, y = values[event.side], values[1 - event.side]
        own = self.changeable(frozenset({event.owner})) and event.bias not in self.shifts
        if not self.center or not own or bias.ndim != y.ndim:
            return values
        over = tuple(axis for axis, size in enumerate(bias.shape) if size == 1)
        product = _wide(y)
        mean = jnp.mean(product, axis=over, keepdims=True)
        size, spread = _size(y), _size(product - mean)
        # The mean of n equal numbers, added in pairs, is wrong by log2(n) roundings and one more.
        rounding = float(jnp.finfo(product.dtype).eps) * (1 + math.log2(y.size))
        self.spreads[event.owner] = (spread > rounding * size) | (size == 0)
        factor = _ratio(self.wanted, spread)
        self.factors[event.owner] *= factor
        shift = -mean * factor - _wide(bias)
        self.shifts[event.bias] = shift
        values = list(values)
        values[event.side] = (_wide(bias) + shift).astype(bias.dtype)
        values[1 - event.side] = _times(y, factor)
        return values

    def branch(self, event: Branch, values: list[Any]) -> list[Any]:
        """Limit what a branch adds to a stream to its share of what the stream started with."""
        stream, y = values[1 - event.side], values[event.side]
        start = self.begun.setdefault(event.start, _size(stream))
        share = start / math.sqrt(self.plan.branches[event.stream])
        bound = jnp.where(share == 0, 1.0, jnp.minimum(1, _ratio(share, _size(y))))
        values = list(values)
        values[event.side] = self.rescaled(event.end, y, bound)
        return values

    def times(self, value: Any, factor: Any) -> Any:
        """Multiply an array."""
        return _times(value, factor)


def _wide(y: Any) -> Any:
    return y.astype(np.promote_types(y.dtype, np.float32))  # JAX promotes no 8 bits


def _size(y: Any) -> Any:
    """Return the root mean square, in units of the largest entry: its square is in range."""
    wide = jnp.abs(_wide(y))
    top = jnp.max(wide)
    top = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return top * jnp.sqrt(jnp.mean((wide / top) ** 2))


def _ratio(wanted: Any, found: Any) -> Any:
    """Return the factor from what was found to what is wanted; 1 where 0 was found."""
    return jnp.where(found == 0, 1.0, wanted / jnp.where(found == 0, 1, found))


def _times(y: Any, factor: Any) -> Any:
    return y if isinstance(factor, float) and factor == 1.0 else (_wide(y) * factor).astype(y.dtype)
