"""Many seeds as one program, against the same runs one after the other.

    python -m benchmarks.throughput

Both train the same networks with the same batches, and both start with an empty cache:

- together: `harness.train`, as the experiments call it;
- alone: a plain Optax loop with `jax.jit` around one step, for one seed after the other. The step
  is compiled once for all seeds.

Each runs in a fresh process, and their losses are compared. The machine's rate is that of large
float32 matrix products on all devices at once. The program's rate counts only the matrix products
of its layers, over the median time of a window after the first.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks.__main__ import one_device_per_core
from benchmarks.store import environment
from benchmarks.units import OPTIMIZERS, Classifier

RESULTS = Path(__file__).parent / "results"
UNIT = Classifier(
    activation="tanh",
    techniques=("derived",),
    learning_rates=(0.004,),
    seeds=tuple(range(32)),
    depth=20,
    width=128,
    steps=10,
    probes=(),
)
STEPS = (200, 1000)  # a number as in the experiments, and one that makes compilation negligible


def together(unit: Classifier) -> dict:
    """Train all seeds at once; return total seconds, seconds per window, and losses.

    The losses are (seeds, windows).
    """
    marks = [time.perf_counter()]
    record = harness.train(unit, lambda share: marks.append(time.perf_counter()))
    return {
        "seconds": time.perf_counter() - marks[0],
        "windows": np.diff(marks[1:]).tolist(),
        "losses": [run["loss"] for run in record["runs"]],
    }


def alone(unit: Classifier) -> dict:
    """Train with a plain loop, one seed after the other; return seconds and losses."""
    began = time.perf_counter()
    (rate,), (technique,) = unit.learning_rates, unit.techniques
    optimizer = OPTIMIZERS[unit.optimizer](rate)

    @jax.jit
    def step(params, opt_state, key, index):
        batch = unit.batch(jax.random.fold_in(key, index))
        loss, gradient = jax.value_and_grad(lambda p: unit.scores(p, *batch)[0])(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    init = jax.jit(unit.init(technique))
    evaluate = jax.jit(unit.evaluate)
    losses = []
    for seed in unit.seeds:
        key = jax.random.key(seed)
        params = init(key)
        opt_state = optimizer.init(params)
        curve = []
        for index in range(unit.steps):
            params, opt_state, loss = step(params, opt_state, key, index)
            curve.append(loss)
        losses.append(np.mean(np.reshape(jnp.stack(curve), (-1, unit.window)), axis=1))
        jax.block_until_ready(evaluate(params))
    return {"seconds": time.perf_counter() - began, "losses": np.array(losses).tolist()}


def machine_rate(size: int = 2048, repeats: int = 5) -> float:
    """Measure multiply-adds per second of square float32 products, on all devices at once."""
    products = harness.over_runs(lambda x, *_: x @ x)
    unit = dataclasses.replace(UNIT, seeds=tuple(range(jax.device_count())))
    keys, rates = harness.seed_keys(unit), jnp.zeros(1)
    matrices = jax.device_put(jnp.ones((jax.device_count(), 1, size, size)), keys.sharding)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(products(matrices, keys, rates))
        best = min(best, time.perf_counter() - began)
    return jax.device_count() * size**3 / best


def in_fresh_process(way: str, steps: int, width: int) -> dict:
    """Run one way in a fresh process, where nothing has been compiled."""
    command = [sys.executable, "-m", "benchmarks.throughput", way]
    options = ["--steps", str(steps), "--width", str(width)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(steps: int, width: int) -> dict:
    """Run both ways, one after the other, and compare them."""
    unit = dataclasses.replace(UNIT, steps=steps, width=width)
    ways = {way: in_fresh_process(way, steps, width) for way in ("together", "alone")}
    first, last = (
        [np.array(ways[way]["losses"], float)[:, window] for way in ("together", "alone")]
        for window in (0, -1)
    )
    rate = ways["together"]["machine_rate"]
    window = float(np.median(ways["together"]["windows"]))
    reached = len(unit.seeds) * unit.window * unit.cost / window
    return {
        "unit": dataclasses.asdict(unit),
        "seconds": {way: found["seconds"] for way, found in ways.items()},
        "ratio": ways["alone"]["seconds"] / ways["together"]["seconds"],
        # The two programs add in different orders, and training amplifies the difference.
        "largest_difference_in_first_window": float(np.abs(first[0] / first[1] - 1).max()),
        "median_final_loss": [float(np.median(losses)) for losses in last],
        "machine_gflops": 2e-9 * rate,
        "program_gflops": 2e-9 * reached,
        "share": reached / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train many seeds together, and one by one.")
    parser.add_argument("way", nargs="?", choices=("together", "alone"))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--width", type=int, default=UNIT.width)
    options = parser.parse_args()
    if options.way:
        unit = dataclasses.replace(UNIT, steps=options.steps[0], width=options.width)
        if options.way == "together":
            one_device_per_core()
            found = {"machine_rate": machine_rate(), **together(unit)}
        else:
            found = alone(unit)
        print(json.dumps(found))
        return
    rows = []
    for steps in options.steps:
        rows.append(row := compare(steps, options.width))
        seconds = row["seconds"]
        print(
            f"{len(UNIT.seeds)} seeds, {steps} steps, with compilation: together "
            f"{seconds['together']:.1f} s, one after the other {seconds['alone']:.1f} s: "
            f"{row['ratio']:.2f} times the throughput\n"
            f"  losses of the first window: relative difference at most "
            f"{row['largest_difference_in_first_window']:.1e}; final medians "
            f"{' and '.join(f'{loss:.3g}' for loss in row['median_final_loss'])}\n"
            f"  matrix products: {row['program_gflops']:.0f} of the machine's "
            f"{row['machine_gflops']:.0f} GFLOP/s, {row['share']:.0%}",
            flush=True,
        )
    text = json.dumps({"environment": environment(), "rows": rows}, indent=1)
    (RESULTS / "throughput.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
