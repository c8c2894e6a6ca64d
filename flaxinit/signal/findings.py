"""What is wrong with a signal, in words, and what to write instead.

Each finding is a function of a report. Its threshold is defined, with the reason, beside it; none
marks a healthy model.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flaxinit.signal.gains import gain_of, he_line, name_of, other_fans, ratio_of
from flaxinit.signal.repeats import repeats, together

if TYPE_CHECKING:
    from flaxinit.signal.report import Layer, Report


@dataclass(frozen=True)
class Finding:
    """What is wrong at some kernels.

    Attributes:
        what: in two or three words, such as ``"vanishing signal"``.
        paths: of the kernels.
        text: a sentence with the numbers.
        write: what to write instead.
    """

    what: str
    paths: tuple[str, ...]
    text: str
    write: str

    def __str__(self) -> str:
        return f"{self.what}, {together(self.paths)}: {self.text} Write: {self.write}"


def find(report: "Report") -> tuple[Finding, ...]:
    """Return all findings of a report."""
    return tuple(finding for rule in RULES for finding in rule(report))


# Networks train down to a depth of about 6 ξ, where ξ is the depth in which a signal falls by e
# (Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, section 6). What has changed by more than e⁶
# between the first and the last of repeated layers is lost.
_DEPTHS = 6.0
_TUNE = "init = flaxinit.tune(model, x), and draw the parameters with init"


def not_finite(report: "Report") -> Iterator[Finding]:
    """Find the first kernel that meets what is not finite."""
    for layer in report.layers:
        seen = layer.measured
        if seen is None:
            continue
        where = {"inputs": seen.signal_in, "entries": seen.kernel, "outputs": seen.signal_out}
        for name, square in where.items():
            if not math.isfinite(square):
                yield Finding(
                    "not finite",
                    (layer.path,),
                    f"the {name} of the kernel are not finite here first ({seen.dtype}).",
                    "inputs of ordinary size, or a smaller variance before this kernel",
                )
                return


def equal_entries(report: "Report") -> Iterator[Finding]:
    """Find kernels with equal entries. Zeros are a choice: a branch that starts shut."""
    paths = [
        layer.path
        for layer in report.layers
        if (seen := layer.measured)
        and seen.outputs > 1
        and seen.kernel > 0
        # Rounding of the mean of equal numbers leaves less.
        and seen.kernel - seen.kernel_mean**2 < 1e-5 * seen.kernel
    ]
    if paths:
        yield Finding(
            "equal entries",
            tuple(paths),
            "all entries of the kernel are equal, so that all its outputs are one and stay so.",
            "kernel_init=flaxinit.he()",
        )


# Of a kernel before a norm, Σ W dW is 0 but for rounding; of another one, it is of the size of
# √Σ (δ y)², and less than a thousandth of it in one of 1250 draws.
_IDLE = 1e-3
_ERRORS = 4.0  # standard errors; chance passes them once in 16,000 kernels


def wrong_variance(report: "Report") -> Iterator[Finding]:
    """Find kernels that change the second moment by more than e: six of them lose the signal.

    Only kernels whose inputs are a known function of a pre-activation are judged, and not those on
    which a factor does nothing, because a norm follows. Where the variance is that of the
    activation at q = 1, it is right, and the signal has another size.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for layer in report.layers:
        if _is_judged(layer):
            ratio, error = ratio_of(layer), _error(layer)
            if min(map(abs, map(math.log, ratio))) > 1 + _ERRORS * error:
                found.setdefault(_told(layer, error), []).append(layer.path)
    for (what, text, write), paths in found.items():
        yield Finding(what, tuple(paths), text, write)


def unlike_peers(report: "Report") -> Iterator[Finding]:
    """Find the one of three or more repeated kernels whose variance is half of theirs, or twice."""
    told = {path for finding in wrong_variance(report) for path in finding.paths}
    for group in repeats(report.layers):
        # One that reads the inputs may have the gain of all others: a factor of 2, once.
        some = [layer for layer in group if _is_judged(layer) and not layer.reads_input]
        ratios = [min(ratio_of(layer), key=lambda r: abs(math.log(r))) for layer in some]
        if len(some) < 3:
            continue
        middle = statistics.median_low(ratios)
        error = _error(some[0])
        far = [
            layer
            for layer, ratio in zip(some, ratios, strict=True)
            if min(abs(math.log(ratio / middle)), abs(math.log(ratio)))
            > math.log(2) - _ERRORS * error
        ]
        if len(far) == 1 and far[0].path not in told:
            what, text, write = _told(far[0], error)
            yield Finding(what, (far[0].path,), text, write)


def _is_judged(layer: "Layer") -> bool:
    seen = layer.measured
    return bool(
        seen
        and layer.sigma_w2_wanted
        and layer.sigma_w2 > 1e-5 * seen.sigma_w2  # not of equal entries
        and seen.along is not None
        and abs(seen.along) > _IDLE
        and (layer.reads_input or layer.curve is not None)
    )


def _error(layer: "Layer") -> float:
    """Return the standard error of log σ_w², for normal entries."""
    return math.sqrt(2 / layer.measured.entries) if layer.measured else 0.0


def _told(layer: "Layer", error: float) -> tuple[str, str, str]:
    """Say what is wrong with a variance, by its likely cause, and what to write."""
    drawn, wanted = layer.sigma_w2, layer.sigma_w2_wanted or 1.0
    name = name_of(layer)
    change = f"the second moment becomes {drawn / wanted:.2g} times what it was."
    for fan, which in other_fans(layer):
        if abs(math.log(drawn * fan / (wanted * layer.fan_in))) < _ERRORS * error:
            text = (
                f"the variance is that of fan {fan:g} ({which}), {layer.fan_in / fan:.3g} times "
                f"too {'large' if fan < layer.fan_in else 'small'}: {layer.fan_in:g} terms are "
                f"summed, and {change}"
            )
            return "wrong fan", text, he_line(name, wanted, f"fan_in={layer.fan_in:g}")
    if (other := gain_of(drawn, _ERRORS * error)) and other != name:
        text = (
            f"σ_w² is {drawn:.2g}, the gain of {other}, but the inputs are those of "
            f"{name or 'another function'}, which needs {wanted:.3g}: {change}"
        )
        return "gain of another activation", text, he_line(name, wanted)
    text = f"σ_w² is {drawn:.2g}, where {wanted:.3g} keeps the signal: {change}"
    return "wrong variance", text, he_line(name, wanted)


def vanishing_or_exploding(report: "Report") -> Iterator[Finding]:
    """Find repeated layers whose signal, or gradient, changes by more than e⁶ from end to end."""
    for group in repeats(report.layers):
        for name, value, order in (
            ("signal", _signal, group),
            ("gradient", _gradient, group[::-1]),
        ):
            numbers = [(layer, value(layer)) for layer in order]
            some = [(layer, x) for layer, x in numbers if x is not None and math.isfinite(x)]
            if len(some) < 2 or not some[0][1]:
                continue
            if name == "gradient" and not some[-1][1] and _shut(report):
                continue
            (first, start), (last, end) = some[0], some[-1]
            change = math.log(end / start) if end else -math.inf
            # What one draw strays by does not count: two standard deviations of it.
            chance = 2 * math.hypot(first.log_sd, last.log_sd)
            if abs(change) - chance > _DEPTHS:
                word = "vanishing" if change < 0 else "exploding"
                cause, write = _cause(group)
                yield Finding(
                    f"{word} {name}",
                    tuple(layer.path for layer, _ in some),
                    f"its second moment goes from {start:.2g} at {first.path} to {end:.2g} at "
                    f"{last.path}.{cause}",
                    write,
                )


def gains_add_up(report: "Report") -> Iterator[Finding]:
    """Find repeated layers with the gain of another activation, where the signal shows it."""
    lost = {path for f in vanishing_or_exploding(report) for path in f.paths}
    for group in repeats(report.layers):
        cause, write = _cause(group)
        start, end = _signal(group[0]), _signal(group[-1])
        if cause and start and end and group[0].path not in lost:
            chance = 2 * math.hypot(group[0].log_sd, group[-1].log_sd)
            if abs(math.log(end / start)) - chance > 1:
                other = "the gain of" in cause
                yield Finding(
                    "gain of another activation" if other else "wrong variance",
                    tuple(layer.path for layer in group),
                    f"the second moment goes from {start:.2g} to {end:.2g}.{cause}",
                    write,
                )


def _shut(report: "Report") -> bool:
    """Return whether a kernel starts at zero, which is a choice: no gradient passes it yet."""
    return any(layer.measured and not layer.measured.kernel for layer in report.layers)


def _signal(layer: "Layer") -> float | None:
    return layer.measured.signal_in if layer.measured else layer.signal_in


def _gradient(layer: "Layer") -> float | None:
    return layer.measured.gradient_out if layer.measured else layer.gradient_out


def _cause(group: Sequence["Layer"]) -> tuple[str, str]:
    """Return why a signal changes along a group, "" if that is not known, and what to write."""
    off = [
        layer
        for layer in group
        if layer.curve is not None
        and layer.sigma_w2_wanted
        and layer.sigma_w2
        and min(map(abs, map(math.log, ratio_of(layer)))) > math.log(2) / 2
    ]
    if len(off) < max(1, len(group) - 1):  # the first may read the inputs
        return "", _TUNE
    layer = off[0]
    drawn, wanted, name = layer.sigma_w2, layer.sigma_w2_wanted or 1.0, name_of(layer)
    other = gain_of(drawn, math.log(1.1))
    whose = f", the gain of {other}" if other and other != name else ""
    cause = f" σ_w² is {drawn:.2g}{whose}; after {name or 'this function'} {wanted:.3g} keeps it."
    return cause, he_line(name, wanted)


def collapse(report: "Report") -> Iterator[Finding]:
    """Find positions, or inputs, that become one: 1 - cosine falls by more than e⁶.

    All repeated layers have to see it: what attention makes is alike where its weights are.
    """
    groups = [group for group in repeats(report.layers) if len(group) > 1]
    for what, name in (("tokens become one", "positions"), ("inputs become one", "samples")):
        ends = [(group[0], group[-1]) for group in groups if _cosine(group[0], name) is not None]
        if ends and all(_is_lost(*(_cosine(layer, name) for layer in pair)) for pair in ends):
            first, last = ends[0]
            yield Finding(
                what,
                tuple(layer.path for group in groups for layer in group),
                f"the cosine of two {name} goes from {_cosine(first, name):.3f} at {first.path} "
                f"to {_cosine(last, name):.5f} at {last.path}.",
                "a residual connection, and norms before branches, not after sums",
            )


def _is_lost(start: float | None, end: float | None) -> bool:
    """Return whether the distance is lost; what is one from the start is not lost by the layers."""
    if start is None or end is None:
        return False
    return 1 - start > math.exp(-_DEPTHS) and 1 - end < (1 - start) * math.exp(-_DEPTHS)


def _cosine(layer: "Layer", name: str) -> float | None:
    return getattr(layer.measured if layer.measured else layer, name)


# Of a healthy activation at least a quarter is at work: half of ReLU is.
_AT_WORK = 0.25
# A slope that is less than a hundredth of the largest: tanh beyond ±3.
_FLAT = 0.01


def idle_units(report: "Report") -> Iterator[Finding]:
    """Find units that are dead (0 in the whole batch) or saturated (flat at most inputs)."""
    dead = [x.path for x in report.layers if x.measured and x.measured.alive < _AT_WORK]
    if dead and not _shut(report):
        yield Finding(
            "dead units",
            tuple(dead),
            "more than three quarters of the inputs are 0 in the whole batch.",
            "bias_init=flaxinit.zeros, and a smaller mean before the activation",
        )
    flat = [layer.path for layer in report.layers if _is_flat(layer)]
    if flat:
        yield Finding(
            "saturated units",
            tuple(flat),
            "the activation before is flat at more than three quarters of its inputs.",
            "a smaller variance of the kernel before: kernel_init=flaxinit.lecun()",
        )


def _is_flat(layer: "Layer") -> bool:
    if layer.curve is None:
        return False
    import numpy as np

    u, y = layer.curve
    apart = np.diff(u) > 0
    slopes = np.abs(np.diff(y)[apart] / np.diff(u)[apart])
    return slopes.size > 0 and np.mean(slopes > _FLAT * np.max(slopes)) < _AT_WORK


# Where a part of the stream has a share of less than a tenth, it is drowned.
_SHARE = 0.1
# A branch that is as good as 0 is meant to be: LayerScale, Fixup, ReZero.
_SHUT = 1e-6


def stream(report: "Report") -> Iterator[Finding]:
    """Find residual streams in which the start, or the branches, are drowned by the other."""
    for sums in _streams(report):
        start, end = sums[0].start, sums[-1].second_moment
        if not start or len(sums) < 2:
            continue
        path = (sums[-1].after,)
        if start < _SHARE * end:
            yield Finding(
                "stream of branches",
                path,
                f"the residual stream grows {end / start:.3g} times: {start:.3g} at its start is "
                f"{start / end:.1%} of the end.",
                # A start below the first branch is too small; else there are many branches.
                "embedding_init=flaxinit.normal(1.0), or another larger start"
                if 2 * start < sums[0].second_moment
                else f"at the end of each branch kernel_init=flaxinit.lecun().times("
                f"flaxinit.residual_factor({len(sums)}))",
            )
        elif _SHUT < (end - start) / end < _SHARE**2:
            yield Finding(
                "stream of the start",
                path,
                f"all branches together are {(end - start) / end:.1%} of the residual stream.",
                "a smaller start, such as embedding_init=flaxinit.normal(0.02)",
            )


def _streams(report: "Report") -> Iterator[list]:
    """Yield runs of sums of which each adds a branch to the one before."""
    run: list = []
    for each in report.stream:
        if run and not math.isclose(each.start, run[-1].second_moment, rel_tol=1e-6):
            yield run
            run = []
        run.append(each)
    if run:
        yield run


_BITS = {"bfloat16": 8, "float16": 11, "float32": 24}


def mean_drift(report: "Report") -> Iterator[Finding]:
    """Find the first signal whose mean takes half of the bits of its numbers."""
    for layer in report.layers:
        seen = layer.measured
        if seen is None or seen.dtype not in _BITS or not math.isfinite(seen.signal_in):
            continue
        rest = seen.signal_in - seen.mean_in**2
        if seen.signal_in > 0 and rest < seen.signal_in * 2.0 ** -_BITS[seen.dtype]:
            yield Finding(
                "mean drift",
                (layer.path,),
                f"the mean of the inputs is {math.sqrt(seen.signal_in / max(rest, 1e-300)):.2g} "
                f"times their deviation: {seen.dtype} has half of its bits left.",
                "a norm before this kernel, or inputs less their mean",
            )
            return


def attention(report: "Report") -> Iterator[Finding]:
    """Find attention whose weights are equal in bfloat16, or nine tenths on one token."""
    known = [(path, uneven) for path, _, uneven in report.attention if uneven is not None]
    uniform = [path for path, uneven in known if uneven < _EQUAL]
    if uniform:
        yield Finding(
            "uniform attention",
            tuple(dict.fromkeys(uniform)),
            "all tokens have the same weight: queries, keys or tokens are alike.",
            "kernels of queries and keys with flaxinit.lecun(), and tokens that differ",
        )
    sharp = {path: square for path, square, _ in report.attention if square > _ONE_HOT}
    if sharp:
        yield Finding(
            "one-hot attention",
            tuple(sharp),
            f"Σp² is up to {max(sharp.values()):.2f}: one token has almost all the weight.",
            "queries times keys over √(head size), and kernels with flaxinit.lecun()",
        )


_EQUAL = 2.0**-16  # of n Σp² - 1, if weights differ by bfloat16's 2⁻⁸
_ONE_HOT = 0.9


def stray(report: "Report") -> Iterator[Finding]:
    """Find fans so small that one draw says nothing of the mean: it is undetermined."""
    some = [layer for layer in report.layers if layer.undetermined]
    if some:
        median = math.exp(-(some[-1].log_sd ** 2) / 2)
        yield Finding(
            "single draws stray",
            tuple(layer.path for layer in some),
            f"E[y²] is {some[-1].undetermined}, and its median is {median:.2g} of the mean.",
            "wider layers, or a norm between them",
        )


RULES: tuple[Callable[["Report"], Iterator[Finding]], ...] = (
    *(not_finite, equal_entries, wrong_variance, unlike_peers, vanishing_or_exploding),
    *(gains_add_up, collapse, idle_units, stream, mean_drift, attention, stray),
)
