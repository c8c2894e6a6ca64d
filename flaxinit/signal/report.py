"""Report: what is forecast of a model, kernel by kernel and along the residual stream."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO

from flaxinit.signal.fluctuation import Fluctuation


@dataclass(frozen=True)
class Forecast:
    """One kernel at work, and the signal around it, expected over draws.

    A kernel that is at work several times (in a recurrent cell) has an entry for each.

    Attributes:
        path: where the kernel is in the parameters; several where it is computed from several.
        shape: of the parameter.
        fan_in: the number of terms summed into one output.
        fan_in_seen: the fan of the shape that was drawn, as JAX counts it; None if that is not
            known. It differs where a layer draws a kernel in one shape and uses it in another.
        sigma_w2: fan_in times the variance of an entry.
        sigma_w2_wanted: the one with which the outputs would have the second moment of the
            pre-activation that the inputs were made of: 2 after ReLU. None if that is not known.
        signal_in: E[x²] of its inputs.
        signal_out: E[y²] of its outputs.
        mean: E[y].
        positions: correlation of the outputs at two positions of a sample, E[y y'] / E[y²].
        samples: correlation at two samples.
        log_sd: standard deviation of the logarithm of signal_out over draws, to first order.
        sampled: whether signal_in, or the law of the kernel, rests on an operation that was sampled
            for want of a rule.
        gradient_out: E[δ²] of the gradient of its outputs, where the output of the model has a
            unit Gaussian gradient; None where gradients were not forecast, or none arrives.
        gradient_parameter: E[dW²] of the gradient of the parameter.
        sensitivity: ∂ log signal_out / ∂ log E[x₀²], where x₀ are the inputs: the product of the
            slopes of all layers before; above 1 at an unstable fixed point, 0 after a norm.
        undetermined: why signal_out says nothing of one draw, in words; empty if it does say
            something. A second moment is undetermined if, at one sample, its standard deviation
            over draws exceeds its mean. It is smaller in wider layers.
        gradient_undetermined: the same of the gradients.
    """

    path: str
    shape: tuple[int, ...]
    fan_in: float
    fan_in_seen: float | None
    sigma_w2: float
    sigma_w2_wanted: float | None
    signal_in: float
    signal_out: float
    mean: float
    positions: float | None
    samples: float | None
    log_sd: float
    sampled: bool
    gradient_out: float | None = None
    gradient_parameter: float | None = None
    sensitivity: float = 0.0
    undetermined: str = ""
    gradient_undetermined: str = ""

    @property
    def typical(self) -> float:
        """The median of signal_out over draws, which are log-normal: exp(-s²/2) of the mean."""
        return self.signal_out * math.exp(-(self.log_sd**2) / 2)

    @property
    def band(self) -> tuple[float, float]:
        """What 95 % of draws are between: two standard deviations of the logarithm."""
        low, high = (_exp(k * self.log_sd - self.log_sd**2 / 2) for k in (-2, 2))
        return self.signal_out * low, self.signal_out * high


def _exp(x: float) -> float:
    return math.exp(x) if x < _LARGEST else math.inf


_LARGEST = math.log(sys.float_info.max)


def undetermined(strays: Fluctuation, gradient: bool = False) -> str:
    """Return why the standard deviation of a second moment exceeds its mean; empty if it does not.

    A log-normal has the relative variance exp(s²) - 1, where s² is the variance of its logarithm;
    that exceeds 1 if s² > log 2.

    >>> import numpy as np
    >>> undetermined(Fluctuation(np.ones((1, 1))))
    'undetermined: one standard deviation of one draw is a factor of 2.7 at these widths'
    """
    if strays.one <= math.log(2):
        return ""
    reason = (
        f"undetermined: one standard deviation of one draw is a factor of "
        f"{_factor(math.sqrt(strays.one))} at these widths"
    )
    more = f"{strays.sensitivity:.2f}"
    if not gradient and float(more) > 1:
        reason += f"; the fixed point is unstable, 1 % more at the start is {more} % more here"
    return reason


@dataclass(frozen=True)
class Sum:
    """The residual stream after one branch was added to it.

    Attributes:
        after: path of the kernel at work before.
        second_moment: of the sum.
        positions: correlation at two positions of a sample.
        samples: correlation at two samples.
    """

    after: str
    second_moment: float
    positions: float | None
    samples: float | None


@dataclass(frozen=True, repr=False)
class Report:
    """The signal of a model, expected over draws of its parameters; prints as a table.

    Attributes:
        layers: the kernels, in order of use.
        stream: the sums of independent signals, in order: the residual stream.
    """

    layers: tuple[Forecast, ...]
    stream: tuple[Sum, ...]

    def __rich_console__(self, console, options):
        from rich import box
        from rich.table import Table
        from rich.text import Text  # plain: in markup, [x²] and [2] are styles

        columns = self._columns()
        room = options.max_width - min(_READABLE, max(map(len, columns["kernel"]), default=0))
        for heading in _DISPENSABLE:
            if sum(map(_width, list(columns.items())[1:])) > room:
                columns.pop(heading, None)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for heading in columns:
            path = heading == "kernel"
            table.add_column(
                Text(heading),
                justify="left" if path else "right",
                no_wrap=not path,
                overflow="fold",
            )
        for cells in zip(*columns.values(), strict=True):
            table.add_row(*map(Text, cells))
        yield table
        for remark in self._remarks():
            yield Text(remark)

    def _columns(self) -> dict[str, list[str]]:
        layers = self.layers
        columns = {
            "kernel": [layer.path for layer in layers],
            "shape": [str(layer.shape).replace(" ", "") for layer in layers],
            "fan_in": [f"{layer.fan_in:g}" for layer in layers],
            "σ_w²": [_number(layer.sigma_w2) for layer in layers],
            "wanted": [_number(layer.sigma_w2_wanted) for layer in layers],
            "E[x²]": [
                _number(layer.signal_in) + ("~" if layer.sampled else "") for layer in layers
            ],
            "E[y²]": [_number(layer.signal_out, layer.undetermined) for layer in layers],
            "one draw": [_band(layer) for layer in layers],
            "E[δ²]": [_number(layer.gradient_out, layer.gradient_undetermined) for layer in layers],
            "E[dW²]": [
                _number(layer.gradient_parameter, layer.gradient_undetermined) for layer in layers
            ],
            "positions": [_number(layer.positions) for layer in layers],
            "samples": [_number(layer.samples) for layer in layers],
        }
        return {heading: cells for heading, cells in columns.items() if any(cells)}

    def _remarks(self) -> Iterator[str]:
        if self.stream:
            first, last = self.stream[0].second_moment, self.stream[-1].second_moment
            yield f"residual stream: E[x²] {first:.3g} after the first sum, {last:.3g} at the end"
        if any(layer.sampled for layer in self.layers):
            yield "~ rests on an operation that has no rule of its own and was sampled"
        for what, reasons in (
            ("E[y²]", [(layer.path, layer.undetermined) for layer in self.layers]),
            ("the gradient", [(layer.path, layer.gradient_undetermined) for layer in self.layers]),
        ):
            if found := [(path, reason) for path, reason in reasons if reason]:
                path, reason = found[-1]
                yield f"{what} of {len(found)} kernels, the last of them {path}, is {reason}"

    def __str__(self) -> str:
        from rich.console import Console

        file = StringIO()
        console = Console(file=file, color_system=None, width=_ENDLESS)
        console.print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    __repr__ = __str__


_READABLE = 32  # columns of a path on a narrow terminal
_ENDLESS = 10_000  # columns, where nothing is folded
# What a narrow terminal does without, in this order.
_DISPENSABLE = ("shape", "one draw", "E[dW²]", "samples", "fan_in", "positions", "E[δ²]", "wanted")


def _width(column: tuple[str, list[str]]) -> int:
    heading, cells = column
    return 2 + max(map(len, [heading, *cells]))


def _number(value: float | None, why_not: str = "") -> str:
    return "" if value is None else "undetermined" if why_not else f"{value:.3g}"


def _band(layer: Forecast) -> str:
    """Write what 95 % of draws are between, where that is not one number."""
    low, high = (f"{value:.2g}" for value in layer.band)
    return "" if layer.undetermined or low == high else f"{low}…{high}"


def _factor(logarithm: float) -> str:
    """Write exp of a number that may be large."""
    return f"{math.exp(logarithm):.2g}" if logarithm < 20 else f"10^{logarithm / math.log(10):.0f}"
