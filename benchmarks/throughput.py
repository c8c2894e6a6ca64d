"""Many seeds as one program, beside the same runs one after the other.

    python -m benchmarks.throughput

Both train the same networks with the same batches, from nothing compiled to the last step:

- together: `harness.train`, as the experiments call it;
- alone: a plain Optax loop, `jax.jit` around one step, for one seed after the other. It is
  compiled once and used for all of them.

They take turns in one process, and the losses of both are compared. The machine's own rate is that
of large float32 matrix products on all devices at once; the program's is counted from the
products of its layers alone, over the time of its steps after the first.
"""

import argparse
import dataclasses
import json
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
    steps=200,
    probes=(),
)


def together(unit: Classifier) -> dict:
    """Seconds in all, seconds of each window, and the losses (seeds, windows)."""
    marks = [time.perf_counter()]
    record = harness.train(unit, lambda share: marks.append(time.perf_counter()))
    return {
        "seconds": time.perf_counter() - marks[0],
        "windows": np.diff(marks[1:]).tolist(),
        "losses": np.array([run["loss"] for run in record["runs"]]),
    }


def alone(unit: Classifier) -> dict:
    """The same of a plain loop."""
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
    return {"seconds": time.perf_counter() - began, "losses": np.array(losses)}


def machine_rate(size: int = 2048, repeats: int = 5) -> float:
    """Multiply-adds a second of square float32 products, all devices working at once."""
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


def measure(unit: Classifier) -> dict:
    """Both ways, and what they reach."""
    rate = machine_rate()
    side_by_side = {"together": together(unit), "alone": alone(unit)}
    losses = [way.pop("losses") for way in side_by_side.values()]
    # The two programs add up in different orders, and training amplifies it.
    apart = np.abs(losses[0][:, 0] - losses[1][:, 0]) / losses[1][:, 0]
    window = float(np.median(side_by_side["together"].pop("windows")))
    reached = len(unit.seeds) * unit.window * unit.cost / window
    return {
        "unit": dataclasses.asdict(unit),
        "seconds": {name: way["seconds"] for name, way in side_by_side.items()},
        "ratio": side_by_side["alone"]["seconds"] / side_by_side["together"]["seconds"],
        "largest_difference_in_first_window": float(apart.max()),
        "median_final_loss": [float(np.median(loss[:, -1])) for loss in losses],
        "machine_gflops": 2e-9 * rate,
        "program_gflops": 2e-9 * reached,
        "share": reached / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Many seeds together against one by one.")
    parser.add_argument("--steps", type=int, default=UNIT.steps)
    parser.add_argument("--width", type=int, default=UNIT.width)
    options = parser.parse_args()
    one_device_per_core()
    row = measure(dataclasses.replace(UNIT, steps=options.steps, width=options.width))
    seconds = row["seconds"]
    print(
        f"{len(UNIT.seeds)} seeds, {row['unit']['steps']} steps, compilation counted: together "
        f"{seconds['together']:.1f} s, one after the other {seconds['alone']:.1f} s: "
        f"{row['ratio']:.2f} times the throughput\n"
        f"losses of the first window apart by at most "
        f"{row['largest_difference_in_first_window']:.1e} of themselves\n"
        f"matrix products: {row['program_gflops']:.0f} of the machine's "
        f"{row['machine_gflops']:.0f} GFLOP/s, {row['share']:.0%}"
    )
    text = json.dumps({**row, "environment": environment()}, indent=1)
    (RESULTS / "throughput.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
