"""Throughput of the samplers beside JAX's and beside the random bits alone.

`python -m benchmarks.sampling` draws 2^24 values in each dtype and distribution: flaxinit's
initializer and `jax.nn.initializers`' take turns, each call on its own and jitted, and the best
time of several turns counts. The third column is the cost of one 32-bit random word a value (64
bits for float64): no sampler that spends them can be faster.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import flaxinit
from benchmarks.store import environment
from flaxinit.sampling import Distribution

DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn")
DISTRIBUTIONS: tuple[Distribution, ...] = ("normal", "truncated_normal", "uniform")
RESULTS = Path(__file__).parent / "results"
ROWS = 4096


def best_times(calls: dict, turns: int) -> dict[str, float]:
    """Seconds of each call: the best of several turns taken side by side, after a warm-up."""
    times = {name: float("inf") for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                times[name] = min(times[name], time.perf_counter() - start)
    return times


def measure(dtype: str, distribution: Distribution, values: int, turns: int) -> dict:
    """Times of one dtype and distribution, and throughput ratios to JAX's initializer."""
    shape, key = (ROWS, values // ROWS), jax.random.key(0)
    wide = jnp.dtype(dtype)
    scale = float(ROWS)  # unit variance: every dtype can hold it
    ours = flaxinit.variance_scaling(scale, "fan_in", distribution)
    theirs = jax.nn.initializers.variance_scaling(scale, "fan_in", distribution)
    word = jnp.uint64 if wide.itemsize == 8 else jnp.uint32
    ours_jit = jax.jit(lambda key: ours(key, shape, wide))
    theirs_jit = jax.jit(lambda key: theirs(key, shape, wide))
    bits = jax.jit(lambda key: jax.random.bits(key, shape, word))
    times = best_times(
        {
            "flaxinit": lambda: ours(key, shape, wide),
            "jax": lambda: theirs(key, shape, wide),
            "flaxinit_jit": lambda: ours_jit(key),
            "jax_jit": lambda: theirs_jit(key),
            "bits": lambda: bits(key),
        },
        turns,
    )
    return {
        "dtype": dtype,
        "distribution": distribution,
        "seconds": times,
        "eager": times["jax"] / times["flaxinit"],
        "jitted": times["jax_jit"] / times["flaxinit_jit"],
        "bits": times["jax_jit"] / times["bits"],
    }


def plot(rows: list[dict], path: Path) -> None:
    """Bars of the ratios; 1 is JAX's throughput."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(DISTRIBUTIONS), figsize=(12, 4), sharey=True)
    for axis, distribution in zip(axes, DISTRIBUTIONS, strict=True):
        chosen = [row for row in rows if row["distribution"] == distribution]
        for offset, kind in enumerate(("eager", "jitted", "bits")):
            places = [i + 0.27 * (offset - 1) for i in range(len(chosen))]
            label = {"bits": "limit: random bits alone"}.get(kind, f"flaxinit, {kind}")
            color = ("tab:blue", "tab:orange", "lightgray")[offset]
            axis.bar(places, [row[kind] for row in chosen], 0.25, label=label, color=color)
        axis.axhline(1, color="black", linewidth=1)
        names = [row["dtype"].replace("float8_", "") for row in chosen]
        axis.set_xticks(range(len(chosen)), names, rotation=30)
        axis.set_title(distribution)
    axes[0].set_ylabel("throughput / jax.nn.initializers")
    axes[0].set_ylim(top=1.25 * axes[0].get_ylim()[1])
    axes[-1].legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, write JSON and plot under benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=24, help="values drawn, as a power of 2")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    print(f"{'dtype':14}{'distribution':18}{'eager':>8}{'jitted':>8}{'bits':>8}   (× JAX)")
    for dtype in DTYPES:
        for distribution in DISTRIBUTIONS:
            row = measure(dtype, distribution, 2**options.log2, options.turns)
            rows.append(row)
            ratios = "".join(f"{row[kind]:8.2f}" for kind in ("eager", "jitted", "bits"))
            print(f"{dtype:14}{distribution:18}{ratios}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    record = {"environment": environment(), "values": 2**options.log2, "rows": rows}
    (RESULTS / "sampling.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(rows, RESULTS / "sampling.png")


if __name__ == "__main__":
    main()
