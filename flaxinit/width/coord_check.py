"""coord_check(): whether training changes a model's pre-activations equally at every width."""

import itertools
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from flaxinit.signal.reading.model import WithInit, programs
from flaxinit.width.activations import products, recording
from flaxinit.width.coordinates import CoordinateCheck, coordinate
from flaxinit.width.depth import Place
from flaxinit.width.mup import mup
from flaxinit.width.optimizers import checked_factory, kind
from flaxinit.width.parametrization import Parametrization

# The interval of a slope over seeds; fewer say nothing about their spread.
_SEEDS = 5


def coord_check(
    model_of_width: Callable[[int], Any],
    widths: Sequence[int],
    /,
    *inputs: Any,
    optimizer: Callable,
    learning_rate: float,
    targets: Any = None,
    loss: Callable[[Any, Any], jax.Array] | None = None,
    steps: Sequence[int] = (2, 10),
    seeds: int = 8,
    draws: bool = True,
    rates: bool = True,
    zero: Sequence[str] = (),
    allowed: float = 0.1,
    options: dict[str, Any] | None = None,
    **model_options: Any,
) -> CoordinateCheck:
    """Train a few steps at several widths, and measure how each pre-activation changes.

    In the limit of wide layers this change Δh should not depend on the width: ``d log E[Δh²]^(1/2)
    / d log width = 0``. The size of h itself may depend on it: in muP the logits of a random
    readout shrink as 1/√width. If the model multiplies the outputs of a kernel by something that
    grows, `mup` makes the kernel smaller, and its change is measured relative to that.

    Args:
        model_of_width: from a width to a model, as `mup` takes it. The first width is the base.
        widths: at least two, rising.
        inputs: the model's inputs, the same at every width and step; real arrays.
        optimizer: one of Optax's, such as ``optax.adam``.
        learning_rate: at every width. If it is too small, rounding hides a change; if it is too
            large, saturation does.
        targets: what the loss compares the output with; unit normal numbers if None.
        loss: from output and targets to a number. By default the mean square of their difference,
            or for integers the cross-entropy.
        steps: after how many steps to measure.
        seeds: of the draws, at least 5, the same at each width.
        draws: whether to multiply draws by the factors of `mup`.
        rates: whether to multiply learning rates by the factors of `mup`.
        zero: patterns of parameters that start at zero, such as ``"*/head/kernel"``.
        allowed: the slope that is small enough.
        options: of the optimizer.
        model_options: keyword arguments of the model's call.

    Returns:
        A `CoordinateCheck`.

    Raises:
        ValueError: for widths that do not rise, too few seeds, or a pattern that fits nothing.

    >>> import flax.linen as nn, optax
    >>> def mlp(width):
    ...     return nn.Sequential([nn.Dense(width), nn.tanh, nn.Dense(width), nn.tanh, nn.Dense(2)])
    >>> x = jax.random.normal(jax.random.key(0), (8, 4))
    >>> options = {"optimizer": optax.sgd, "learning_rate": 0.1, "steps": [1], "seeds": 5}
    >>> report = coord_check(mlp, [16, 32], x, **options)
    >>> report.losses.shape  # seeds, widths, steps
    (5, 2, 1)

    References:
        Yang et al. (2022), Tensor programs V, appendix D.1.
    """
    checked_factory(optimizer)
    widths, steps = list(widths), sorted(steps)
    if len(widths) < 2 or any(b <= a for a, b in itertools.pairwise(widths)):
        raise ValueError(f"widths must be at least two that rise; received {widths}.")
    if seeds < _SEEDS:
        raise ValueError(f"An interval needs at least {_SEEDS} seeds; received {seeds}.")
    if not steps or steps[0] < 1:
        raise ValueError(f"steps must be numbers of steps from 1 on; received {steps}.")
    base = model_of_width(widths[0])
    narrow = programs(base, inputs, model_options)
    keys = jax.random.split(jax.random.key(0), seeds)
    found, losses, remarks = [], [], {}
    for width in widths:
        model = model_of_width(width)
        scale = mup(model, *inputs, base=base, optimizer=kind(optimizer), **model_options)
        remarks.update(dict.fromkeys(scale.remarks))
        wide = programs(model, inputs, model_options)
        places = products(narrow, wide, scale.parameters)
        run = _training(
            wide,
            {place: product.name for place, product in places.items()},
            scale,
            inputs,
            _optimizer(scale, optimizer, learning_rate, rates, options or {}),
            targets,
            loss or _loss,
            steps,
            draws,
            zero,
        )
        measured, lost = jax.lax.map(jax.jit(run), keys)
        sizes = {product.name: product.growth for product in places.values()}
        found.append([_relative(each, sizes) for each in jax.tree.map(np.asarray, measured)])
        losses.append(np.asarray(lost))
    names = list(found[0][0])
    coordinates = []
    for n, step in enumerate(steps):
        for each in names:
            changes, sizes = (
                np.stack([result[n][each][k] for result in found], axis=1) for k in (0, 1)
            )
            coordinates.append(coordinate(each, step, widths, changes, sizes, allowed))
    remarks = [remark for remark in remarks if not remark.startswith("Nothing grows")]
    return CoordinateCheck(
        tuple(coordinates), np.stack(losses, 1), tuple(widths), learning_rate, tuple(remarks)
    )


def _relative(
    measured: dict[str, tuple[np.ndarray, np.ndarray]], sizes: dict[str, float]
) -> dict[str, list[np.ndarray]]:
    """Divide changes and sizes by what they should grow by: √d for scores that √d divides."""
    by_name = {name: sizes.get(name.partition("[")[0], 1.0) for name in measured}
    return {name: [x / by_name[name] for x in pair] for name, pair in measured.items()}


def _optimizer(scale: Parametrization, factory, learning_rate, rates: bool, options):
    if rates:
        return scale.optimizer(factory, learning_rate, **options)
    return factory(learning_rate, **options)


def _training(
    model: WithInit,
    places: dict[Place, str],
    scale: Parametrization,
    inputs: Sequence[Any],
    optimizer: Any,
    targets: Any,
    loss: Callable,
    steps: Sequence[int],
    draws: bool,
    zero: Sequence[str],
) -> Callable:
    """Return a function from a key to changes and sizes by name, after some steps, and losses."""
    arrays = [leaf for leaf in jax.tree.leaves(tuple(inputs)) if hasattr(leaf, "dtype")]
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in arrays):
        raise ValueError("coord_check trains the model: its inputs must be arrays, not shapes.")
    factors = {row.path: row.init if draws else 1.0 for row in scale.rows}
    for pattern in zero:
        fitting = [path for path in factors if fnmatch(path, pattern)]
        if not fitting:
            raise ValueError(f"zero: no parameter fits {pattern!r}; they are {list(factors)}.")
        factors.update(dict.fromkeys(fitting, 0.0))
    initialize = jaxpr_as_fun(model.init)
    record = recording(model.apply, places)
    count = len(model.names)

    def lost(params, state, wanted):
        results, record_ = record(*params, *state, *arrays)
        return loss(results[0], wanted), record_

    def run(key):
        leaves = initialize(key, *arrays)
        pairs = zip(leaves[:count], model.names, strict=True)
        params = [leaf * jnp.asarray(factors[path], leaf.dtype) for leaf, path in pairs]
        state = leaves[count:]
        wanted = targets
        if wanted is None:
            shape = jax.eval_shape(lambda: record(*params, *state, *arrays)[0][0])
            wanted = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
        opt_state = optimizer.init(tree(params))

        def step(carry, _):
            params, opt_state = carry
            value, gradients = jax.value_and_grad(lost, has_aux=True)(params, state, wanted)
            updates, opt_state = optimizer.update(tree(gradients), opt_state, tree(params))
            updates = jax.tree.leaves(updates)
            moved = [p + u for p, u in zip(params, updates, strict=True)]
            return (moved, opt_state), value[0]

        first = lost(params, state, wanted)[1]
        carry, done, measured, losses = (params, opt_state), 0, [], []
        for number in steps:
            carry, values = jax.lax.scan(step, carry, length=number - done)
            done = number
            now = lost(carry[0], state, wanted)[1]
            measured.append(
                {each: (_rms(now[each] - first[each]), _rms(now[each])) for each in now}
            )
            losses.append(values)
        return measured, jnp.concatenate(losses)

    tree = scale.tree.unflatten
    return run


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


def _loss(output: jax.Array, targets: Any) -> jax.Array:
    if jnp.issubdtype(jnp.asarray(targets).dtype, jnp.integer):
        logs = jax.nn.log_softmax(output)
        return -jnp.mean(jnp.take_along_axis(logs, jnp.asarray(targets)[..., None], -1))
    return jnp.mean(jnp.square(output - targets))
