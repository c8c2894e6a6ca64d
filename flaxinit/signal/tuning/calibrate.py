"""calibrate(): kernels rescaled by what they make of real inputs, in one pass."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.initializers.checks import checked_flag, checked_number
from flaxinit.signal.reading.checked import check_batch, misplaced
from flaxinit.signal.reading.model import WithParameters, tracing, with_parameters
from flaxinit.signal.shards.axes import on_automatic_axes
from flaxinit.signal.shards.unsharded import unsharded
from flaxinit.signal.tuning.calibrating_run import CalibratingRun
from flaxinit.signal.tuning.calibration import Calibrated, Calibration
from flaxinit.signal.tuning.homogeneity import Key, named
from flaxinit.signal.tuning.plan import plan
from flaxinit.trees import paths
from flaxinit.trees.factors import by_path, multiplied
from flaxinit.trees.modules import nnx_of

# The model is traced as its user wants types to promote; sizes are in float32.
_standard = functools.partial(jax.numpy_dtype_promotion, "standard")

Report = bool | Callable[[Calibration], None]


def calibrate(
    apply: Callable[..., Any],
    /,
    *inputs: Any,
    level: float = 1.0,
    center: bool = False,
    report: Report = False,
    **options: Any,
) -> Any:
    """Rescale kernels so that their outputs on real inputs have unit second moment.

    Layer-sequential unit variance in a single pass: where a kernel W meets the signal x in the
    model's program, its product y = W x is divided by the root of its mean square,

        W' = W √(level / E[y²]),

    and the program goes on with that product, so each kernel meets the outputs of calibrated
    kernels. The program is compiled once and runs where the parameters are, sharded or not. Call it
    as the model itself:

        params = calibrate(module.apply, params, x, train=True, mutable=["batch_stats"])
        calibrate(module, x)  # NNX: the module is changed and returned

    Each of the B branches of a residual stream adds at most 1/B of what the stream starts with. Two
    fresh products that are added share one level. These stay as they are: embeddings that are
    looked up and heads tied to them, kernels whose outputs a norm divides, kernels that start at 0
    or read a recurrent state that does, and kernels in a ``while`` loop. A kernel that is used
    several times is calibrated at its first use.

    Args:
        apply: ``apply(params, *inputs, **options)``, such as ``module.apply``, of any library; or
            an NNX module.
        inputs: the parameters (any pytree of arrays; not with an NNX module), then real inputs, a
            batch of them.
        level: the second moment that each kernel's outputs get.
        center: whether to change the bias that is added to a kernel's outputs so that each channel
            has mean 0. The level is then that of the centered outputs.
        report: True prints a `Calibration`, with what was measured before and after; a function is
            called with it. This takes two more passes.
        options: keyword arguments of the model.

    Returns:
        The parameters, in the tree and the layout that they came in.

    Raises:
        TypeError: if the model is no function, such as a Linen module in the place of its
            ``apply``, if no input is an array, or one is a shape or a tracer.
        ValueError: if no kernel multiplies the signal, if the batch is empty, if the outputs of a
            kernel are not finite or, with ``center``, are the same for all inputs, if a calibrated
            kernel leaves the range of its dtype, or if the level is not positive.

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
    model = with_parameters("calibrate", "tune", apply, inputs, options, lambda nnx: nnx.Param)
    params = _Model(model, options, level, center).calibrated(report)
    if nnx := nnx_of(apply):
        nnx.update(apply, params)
        return apply
    return params


class _Model:
    """A model's program on its parameters and inputs."""

    def __init__(self, model: WithParameters, options, level: float, center: bool):
        params, inputs = model.params, (*model.state, *model.inputs)
        leaves, tree = jax.tree_util.tree_flatten_with_path((params, inputs, options))
        traced = [isinstance(leaf, jax.Array | np.ndarray) for _, leaf in leaves]

        def call(arrays):
            arrays = iter(arrays)
            pairs = zip(leaves, traced, strict=True)
            whole = tree.unflatten(next(arrays) if t else leaf for (_, leaf), t in pairs)
            params, inputs, options = whole
            made = model.call(params, *inputs, **options)
            # The state that Linen returns beside the output is not part of the signal.
            return made[0] if options.get("mutable") else made

        self.params, self.level, self.center = params, level, center
        self.arrays = [leaf for (_, leaf), t in zip(leaves, traced, strict=True) if t]
        where = [path for (path, _), t in zip(leaves, traced, strict=True) if t]
        first = jax.tree_util.SequenceKey(0)
        self.names = [paths.name(path[1:]) or "params" for path in where if path[0] == first]
        try:
            with tracing("calibrate traced apply(params, *inputs)"):
                on_devices = jax.make_jaxpr(call)(self.arrays)
        except Exception as error:
            if why := misplaced(params, inputs, "calibrate"):
                raise TypeError(why) from error
            raise
        self.program = unsharded(on_devices, len(self.names))
        joined = self.program is not on_devices
        self.on = on_automatic_axes if joined else contextlib.nullcontext
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

        @jax.jit
        def run(arrays):
            walk = self._run(self.center, self.plan.fixed)
            walk.run(self.program, arrays)
            tops = {(n, steps): jnp.max(jnp.abs(arrays[n][steps])) for n, steps in walk.factors}
            return walk.factors, walk.shifts, walk.sizes, walk.spreads, tops

        with _standard(), self.on(self.arrays) as arrays:
            factors, shifts, sizes, spreads, tops = jax.tree.map(np.asarray, run(arrays))
        for key in self.plan.order:
            if not math.isfinite(sizes.get(key, 0.0)):
                raise ValueError(
                    f"What {self.path(key)} makes of the inputs is not finite. Look at the inputs, "
                    "at this kernel and at the parameters before it."
                )
            if not spreads.get(key, True):
                raise ValueError(
                    f"What {self.path(key)} makes is the same for all inputs, so center=True "
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

    def _run(self, center: bool, fixed: frozenset[Key]) -> CalibratingRun:
        return CalibratingRun(self.plan, self.path, self.level, center, fixed)

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
            walk = self._run(False, frozenset(self.plan.order))
            walk.run(self.program, arrays)
            return walk.sizes

        sizes, count = [], len(self.names)
        for own in (self.arrays[:count], leaves):
            with _standard(), self.on([*own, *self.arrays[count:]]) as arrays:
                sizes.append(jax.tree.map(lambda x: float(x) ** 2, measured(arrays)))
        before, after = sizes
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
