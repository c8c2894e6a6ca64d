"""The cost of audit() and forecast() beside the model's own compiled pass, cold.

    python -m benchmarks.cost [--depths 25,50,100] [--widths 512] [--batch 128] [--runs 3]

Each figure is the time of one call in a process of its own, which has imported all it needs and
compiled nothing: the least of so many runs, by the clock on the wall and by that of the processors.
`pass` traces, compiles and runs the forward pass and the gradient of all parameters, once.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

import flaxinit

CALLS = ("pass", "audit", "forecast", "both ways")


def plain(depth: int, width: int) -> nn.Module:
    """Return a plain ReLU network with so many layers of one width, and a head."""
    layers = [
        f for _ in range(depth) for f in (nn.Dense(width, kernel_init=flaxinit.he()), nn.relu)
    ]
    return nn.Sequential([*layers, nn.Dense(10)])


def call(name: str, depth: int, width: int, batch: int) -> Callable[[], object]:
    """Return a call, ready to be made for the first time."""
    model = plain(depth, width)
    x = jax.random.normal(jax.random.key(0), (batch, width))
    if name in ("forecast", "both ways"):
        return lambda: flaxinit.forecast(model, x, backward=name == "both ways")
    params = jax.block_until_ready(jax.jit(model.init)(jax.random.key(1), x))
    if name == "audit":
        return lambda: flaxinit.audit(model.apply, params, x)
    slopes = jax.random.normal(jax.random.key(2), (batch, 10))

    @jax.jit
    def both(params, x, slopes):
        y, pull = jax.vjp(lambda params: model.apply(params, x), params)
        return y, pull(slopes)

    return lambda: jax.block_until_ready(both(params, x, slopes))


def measured(name: str, depth: int, width: int, batch: int) -> tuple[float, float]:
    """Return the seconds of one call: on the wall, and of the processors."""
    jax.config.update("jax_enable_compilation_cache", False)
    _ = flaxinit.audit, flaxinit.forecast  # imported on first use
    made = call(name, depth, width, batch)
    wall, start = time.perf_counter(), time.process_time()
    made()
    return time.perf_counter() - wall, time.process_time() - start


def elsewhere(*arguments: object) -> list[float]:
    """Measure a call in a new process."""
    command = [sys.executable, "-m", "benchmarks.cost", "--one", ",".join(map(str, arguments))]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [float(each) for each in found.split()]


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", default="25,50,100")
    parser.add_argument("--widths", default="512")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, *sizes = options.one.split(",")
        print(*measured(name, *map(int, sizes)))
        return
    print(f"{'':15} " + " ".join(f"{name:>9}" for name in CALLS) + "  audit/pass")
    for depth in map(int, options.depths.split(",")):
        for width in map(int, options.widths.split(",")):
            # In turn, so that whatever else the machine does slows down all.
            rounds = np.array(
                [
                    [elsewhere(name, depth, width, options.batch) for name in CALLS]
                    for _ in range(options.runs)
                ]
            )
            print(f"{depth} layers of {width}")
            for clock, least in zip(("wall", "processors"), rounds.min(axis=0).T, strict=True):
                cells = " ".join(f"{seconds:8.2f}s" for seconds in least)
                print(f"{clock:>15} {cells} {least[1] / least[0]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
