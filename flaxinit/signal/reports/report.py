"""Report: the signal of a model, kernel by kernel and along the residual stream."""

import math
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flaxinit.signal.measuring.measured import Measured
from flaxinit.signal.reports.findings import Finding, find
from flaxinit.signal.reports.gains import activation_of
from flaxinit.signal.reports.printed import Printed
from flaxinit.signal.samples.fluctuation import Fluctuation


@dataclass(frozen=True)
class Layer:
    """One kernel at work, and the signal around it, expected over draws.

    A kernel that is used several times (in a recurrent cell) has an entry for each use.

    Attributes:
        path: where the kernel is in the parameters; several where it is computed from several.
        shape: of the parameter.
        fan_in: the number of terms summed into one output.
        fan_in_seen: the fan of the shape that was drawn, as JAX counts it; None if that is not
            known, as for several kernels in one array, which may have a batch_axis. An audit knows
            it only of a Linen module, and reads it where σ_w² is not right for the true fan. It
            differs where a layer draws a kernel in one shape and uses it in another.
        sigma_w2: fan_in times the variance of an entry.
        sigma_w2_wanted: the value that would give the outputs the second moment of the
            pre-activation behind the inputs: 2 after ReLU. None if that is not known.
        signal_in: E[x²] of its inputs.
        signal_out: E[y²] of its outputs.
        mean: E[y].
        positions: correlation E[y y'] / √(E[y²] E[y'²]) of the outputs at two positions of a
            sample, the mean over pairs. `measured` has the cosine of one draw: for a correlation
            c and n channels it strays by (1 - c²) / √n about c - c (1 - c²) / 2n, to first order.
        samples: the same at two samples.
        log_sd: standard deviation of the logarithm of signal_out over draws, to first order.
        sampled: whether signal_in, or the law of the kernel, depends on an operation that has no
            rule and was run on a sample.
        gradient_out: E[δ²], where δ is the gradient of its outputs for a unit Gaussian gradient of
            the model's output; None if it was not forecast or does not reach them.
        gradient_parameter: E[dW²], where dW is the gradient of the parameter.
        sensitivity: ∂ log signal_out / ∂ log E[x₀²], where x₀ are the inputs: the product of the
            slopes of all layers before; above 1 at an unstable fixed point, 0 after a norm.
        undetermined: why signal_out does not describe a single draw, in words; empty if it does.
            A second moment is undetermined if, at one sample, its standard deviation over draws
            exceeds its mean. It is smaller in wider layers.
        gradient_undetermined: the same of gradient_out.
        parameter_undetermined: the same of gradient_parameter.
        rough: what the kernel does, if its gradient is forecast only roughly at moderate widths;
            empty otherwise. It then depends on the kernel itself, or on products of its outputs.
        chance: relative standard error of signal_in, as the sample shows it: of a sum over channels
            there are few values. More particles make it smaller.
        gradient_chance: the same of gradient_out.
        uneven: whether it is a filter and the variances of its entries differ by more than a factor
            for each row, or for each column. The forecast has their mean: it is off where channels
            are treated differently.
        forgotten: whether it is used again, and what it made first took too much memory to be kept:
            its later uses count as those of another kernel.
        gradient_log_sd: standard deviation of the logarithm of gradient_out over draws.
        reads_input: whether the kernel reads the model's inputs, not the outputs of a kernel.
        normed: whether a norm fixes signal_in: by the rules of the operations before, it does not
            differ between draws, or with the size of the inputs.
        looked_up: whether the rows of the kernel are looked up as well, as in a tied embedding.
        curve: a sample of pre-activations and of the inputs that were made of them, if each input
            is a function of one pre-activation.
        masked: how that function differs from entry to entry: by "zeros", behind a mask such as
            Dropout's, or by other "values"; empty if it does not.
        measured: the same of one draw, on real inputs; None in a forecast.
        findings: what is wrong at this kernel.
        parameters: numbers of the parameters that the kernel is made of; none of several kernels.
    """

    path: str
    shape: tuple[int, ...]
    fan_in: float
    sigma_w2: float
    fan_in_seen: float | None = None
    sigma_w2_wanted: float | None = None
    signal_in: float = math.nan
    signal_out: float = math.nan
    mean: float = math.nan
    positions: float | None = None
    samples: float | None = None
    log_sd: float = 0.0
    sampled: bool = False
    gradient_out: float | None = None
    gradient_parameter: float | None = None
    sensitivity: float = 0.0
    undetermined: str = ""
    gradient_undetermined: str = ""
    parameter_undetermined: str = ""
    rough: str = ""
    chance: float = 0.0
    gradient_chance: float = 0.0
    uneven: bool = False
    forgotten: bool = False
    gradient_log_sd: float = 0.0
    reads_input: bool = False
    normed: bool = False
    looked_up: bool = False
    curve: Any = field(default=None, repr=False, compare=False)
    masked: str = field(default="", repr=False, compare=False)
    measured: Measured | None = None
    findings: tuple[Finding, ...] = ()
    parameters: tuple[int, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def activation(self) -> str | None:
        """The activation before the kernel, "linear" at the inputs; None if it is not known."""
        return "linear" if self.reads_input else activation_of(self.curve)

    @property
    def unstable(self) -> bool:
        """Whether draws stray from an unstable fixed point, further than a slope at it can say."""
        return bool(self.undetermined) and self.sensitivity > UNSTABLE

    @property
    def typical(self) -> float | None:
        """The median of signal_out over draws, which are log-normal: exp(-s²/2) of the mean.

        None at an unstable fixed point.
        """
        return None if self.unstable else self.signal_out * math.exp(-(self.log_sd**2) / 2)

    @property
    def band(self) -> tuple[float, float] | None:
        """What 95 % of draws are between: two standard deviations of the logarithm.

        None at an unstable fixed point.
        """
        return None if self.unstable else _band(self.signal_out, self.log_sd)

    @property
    def gradient_band(self) -> tuple[float, float] | None:
        """The same of gradient_out; None where it is, too."""
        if self.gradient_out is None or self.unstable:
            return None
        return _band(self.gradient_out, self.gradient_log_sd)


def _band(mean: float, log_sd: float) -> tuple[float, float]:
    low, high = (_exp(k * log_sd - log_sd**2 / 2) for k in (-2, 2))
    return mean * low, mean * high


def _exp(x: float) -> float:
    return math.exp(x) if x < _LARGEST else math.inf


_LARGEST = math.log(sys.float_info.max)


def undetermined(strays: Fluctuation, gradient: bool = False) -> str:
    """Return why the standard deviation of a second moment exceeds its mean; empty if it does not.

    A log-normal has the relative variance exp(s²) - 1, where s² is the variance of its logarithm;
    that exceeds 1 if s² > log 2.

    >>> import numpy as np
    >>> undetermined(Fluctuation(np.ones((1, 1))))
    'undetermined: at these widths draws differ by a factor of 2.7 (one standard deviation)'
    """
    if strays.one <= math.log(2):
        return ""
    reason = (
        f"undetermined: at these widths draws differ by a factor of "
        f"{_factor(math.sqrt(strays.one))} (one standard deviation)"
    )
    if not gradient and strays.sensitivity > UNSTABLE:
        more = f"{strays.sensitivity:.2g}"
        reason += f"; the fixed point is unstable, 1 % more at the start is {more} % more here"
    return reason


# At a fixed point that neither attracts nor repels, a deviation stays about as it is.
UNSTABLE = 2.0


def _factor(logarithm: float) -> str:
    """Write exp of a number that may be large."""
    return f"{math.exp(logarithm):.2g}" if logarithm < 20 else f"10^{logarithm / math.log(10):.0f}"


@dataclass(frozen=True)
class Sum:
    """The residual stream after one branch was added to it.

    Attributes:
        after: path of the kernel at work before.
        second_moment: of the sum.
        positions: correlation at two positions of a sample.
        samples: correlation at two samples.
        start: second moment of the stream before.
    """

    after: str
    second_moment: float
    positions: float | None
    samples: float | None
    start: float


@dataclass(frozen=True, repr=False)
class Report(Printed):
    """The signal of a model: forecast, or measured beside its forecast; prints as a table.

    Attributes:
        layers: the kernels, in order of use.
        stream: the sums of independent signals, in order: the residual stream.
        attention: of weights that sum to 1, as a softmax makes them: the kernel before, the mean of
            Σp², and that of n Σp² - 1 over the n weights that are not 0.
        others: each parameter that is in no layer, with the operation in which it first meets the
            signal ("add" for a bias); "" if it never does.
        remarks: what else to know.
        findings: what is wrong, with what to write instead.
    """

    layers: tuple[Layer, ...]
    stream: tuple[Sum, ...] = ()
    attention: tuple[tuple[str, float, float | None], ...] = ()
    others: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(init=False)

    def __post_init__(self):
        found = find(self)
        layers = tuple(
            replace(layer, findings=tuple(f for f in found if layer.path in f.paths))
            for layer in self.layers
        )
        object.__setattr__(self, "findings", found)
        object.__setattr__(self, "layers", layers)

    @property
    def outside(self) -> tuple[Layer, ...]:
        """The layers whose E[y²] is not that of independent weights: trained, tied or not random.

        At most one in a hundred models with independent weights of mean 0 has such a layer.
        """
        level = _LEVEL / max(1, len(self.layers))
        return tuple(x for x in self.layers if x.measured and x.measured.is_outside(level))

    def check(self) -> None:
        """Raise if there is any finding.

        Raises:
            ValueError: with all findings.
        """
        if self.findings:
            lines = "".join(f"\n- {finding}" for finding in self.findings)
            raise ValueError(f"{len(self.findings)} findings in the signal of the model:{lines}")

    def to_json(self) -> str:
        """Return everything that the report knows, as JSON; what is not finite is null."""
        from flaxinit.signal.reports.export import to_json

        return to_json(self)

    def plot(self, path: str | Path) -> None:
        """Draw signal, gradient and stream by order of use, to a PNG, PDF or SVG file.

        A line shows the forecast, a band where 19 of 20 draws are, and dots what was measured.
        """
        from flaxinit.signal.reports.plot import plot

        plot(self, path)

    def html(self, path: str | Path) -> None:
        """Write the report as one HTML file, which needs no network."""
        from flaxinit.signal.reports.page import page

        Path(path).write_text(page(self), "utf-8")

    def __rich_console__(self, console, options):
        from flaxinit.signal.reports.table import render

        yield from render(self, options.max_width)


# Of the tables of models whose weights are independent, the share that marks any layer.
_LEVEL = 0.01
