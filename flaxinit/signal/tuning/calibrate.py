"""calibrate(): kernels rescaled by what they make of real inputs, in one pass."""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.initializers.checks import checked_flag, checked_number
from flaxinit.signal.reading.checked import (
    check_batch,
    check_call,
    check_function,
    check_inputs,
    check_runs,
    misplaced,
)
from flaxinit.signal.reading.model import by_value
from flaxinit.signal.reports.printed import Printed, grid
from flaxinit.signal.tuning.homogeneity import Key, Place, named
from flaxinit.signal.tuning.plan import KERNELS, Bias, Branch, Merge, Trail, plan
from flaxinit.signal.tuning.rescaling import Rescaling
from flaxinit.trees import paths
from flaxinit.trees.factors import by_path, multiplied
from flaxinit.versions.jaxpr import bind, called, evaluate, unroll_scan

# The model is traced as its user wants types to promote; sizes are in float32.
_standard = functools.partial(jax.numpy_dtype_promotion, "standard")

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
        TypeError: if the model is no function, such as a Linen module in the place of its
            ``apply``, if no input is an array, or one is a shape or a tracer.
        ValueError: if no kernel meets the inputs, if the batch is empty, if what a kernel makes is
            not finite or, with ``center``, is the same for all inputs, if a kernel of unit outputs
            leaves the range of its dtype, or if the level is not positive.

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
    level = checked_number("level", level, above=0)
    center = checked_flag("center", center)
    report = report if callable(report) else checked_flag("report", report)
    check_call("calibrate", "tune", apply, inputs, options)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(apply, nnx.Module):
        graph, params, state = nnx.split(apply, nnx.Param, ...)

        def call(params, state, *inputs, **options):
            return nnx.merge(graph, params, state)(*inputs, **options)

        check_inputs(inputs, by_value(options)[0])
        model = _Model(call, params, (state, *inputs), options, level, center)
        nnx.update(apply, model.calibrated(report))
        return apply
    check_function(apply, "calibrate")
    if len(inputs) == 1 and not options:
        raise TypeError(
            "calibrate needs the model's parameters and inputs: calibrate(apply, params, x)."
        )
    check_inputs(inputs[1:], by_value(options)[0])
    return _Model(apply, inputs[0], inputs[1:], options, level, center).calibrated(report)


class _Model:
    """A model's program on its parameters and inputs."""

    def __init__(self, apply, params, inputs, options, level: float, center: bool):
        check_runs(params, inputs, options)
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
        try:
            self.program = jax.make_jaxpr(call)(self.arrays)
        except Exception as error:
            if why := misplaced(params, inputs, "calibrate"):
                raise TypeError(why) from error
            raise
        check_batch(self.program.out_avals)
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
            walk = _Walk(self, fixed, self.center)
            walk.run(self.program, arrays)
            tops = {(n, steps): jnp.max(jnp.abs(arrays[n][steps])) for n, steps in walk.factors}
            return walk.factors, walk.shifts, walk.sizes, walk.spreads, tops

        with _standard():
            factors, shifts, sizes, spreads, tops = jax.tree.map(np.asarray, run(self.arrays))
        for key in self.plan.order:
            if not math.isfinite(sizes.get(key, 0.0)):
                raise ValueError(
                    f"What {self.path(key)} makes of the inputs is not finite. Look at the inputs, "
                    "at this kernel and at the parameters before it."
                )
            if not spreads.get(key, True):
                raise ValueError(
                    f"What {self.path(key)} makes is the same for all inputs, so that center=True "
                    "leaves nothing of it. Give a batch of several different inputs."
                )
            if factors.get(key, 1.0) != 1:
                self._check_fits(key, float(factors[key]), float(tops[key]))
        params = self._shifted(shifts)
        params = multiplied(params, self._arrays(factors), "calibrate", whole=True)
        if report:
            calibration = self._calibration(params, factors)
            print(calibration) if report is True else report(calibration)
        return params

    def _check_fits(self, key: Key, factor: float, top: float) -> None:
        """Check that a kernel times its factor is in the range of its dtype."""
        dtype = self.arrays[key[0]].dtype
        limits = jnp.finfo(dtype)
        if not float(limits.tiny) <= factor * top <= float(limits.max):
            raise ValueError(
                f"{self.path(key)} has entries up to {top:.3g} and needs the factor {factor:.3g}, "
                f"which leaves the range of {dtype.name}. Scale the inputs, or calibrate with "
                "parameters of another dtype."
            )

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
            walk = _Walk(self, frozenset(self.plan.order), False)
            walk.run(self.program, arrays)
            return walk.sizes

        with _standard():
            before, after = (
                jax.tree.map(lambda x: float(x) ** 2, measured([*own, *self.arrays[len(own) :]]))
                for own in (self.arrays[: len(self.names)], leaves)
            )
        rows = [
            Calibrated(
                self.path(key),
                tuple(self.arrays[key[0]].shape),
                before[key],
                after[key],
                float(factors.get(key, 1.0)),
                self.plan.why(key, key in factors) if before[key] else "makes 0 of the inputs",
            )
            for key in self.plan.order
            if key in before
        ]
        return Calibration(tuple(rows))


class _Walk(Rescaling):
    """A run of the program, traced, in which kernels are divided by what they make."""

    def __init__(self, model: _Model, fixed: frozenset[Key], center: bool):
        self.plan, self.path, self.fixed, self.center = model.plan, model.path, fixed, center
        self.wanted = math.sqrt(model.level)
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
            if not y.size:
                raise ValueError(
                    f"What {self.path(owner)} makes has shape {y.shape}, no entries. Give a batch "
                    "of inputs that is not empty."
                )
            self.sizes[owner] = size = _size(y)
            if owner not in self.fixed:
                self.factors[owner] = _ratio(self.wanted, size)
        return _times(y, self.factors.get(owner, 1.0))

    def bias(self, event: Bias, values: list[Any]) -> list[Any]:
        """Center what a kernel makes by the bias that is added to it, and rescale the kernel."""
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
        """Bound what a branch adds to the stream by its share of what the stream started with."""
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
    """Return the root mean square, by parts of the largest entry, whose squares are in range."""
    wide = jnp.abs(_wide(y))
    top = jnp.max(wide)
    top = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return top * jnp.sqrt(jnp.mean((wide / top) ** 2))


def _ratio(wanted: Any, found: Any) -> Any:
    """Return a factor that makes the wanted of what was found; 1 where that is 0."""
    return jnp.where(found == 0, 1.0, wanted / jnp.where(found == 0, 1, found))


def _times(y: Any, factor: Any) -> Any:
    return y if isinstance(factor, float) and factor == 1.0 else (_wide(y) * factor).astype(y.dtype)
