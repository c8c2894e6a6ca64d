"""What is wrong with a signal, in words, and what to write instead.

Each finding is a function of a report. Its threshold is defined beside it, with the reason, and is
one that no healthy model crosses.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flaxinit.signal.reports.finding import DEPTHS, Finding as Finding
from flaxinit.signal.reports.gains import usual_line
from flaxinit.signal.reports.repeats import repeats
from flaxinit.signal.reports.variances import (
    gains_add_up,
    has_effect,
    shut,
    signal_of,
    unlike_peers,
    vanishing_or_exploding,
    wrong_variance,
)

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Layer, Report


def find(report: "Report") -> tuple[Finding, ...]:
    """Return all findings of a report."""
    return tuple(finding for rule in RULES for finding in rule(report))


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


def large_inputs(report: "Report") -> Iterator[Finding]:
    """Find inputs of the model that are more than e⁶ in square, where their size matters."""
    for layer in report.layers:
        seen = layer.measured
        if not (seen and layer.reads_input and has_effect(seen)):
            continue
        if seen.signal_in > math.exp(DEPTHS):
            yield Finding(
                "large inputs",
                (layer.path,),
                f"the inputs have E[x²] = {seen.signal_in:.3g}. Gains are for inputs near 1.",
                f"x / {math.sqrt(seen.signal_in):.2g}, or (x - mean) / deviation of the data",
            )


def no_signal(report: "Report") -> Iterator[Finding]:
    """Find inputs of 0, with which no kernel meets a signal."""
    if report.layers and not any(signal_of(layer) for layer in report.layers):
        yield Finding(
            "no signal",
            (report.layers[0].path,),
            "the inputs are 0, and so is all that is made of them.",
            "a batch of real inputs, or a jax.ShapeDtypeStruct for unit Gaussian ones",
        )


def equal_entries(report: "Report") -> Iterator[Finding]:
    """Find kernels with equal entries, but not 0: a branch of zeros starts closed by choice."""
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


def collapse(report: "Report") -> Iterator[Finding]:
    """Find positions or inputs that become parallel: 1 - cosine falls by more than e⁶.

    All repeated layers must show it, because attention with equal weights has equal outputs.
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
    """Return whether the layers lose the distance, which is more than 0 at the start."""
    if start is None or end is None:
        return False
    return 1 - start > math.exp(-DEPTHS) and 1 - end < (1 - start) * math.exp(-DEPTHS)


def _cosine(layer: "Layer", name: str) -> float | None:
    return getattr(layer.measured if layer.measured else layer, name)


# Of a healthy activation at least a quarter is at work: half of ReLU is.
_AT_WORK = 0.25
# A slope that is less than a hundredth of the largest: tanh beyond ±3.
_FLAT = 0.01


def idle_units(report: "Report") -> Iterator[Finding]:
    """Find units that are dead (0 in the whole batch) or saturated (flat at most inputs)."""
    dead = [x.path for x in report.layers if x.measured and x.measured.alive < _AT_WORK]
    if dead and not shut(report) and any(signal_of(layer) for layer in report.layers):
        yield Finding(
            "dead units",
            tuple(dead),
            "more than three quarters of the inputs are 0 in the whole batch.",
            "bias_init=flaxinit.zeros, and a smaller mean before the activation",
        )
    flat = [n for n, layer in enumerate(report.layers) if _is_flat(layer)]
    if flat:
        line = usual_line(report.layers[max(0, flat[0] - 1)])
        yield Finding(
            "saturated units",
            tuple(report.layers[n].path for n in flat),
            "the activation before is flat at more than three quarters of its inputs.",
            f"a smaller variance of the kernel before: {line}",
        )


def _is_flat(layer: "Layer") -> bool:
    if layer.curve is None or layer.masked == "values":  # these make jumps that are not slopes
        return False
    import numpy as np

    u, y = layer.curve
    if layer.masked:
        u, y = u[y != 0], y[y != 0]
    apart = np.diff(u) > 0
    slopes = np.abs(np.diff(y)[apart] / np.diff(u)[apart])
    return slopes.size > 0 and np.mean(slopes > _FLAT * np.max(slopes)) < _AT_WORK


# Where a part of the stream has a share of less than a tenth, it is drowned.
_SHARE = 0.1
# A branch that is as good as 0 is meant to be: LayerScale, Fixup, ReZero.
_SHUT = 1e-6


def stream(report: "Report") -> Iterator[Finding]:
    """Find residual streams in which the branches drown the start, or the start the branches."""
    for sums in _streams(report):
        start, end = sums[0].start, sums[-1].second_moment
        if not start or len(sums) < 2:
            continue
        path, branches = (sums[-1].after,), end - start
        if start < _SHARE * end:
            # As large as the first branch, and twice the share of all that is drowned.
            larger = math.sqrt(max(sums[0].second_moment - start, 2 * _SHARE * branches))
            yield Finding(
                "stream of branches",
                path,
                f"the residual stream grows {end / start:.3g} times: {start:.3g} at its start is "
                f"{start / end:.1%} of the end.",
                # A start below the first branch is too small; else there are many branches.
                f"embedding_init=flaxinit.normal({larger:.2g}), or another larger start"
                if 2 * start < sums[0].second_moment
                else f"at the end of each branch kernel_init=flaxinit.lecun().times("
                f"flaxinit.residual_factor({len(sums)}))",
            )
        elif _SHUT < branches / end < _SHARE**2:
            equal = math.sqrt(branches)
            yield Finding(
                "stream of the start",
                path,
                f"all branches together are {branches / end:.1%} of the residual stream.",
                f"a smaller start, such as embedding_init=flaxinit.normal({equal:.2g})",
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
    """Find fans so small that a draw may be far from the expectation, before any is drawn."""
    some = [layer for layer in report.layers if layer.undetermined and not layer.measured]
    if some:
        last = some[-1]
        share = "" if last.typical is None else f"{last.typical / last.signal_out:.2g}"
        name = last.activation
        yield Finding(
            "single draws stray",
            tuple(layer.path for layer in some),
            f"E[y²] is {last.undetermined}."
            + (f" The median draw has {share} of the mean." if share else ""),
            "wider layers, a norm between them"
            + (f', or kernel, bias, q = flaxinit.critical("{name}")' if name else ""),
        )


RULES: tuple[Callable[["Report"], Iterator[Finding]], ...] = (
    *(not_finite, no_signal, large_inputs, equal_entries, wrong_variance, unlike_peers),
    *(
        vanishing_or_exploding,
        gains_add_up,
        collapse,
        idle_units,
        stream,
        mean_drift,
        attention,
        stray,
    ),
)
