"""Orthogonal matrices: time beside JAX's QR, and memory of a device on a mesh of eight.

`python -m benchmarks.orthogonal` draws float32 matrices with `flaxinit.orthogonal` and with
`jax.nn.initializers.orthogonal`, side by side and jitted, and compiles flaxinit's for eight host
devices to read off what memory each would need.
"""

import argparse
import json
import os
from pathlib import Path

SHAPES = ((1024, 1024), (2048, 2048), (4096, 4096), (8192, 1024))
RESULTS = Path(__file__).parent / "results"
DEVICES = 8


def measure(shape: tuple[int, int], turns: int) -> dict:
    """Seconds of both, and bytes of temporaries and output on one device and on each of eight."""
    import jax

    import flaxinit
    from benchmarks.sampling import best_times

    key = jax.random.key(0)
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    ours = jax.jit(lambda key: flaxinit.orthogonal()(key, shape))
    theirs = jax.jit(lambda key: jax.nn.initializers.orthogonal()(key, shape))
    spread = jax.jit(lambda key: flaxinit.orthogonal()(key, shape, None, sharding))
    memory = {}
    for name, program in (("alone", ours), ("each of eight", spread)):
        use = program.lower(key).compile().memory_analysis()
        if use is None:
            raise RuntimeError(f"{jax.default_backend()} does not report the memory of a program")
        memory[name] = use.temp_size_in_bytes + use.output_size_in_bytes
    times = best_times({"flaxinit": lambda: ours(key), "jax": lambda: theirs(key)}, turns)
    return {
        "shape": shape,
        "seconds": times,
        "ratio": times["jax"] / times["flaxinit"],
        "bytes": memory,
        "memory_share": memory["each of eight"] / memory["alone"],
    }


def plot(rows: list[dict], path: Path) -> None:
    """Bars of the time ratio, and of the share of memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    names = ["×".join(map(str, row["shape"])) for row in rows]
    left.bar(names, [row["ratio"] for row in rows])
    left.axhline(1, color="black", linewidth=1)
    left.set_title("throughput / jax.nn.initializers.orthogonal")
    right.bar(names, [row["memory_share"] for row in rows], color="tab:green")
    right.axhline(1 / DEVICES, color="black", linewidth=1, linestyle=":")
    right.set_ylim(0, 1)
    right.set_title(f"peak memory of one of {DEVICES} devices / of one alone")
    for axis in (left, right):
        axis.tick_params(axis="x", labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, write JSON and plot under benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = flags  # before JAX starts its backend
    rows = []
    print(f"{'shape':>12}{'flaxinit s':>12}{'jax s':>10}{'ratio':>8}{'memory share':>14}")
    for shape in SHAPES:
        row = measure(shape, options.turns)
        rows.append(row)
        seconds = row["seconds"]
        print(
            f"{'×'.join(map(str, shape)):>12}{seconds['flaxinit']:12.3f}{seconds['jax']:10.2f}"
            f"{row['ratio']:8.1f}{row['memory_share']:14.2f}",
            flush=True,
        )
    from benchmarks.store import environment

    RESULTS.mkdir(exist_ok=True)
    record = {"environment": environment(), "rows": rows}
    (RESULTS / "orthogonal.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(rows, RESULTS / "orthogonal.png")


if __name__ == "__main__":
    main()
