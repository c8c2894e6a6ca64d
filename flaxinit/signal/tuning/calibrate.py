"""calibrate(): kernels rescaled by what they make of real inputs, in one pass."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit import paths
from flaxinit.factors import by_path, multiplied
from flaxinit.jaxpr import bind, called, evaluate, unroll_scan
from flaxinit.signal.reports.printed import Printed, grid
from flaxinit.signal.tuning.homogeneity import Group, Key, Place, named
from flaxinit.signal.tuning.plan import KERNELS, Bias, Branch, Merge, Plan, Trail, plan

Report = bool | Callable[["Calibration"], None]


@dataclass(frozen=True)
class Calibrated:
    """A kernel before and after.

    Attributes:
        path: as `fast_init` writes it, with the steps of loops: ``params/layers/kernel[3]``.
        shape: of the parameter.
        before: E[y²] of its outputs with the parameters that were given.
        after: the same with those that are returned; less than the level where it ends a branch.
        factor: on the kernel.
        why: the reason, in words.
    """

    path: str
    shape: tuple[int, ...]
    before: float
    after: float
    factor: float
    why: str


@dataclass(frozen=True, repr=False)
class Calibration(Printed):
    """What `calibrate` measured and did, kernel by kernel; prints as a table."""

    rows: tuple[Calibrated, ...]

    def __rich__(self):
        columns = ("kernel", "shape", "E[y²] before", "after", "factor", "why")
        return grid(
            columns, ((x.path, x.shape, x.before, x.after, x.factor, x.why) for x in self.rows)
        )


def calibrate(
    apply: Callable[..., Any],
    /,
    *inputs: Any,
    level: float = 1.0,
    center: bool = False,
    report: Report = False,
    **options: Any,
) -> Any:
    """Rescale kernels so that what they make of real inputs has unit second moment.

    Layer-sequential unit variance in a single pass: where a kernel W meets the signal x in the
    model's program, its product y = W x is divided by the root of its mean square,

        W' = W √(level / E[y²]),

    and the program goes on with that, so each kernel meets what the calibrated ones before it
    make. The program is compiled once, runs where the parameters are, sharded or not, and is
    called as the model itself:

        params = calibrate(module.apply, params, x, train=True, mutable=["batch_stats"])
        calibrate(module, x)  # NNX: the module is changed and returned

    The B branches of a residual stream add at most 1/B of what the stream starts with, each; two
    fresh products that are added share one level. Left alone are embeddings that are looked up and
    heads tied to them, kernels whose outputs a norm divides, kernels that start at 0 or read a
    recurrent state that does, and what is in a ``shard_map`` or a ``while`` loop. A kernel that is
    used several times is calibrated at its first use.

    Args:
        apply: ``apply(params, *inputs, **options)``, such as ``module.apply``, of any library; or
            an NNX module.
        inputs: the parameters (any pytree of arrays; not with an NNX module), then real inputs, a
            batch of them.
        level: the second moment that each kernel's outputs get.
        center: whether the bias that is added to a kernel's outputs is changed so that each
            channel has mean 0. The level is that of the centered outputs, then.
        report: True prints what was measured before and after; a function is called with that, a
            `Calibration`. It takes two more passes.
        options: keyword arguments of the model.

    Returns:
        The parameters, in the tree and the layout that they came in.

    Raises:
        TypeError: if the model is a Linen module in the place of its ``apply``, or there are no
            inputs.
        ValueError: if no kernel meets the inputs, if what a kernel makes is not finite, or if the
            level is not positive.

    >>> import flax.linen as nn
    >>> model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(8)])
    >>> x = jax.random.normal(jax.random.key(0), (128, 16))
    >>> params = calibrate(model.apply, model.init(jax.random.key(1), x), x)
    >>> round(float(jnp.mean(model.apply(params, x) ** 2)), 4)
    1.0

    References:
        Mishkin and Matas (2016), All you need is a good init. Krähenbühl, Doersch, Donahue and
        Darrell (2016), Data-dependent initializations, for the centering.
    """
    if not 0 < level < math.inf:
        raise ValueError(f"level must be positive and finite; received {level!r}.")
    nnx, linen = sys.modules.get("flax.nnx"), sys.modules.get("flax.linen")
    if linen is not None and isinstance(apply, linen.Module):
        raise TypeError(
            f"A Linen module holds no parameters, so that calibrate cannot run "
            f"{type(apply).__name__} itself: use calibrate(module.apply, params, x)."
        )
    if nnx is not None and isinstance(apply, nnx.Module):
        graph, params, state = nnx.split(apply, nnx.Param, ...)

        def call(params, state, *inputs, **options):
            return nnx.merge(graph, params, state)(*inputs, **options)

        model = _Model(call, params, (state, *inputs), options, level, center)
        nnx.update(apply, model.calibrated(report))
        return apply
    if not inputs or (len(inputs) == 1 and not options):
        raise TypeError(
            "calibrate needs the model's parameters and inputs: calibrate(apply, params, x)."
        )
    return _Model(apply, inputs[0], inputs[1:], options, level, center).calibrated(report)


class _Model:
    """A model's program on its parameters and inputs."""

    def __init__(self, apply, params, inputs, options, level: float, center: bool):
        leaves, tree = jax.tree_util.tree_flatten_with_path((params, inputs, options))
        traced = [isinstance(leaf, jax.Array | np.ndarray) for _, leaf in leaves]

        def call(arrays):
            arrays = iter(arrays)
            pairs = zip(leaves, traced, strict=True)
            whole = tree.unflatten(next(arrays) if t else leaf for (_, leaf), t in pairs)
            params, inputs, options = whole
            made = apply(params, *inputs, **options)
            # The state that Linen returns beside the output is not part of the signal.
            return made[0] if options.get("mutable") else made

        self.params, self.level, self.center = params, level, center
        self.arrays = [leaf for (_, leaf), t in zip(leaves, traced, strict=True) if t]
        where = [path for (path, _), t in zip(leaves, traced, strict=True) if t]
        first = jax.tree_util.SequenceKey(0)
        self.names = [paths.name(path[1:]) or "params" for path in where if path[0] == first]
        self.program = jax.make_jaxpr(call)(self.arrays)
        count = len(self.names)
        own = self.arrays[:count]
        zeros = jax.jit(lambda arrays: [~jnp.any(x) for x in arrays])(own)
        sizes = [x.size for x in own]
        self.plan = plan(self.program, [bool(zero) for zero in zeros], sizes)
        if not self.plan.products:
            raise ValueError(
                "calibrate found no kernel at work: apply(params, *inputs) has to multiply its "
                f"inputs by arrays in params, which are: {', '.join(self.names) or 'none'}."
            )

    def calibrated(self, report: Report) -> Any:
        """Return the parameters times their factors; report if asked."""
        fixed = self.plan.fixed

        @jax.jit
        def run(arrays):
            walk = _Walk(self.plan, fixed, self.level, self.center)
            walk.run(self.program, arrays)
            return walk.factors, walk.shifts

        factors, shifts = jax.tree.map(np.asarray, run(self.arrays))
        for key in self.plan.order:
            # An infinite signal has the factor 0.
            if not 0 < factors.get(key, 1.0) < math.inf:
                raise ValueError(
                    f"What {self.path(key)} makes of the inputs is not finite. Look at the inputs "
                    "and at the parameters before this kernel."
                )
        params = self._shifted(shifts)
        params = multiplied(params, self._arrays(factors), "calibrate", whole=True)
        if report:
            calibration = self._calibration(params, factors)
            print(calibration) if report is True else report(calibration)
        return params

    def path(self, key: Key) -> str:
        return named(self.names, key)

    def _arrays(self, factors: dict[Key, Any]) -> dict[str, Any]:
        shapes = [x.shape for x in self.arrays]
        return by_path(self.names, shapes, factors)

    def _shifted(self, shifts: dict[Key, Any]) -> Any:
        """Return the parameters with what centers the outputs added to the biases."""
        leaves, tree = jax.tree.flatten(self.params)
        which = [n for n, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)]
        for (number, steps), shift in shifts.items():
            leaf = jnp.asarray(leaves[which[number]])
            own = shift.reshape(leaf[steps].shape).astype(leaf.dtype)
            leaves[which[number]] = leaf.at[steps].add(own)
        return tree.unflatten(leaves)

    def _calibration(self, params: Any, factors: dict[Key, Any]) -> Calibration:
        leaves = [x for x in jax.tree.leaves(params) if isinstance(x, jax.Array | np.ndarray)]

        @jax.jit
        def measured(arrays):
            walk = _Walk(self.plan, frozenset(self.plan.order), self.level, False)
            walk.run(self.program, arrays)
            return walk.squares

        before, after = (
            jax.tree.map(float, measured([*own, *self.arrays[len(own) :]]))
            for own in (self.arrays[: len(self.names)], leaves)
        )
        rows = [
            Calibrated(
                self.path(key),
                tuple(self.arrays[key[0]].shape),
                before[key],
                after[key],
                float(factors.get(key, 1.0)),
                self.plan.why(key, key in factors),
            )
            for key in self.plan.order
            if key in before
        ]
        return Calibration(tuple(rows))


class _Walk:
    """A run of the program, traced, in which kernels are divided by what they make."""

    def __init__(self, plan: Plan, fixed: frozenset[Key], level: float, center: bool):
        self.plan, self.fixed, self.level, self.center = plan, fixed, level, center
        self.trail = Trail()
        self.factors: dict[Key, Any] = {}
        self.shifts: dict[Key, Any] = {}
        self.squares: dict[Key, Any] = {}  # of what each kernel makes at its first use
        self.uses: dict[Key, int] = {}
        self.begun: dict[Place, Any] = {}

    def run(self, program: ClosedJaxpr, operands: Sequence[Any]) -> list[Any]:
        with self.trail:
            return evaluate(program, operands, self.equation)

    def equation(self, equation, values: list[Any]) -> list[Any]:
        place = self.trail.step()
        name = equation.primitive.name
        if name != "shard_map" and (body := called(equation)):
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
        self.uses[owner] = self.uses.get(owner, 0) + 1
        if kernel and first:
            self.squares[owner] = square = _mean_square(y)
            if owner not in self.fixed:
                self.factors[owner] = _root(self.level, square)
        return _times(y, self.factors.get(owner, 1.0))

    def bias(self, event: Bias, values: list[Any]) -> list[Any]:
        """Center what a kernel makes by the bias that is added to it, and rescale the kernel."""
        bias, y = values[event.side], values[1 - event.side]
        own = self.changeable(frozenset({event.owner})) and event.bias not in self.shifts
        if not self.center or not own or bias.ndim != y.ndim:
            return values
        over = tuple(axis for axis, size in enumerate(bias.shape) if size == 1)
        wide = jnp.promote_types(y.dtype, jnp.float32)
        mean = jnp.mean(y.astype(wide), axis=over, keepdims=True)
        factor = _root(self.level, _mean_square(y - mean))
        self.factors[event.owner] *= factor
        shift = -mean * factor - bias
        self.shifts[event.bias] = shift
        values = list(values)
        values[event.side] = (bias + shift).astype(bias.dtype)
        values[1 - event.side] = _times(y, factor)
        return values

    def branch(self, event: Branch, values: list[Any]) -> list[Any]:
        """Bound what a branch adds to the stream by its share of what the stream started with."""
        stream, y = values[1 - event.side], values[event.side]
        start = self.begun.setdefault(event.start, _mean_square(stream))
        share = start / self.plan.branches[event.stream]
        values = list(values)
        values[event.side] = self.rescaled(
            event.end, y, jnp.minimum(1, _root(share, _mean_square(y)))
        )
        return values

    def merge(self, event: Merge, values: list[Any]) -> list[Any]:
        """Give the sum of two products the second moment of one."""
        if not all(self.changeable(end) for end in event.ends):
            return values
        total = sum(map(len, event.ends))
        return [
            self.rescaled(end, y, math.sqrt(len(end) / total))
            for end, y in zip(event.ends, values, strict=True)
        ]

    def changeable(self, end: Group) -> bool:
        """Return whether no other use of these parameters rests on their factors."""
        return all(key not in self.fixed and self.uses.get(key, 0) == 1 for key in end)

    def rescaled(self, end: Group, y: Any, factor: Any) -> Any:
        if not self.changeable(end):
            return y
        for key in end:
            self.factors[key] = factor * self.factors.get(key, 1.0)
        return _times(y, factor)


def _mean_square(y: Any) -> Any:
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    return jnp.mean(jnp.abs(wide) ** 2)


def _root(wanted: Any, found: Any) -> Any:
    """Return the root of a ratio; 1 where nothing was found that could be scaled."""
    some = found > 0
    return jnp.where(some | jnp.isnan(found), jnp.sqrt(wanted / jnp.where(some, found, 1)), 1.0)


def _times(y: Any, factor: Any) -> Any:
    return y if isinstance(factor, float) and factor == 1.0 else (y * factor).astype(y.dtype)
