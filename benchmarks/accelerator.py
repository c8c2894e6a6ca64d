"""Compare one accelerator with the CPU: the values it draws, and its speed.

`python -m benchmarks accelerator` takes under five minutes on one GPU. Each check has a computed
bound. A failed check is marked, and the exit status is then 1. Figures are ratios of times measured
side by side.
"""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend import backend
from rich import box
from rich.console import Console
from rich.table import Table

import flaxinit
from benchmarks import agreement, harness, orthogonal, sampling, startup, store, summary
from benchmarks.agreement import Check
from benchmarks.bounds import PARENTS, STATISTICS
from benchmarks.units import Classifier
from flaxinit.sampling import Distribution

ACCELERATED = 16  # factor on the values: a CPU's number takes an accelerator only microseconds
LIMIT = 120.0  # seconds that one way to initialize the transformer may take
GOALS = {"eager init": "2×", "jit(init)": "10×"}  # speed of fast_init against each


@dataclasses.dataclass(frozen=True)
class Size:
    """The amount of work in each part."""

    features: int  # of the kernels that are compared
    sample: int  # values for moments
    values: int  # for throughput, on a CPU
    matrices: tuple[tuple[int, int], ...]
    turns: int
    seconds: float  # of each call in a turn
    layers: int  # of the transformer
    unit: Classifier


SIZES = {
    "smoke": Size(
        features=16,
        sample=2**14,
        values=2**12,
        matrices=((32, 32),),
        turns=1,
        seconds=0.0,
        layers=1,
        unit=Classifier(
            activation="relu",
            techniques=("he",),
            learning_rates=(0.01,),
            seeds=(0, 1),
            depth=4,
            width=32,
            steps=60,
        ),
    ),
    "full": Size(
        features=512,
        sample=2**20,
        values=2**22,
        matrices=((1024, 1024), (4096, 1024)),
        turns=5,
        seconds=0.05,
        layers=48,
        unit=Classifier(
            activation="gelu",
            techniques=("derived",),
            learning_rates=(0.016,),
            seeds=(0, 1, 2, 3),
            depth=20,
            width=64,
            steps=320,
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """How many times as fast something is as something else.

    Args:
        what: what is compared with what.
        found: the ratio, in words.
        goal: the ratio to reach.
        detail: the numbers, for the JSON file.
    """

    what: str
    found: str
    goal: str
    detail: dict[str, Any]


Rows = Iterator[Check | Figure]


def run(size: str, results: Path, console: Console) -> int:
    """Measure everything, print a table for each part, write the JSON file.

    Returns:
        The exit status: 1 if a check failed, 0 if none did.
    """
    platforms = getattr(jax.config, "jax_platforms", None)
    if platforms and "cpu" not in platforms.split(","):
        raise ValueError(
            f"JAX_PLATFORMS is {platforms!r}, but the device is compared with the host's CPU. "
            "Unset it, or append `,cpu`."
        )
    folder = results / "accelerator"
    folder.mkdir(parents=True, exist_ok=True)
    began, parts = time.perf_counter(), {}
    here: dict[str, Any] = {}
    for title, caption, part in PARTS:
        with console.status(title):
            parts[title] = list(part(SIZES[size]))
        if not here:  # after `start`, which needs the device for itself
            here = store.environment() | runtime()
            console.print(_heading(here), soft_wrap=True, highlight=False)
        console.print(_table(title, caption, parts[title]))
        # Written after each part, because a backend may crash the whole process.
        rows = [row for part in parts.values() for row in part]
        checks = [row for row in rows if isinstance(row, Check)]
        record = {
            "environment": here,
            "size": size,
            "seconds": round(time.perf_counter() - began, 1),
            "failed": [check.what for check in checks if not check.passed],
            "parts": {title: list(map(_record, part)) for title, part in parts.items()},
        }
        name = re.sub(r"[^a-z0-9]+", "-", here["device"].lower()).strip("-")
        path = folder / f"{name}{'' if size == 'full' else f'-{size}'}.json"
        path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    failed = len(record["failed"])
    verdict = f"[red]{failed} FAILED[/]" if failed else "none failed"
    summed = f"{len(checks)} checks, {verdict}; {record['seconds']:.0f} s; wrote {path}"
    console.print(summed, soft_wrap=True)
    return int(bool(failed))


def runtime() -> dict[str, str | None]:
    """Return NVIDIA's driver version, if any, and the backend's own versions."""
    driver = None
    if (command := shutil.which("nvidia-smi")) and jax.default_backend() == "gpu":
        query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True)
        driver = done.stdout.partition("\n")[0].strip() or driver
    return {"driver": driver, "runtime": backend.get_backend().platform_version}


def start(size: Size) -> Rows:
    """Time each way to initialize the transformer, in a process of its own.

    This part comes first: once this process holds the device, others get little memory on it, or
    none on a TPU.
    """
    seconds: dict[str, float] = {}
    for way in ("fast_init", *GOALS):
        try:
            row = startup.in_fresh_process(
                *("one-time", "--way", way, "--depth", str(size.layers)),
                limit=LIMIT,
                JAX_PLATFORMS=os.environ.get("JAX_PLATFORMS", ""),
                XLA_PYTHON_CLIENT_PREALLOCATE="false",
            )
            seconds[way] = row["seconds"]
        except subprocess.TimeoutExpired:
            if way == "fast_init":
                yield Check(way, f"not done in {LIMIT:.0f} s", math.inf)
            else:
                seconds[way] = math.inf
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.strip()]
            yield Check(way, lines[-1] if lines else f"exit status {error.returncode}", math.inf)
    for way, goal in GOALS.items():
        if {way, "fast_init"} <= seconds.keys():
            mine, other = seconds["fast_init"], min(seconds[way], LIMIT)
            over = "over " if other < seconds[way] else ""
            found = f"{over}{other / mine:.1f}× ({mine:.2f} s, {over}{other:.2f} s)"
            detail = {"fast_init": mine, way: other, "over": bool(over)}
            yield Figure(f"beside {way}, depth {size.layers}", found, goal, detail)


def same_draws(size: Size) -> Rows:
    for name, draw in agreement.draws(size.features).items():
        yield attempt(name, agreement.compare, name, draw, jax.devices()[0])
    yield attempt("fast_init", materialized)


def materialized() -> Check:
    """Compare a whole model's parameters from `fast_init` with those from its own init."""
    model, key = startup.linen_transformer(2), jax.random.key(0)
    tokens = jax.numpy.zeros((1, startup.LENGTH), "int32")
    pairs = zip(
        jax.tree.leaves(flaxinit.fast_init(model.init)(key, tokens)),
        jax.tree.leaves(model.init(key, tokens)),
        strict=True,
    )
    alike = [np.array_equal(*pair) for pair in pairs]
    others = alike.count(False)
    return Check(
        "fast_init beside init",
        f"{others} of {len(alike)} arrays differ" if others else f"{len(alike)} arrays equal",
        math.inf if others else 0.0,
        {"arrays": len(alike), "differ": others},
    )


def orthonormal(size: Size) -> Rows:
    for name, draw in agreement.draws(size.features).items():
        if draw.matrix:
            yield attempt(name, agreement.orthogonality, name, draw, jax.devices()[0])


def moments(size: Size) -> Rows:
    kinds = dict(agreement.low_precision(jax.devices()[0]))
    cases = len(kinds) * len(PARENTS) * len(STATISTICS)
    for kind, refusal in kinds.items():
        if refusal:  # plain JAX cannot hold it here either
            yield Check(kind, f"not on this device: {refusal}", 0.0)
        else:
            yield attempt(kind, agreement.moments, kind, jax.devices()[0], size.sample, cases)


def throughput(size: Size) -> Rows:
    values = size.values * (1 if jax.default_backend() == "cpu" else ACCELERATED)

    def draws(dtype: str, distribution: Distribution) -> Figure:
        row = sampling.measure(dtype, distribution, values, size.turns, size.seconds)
        what = f"{distribution}, {dtype}, {values:,} values"
        return Figure(what, _range(row["jitted"]), "1×", row)

    def matrices(shape: tuple[int, int]) -> Figure:
        row = orthogonal.race(shape, size.turns)
        what = f"orthogonal, float32, {'×'.join(map(str, shape))}"
        return Figure(what, _range(row["ratio"]), "4×", row)

    for dtype in ("float32", "bfloat16"):
        for distribution in sampling.DISTRIBUTIONS:
            yield attempt(f"{distribution}, {dtype}", draws, dtype, distribution)
    for shape in size.matrices:
        yield attempt(f"orthogonal, {shape}", matrices, shape)


def training(size: Size) -> Rows:
    yield attempt(size.unit.title, learns, size.unit)


def learns(unit: Classifier) -> Check:
    """Check that every network ends at a lower loss than the best constant guess."""
    record = harness.train(unit)
    (row,) = summary.rows([record])
    worst, guess = float(row.loss.max()), record["label_entropy"]
    return Check(
        unit.title,
        f"{len(unit.seeds)} seeds, {unit.steps} steps in {record['seconds']:.1f} s: loss at most "
        f"{worst:.2g}; guessing has {guess:.2g}",
        worst / guess,
        {"seconds": record["seconds"], "train_loss": row.loss.tolist(), "label_entropy": guess},
    )


def attempt(what: str, measure: Callable[..., Check | Figure], *arguments: Any) -> Check | Figure:
    """Measure, and turn an error into a failed check, which lets the other parts run."""
    try:
        return measure(*arguments)
    except Exception as error:  # each backend raises its own kind
        message = str(error).strip() or "no message"
        text = f"{type(error).__name__}: {message.splitlines()[0]}"
        return Check(what, text, math.inf, {"error": message})


PARTS: tuple[tuple[str, str, Callable[[Size], Rows]], ...] = (
    (
        "fast_init of a transformer",
        "from an empty cache to every parameter, each way in a process of its own",
        start,
    ),
    (
        "The same draws as on the CPU",
        "ulp: units in the last place, the largest difference of 99 % of the values and of all; "
        "bound: the effect of rounding, by a running error analysis",
        same_draws,
    ),
    (
        "Orthogonal kernels",
        "bound: the effect of rounding on a product of reflections",
        orthonormal,
    ),
    (
        "Narrow dtypes",
        "moments, distribution and extremes against the exact ones; bound: the sampling error",
        moments,
    ),
    (
        "Throughput against jax.nn.initializers",
        "both jitted, timed in turns; median over turns (range of the middle half)",
        throughput,
    ),
    ("Training", "bound: the loss of the best constant guess", training),
)


def _heading(here: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {here[name]}" for name in ("jax", "jaxlib", "flax", "flaxinit"))
    driver = f"driver {here['driver']}, " if here["driver"] else ""
    heading = (
        f"{here['devices']} × {here['device']} ({here['backend']}), {driver}{versions}, "
        f"commit {here['commit']}"
    )
    if here["backend"] == "cpu":
        heading += "\nJAX finds no accelerator, so the CPU is compared with itself"
    return heading


def _table(title: str, caption: str, rows: list[Check | Figure]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    figures = all(isinstance(row, Figure) for row in rows)
    for column in ("", "times as fast", "goal") if figures else ("", "found", "share of bound", ""):
        table.add_column(column)
    for row in rows:
        if isinstance(row, Figure):
            table.add_row(row.what, row.found, row.goal)
        else:
            share = f"{row.share:.1%}" if math.isfinite(row.share) else "—"
            table.add_row(row.what, row.found, share, "ok" if row.passed else "[red]FAILED[/]")
    return table


def _record(row: Check | Figure) -> dict:
    passed = {"passed": row.passed} if isinstance(row, Check) else {}
    return _finite(dataclasses.asdict(row) | passed)


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, because JSON has none."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _range(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f}× ({ratio['low']:.2f}–{ratio['high']:.2f})"
