"""forecast(): what a whole model does to a signal, before any parameter is drawn."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxinit.initializers.checks import checked_count, checked_flag
from flaxinit.signal.reading import laws
from flaxinit.signal.reading.checked import check_slopes, check_values
from flaxinit.signal.reading.drawn import drawn_shapes
from flaxinit.signal.reading.model import Programs, programs
from flaxinit.signal.reports.finding import FACTOR
from flaxinit.signal.reports.report import Layer, Report, Sum, undetermined
from flaxinit.signal.rules.interpret import Interpreter
from flaxinit.signal.rules.kernels import Law
from flaxinit.signal.rules.movement import MOVEMENTS
from flaxinit.signal.rules.observer import Named
from flaxinit.signal.samples.draws import gaussian
from flaxinit.signal.samples.fluctuation import Fluctuation
from flaxinit.signal.samples.limits import Limits
from flaxinit.signal.samples.signals import CONSTANT, PLACE, WIDTH, Origin, Signal, exact
from flaxinit.signal.samples.statistics import chance, correlations, count_samples
from flaxinit.signal.samples.threads import one_thread
from flaxinit.signal.samples.whole import Partial, held_whole
from flaxinit.versions.jaxpr import called, closed


@one_thread
def forecast(
    model: Any, /, *inputs: Any, backward: bool = False, particles: int = 4096, **options: Any
) -> Report:
    """Forecast the signal at every kernel of a model, in expectation over its initialization.

    The programs of the model and of its initialization are read; no parameter is drawn. At a
    kernel of fan n and variance v the outputs are Gaussian channels over places (samples,
    positions) with the Gram matrix

        E[y_i y_j] = v Σ x_i x_j = v n E[x_i x_j],

    and the operations between kernels run on such channels: the limit of wide layers. For
    gradients, the transposed kernel is taken to be independent of the kernel. That is least true
    of depthwise and token-mixing kernels, of cells that use a kernel many times, and of queries
    and keys whose tokens become alike: `Layer.rough` names these.

    Args:
        model: a Linen module, a function of ``nnx.Rngs`` that builds an NNX module, or a pair
            ``(init, apply)`` of functions, with ``init(key, *inputs)`` and
            ``apply(params, *inputs)``.
        inputs: the model's inputs, a batch of them. `jax.ShapeDtypeStruct` stands for unit
            Gaussian ones.
        backward: whether to forecast gradients as well, for a unit Gaussian gradient of the
            output.
        particles: channels drawn at each kernel. Their mean has a relative error of about
            1/√particles, and of several times that after some steps of a recurrent cell, where
            gates are multiplied: give these 2**14 or more.
        options: keyword arguments of the model: further inputs, settings such as ``train=True``
            and, for Linen, ``rngs``.

    Returns:
        A `Report`.

    Raises:
        TypeError: if the model is none of these, if an input is a tracer, if a shape stands for an
            input that is not floating, or if no input is an array.
        ValueError: if no kernel of the parameters meets the inputs, if a signal is not finite, if a
            parameter is used again in a way that is not read, as one stage of a pipeline or in
            turn with its transpose, if an operation would need more than 4 GB or a loop does not
            end, if the batch is empty, if the gradient of an output that is not floating is asked
            for, or if ``particles`` is not a positive integer.

    >>> import flax.linen as nn, flaxinit
    >>> model = nn.Sequential([nn.Dense(2000, kernel_init=flaxinit.lecun()), nn.relu, nn.Dense(10)])
    >>> report = forecast(model, jax.ShapeDtypeStruct((4, 500), "float32"))
    >>> [(layer.path, round(layer.signal_out / layer.signal_in, 2)) for layer in report.layers]
    [('params/layers_0/kernel', 1.0), ('params/layers_2/kernel', 1.0)]

    References:
        Yang (2019), Wide feedforward or recurrent neural networks of any architecture are Gaussian
        processes. Yang (2020), Tensor programs III. Novak et al. (2020), Neural Tangents.
    """
    particles = checked_count("particles", particles)
    backward = checked_flag("backward", backward)
    check_values(inputs, options)
    traced = programs(model, inputs, options)
    if backward:
        check_slopes(traced.outputs)
    rng = np.random.default_rng(0)
    numbers = itertools.count(1)
    given = [input_signal(x, rng) for x in traced.inputs]
    rows, stream = held_whole(
        lambda whole: laws.read(traced, traced.inputs, given, numbers, rng, whole),
        lambda params: run(traced, params, given, numbers, rng, backward, particles),
    )
    if not rows:
        raise ValueError(
            "forecast found no kernel at work: the model has to multiply its inputs by arrays that "
            f"its initialization makes, which are: {', '.join(traced.names) or 'none'}."
        )
    return Report(with_fans_seen(rows, drawn_shapes(traced.init_on_devices)), tuple(stream))


def with_fans_seen(
    rows: Sequence[Layer], shapes: Sequence[tuple[int, ...] | None]
) -> tuple[Layer, ...]:
    """Add the fans that initializers saw, given the shape in which each parameter was drawn."""
    return tuple(replace(row, fan_in_seen=_fan_seen(row, shapes)) for row in rows)


def _fan_seen(row: Layer, shapes: Sequence[tuple[int, ...] | None]) -> float | None:
    drawn = {shapes[number] for number in row.parameters}
    if len(drawn) != 1 or (shape := drawn.pop()) is None or len(shape) < 2:
        return None
    if "[" in row.path and len(shape) == len(row.shape):
        return None  # of a part: several kernels may have been drawn at once
    return float(math.prod(shape[:-1]))


def bounded(limits: Limits, program: ClosedJaxpr) -> Limits:
    """Return limits for a run that keeps what it made until the gradient comes back."""
    return replace(limits, entries=min(limits.entries, _KEPT // _values(program)))


def run(
    traced: Programs,
    params: Sequence[Signal],
    given: Sequence[Signal],
    numbers: Iterator[int],
    rng: np.random.Generator,
    backward: bool,
    particles: int,
    unwanted: Event | None = None,
) -> tuple[list[Layer], list[Sum]]:
    """Run a model's program on signals.

    Args:
        traced: the model.
        params: its parameters and state, by their laws.
        given: its inputs.
        numbers: names draws.
        rng: random numbers.
        backward: whether to forecast gradients as well.
        particles: channels drawn at each kernel.
        unwanted: stops the run at the next kernel once it is set, by another thread.

    Returns:
        The kernels and the sums of independent signals, in order of use.
    """
    record = _Record(traced.names, "forecast", traced, backward, unwanted or Event())
    limits = Limits(particles=particles)
    if backward:
        limits = bounded(limits, traced.apply)
    interpreter = Interpreter(limits, rng, numbers, record, Partial.of(params))
    with interpreter.partial.checked(), record.placed():
        if backward:
            slopes = [cotangent(x, interpreter) for x in traced.outputs]
            results = interpreter.run(traced.pullback(), [*params, *given, *slopes])
            record.differentiated(results[: len(traced.names)])
        else:
            interpreter.run(traced.apply, [*params, *given])
    layers = [
        replace(each, forgotten=each.path in record.lost, uneven=each.path in record.uneven)
        for each in record.layers
    ]
    return layers, record.stream


def _channels_apart(signal: Signal, parts: Sequence[Signal]) -> Signal:
    """Return a sum whose channels are those of its parts: the model's inputs do not say theirs."""
    full = [part.roles for part in parts if len(part.roles) == len(signal.roles)]
    roles = zip(signal.roles, *full, strict=True)
    return replace(signal, roles=tuple(WIDTH if WIDTH in each else each[0] for each in roles))


def _curve(x: Signal) -> tuple[np.ndarray, np.ndarray] | None:
    """Return pre-activations and what was made of them, entry by entry; None if that is not so.

    Where channels are known they are those of one place, the one of median size: the exact moments
    that a signal gets at each place may come with another factor at each.
    """
    if len(x.bases) != 1 or np.iscomplexobj(x.data):
        return None
    (base,) = x.bases
    if base.data.shape != x.data.shape:
        return None
    u, y = base.data, x.data
    if widths := x.widths():
        order = [0, *(axis + 1 for axis in widths)]
        order += [axis for axis in range(1, x.data.ndim) if axis not in order]
        channels = x.replicas * math.prod(x.held[axis] for axis in widths)
        u, y = (np.transpose(data, order).reshape(channels, -1) for data in (u, y))
        sizes = np.mean(u**2, axis=0)
        (places,) = np.nonzero(sizes)
        if places.size:
            place = places[np.argsort(sizes[places])[places.size // 2]]
            u, y = u[:, place], y[:, place]
    some = np.linspace(0, u.size - 1, _POINTS).astype(int)
    u, y = u.flat[some], y.flat[some]
    order = np.argsort(u)
    return u[order], y[order]


_POINTS = 256
# Entries of all signals together, at most: two gigabytes.
_KEPT = 2**28


def _values(program: ClosedJaxpr) -> int:
    """Estimate how many arrays of a signal's size a program makes."""
    count = 1
    for equation in program.eqns:
        body = called(equation)
        if equation.primitive.name == "scan":
            count += equation.params["length"] * _values(closed(equation.params["jaxpr"]))
        elif body is not None:
            count += _values(body)
        elif equation.primitive.name not in MOVEMENTS:
            count += any(len(getattr(var.aval, "shape", ())) > 1 for var in equation.outvars)
    return count


def cotangent(x: Any, run: Interpreter) -> Signal:
    """Draw a unit Gaussian gradient of an output, white over places."""
    *leading, last = x.shape or (1,)
    places, limits = math.prod(leading), run.limits
    (held,) = limits.hold((last,), places)
    replicas = limits.replicas((held,), places)
    if places <= limits.places:
        data = gaussian(run.rng, np.eye(places)[None], replicas * held)
        data = np.moveaxis(data.reshape(replicas, held, places), 1, 2)
    else:
        data = run.rng.standard_normal((replicas, places, held))
    data = data.reshape(replicas, *leading, held) if x.shape else data.reshape(-1)
    roles = tuple(WIDTH if i == len(leading) else PLACE for i in range(len(x.shape)))
    roles = tuple(CONSTANT if n == 1 else role for n, role in zip(x.shape, roles, strict=True))
    number = frozenset({next(run.numbers)})
    return Signal(data, tuple(x.shape), roles, number, None, backward=True)


def input_signal(x: Any, rng: np.random.Generator) -> Signal:
    """Return the signal of an input: its values, or unit Gaussian ones for a shape."""
    if isinstance(x, jax.ShapeDtypeStruct):
        if not jax.numpy.issubdtype(x.dtype, jax.numpy.floating):
            raise TypeError(
                f"An input of {x.dtype} has no standard values: give an array instead of "
                f"a ShapeDtypeStruct of shape {x.shape}."
            )
        return exact(rng.standard_normal(x.shape), None)
    return exact(x, None)


@dataclass
class _Record(Named):
    """The record of each kernel and each sum of a run."""

    programs: Programs
    backward: bool
    unwanted: Event
    layers: list[Layer] = field(default_factory=list)
    stream: list[Sum] = field(default_factory=list)
    drawn_by: dict[int, list[int]] = field(default_factory=dict)  # layers, by number of the draw
    inputs: list[Fluctuation] = field(default_factory=list)  # of layers
    latest: dict[Origin | None, list[int]] = field(default_factory=dict)  # layers of a kernel
    seen: set[tuple[Any, str]] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # paths of kernels whose first use was not kept
    uneven: set[str] = field(default_factory=set)  # of kernels whose variances count as their mean

    def differentiated(self, gradients: Sequence[Signal]) -> None:
        """Add the gradients of the parameters to their layers."""
        by_name = dict(zip(self.programs.names, gradients, strict=True))
        for n, layer in enumerate(self.layers):
            whole = layer.path
            while whole not in by_name and "[" in whole:  # of a part it is that of the parameter
                whole = whole[: whole.rindex("[")]
            if whole in by_name:
                square = by_name[whole].second_moment()
                self.layers[n] = replace(layer, gradient_parameter=square)

    def enters(self, w: Signal, x: Signal) -> None:
        if self.unwanted.is_set():
            raise InterruptedError("Nobody waits for this forecast any more.")
        super().enters(w, x)

    def scored(self, one: Signal, other: Signal) -> None:
        for number in one.sources | other.sources:
            for n in self.drawn_by.get(number, ()):
                if not self.layers[n].rough:
                    self.layers[n] = replace(
                        self.layers[n],
                        rough=FACTOR,
                    )

    def met(
        self,
        w: Signal,
        x: Signal,
        y: Signal,
        law: Law,
        fan: float,
        small: str = "",
        stacked: bool = False,
    ) -> None:
        super().met(w)
        origin = sorted(w.origin or (), key=str)
        if x.backward:  # the transposed kernel: uses are met in the reverse order
            if waiting := self.latest.get(w.origin):
                n = waiting.pop()
                self.layers[n] = replace(
                    self.layers[n],
                    gradient_out=x.second_moment(),
                    gradient_chance=chance(x),
                    gradient_undetermined=undetermined(x.carried, gradient=True),
                    # E[dW²] is a product of E[δ²] and E[x²].
                    parameter_undetermined=undetermined(x.carried + self.inputs[n], gradient=True),
                    gradient_log_sd=math.sqrt(x.carried.variance(count_samples(x))),
                )
            return
        signal_in, signal_out = x.second_moment(), y.second_moment()
        if self._again(w.origin, signal_in):
            return
        uses = self.latest.setdefault(w.origin, [])
        if uses:
            small = "is used more than once"
            self.layers[uses[-1]] = replace(self.layers[uses[-1]], rough=small)
        uses.append(len(self.layers))
        self.drawn_by.setdefault(max(y.sources, default=0), []).append(len(self.layers))
        self.inputs.append(x.carried)
        sigma_w2 = fan * law.variance
        # What a kernel of σ_w² = 1 makes of the signal: less than E[x²] at borders, and centered.
        per_unit = signal_out / sigma_w2 if sigma_w2 else signal_in
        wanted = x.level / per_unit if x.level >= 0 and per_unit and not law.mean else None
        positions, samples = correlations(y)
        self.layers.append(
            Layer(
                path=self.path(w),
                shape=self.programs.shapes[origin[0][0]],
                fan_in=fan,
                parameters=() if stacked else tuple(number for number, _ in origin),
                sigma_w2=sigma_w2,
                sigma_w2_wanted=wanted,
                signal_in=signal_in,
                signal_out=signal_out,
                mean=y.mean(),
                positions=positions,
                samples=samples,
                log_sd=math.sqrt(y.strays.variance(count_samples(y))),
                sampled=x.sampled or w.sampled,
                sensitivity=y.strays.sensitivity,
                undetermined=undetermined(y.strays),
                reads_input=x.known,
                normed=x.carried.fixed,
                curve=_curve(x),
                masked=next((base.mask for base in x.bases), ""),
                rough=small,
                chance=chance(x),
            )
        )

    def averaged(self, w: Signal) -> None:
        self.uneven.add(self.path(w))

    def forgotten(self, w: Signal) -> None:
        self.lost.add(self.path(w))

    def added(self, signal: Signal, parts: Sequence[Signal]) -> None:
        square = signal.second_moment()
        after = self.layers[-1].path if self.layers else ""
        if not self._again("stream", square):
            # What was drawn last is the branch.
            start, _ = sorted(parts, key=lambda part: max(part.sources, default=0))
            alike = correlations(_channels_apart(signal, parts))
            self.stream.append(Sum(after, square, *alike, start.second_moment()))

    def _again(self, what: Any, square: float) -> bool:
        """Return whether a checkpoint computes this again for the gradient."""
        key = what, f"{square:.9g}"
        again = self.backward and key in self.seen
        self.seen.add(key)
        return again
