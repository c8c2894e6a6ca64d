"""Throughput of the samplers against JAX's, and against the random bits alone.

`python -m benchmarks.sampling` draws 2^24 values in each dtype and distribution. The initializers
of flaxinit and of `jax.nn.initializers` take turns, each called eagerly and jitted. A ratio is
JAX's time over flaxinit's in the same turn, because a busy machine slows both. It is given as the
median over turns and, in brackets, the range of the middle half. The last column is a limit: the
ratio for the random bits of a draw alone, one 32-bit word per real number (64 bits for float64).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import flaxinit
from benchmarks.store import environment
from flaxinit.sampling import Distribution
from flaxinit.versions.threefry import one_pass

DTYPES = (
    "float64",
    "float32",
    "bfloat16",
    "float16",
    "float8_e4m3fn",
    "float8_e5m2",
    "complex64",
    "complex128",
)
DISTRIBUTIONS: tuple[Distribution, ...] = ("normal", "truncated_normal", "uniform")
RESULTS = Path(__file__).parent / "results"
ROWS = 4096
# Okabe and Ito's colors, which all readers can distinguish.
COLORS = {"eager": "#0072B2", "jitted": "#E69F00", "bits": "#999999"}


def paired_times(
    calls: dict[str, Callable], turns: int, seconds: float = 0.0
) -> dict[str, list[float]]:
    """Return the seconds of each call in each turn, after a warm-up.

    Every second turn runs in reverse order. In its turn a call is repeated until `seconds` are
    over; its mean counts.
    """
    times = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for turn in range(turns):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            start, count = time.perf_counter(), 0
            while not count or time.perf_counter() - start < seconds:
                jax.block_until_ready(calls[name]())
                count += 1
            times[name].append((time.perf_counter() - start) / count)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """Return the quartiles of the ratio of two calls' times in the same turn."""
    low, median, high = np.quantile(np.divide(times[slow], times[fast]), (0.25, 0.5, 0.75))
    return {"low": float(low), "median": float(median), "high": float(high)}


def measure(
    dtype: str, distribution: Distribution, values: int, turns: int, seconds: float = 0.0
) -> dict:
    """Time one dtype and distribution, and return times and throughput ratios to JAX."""
    shape, key = (ROWS, values // ROWS), jax.random.key(0)
    wide = jnp.dtype(dtype)
    scale = float(ROWS)  # unit variance: every dtype can hold it
    ours = flaxinit.variance_scaling(scale, "fan_in", distribution)
    theirs = jax.nn.initializers.variance_scaling(scale, "fan_in", distribution)
    ours_jit = jax.jit(lambda key: ours(key, shape, wide))
    theirs_jit = jax.jit(lambda key: theirs(key, shape, wide))
    word = jnp.uint64 if jnp.finfo(wide).bits == 64 else jnp.uint32
    parts = (2, *shape) if wide.kind == "c" else shape
    bits = jax.jit(lambda key: jax.random.bits(one_pass(key), parts, word))
    times = paired_times(
        {
            "flaxinit": lambda: ours(key, shape, wide),
            "jax": lambda: theirs(key, shape, wide),
            "flaxinit_jit": lambda: ours_jit(key),
            "jax_jit": lambda: theirs_jit(key),
            "bits": lambda: bits(key),
        },
        turns,
        seconds,
    )
    return {
        "dtype": dtype,
        "distribution": distribution,
        "seconds": {name: min(spent) for name, spent in times.items()},
        "eager": ratio(times, "jax", "flaxinit"),
        "jitted": ratio(times, "jax_jit", "flaxinit_jit"),
        "bits": ratio(times, "jax_jit", "bits"),
    }


def plot(rows: list[dict], path: Path) -> None:
    """Plot the ratios as bars; 1 is JAX's throughput."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(DISTRIBUTIONS), figsize=(12, 4.8), sharey=True, layout="constrained"
    )
    for axis, distribution in zip(axes, DISTRIBUTIONS, strict=True):
        chosen = [row for row in rows if row["distribution"] == distribution]
        for offset, (kind, color) in enumerate(COLORS.items()):
            places = [i + 0.27 * (offset - 1) for i in range(len(chosen))]
            label = {"bits": "limit: the random bits alone"}.get(kind, f"flaxinit, {kind}")
            heights = [row[kind]["median"] for row in chosen]
            whiskers = [
                [row[kind]["median"] - row[kind]["low"] for row in chosen],
                [row[kind]["high"] - row[kind]["median"] for row in chosen],
            ]
            axis.bar(places, heights, 0.25, yerr=whiskers, label=label, color=color)
        axis.axhline(1, color="black", linewidth=1)
        names = [name.replace("float8_", "") for name in dtypes]
        axis.set_xticks(range(len(chosen)), names, rotation=40, ha="right")
        axis.set_xlabel("dtype")
        axis.set_title(distribution.replace("_", " "), fontsize=10)
    axes[0].set_ylabel("throughput / jax.nn.initializers' (log scale)")
    axes[0].set_yscale("log", base=2)
    axes[0].yaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    ratios = [row[kind]["median"] for row in rows for kind in ("eager", "jitted")]
    figure.suptitle(
        f"flaxinit draws {min(ratios):.1f} to {max(ratios):.1f} times as fast as "
        "jax.nn.initializers, by dtype and distribution"
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, and write JSON and plot into the results folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=24, help="values drawn, as a power of 2")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    print(f"{'dtype':14}{'distribution':18}{'eager':>20}{'jitted':>20}{'bits alone':>20}   (× JAX)")
    for dtype in DTYPES:
        for distribution in DISTRIBUTIONS:
            row = measure(dtype, distribution, 2**options.log2, options.turns)
            rows.append(row)
            ratios = "".join(
                f"{row[kind]['median']:8.2f} ({row[kind]['low']:.2f}–{row[kind]['high']:.2f})"
                for kind in COLORS
            )
            print(f"{dtype:14}{distribution:18}{ratios}", flush=True)
    options.results.mkdir(exist_ok=True, parents=True)
    record = {"environment": environment(), "values": 2**options.log2, "rows": rows}
    (options.results / "sampling.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(rows, options.results / "sampling.png")


if __name__ == "__main__":
    main()
