"""audit(): the signal of a model at its present weights, beside its forecast."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxinit.initializers.checks import checked_count, checked_flag
from flaxinit.signal.forecast import input_signal, run as forecast, with_fans_seen
from flaxinit.signal.measuring.held import Held
from flaxinit.signal.measuring.measure import Run, finished
from flaxinit.signal.measuring.measured import Measured
from flaxinit.signal.measuring.progress import Phase, phases
from flaxinit.signal.reading import given
from flaxinit.signal.reading.checked import check_batch, misplaced
from flaxinit.signal.reading.drawn import drawn_shapes
from flaxinit.signal.reading.model import (
    Programs,
    by_value,
    programs,
    traced,
    tracing,
    with_parameters,
)
from flaxinit.signal.reports.gains import is_right
from flaxinit.signal.reports.report import Layer, Report, Sum
from flaxinit.signal.samples.signals import Signal, exact
from flaxinit.signal.samples.threads import one_thread
from flaxinit.signal.samples.whole import held_whole
from flaxinit.signal.shards.axes import on_automatic_axes
from flaxinit.trees.modules import is_linen, module_of
from flaxinit.versions.compat import enable_x64


@one_thread
def audit(
    model: Callable[..., Any],
    /,
    *inputs: Any,
    backward: bool = True,
    particles: int = 512,
    **options: Any,
) -> Report:
    """Measure the signal at every kernel of a model, and judge it.

    Call it as the model itself:

        audit(module.apply, params, x, train=True, rngs={"dropout": key})  # Linen, Haiku
        audit(module, x)                                                   # NNX
        audit(lambda module, x: module.encode(x), module, x)               # NNX, Equinox

    A kernel is an array that is computed from parameters alone and multiplies the signal, in a
    matrix product or a convolution. Each measured moment stands beside its forecast, which starts
    at the inputs of the network and takes the weights for independent draws with the mean and
    variance of the given ones:

        E[y²] = fan_in · Var W · E[x²] = σ_w² E[x²].

    Args:
        model: ``model(params, *inputs, **options)``, such as ``module.apply``, of any library; or
            an NNX module.
        inputs: the parameters (any pytree of arrays; not with an NNX module), then real inputs, a
            batch of them. Values that are not arrays are passed on unchanged.
        backward: whether to measure gradients too, for a unit Gaussian gradient of the output.
        particles: channels drawn at each kernel for the forecast, as in `forecast`.
        options: keyword arguments of the model: further inputs and settings.

    Returns:
        A `Report`.

    Raises:
        ValueError: if no parameter is floating, if none multiplies the signal, if the batch is
            empty, or if ``particles`` is not a positive integer.
        TypeError: if the model is not a function, such as a Linen module instead of its ``apply``,
            if an input is a shape or a tracer, or if none is an array.

    >>> import jax, jax.numpy as jnp, flax.linen as nn, flaxinit
    >>> model = nn.Dense(2000, kernel_init=flaxinit.lecun(), use_bias=False)
    >>> x = jax.random.normal(jax.random.key(0), (64, 500))
    >>> report = audit(model.apply, model.init(jax.random.key(1), x), x)
    >>> [layer.path for layer in report.layers], round(report.layers[0].sigma_w2, 1)
    (['params/kernel'], 1.0)
    """
    particles, backward = checked_count("particles", particles), checked_flag("backward", backward)
    whole, remarks = _model(model, inputs, options, backward), []
    # JAX and XLA trace, compile and compute for the one while NumPy computes for the other.
    with phases() as phase, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read, whole.params)
        programs = whole.programs
        if backward:
            try:
                programs.pullback()
            except Exception as error:  # of JAX or of the model, which may have no gradient
                backward = False
                remarks.append(f"no gradients: {_reason(error)}")
        unwanted, x64 = Event(), jax.config.jax_enable_x64
        forecasting = pool.submit(_forecast, whole, reading, backward, particles, x64, unwanted)
        try:
            run, measured = _measured(whole, backward, phase)
            if not measured:
                raise ValueError(_nothing_met(programs, run))
            phase("forecasting", None)
            forecasting.exception()  # waits for the end
        finally:
            unwanted.set()
        try:
            rows, stream = forecasting.result()
        except Exception as error:  # an operation that theory does not know, or a size
            rows, stream = [], []
            remarks.append(f"no forecast: {_reason(error)}")
    layers = _joined(measured, rows, _looked_up(programs, run))
    try:
        layers = _seen_by_linen(layers, programs.names, model, inputs, options)
    except Exception as error:  # parameters may come from elsewhere, or the module is called by
        remarks.append(f"no fans that initializers saw: {_reason(error)}")  # another method
    return Report(
        layers,
        tuple(stream),
        run.attention(),
        _others(programs, run),
        tuple(remarks),
    )


@dataclass(frozen=True)
class _Model:
    """A model with its parameters: floating arrays, and others."""

    params: list[Any]
    state: list[Any]
    trace: Callable[[], Programs]

    @functools.cached_property
    def programs(self) -> Programs:
        return self.trace()


def _model(model: Any, inputs: Sequence[Any], options: dict[str, Any], backward: bool) -> _Model:
    def not_random(nnx):
        # Keys and counts of random numbers are not weights: what they make is part of the signal.
        return nnx.Not(nnx.RngState)

    opened = with_parameters("audit", "forecast", model, inputs, options, not_random)
    params, inputs = opened.params, (*opened.state, *opened.inputs)
    named, options = by_value(options)
    leaves, tree = jax.tree.flatten(params)
    arrays = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    floating = [
        a and jnp.issubdtype(leaf.dtype, jnp.inexact)
        for a, leaf in zip(arrays, leaves, strict=True)
    ]
    if not any(floating):
        kinds = sorted({str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves})
        plain = any(isinstance(leaf, int | float | complex) for leaf in leaves)
        remedy = (
            "Make them arrays: jax.tree.map(jnp.asarray, params)."
            if plain
            else "Pass the parameters before they are quantized: audit(module.apply, params, x)."
        )
        raise ValueError(
            "audit needs floating parameters; the first argument after the model holds "
            f"{'only ' + ', '.join(kinds) if kinds else 'no arrays'}. {remedy}"
        )
    state = [leaf for leaf, a, f in zip(leaves, arrays, floating, strict=True) if a and not f]
    weights = tree.unflatten(leaf if f else None for leaf, f in zip(leaves, floating, strict=True))

    def apply(weights, state, *inputs, **named):
        weights, state = iter(jax.tree.leaves(weights)), iter(state)
        whole = tree.unflatten(
            next(weights) if f else next(state) if a else leaf
            for leaf, a, f in zip(leaves, arrays, floating, strict=True)
        )
        output = opened.call(whole, *inputs, **named, **options)
        if options.get("mutable", False) is not False:  # Flax returns the state as well
            output = output[0]
        return [x for x in jax.tree.leaves(output) if jnp.issubdtype(x.dtype, jnp.inexact)]

    def trace() -> Programs:
        try:
            with tracing("audit traced model(params, *inputs)"):
                programs = traced(apply, weights, state, inputs, named, backward)
        except Exception as error:
            if why := misplaced(params, inputs, "audit"):
                raise TypeError(why) from error
            raise
        check_batch(programs.outputs)
        return programs

    return _Model(jax.tree.leaves(weights), state, trace)


def _measured(whole: _Model, backward: bool, phase: Phase) -> tuple[Run, tuple[Measured, ...]]:
    """Run the model, and with it the gradient for a unit Gaussian gradient of its outputs."""
    programs, slopes = whole.programs, []
    if backward:
        slopes = cotangents(programs.outputs)
    program = programs.pullback() if backward else programs.apply
    run = Run(programs.names, programs.shapes, phase("measuring", len(program.jaxpr.eqns)))
    arrays = [*whole.params, *whole.state, *programs.inputs, *slopes]
    on = on_automatic_axes if programs.joined else contextlib.nullcontext
    # The model is traced; moments are in float32.
    with jax.numpy_dtype_promotion("standard"), on(arrays) as arrays:
        count, given = len(whole.params), len(arrays) - len(slopes)
        held = [Held(x, frozenset({(n, ())})) for n, x in enumerate(arrays[:count])]
        held += [Held(x, None) for x in arrays[count:given]]
        held += [Held(x, None, back=True) for x in arrays[given:]]
        results = run.program(program, held)
        gradients = [each.value for each in results[:count]] if backward else []
        return run, finished(run, arrays[:count], gradients)


def cotangents(outputs: Sequence[jax.ShapeDtypeStruct]) -> list[jax.Array]:
    """Draw unit Gaussian gradients of the outputs; jax.random would have to be compiled."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(x.shape).astype(x.dtype)) for x in outputs]


class _Laws(NamedTuple):
    """The laws of a model's parameters, and the random numbers that a forecast goes on with."""

    params: list[Signal]
    numbers: Iterator[int]
    rng: np.random.Generator


def _read(params: Sequence[Any]) -> _Laws:
    rng, numbers = np.random.default_rng(0), itertools.count(1)
    return _Laws(given.laws(params, numbers, rng), numbers, rng)


def _forecast(
    model: _Model,
    reading: Future[_Laws],
    backward: bool,
    particles: int,
    x64: bool,
    unwanted: Event,
) -> tuple[list[Layer], list[Sum]]:
    laws, numbers, rng = reading.result()
    state = [exact(x) for x in model.state]
    inputs = [input_signal(x, rng) for x in model.programs.inputs]

    def read(whole):
        return [*(given.laws(model.params, numbers, rng, whole) if whole else laws), *state]

    def run(params):
        traced = model.programs
        return forecast(traced, params, inputs, numbers, rng, backward, particles, unwanted)

    # Of the caller's settings, which JAX keeps by thread, no other changes a forecast.
    with enable_x64(x64):
        return held_whole(read, run)


def _seen_by_linen(
    layers: tuple[Layer, ...],
    names: Sequence[str],
    model: Any,
    inputs: Sequence[Any],
    options: dict[str, Any],
) -> tuple[Layer, ...]:
    """Add the fans that initializers saw, where a kernel's shape may have hidden the true one."""
    hidden = [row for row in layers if math.prod(row.shape[:-1]) != row.fan_in]
    module = module_of(model)
    if not is_linen(module) or all(is_right(row) for row in hidden):
        return layers
    traced = programs(module, inputs[1:], options)
    shapes = dict(zip(traced.names, drawn_shapes(traced.init_on_devices), strict=False))
    return with_fans_seen(layers, [shapes.get(name) for name in names])


def _looked_up(programs: Programs, run: Run) -> set[str]:
    return {programs.names[n] for n, operation in run.met.items() if operation == "gather"}


def _joined(
    measured: Sequence[Measured], rows: Sequence[Layer], looked_up: Container[str]
) -> tuple[Layer, ...]:
    """Put each measurement beside its forecast; in a loop, beside the mean over the steps."""
    by_path: dict[str, list[Layer]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    counts: dict[str, int] = {}
    for each in measured:
        counts[each.path] = counts.get(each.path, 0) + 1
    layers = []
    for each in measured:
        found = by_path.get(each.path) or _parts(by_path, each.path)
        if len(found) == counts[each.path]:
            row = found.pop(0)
            counts[each.path] -= 1
        else:
            row = _mean(found) if found else _unknown(each)
        tied = each.path in looked_up
        changes = {"path": each.path, "shape": each.shape, "looked_up": tied, "measured": each}
        layers.append(replace(row, **changes))
    return tuple(layers)


def _parts(rows: dict[str, list[Layer]], path: str) -> list[Layer]:
    """Return the rows of a kernel's parts: experts that are measured together, forecast apart."""
    return [row for name, some in rows.items() if name.startswith(f"{path}[") for row in some]


_MEANS = ("signal_in", "signal_out", "mean", "gradient_out")


def _mean(rows: Sequence[Layer]) -> Layer:
    means = {}
    for name in _MEANS:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        means[name] = sum(values) / len(values) if values else None
    return replace(rows[-1], **means)


def _unknown(each: Measured) -> Layer:
    """Return a row for a kernel without a forecast."""
    return Layer(path=each.path, shape=each.shape, fan_in=each.fan_in, sigma_w2=each.sigma_w2)


def _nothing_met(programs: Programs, run: Run) -> str:
    met = [f"{name} ({operation or 'never'})" for name, operation in _others(programs, run).items()]
    return (
        "audit found no kernel at work: model(params, *inputs) has to multiply its inputs, "
        "which are arrays, by the arrays in params. What is in params, and the operation in "
        f"which it meets the inputs: {', '.join(met) or 'no arrays'}."
    )


def _others(programs: Programs, run: Run) -> dict[str, str]:
    """Return the parameters of no layer, the largest first, and where each met the signal."""
    used = {number for _, origin in run.found for number, _ in origin}
    names, shapes = programs.names, programs.shapes
    unused = sorted(set(range(len(names))) - used, key=lambda n: -np.prod(shapes[n], dtype=float))
    return {names[n]: run.met.get(n, "") for n in unused}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
